/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- parsing ---- */

/* jansson's own limit is 2048; deeper texts than ours would make recursion a peer's choice. */
static bool too_deep(const char *text, size_t len)
{
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > MJSON_DEPTH_MAX) {
                return true;
            }
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return false;
}

/* jansson reads a NUL byte behind a number as nothing at all. */
static enum mag_status refuse_nul(const char *text, const char *nul, struct mag_err *err)
{
    int line = 1;
    const char *start = text;
    for (const char *p = text; p < nul; p++) {
        if (*p == '\n') {
            line++;
            start = p + 1;
        }
    }
    return mag_fail(err, MAG_INVALID, "line %d, column %d: a NUL byte", line,
                    (int)(nul - start) + 1);
}

enum mag_status mjson_parse(const char *text, size_t len, json_t **ret, struct mag_err *err)
{
    const char *nul = len > 0 ? memchr(text, '\0', len) : NULL;
    if (nul != NULL) {
        return refuse_nul(text, nul, err);
    }
    if (too_deep(text, len)) {
        return mag_fail(err, MAG_INVALID, "the JSON is nested more than %d deep", MJSON_DEPTH_MAX);
    }
    json_error_t je;
    json_t *v = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
    if (v == NULL) {
        if (len == 0) {
            return mag_fail(err, MAG_INVALID, "line 1, column 1: empty, expected JSON");
        }
        return mag_fail(err, MAG_INVALID, "line %d, column %d: %s", je.line, je.column, je.text);
    }
    *ret = v;
    return MAG_OK;
}

/* The length of a bare NaN or infinity token at p, or 0. */
static size_t nan_token(const char *p, size_t left)
{
    static const char *const tokens[] = {"NaN", "-NaN", "Infinity", "-Infinity"};
    for (size_t i = 0; i < 4; i++) {
        size_t n = strlen(tokens[i]);
        if (left >= n && memcmp(p, tokens[i], n) == 0) {
            return n;
        }
    }
    return 0;
}

enum mag_status mjson_parse_nan(const char *text, size_t len, json_t **ret, struct mag_err *err)
{
    if (memmem(text, len, "NaN", 3) == NULL && memmem(text, len, "Infinity", 8) == NULL) {
        return mjson_parse(text, len, ret, err);
    }
    struct buf b = {0};
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        size_t n = in_string ? 0 : nan_token(text + i, len - i);
        if (n > 0) {
            buf_adds(&b, "null");
            i += n - 1;
            continue;
        }
        if (text[i] == '"') {
            in_string = !in_string;
        } else if (in_string && text[i] == '\\' && i + 1 < len) {
            buf_addc(&b, text[i++]);
        }
        buf_addc(&b, text[i]);
    }
    enum mag_status st = mjson_parse(b.data != NULL ? b.data : "", b.len, ret, err);
    buf_fini(&b);
    return st;
}

enum mag_status mjson_read_file(const char *path, size_t max, char **ret, size_t *ret_len,
                                struct mag_err *err)
{
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return mag_fail(err, errno == ENOENT ? MAG_NOTFOUND : MAG_IO, "%s: %s", path,
                        strerror(errno));
    }
    struct buf b = {0};
    size_t n = 0;
    do {
        n = fread(buf_room(&b, 65536), 1, 65536, f);
        b.len += n;
    } while (n > 0 && b.len <= max);
    int failed = ferror(f) != 0 ? errno : 0;
    (void)fclose(f);
    if (failed != 0 || b.len > max) {
        buf_fini(&b);
        return failed != 0 ? mag_fail(err, MAG_IO, "%s: %s", path, strerror(failed))
                           : mag_fail(err, MAG_LIMIT, "%s: larger than %zu bytes", path, max);
    }
    *ret_len = b.len;
    buf_add(&b, "", 0);
    *ret = buf_take(&b);
    return MAG_OK;
}

/* ---- places ---- */

struct scan {
    const char *p;
    const char *end;
    const char *found; /* best match so far */
};

static void skip_blank(struct scan *s)
{
    while (s->p < s->end && strchr(" \t\r\n", *s->p) != NULL && *s->p != '\0') {
        s->p++;
    }
}

