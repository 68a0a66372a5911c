/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/rest_filter.h"

#include "base/alloc.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- filter ---- */

static bool parse_condition(const char *text, size_t len, struct filter_condition *f)
{
    static const char *const ops[] = {"!=", "<=", ">=", "=", "<", ">"};
    size_t at = 0;
    while (at < len && strchr("!<>=", text[at]) == NULL) {
        at++;
    }
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        size_t n = strlen(ops[i]);
        if (at > 0 && at + n <= len && strncmp(text + at, ops[i], n) == 0) {
            size_t rest = len - at - n;
            if (at >= sizeof(f->field) || rest >= sizeof(f->text)) {
                return false;
            }
            (void)snprintf(f->field, sizeof(f->field), "%.*s", (int)at, text);
            (void)snprintf(f->op, sizeof(f->op), "%s", ops[i]);
            (void)snprintf(f->text, sizeof(f->text), "%.*s", (int)rest, text + at + n);
            char *end = NULL;
            f->number = strtod(f->text, &end);
            f->number = end != f->text && *end == '\0' ? f->number : NAN;
            return true;
        }
    }
    return false;
}

static void parse_all(const char *text, struct filter *ret, struct mjson_issues *is)
{
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        if (ret->n == FILTER_CONDITIONS_MAX) {
            mjson_issue(is, "", "query parameter 'filter' has more than %d conditions",
                        FILTER_CONDITIONS_MAX);
            return;
        }
        if (!parse_condition(text, len, &ret->items[ret->n])) {
            mjson_issue(is, "",
                        "query parameter 'filter': '%.*s' is no condition such as state=running or "
                        "value>0.9",
                        (int)len, text);
            return;
        }
        ret->n++;
        text += len + (text[len] == ',');
    }
}

void filter_parse(const struct http_call *c, struct filter *ret, struct mjson_issues *is)
{
    const char *filter = http_query(c, "filter");
    const char *state = http_query(c, "state");
    ret->n = 0;
    if (filter != NULL) {
        parse_all(filter, ret, is);
    }
    if (state != NULL && ret->n < FILTER_CONDITIONS_MAX) {
        struct filter_condition *f = &ret->items[ret->n++];
        *f = (struct filter_condition){.field = "state", .op = "=", .number = NAN};
        (void)snprintf(f->text, sizeof(f->text), "%s", state);
        for (char *p = f->text; *p != '\0'; p++) {
            *p = *p == ',' ? '|' : *p;
        }
    }
}

static bool is_one_of(const char *list, const char *text)
{
    size_t n = strlen(text);
    for (const char *p = list;; p++) {
        size_t len = strcspn(p, "|");
        if (len == n && strncmp(p, text, n) == 0) {
            return true;
        }
        p += len;
        if (*p == '\0') {
            return false;
        }
    }
}

bool filter_holds(const struct filter_condition *f, const struct filter_value *v)
{
    bool equal =
        v->text != NULL ? is_one_of(f->text, v->text) : !isnan(v->number) && v->number == f->number;
    if (strcmp(f->op, "=") == 0) {
        return equal;
    }
    if (strcmp(f->op, "!=") == 0) {
        return !equal;
    }
    if (isnan(v->number) || isnan(f->number)) {
        return false;
    }
    bool inclusive = f->op[1] == '=';
    bool strict = f->op[0] == '<' ? v->number < f->number : v->number > f->number;
    return strict || (inclusive && v->number == f->number);
}

/* ---- page ---- */

void page_init(struct page *p, const struct http_call *c, const char *default_field,
               const char **ret_field, struct mjson_issues *is)
{
    *p = (struct page){0};
    p->limit = (int)http_query_int(c, "limit", 1, REST_LIMIT_MAX, REST_LIMIT_DEFAULT, is);
    const char *sort = http_query(c, "sort");
    sort = sort != NULL && sort[0] != '\0' ? sort : default_field;
    p->down = sort[0] == '-';
    *ret_field = sort + p->down;
    const char *cursor = http_query(c, "cursor");
    if (cursor != NULL && cursor[0] != '\0') {
        char *end = NULL;
        p->has_cursor = true;
        p->cursor.key = strtod(cursor, &end);
        char *id = *end == '~' ? end + 1 : NULL;
        p->cursor.id = id != NULL ? strtoll(id, &end, 10) : 0;
        if (id == NULL || *end != '\0' || end == id) {
            mjson_issue(is, "", "query parameter 'cursor' is not one that this list gave");
        }
    }
    p->items = xcalloc((size_t)p->limit + 1, sizeof(*p->items));
}

/* Does a come before b? */
static bool before(const struct page *p, const struct page_entry *a, const struct page_entry *b)
{
    bool an = isnan(a->key);
    bool bn = isnan(b->key);
    if (an != bn) {
        return bn;
    }
    if (!an && a->key != b->key) {
        return p->down ? a->key > b->key : a->key < b->key;
    }
    return p->down && an == false ? a->id > b->id : a->id < b->id;
}

void page_offer(struct page *p, double key, int64_t id)
{
    struct page_entry e = {.key = key, .id = id};
    if (p->has_cursor && !before(p, &p->cursor, &e)) {
        return;
    }
    if (p->n == p->limit && !before(p, &e, &p->items[p->n - 1])) {
        p->more = true;
        return;
    }
    int at = p->n;
    while (at > 0 && before(p, &e, &p->items[at - 1])) {
        at--;
    }
    memmove(&p->items[at + 1], &p->items[at], (size_t)(p->n - at) * sizeof(e));
    p->items[at] = e;
    if (p->n == p->limit) {
        p->more = true;
    } else {
        p->n++;
    }
}

void page_add_next(const struct page *p, struct buf *out)
{
    if (p->more && p->n > 0) {
        const struct page_entry *last = &p->items[p->n - 1];
        buf_addf(out, ",\"next\":\"%.17g~%lld\"", last->key, (long long)last->id);
    } else {
        buf_adds(out, ",\"next\":null");
    }
}

void page_fini(struct page *p)
{
    free(p->items);
    p->items = NULL;
}
