/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/value.h"

#include "base/alloc.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "${name}" -> name (malloc'ed); NULL when the text is no reference. */
static char *reference_name(const char *text)
{
    size_t n = strlen(text);
    if (n < 4 || strncmp(text, "${", 2) != 0 || text[n - 1] != '}') {
        return NULL;
    }
    return xstrndup(text + 2, n - 3);
}

static void unknown_parameter(struct reader *r, const char *name, const char *pointer)
{
    size_t n = json_object_size(r->ctx->declared);
    const char **known = xcalloc(n + 1, sizeof(*known));
    size_t i = 0;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)r->ctx->declared, key, value)
    {
        known[i++] = key;
    }
    const char *near = mjson_nearest(name, known);
    if (near != NULL) {
        mjson_issue(r->issues, pointer,
                    "no parameter \"%.100s\" in the searchspace; did you mean \"%s\"?", name, near);
    } else {
        mjson_issue(r->issues, pointer, "no parameter \"%.100s\" in the searchspace", name);
    }
    free(known);
}

const json_t *value_resolve(struct reader *r, const json_t *value, const char *pointer,
                            const char **name)
{
    if (name != NULL) {
        *name = NULL;
    }
    const char *text = json_string_value(value);
    if (text == NULL || strstr(text, "${") == NULL) {
        return value;
    }
    char *ref = reference_name(text);
    if (ref == NULL || strstr(ref, "${") != NULL) {
        mjson_issue(r->issues, pointer,
                    "\"%.100s\": a parameter stands for a whole value, as in \"${lr}\"", text);
        free(ref);
        return NULL;
    }
    const json_t *found = json_object_get(r->ctx->params, ref);
    if (found == NULL && r->ctx->declared != NULL &&
        json_object_get(r->ctx->declared, ref) == NULL) {
        unknown_parameter(r, ref, pointer);
    }
    free(ref);
    if (name != NULL) {
        *name = text;
    }
    return found;
}

bool value_has_inactive(struct reader *r, const json_t *value)
{
    size_t i = 0;
    const char *key = NULL;
    json_t *item = NULL;
    if (json_is_array(value)) {
        json_array_foreach(value, i, item)
        {
            if (value_has_inactive(r, item)) {
                return true;
            }
        }
    } else if (json_is_object(value)) {
        json_object_foreach((json_t *)(uintptr_t)value, key, item)
        {
            if (value_has_inactive(r, item)) {
                return true;
            }
        }
    } else if (json_is_string(value)) {
        char *ref = reference_name(json_string_value(value));
        bool inactive =
            ref != NULL && json_object_get(r->ctx->params, ref) == NULL &&
            (r->ctx->declared == NULL || json_object_get(r->ctx->declared, ref) != NULL);
        free(ref);
        return inactive;
    }
    return false;
}

/* The resolved value, or NULL with an issue where one is due. */
static const json_t *field(const struct place *p, const struct recipe_key *looked,
                           const char **name)
{
    const struct recipe_context *ctx = p->reader->ctx;
    const char *key = looked->key;
    const bool required = looked->required;
    if (ctx->looks != NULL) {
        struct recipe_key told = *looked;
        told.pointer = p->pointer;
        ctx->looks(ctx->looks_ctx, &told);
    }
    const json_t *given = json_object_get(p->object, key);
    *name = NULL;
    if (given == NULL) {
        if (required) {
            mjson_issue(p->reader->issues, p->pointer, "\"%s\" is missing", key);
        }
        return NULL;
    }
    char *pointer = mjson_pointer(p->pointer, key);
    int before = p->reader->issues->total;
    const json_t *v = value_resolve(p->reader, given, pointer, name);
    if (v == NULL && required && p->reader->issues->total == before) {
        mjson_issue(
            p->reader->issues, pointer,
            "\"%s\" needs the parameter %s, which has no value here; put the layer into a list "
            "of its own, so that it is left out while the parameter is inactive",
            key, *name);
    }
    free(pointer);
    return v;
}

/* " (the parameter ${x})" for messages. */
static const char *origin(const char *name, char *room, size_t size)
{
    if (name == NULL) {
        return "";
    }
    (void)snprintf(room, size, " (parameter %.100s)", name);
    return room;
}