static void skip_string(struct scan *s)
{
    for (s->p++; s->p < s->end && *s->p != '"'; s->p++) {
        if (*s->p == '\\') {
            s->p++;
        }
    }
    if (s->p < s->end) {
        s->p++;
    }
}

static void skip_value(struct scan *s)
{
    int depth = 0;
    do {
        skip_blank(s);
        if (s->p >= s->end) {
            return;
        }
        char c = *s->p;
        if (c == '"') {
            skip_string(s);
        } else if (c == '{' || c == '[') {
            depth++;
            s->p++;
        } else if (c == '}' || c == ']') {
            depth--;
            s->p++;
        } else if (c == ',' || c == ':') {
            s->p++;
        } else {
            while (s->p < s->end && strchr(",:]} \t\r\n", *s->p) == NULL) {
                s->p++;
            }
        }
    } while (depth > 0 && s->p < s->end);
}

/* Does the quoted string at `q` (up to `end`) equal the first token of `pointer`? */
static bool key_matches(const char *q, size_t n, const char *token, size_t token_len)
{
    json_t *k = json_loadb(q, n, JSON_DECODE_ANY, NULL);
    bool same = false;
    if (k != NULL && json_is_string(k)) {
        char *p = mjson_pointer("", json_string_value(k));
        same = strlen(p + 1) == token_len && memcmp(p + 1, token, token_len) == 0;
        free(p);
    }
    json_decref(k);
    return same;
}

/* Moves to the member or element that the token names; false when there is none. */
static bool enter(struct scan *s, const char *token, size_t token_len)
{
    bool object = s->p < s->end && *s->p == '{';
    if (!object && !(s->p < s->end && *s->p == '[')) {
        return false;
    }
    s->p++;
    for (size_t index = 0;; index++) {
        skip_blank(s);
        if (s->p >= s->end || *s->p == '}' || *s->p == ']') {
            return false;
        }
        bool hit = false;
        if (object) {
            const char *q = s->p;
            skip_string(s);
            hit = key_matches(q, (size_t)(s->p - q), token, token_len);
            skip_blank(s);
            if (s->p < s->end && *s->p == ':') {
                s->p++;
            }
            skip_blank(s);
        } else {
            char text[24];
            int n = snprintf(text, sizeof(text), "%zu", index);
            hit = (size_t)n == token_len && memcmp(text, token, token_len) == 0;
        }
        if (hit) {
            return true;
        }
        skip_value(s);
        skip_blank(s);
        if (s->p < s->end && *s->p == ',') {
            s->p++;
        }
    }
}

bool mjson_locate(const char *text, size_t len, const char *pointer, int *ret_line, int *ret_column)
{
    struct scan s = {.p = text, .end = text + len};
    skip_blank(&s);
    s.found = s.p;
    bool all = true;
    while (*pointer == '/') {
        const char *token = pointer + 1;
        size_t n = strcspn(token, "/");
        if (!enter(&s, token, n)) {
            all = false;
            break;
        }
        s.found = s.p;
        pointer = token + n;
    }
    int line = 1;
    const char *start = text;
    for (const char *p = text; p < s.found; p++) {
        if (*p == '\n') {
            line++;
            start = p + 1;
        }
    }
    *ret_line = line;
    *ret_column = (int)(s.found - start) + 1;
    return all;
}

char *mjson_pointer(const char *pointer, const char *key)
{
    struct buf b = {0};
    buf_adds(&b, pointer);
    buf_addc(&b, '/');
    for (; *key != '\0'; key++) {
        if (*key == '~') {
            buf_adds(&b, "~0");
        } else if (*key == '/') {
            buf_adds(&b, "~1");
        } else {
            buf_addc(&b, *key);
        }
    }
    return buf_take(&b);
}

char *mjson_pointer_index(const char *pointer, size_t index)
{
    return xasprintf("%s/%zu", pointer, index);
}

/* ---- issues ---- */

