/* SPDX-License-Identifier: Apache-2.0
 *
 * Each rule adds the spans of bytes that it takes for secrets; overlapping spans become one; what
 * lies between them is copied. A span never depends on where the bytes were cut: the stream hands
 * over whole lines, or keeps the end of a long one back.
 */
#include "worker/mask.h"

#include "base/alloc.h"
#include "base/pattern.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* A known form: `before` (any case where `nocase`), then at least `min` bytes of `set`. */
struct form {
    const char *before;
    bool nocase;
    bool whole;      /* `before` is part of the secret */
    const char *gap; /* bytes that may stand between, or NULL */
    const char *set; /* beside letters and digits */
    size_t min, max; /* max 0 = any number */
};

static const struct form forms[] = {
    {"bearer", true, false, " \t:=\"'", "-._~+/=", 8, 0},
    {"AKIA", false, true, NULL, "", 16, 16},
    {"ASIA", false, true, NULL, "", 16, 16},
    {"aws_secret_access_key", true, false, " \t:=\"'", "/+=", 20, 0},
    {"aws_session_token", true, false, " \t:=\"'", "/+=", 20, 0},
    {"ghp_", false, true, NULL, "", 20, 0},
    {"gho_", false, true, NULL, "", 20, 0},
    {"ghs_", false, true, NULL, "", 20, 0},
    {"github_pat_", false, true, NULL, "_", 20, 0},
    {"glpat-", false, true, NULL, "-_", 16, 0},
    {"hf_", false, true, NULL, "", 20, 0},
    {"sk-", false, true, NULL, "-_", 20, 0},
};
#define FORMS (sizeof(forms) / sizeof(forms[0]))

struct value {
    char *text;
    size_t len;
};

struct masks {
    const struct masks *next;
    struct value *values;
    int n_values;
    regex_t patterns[MASK_PATTERNS_MAX];
    int n_patterns;
};

struct span {
    size_t from; /* where what tells it begins: "Bearer " */
    size_t start, end;
};

struct spans {
    struct span *list;
    size_t n, cap;
};

static void add_span(struct spans *s, size_t from, size_t start, size_t end)
{
    if (s->n == s->cap) {
        s->cap = s->cap > 0 ? 2 * s->cap : 16;
        s->list = xreallocarray(s->list, s->cap, sizeof(*s->list));
    }
    s->list[s->n++] = (struct span){.from = from, .start = start, .end = end};
}

/* ---- the rules ---- */

static bool in_set(char c, const char *set)
{
    return isalnum((unsigned char)c) || (c != '\0' && strchr(set, c) != NULL);
}

static const char *find(const struct form *f, const char *from, const char *end)
{
    size_t n = strlen(f->before);
    if (!f->nocase) {
        return memmem(from, (size_t)(end - from), f->before, n);
    }
    for (const char *p = from; (size_t)(end - p) >= n; p++) {
        if (tolower((unsigned char)*p) == f->before[0] && strncasecmp(p, f->before, n) == 0) {
            return p;
        }
    }
    return NULL;
}

static void find_form(const struct form *f, const char *text, size_t n, struct spans *out)
{
    const char *end = text + n;
    for (const char *at = find(f, text, end); at != NULL; at = find(f, at, end)) {
        const char *p = at + strlen(f->before);
        bool word = at == text || !isalnum((unsigned char)at[-1]);
        while (f->gap != NULL && p < end && *p != '\0' && strchr(f->gap, *p) != NULL) {
            p++;
        }
        const char *secret = p;
        while (p < end && in_set(*p, f->set)) {
            p++;
        }
        size_t len = (size_t)(p - secret);
        if (word && len >= f->min && (f->max == 0 || len <= f->max)) {
            add_span(out, (size_t)(at - text), (size_t)((f->whole ? at : secret) - text),
                     (size_t)(p - text));
        }
        at = p > at ? p : at + 1;
    }
}

static void find_value(const struct value *v, const char *text, size_t n, struct spans *out)
{
    const char *end = text + n;
    const char *at = text;
    while ((at = memmem(at, (size_t)(end - at), v->text, v->len)) != NULL) {
        size_t start = (size_t)(at - text);
        add_span(out, start, start, start + v->len);
        at += v->len;
    }
}

