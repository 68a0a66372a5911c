/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/argv.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/json.h"

#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct vector {
    char **items;
    size_t n;
};

static void add_value(struct buf *out, const json_t *v)
{
    if (json_is_string(v)) {
        buf_adds(out, json_string_value(v));
    } else if (json_is_integer(v)) {
        buf_add_int(out, json_integer_value(v));
    } else if (json_is_number(v)) {
        buf_add_json_number(out, json_number_value(v));
    } else {
        char *text = mjson_dump(v);
        buf_adds(out, text);
        free(text);
    }
}

/* Appends `text` with its ${name} replaced. *ret_absent names the first absent parameter, or is
 * NULL. */
static enum mag_status expand(const char *text, const json_t *params, struct buf *out,
                              char **ret_absent, struct mag_err *err)
{
    for (const char *p = text; *p != '\0';) {
        const char *end = strncmp(p, "${", 2) == 0 ? strchr(p, '}') : NULL;
        if (end == NULL) {
            buf_addc(out, *p++);
            continue;
        }
        char *name = xstrndup(p + 2, (size_t)(end - p - 2));
        const json_t *v = json_object_get(params, name);
        if (v == NULL) {
            *ret_absent = name;
            return MAG_OK;
        }
        free(name);
        add_value(out, v);
        p = end + 1;
    }
    if (out->len > ARGV_BYTES_MAX) {
        return mag_fail(err, MAG_LIMIT, "an argument of more than %d bytes", ARGV_BYTES_MAX);
    }
    return MAG_OK;
}

static enum mag_status push(struct vector *v, struct buf *b, struct mag_err *err)
{
    if (v->n >= ARGV_ITEMS_MAX) {
        return mag_fail(err, MAG_LIMIT, "more than %d arguments", ARGV_ITEMS_MAX);
    }
    v->items = xreallocarray(v->items, v->n + 2, sizeof(*v->items));
    v->items[v->n++] = buf_take(b);
    v->items[v->n] = NULL;
    return MAG_OK;
}

/* Adds one string; *ret_absent as in expand (then nothing was added). */
static enum mag_status add_string(struct vector *v, const json_t *item, const json_t *params,
                                  char **ret_absent, struct mag_err *err)
{
    struct buf b = {0};
    if (!json_is_string(item)) {
        return mag_fail(err, MAG_INVALID, "an argument is a string, not %s", mjson_kind(item));
    }
    buf_add(&b, "", 0);
    enum mag_status st = expand(json_string_value(item), params, &b, ret_absent, err);
    if (st == MAG_OK && *ret_absent == NULL) {
        st = push(v, &b, err);
    }
    buf_fini(&b);
    return st;
}

static enum mag_status add_nested(struct vector *v, const json_t *list, const json_t *params,
                                  struct mag_err *err)
{
    size_t before = v->n;
    char *absent = NULL;
    enum mag_status st = MAG_OK;
    for (size_t i = 0; st == MAG_OK && absent == NULL && i < json_array_size(list); i++) {
        st = add_string(v, json_array_get(list, i), params, &absent, err);
    }
    while (absent != NULL && v->n > before) {
        free(v->items[--v->n]);
        v->items[v->n] = NULL;
    }
    free(absent);
    return st;
}

enum mag_status argv_build(const json_t *list, const json_t *params, char ***ret,
                           struct mag_err *err)
{
    struct vector v = {0};
    enum mag_status st = MAG_OK;
    for (size_t i = 0; st == MAG_OK && i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        char *absent = NULL;
        if (json_is_array(item)) {
            st = add_nested(&v, item, params, err);
            continue;
        }
        st = add_string(&v, item, params, &absent, err);
        if (st == MAG_OK && absent != NULL) {
            st = mag_fail(err, MAG_INVALID,
                          "argument %zu needs ${%s}, which this trial does not have (it is "
                          "inactive): put it into a "
                          "nested list",
                          i, absent);
        }
        free(absent);
    }
    if (st == MAG_OK && (v.n == 0 || v.items[0][0] == '\0')) {
        st = mag_fail(err, MAG_INVALID, "the command is empty");
    }
    if (st != MAG_OK) {
        argv_free(v.items);
        return st;
    }
    *ret = v.items;
    return MAG_OK;
}

/* ---- environments ---- */

enum mag_status argv_env(const json_t *env, const json_t *params, char ***ret, struct mag_err *err)
{
    struct vector v = {.items = xcalloc(1, sizeof(char *))};
    const char *name = NULL;
    json_t *value = NULL;
    enum mag_status st = MAG_OK;
    json_object_foreach((json_t *)(uintptr_t)env, name, value)
    {
        struct buf b = {0};
        char *absent = NULL;
        buf_adds(&b, name);
        if (json_is_string(value)) {
            buf_addc(&b, '=');
            st = expand(json_string_value(value), params, &b, &absent, err);
        }
        if (st == MAG_OK && absent == NULL) {
            st = push(&v, &b, err);
        }
        free(absent);
        buf_fini(&b);
        if (st != MAG_OK) {
            argv_free(v.items);
            return st;
        }
    }
    *ret = v.items;
    return MAG_OK;
}

static size_t name_length(const char *entry)
{
    return strcspn(entry, "=");
}

static void put(struct vector *v, const char *entry)
{
    size_t n = name_length(entry);
    for (size_t i = 0; i < v->n; i++) {
        if (name_length(v->items[i]) == n && strncmp(v->items[i], entry, n) == 0) {
            free(v->items[i]);
            v->items[i] = v->items[--v->n];
            v->items[v->n] = NULL;
            break;
        }
    }
    if (entry[n] == '=') {
        v->items = xreallocarray(v->items, v->n + 2, sizeof(*v->items));
        v->items[v->n++] = xstrdup(entry);
        v->items[v->n] = NULL;
    }
}

char **argv_merge(char *const *a, char *const *b, char *const *c)
{
    struct vector v = {.items = xcalloc(1, sizeof(char *))};
    char *const *const all[] = {a, b, c};
    for (size_t k = 0; k < 3; k++) {
        for (size_t i = 0; all[k] != NULL && all[k][i] != NULL; i++) {
            put(&v, all[k][i]);
        }
    }
    return v.items;
}

void argv_free(char **argv)
{
    for (size_t i = 0; argv != NULL && argv[i] != NULL; i++) {
        free(argv[i]);
    }
    free(argv);
}

void argv_text(char *const *argv, char *out, size_t size)
{
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; argv[i] != NULL && n < size; i++) {
        int k = snprintf(out + n, size - n, "%s%s", i > 0 ? " " : "", argv[i]);
        n += k > 0 ? (size_t)k : 0;
    }
}