bool value_number(const struct place *p, const char *key, bool required, double lo, double hi,
                  double *to)
{
    const char *name = NULL;
    char from[128];
    const struct recipe_key looked = {
        .key = key, .kind = KEY_NUMBER, .required = required, .lo = lo, .hi = hi};
    const json_t *v = field(p, &looked, &name);
    if (v == NULL) {
        return false;
    }
    if (!json_is_number(v)) {
        mjson_issue_at(p->reader->issues, p->pointer, key, "\"%s\"%s must be a number, not %s", key,
                       origin(name, from, sizeof(from)), mjson_kind(v));
        return false;
    }
    double x = json_number_value(v);
    if (!(x >= lo && x <= hi)) {
        mjson_issue_at(p->reader->issues, p->pointer, key,
                       "\"%s\"%s is %g, but must lie between %g and %g", key,
                       origin(name, from, sizeof(from)), x, lo, hi);
        return false;
    }
    *to = x;
    return true;
}

bool value_int(const struct place *p, const char *key, bool required, int lo, int hi, int *to)
{
    const char *name = NULL;
    char from[128];
    const struct recipe_key looked = {
        .key = key, .kind = KEY_WHOLE, .required = required, .lo = lo, .hi = hi};
    const json_t *v = field(p, &looked, &name);
    if (v == NULL) {
        return false;
    }
    double x = json_number_value(v);
    if (!json_is_number(v) || x != floor(x)) {
        mjson_issue_at(
            p->reader->issues, p->pointer, key, "\"%s\"%s must be a whole number, not %s", key,
            origin(name, from, sizeof(from)), json_is_number(v) ? "a fraction" : mjson_kind(v));
        return false;
    }
    if (x < lo || x > hi) {
        mjson_issue_at(p->reader->issues, p->pointer, key,
                       "\"%s\"%s is %.0f, but must lie between %d and %d", key,
                       origin(name, from, sizeof(from)), x, lo, hi);
        return false;
    }
    *to = (int)x;
    return true;
}

bool value_choice(const struct place *p, const char *key, bool required, const char *const names[],
                  int *to)
{
    const char *name = NULL;
    char from[128];
    const struct recipe_key looked = {
        .key = key, .kind = KEY_CHOICE, .required = required, .names = names};
    const json_t *v = field(p, &looked, &name);
    if (v == NULL) {
        return false;
    }
    const char *text = json_string_value(v);
    for (int i = 0; text != NULL && names[i] != NULL; i++) {
        if (strcmp(names[i], text) == 0) {
            *to = i;
            return true;
        }
    }
    struct buf all = {0};
    for (int i = 0; names[i] != NULL; i++) {
        buf_addf(&all, "%s\"%s\"", i == 0 ? "" : names[i + 1] == NULL ? " or " : ", ", names[i]);
    }
    if (text == NULL) {
        mjson_issue_at(p->reader->issues, p->pointer, key, "\"%s\"%s must be %s, not %s", key,
                       origin(name, from, sizeof(from)), all.data, mjson_kind(v));
    } else {
        mjson_issue_at(p->reader->issues, p->pointer, key, "\"%s\"%s must be %s, not \"%.100s\"",
                       key, origin(name, from, sizeof(from)), all.data, text);
    }
    buf_fini(&all);
    return false;
}

bool value_bool(const struct place *p, const char *key, bool *to)
{
    const char *name = NULL;
    char from[128];
    const struct recipe_key looked = {.key = key, .kind = KEY_FLAG};
    const json_t *v = field(p, &looked, &name);
    const char *text = json_string_value(v);
    bool yes = json_is_true(v) || (json_is_integer(v) && json_integer_value(v) == 1) ||
               (text != NULL && strcmp(text, "true") == 0);
    bool no = json_is_false(v) || (json_is_integer(v) && json_integer_value(v) == 0) ||
              (text != NULL && strcmp(text, "false") == 0);
    if (v != NULL && !yes && !no) {
        mjson_issue_at(p->reader->issues, p->pointer, key, "\"%s\"%s must be true or false, not %s",
                       key, origin(name, from, sizeof(from)), mjson_kind(v));
    }
    if (yes || no) {
        *to = yes;
    }
    return yes || no;
}