static void find_pattern(const regex_t *re, const char *text, size_t n, struct spans *out)
{
    size_t from = 0;
    while (from < n) {
        regmatch_t m = {.rm_so = (regoff_t)from, .rm_eo = (regoff_t)n};
        if (regexec(re, text, 1, &m, REG_STARTEND) != 0) {
            return;
        }
        if (m.rm_eo > m.rm_so) {
            add_span(out, (size_t)m.rm_so, (size_t)m.rm_so, (size_t)m.rm_eo);
        }
        from = (size_t)m.rm_eo > from ? (size_t)m.rm_eo : from + 1;
    }
}

static int by_start(const void *a, const void *b)
{
    const struct span *x = a;
    const struct span *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

/* All spans of the text, in order, none touching another. */
static void find_all(const struct masks *m, const char *text, size_t n, struct spans *out)
{
    for (; m != NULL && n > 0; m = m->next) {
        for (size_t i = 0; m->next == NULL && i < FORMS; i++) {
            find_form(&forms[i], text, n, out);
        }
        for (int i = 0; i < m->n_values; i++) {
            find_value(&m->values[i], text, n, out);
        }
        for (int i = 0; i < m->n_patterns; i++) {
            find_pattern(&m->patterns[i], text, n, out);
        }
    }
    if (out->n == 0) {
        return;
    }
    qsort(out->list, out->n, sizeof(out->list[0]), by_start);
    size_t k = 0;
    for (size_t i = 1; i < out->n; i++) {
        struct span *last = &out->list[k];
        if (out->list[i].start > last->end) {
            out->list[++k] = out->list[i];
            continue;
        }
        last->end = out->list[i].end > last->end ? out->list[i].end : last->end;
        last->from = out->list[i].from < last->from ? out->list[i].from : last->from;
    }
    out->n = k + 1;
}

/* The first `cut` bytes with the spans that begin there replaced. */
static void write_masked(const struct spans *s, const char *text, size_t cut, struct buf *out)
{
    size_t at = 0;
    for (size_t i = 0; i < s->n && s->list[i].start < cut; i++) {
        buf_add(out, text + at, s->list[i].start - at);
        buf_adds(out, MASK_TEXT);
        at = s->list[i].end;
    }
    if (at < cut) {
        buf_add(out, text + at, cut - at);
    }
}

void masks_apply(const struct masks *m, const char *text, size_t n, struct buf *out)
{
    struct spans s = {0};
    find_all(m, text, n, &s);
    write_masked(&s, text, n, out);
    free(s.list);
}

char *masks_text(const struct masks *m, const char *text)
{
    struct buf out = {0};
    if (text == NULL) {
        return NULL;
    }
    masks_apply(m, text, strlen(text), &out);
    return buf_take(&out);
}

/* ---- sets ---- */

static bool ends_with(const char *name, size_t len, const char *end)
{
    size_t n = strlen(end);
    return len >= n && strncasecmp(name + len - n, end, n) == 0;
}

static bool holds(const char *name, size_t len, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= len; i++) {
        if (strncasecmp(name + i, word, n) == 0) {
            return true;
        }
    }
    return false;
}

bool masks_is_secret_name(const char *name, size_t len)
{
    return ends_with(name, len, "_token") || ends_with(name, len, "_key") ||
           ends_with(name, len, "_pass") || holds(name, len, "secret") ||
           holds(name, len, "password") || holds(name, len, "passwd") ||
           holds(name, len, "credential");
}

/* Output is looked at line by line, so a value of several lines is as many secrets. */
static void add_values(struct masks *m, const char *text)
{
    while (*text != '\0') {
        size_t n = strcspn(text, "\r\n");
        if (n >= MASK_VALUE_MIN && m->n_values < MASK_VALUES_MAX) {
            m->values = xreallocarray(m->values, (size_t)m->n_values + 1, sizeof(*m->values));
            m->values[m->n_values++] = (struct value){.text = xstrndup(text, n), .len = n};
        }
        text += n + (text[n] != '\0');
    }
}

static enum mag_status add_pattern(struct masks *m, const char *pattern, struct mag_err *err)
{
    if (m->n_patterns == MASK_PATTERNS_MAX) {
        return mag_fail(err, MAG_LIMIT, "more than %d patterns of secrets", MASK_PATTERNS_MAX);
    }
    if (pattern[0] == '\0' || strlen(pattern) > MASK_PATTERN_MAX) {
        return mag_fail(err, MAG_INVALID, "a pattern of secrets has 1 to %d bytes",
                        MASK_PATTERN_MAX);
    }
    regex_t *re = &m->patterns[m->n_patterns];
    struct mag_err why = {0};
    enum mag_status st = pattern_compile(pattern, re, &why);
    if (st == MAG_OK) {
        regfree(re); /* it is sound; here it must not go beyond a line */
        st = regcomp(re, pattern, REG_EXTENDED | REG_NEWLINE) == 0 ? MAG_OK : MAG_NOMEM;
    }
    if (st != MAG_OK) {
        return mag_fail(err, st, "\"%.200s\" %s", pattern, why.text);
    }
    m->n_patterns++;
    return MAG_OK;
}