static void add_issue(struct mjson_issues *is, char *pointer_take, const char *fmt, va_list ap)
{
    is->total++;
    if (is->n == MJSON_ISSUES_MAX) {
        free(pointer_take);
        return;
    }
    char *text = NULL;
    if (vasprintf(&text, fmt, ap) < 0) {
        text = xstrdup("(no memory for the text)");
    }
    is->items[is->n++] = (struct mjson_issue){.pointer = pointer_take, .text = text};
}

void mjson_issue(struct mjson_issues *is, const char *pointer, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    add_issue(is, xstrdup(pointer), fmt, ap);
    va_end(ap);
}

void mjson_issue_at(struct mjson_issues *is, const char *pointer, const char *key, const char *fmt,
                    ...)
{
    va_list ap;
    va_start(ap, fmt);
    add_issue(is, mjson_pointer(pointer, key), fmt, ap);
    va_end(ap);
}

void mjson_issues_place(struct mjson_issues *is, const char *text, size_t len)
{
    for (int i = 0; i < is->n; i++) {
        (void)mjson_locate(text, len, is->items[i].pointer, &is->items[i].line,
                           &is->items[i].column);
    }
}

void mjson_issues_print(const struct mjson_issues *is, const char *file, struct buf *out)
{
    for (int i = 0; i < is->n; i++) {
        const struct mjson_issue *it = &is->items[i];
        if (file != NULL) {
            buf_addf(out, "%s:%d:%d: ", file, it->line, it->column);
        } else if (it->line > 0) {
            buf_addf(out, "line %d, column %d: ", it->line, it->column);
        }
        buf_addf(out, "%s: %s\n", it->pointer[0] != '\0' ? it->pointer : "(document)", it->text);
    }
    if (is->total > is->n) {
        buf_addf(out, "… and %d more\n", is->total - is->n);
    }
}

json_t *mjson_issues_json(const struct mjson_issues *is)
{
    json_t *a = json_array();
    for (int i = 0; i < is->n; i++) {
        const struct mjson_issue *it = &is->items[i];
        (void)json_array_append_new(a, json_pack("{s:s, s:i, s:i, s:s}", "pointer", it->pointer,
                                                 "line", it->line, "column", it->column, "detail",
                                                 it->text));
    }
    return a;
}

void mjson_issues_fini(struct mjson_issues *is)
{
    for (int i = 0; i < is->n; i++) {
        free(is->items[i].pointer);
        free(is->items[i].text);
    }
    is->n = 0;
    is->total = 0;
}

/* ---- keys ---- */

static int distance(const char *a, const char *b)
{
    enum { MAX = 48 };
    size_t la = strlen(a);
    size_t lb = strlen(b);
    if (la >= MAX || lb >= MAX) {
        return MAX;
    }
    int row[MAX];
    for (size_t j = 0; j <= lb; j++) {
        row[j] = (int)j;
    }
    for (size_t i = 1; i <= la; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= lb; j++) {
            int change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            int edit = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);
            row[j] = change < edit ? change : edit;
        }
    }
    return row[lb];
}

const char *mjson_nearest(const char *word, const char *const known[])
{
    const char *best = NULL;
    int best_distance = (int)strlen(word) / 2 + 1;
    for (; *known != NULL; known++) {
        int d = distance(word, *known);
        if (d < best_distance) {
            best = *known;
            best_distance = d;
        }
    }
    return best;
}

void mjson_check_keys(const json_t *object, const char *const known[], const char *pointer,
                      struct mjson_issues *is)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        const char *const *k = known;
        while (*k != NULL && strcmp(*k, key) != 0) {
            k++;
        }
        if (*k != NULL) {
            continue;
        }
        const char *near = mjson_nearest(key, known);
        if (near != NULL) {
            mjson_issue_at(is, pointer, key, "unknown key \"%s\"; did you mean \"%s\"?", key, near);
        } else {
            mjson_issue_at(is, pointer, key, "unknown key \"%s\"", key);
        }
    }
}

const char *mjson_kind(const json_t *value)
{
    if (value == NULL) {
        return "nothing";
    }
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "a whole number";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    default:
        return "something else";
    }
}

char *mjson_dump(const json_t *value)
{
    char *s = json_dumps(value, MJSON_CANON);
    return s != NULL ? s : xstrdup("null");
}