enum mag_status masks_create(struct masks **ret, const struct masks *next,
                             const char *const *patterns, int n, char *const *env,
                             struct mag_err *err)
{
    struct masks *m = xcalloc(1, sizeof(*m));
    enum mag_status st = MAG_OK;
    m->next = next;
    for (int i = 0; st == MAG_OK && i < n; i++) {
        st = add_pattern(m, patterns[i], err);
    }
    for (size_t i = 0; env != NULL && env[i] != NULL; i++) {
        const char *eq = strchr(env[i], '=');
        if (eq != NULL && masks_is_secret_name(env[i], (size_t)(eq - env[i]))) {
            add_values(m, eq + 1);
        }
    }
    if (st != MAG_OK) {
        masks_destroy(m);
        return st;
    }
    *ret = m;
    return MAG_OK;
}

void masks_destroy(struct masks *m)
{
    if (m == NULL) {
        return;
    }
    for (int i = 0; i < m->n_patterns; i++) {
        regfree(&m->patterns[i]);
    }
    for (int i = 0; i < m->n_values; i++) {
        free(m->values[i].text);
    }
    free(m->values);
    free(m);
}

/* ---- the stream ---- */

/* Bytes of the held line that still belong to a secret which was masked already. */
static void skip_inside(struct mask_stream *s)
{
    size_t n = 0;
    while (n < s->held.len && !isspace((unsigned char)s->held.data[n])) {
        n++;
    }
    s->inside = n == s->held.len;
    buf_shift(&s->held, n);
}

/* Masks and gives away what comes before `cut`. A secret across it stays held with what tells it,
 * or, where that is all that is held, goes as it is so far. */
static void give(struct mask_stream *s, const struct masks *m, size_t cut, struct buf *out)
{
    struct spans all = {0};
    find_all(m, s->held.data, s->held.len, &all);
    for (size_t i = 0; i < all.n && cut < s->held.len; i++) {
        const struct span *p = &all.list[i];
        if (p->from < cut && p->end > cut) {
            s->inside = p->from == 0 && p->end == s->held.len;
            cut = p->from > 0 ? p->from : p->end;
        }
    }
    write_masked(&all, s->held.data, cut, out);
    buf_shift(&s->held, cut);
    free(all.list);
}

/* Bytes up to and with the last end of a line; a carriage return ends one too (progress bars). */
static size_t whole_lines(const struct buf *b)
{
    size_t n = b->len;
    while (n > 0 && b->data[n - 1] != '\n' && b->data[n - 1] != '\r') {
        n--;
    }
    return n;
}

static void take(struct mask_stream *s, const struct masks *m, struct buf *out)
{
    if (s->inside) {
        skip_inside(s);
    }
    size_t n = whole_lines(&s->held);
    if (n > 0) {
        /* Only whole lines are looked at: what follows them is looked at with its own end. */
        masks_apply(m, s->held.data, n, out);
        buf_shift(&s->held, n);
    }
    while (s->held.len > MASK_HOLD_MAX) {
        give(s, m, s->held.len - MASK_SPAN_MAX, out);
    }
}

void mask_stream_add(struct mask_stream *s, const struct masks *m, const char *bytes, size_t n,
                     struct buf *out)
{
    while (n > 0) {
        size_t k = n < MASK_SPAN_MAX ? n : MASK_SPAN_MAX;
        buf_add(&s->held, bytes, k);
        take(s, m, out);
        bytes += k;
        n -= k;
    }
    if (s->held.len == 0 && s->held.cap > MASK_HOLD_MAX) {
        buf_fini(&s->held);
    }
}

void mask_stream_end(struct mask_stream *s, const struct masks *m, struct buf *out)
{
    if (s->inside) {
        skip_inside(s);
    }
    if (s->held.len > 0) {
        masks_apply(m, s->held.data, s->held.len, out);
    }
    buf_fini(&s->held);
}

void mask_stream_fini(struct mask_stream *s)
{
    buf_fini(&s->held);
}
