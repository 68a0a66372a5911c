/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/lines.h"

#include "base/alloc.h"
#include "base/json.h"

#include <ctype.h>
#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MARK "::magpie "

struct pattern {
    char *name;
    regex_t re;
    bool compiled;
};

struct lines {
    struct lines_handler handler;
    struct buf partial;
    bool skipping; /* inside a line that is too long */
    char *objective;
    struct pattern *patterns;
    size_t n_patterns;
    int64_t next_step;
    json_t *pending; /* metrics seen since the last step ended */
};

/* ---- values ---- */

static bool names_no_number(const char *s)
{
    static const char *const words[] = {"nan",  "-nan",     "inf",       "-inf",
                                        "+inf", "infinity", "-infinity", "+infinity"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcasecmp(s, words[i]) == 0) {
            return true;
        }
    }
    return false;
}

json_t *lines_number(const json_t *v)
{
    if (json_is_number(v)) {
        return isfinite(json_number_value(v)) ? json_deep_copy(v) : json_null();
    }
    if (json_is_null(v) || (json_is_string(v) && names_no_number(json_string_value(v)))) {
        return json_null();
    }
    return NULL;
}

json_t *lines_metrics(const json_t *object)
{
    json_t *out = json_object();
    const char *name = NULL;
    json_t *v = NULL;
    json_object_foreach((json_t *)(uintptr_t)object, name, v)
    {
        json_t *number = lines_number(v);
        if (number != NULL) {
            (void)json_object_set_new(out, name, number);
        }
    }
    return out;
}

/* ---- "::magpie" lines ---- */

static bool get_step(const json_t *doc, const char *key, int64_t *ret)
{
    const json_t *v = json_object_get(doc, key);
    bool ok = json_is_integer(v) && json_integer_value(v) >= 0;
    if (ok) {
        *ret = json_integer_value(v);
    }
    return ok;
}

static void bad(struct lines *l, const char *why)
{
    l->handler.bad(l->handler.arg, why);
}

static void use_metrics(struct lines *l, const json_t *doc)
{
    const json_t *given = json_object_get(doc, "metrics");
    int64_t step = l->next_step;
    if (!json_is_object(given)) {
        bad(l, "\"metrics\" must be an object of numbers");
        return;
    }
    if (json_object_get(doc, "step") != NULL && !get_step(doc, "step", &step)) {
        bad(l, "\"step\" must be a whole number from 0 on");
        return;
    }
    l->next_step = step + 1;
    json_t *metrics = lines_metrics(given);
    l->handler.metrics(l->handler.arg, step, metrics);
    json_decref(metrics);
}

static void use_mark(struct lines *l, const char *text, size_t len)
{
    json_t *doc = NULL;
    struct mag_err err = {0};
    if (mjson_parse_nan(text, len, &doc, &err) != MAG_OK || !json_is_object(doc)) {
        bad(l, err.text[0] != '\0' ? err.text : "it is not a JSON object");
        json_decref(doc);
        return;
    }
    const json_t *result = json_object_get(doc, "result");
    int64_t step = 0;
    bool used = false;
    if (json_object_get(doc, "metrics") != NULL) {
        use_metrics(l, doc);
        used = true;
    }
    if (json_object_get(doc, "checkpoint") != NULL) {
        used = true;
        if (get_step(doc, "checkpoint", &step)) {
            l->handler.checkpoint(l->handler.arg, step);
        } else {
            bad(l, "\"checkpoint\" must be the step, a whole number");
        }
    }
    if (json_is_object(result)) {
        json_t *metrics = lines_metrics(result);
        l->handler.result(l->handler.arg, metrics);
        json_decref(metrics);
    } else if (!used) {
        bad(l, "it has none of \"metrics\", \"checkpoint\" and \"result\"");
    }
    json_decref(doc);
}

/* ---- regular expressions ---- */

/* The number in the first group, or in the whole match. */
static json_t *matched_number(const struct pattern *p, const char *line)
{
    regmatch_t m[2];
    if (regexec(&p->re, line, 2, m, 0) != 0) {
        return NULL;
    }
    const regmatch_t *at = p->re.re_nsub > 0 && m[1].rm_so >= 0 ? &m[1] : &m[0];
    char *text = xstrndup(line + at->rm_so, (size_t)(at->rm_eo - at->rm_so));
    char *start = text;
    while (isspace((unsigned char)*start)) {
        start++;
    }
    char *end = NULL;
    double v = strtod(start, &end);
    json_t *number = end == start ? NULL : isfinite(v) ? json_real(v) : json_null();
    free(text);
    return number;
}

static void end_step(struct lines *l)
{
    json_t *step = json_object_get(l->pending, "step");
    if (json_is_number(step)) {
        l->next_step = (int64_t)llround(json_number_value(step));
    }
    (void)json_object_del(l->pending, "step");
    l->handler.metrics(l->handler.arg, l->next_step < 0 ? 0 : l->next_step, l->pending);
    l->next_step++;
    (void)json_object_clear(l->pending);
}

static void use_patterns(struct lines *l, const char *line)
{
    bool ends = false;
    for (size_t i = 0; i < l->n_patterns; i++) {
        json_t *v = matched_number(&l->patterns[i], line);
        if (v != NULL) {
            (void)json_object_set_new(l->pending, l->patterns[i].name, v);
            ends = ends || strcmp(l->patterns[i].name, l->objective) == 0;
        }
    }
    if (ends) {
        end_step(l);
    }
}

/* ---- bytes to lines ---- */

static void use_line(struct lines *l, char *line, size_t len)
{
    if (len > 0 && line[len - 1] == '\r') {
        line[--len] = '\0';
    }
    size_t mark = strlen(MARK);
    if (len >= mark && memcmp(line, MARK, mark) == 0) {
        use_mark(l, line + mark, len - mark);
    } else if (l->n_patterns > 0 && memchr(line, '\0', len) == NULL) {
        use_patterns(l, line);
    }
}

static void end_line(struct lines *l)
{
    if (!l->skipping && l->partial.len > 0) {
        use_line(l, l->partial.data, l->partial.len);
    }
    l->skipping = false;
    buf_reset(&l->partial);
}

void lines_add(struct lines *l, const char *bytes, size_t n)
{
    while (n > 0) {
        const char *nl = memchr(bytes, '\n', n);
        size_t part = nl != NULL ? (size_t)(nl - bytes) : n;
        if (!l->skipping && l->partial.len + part > LINES_BYTES_MAX) {
            l->skipping = true;
            buf_reset(&l->partial);
        }
        if (!l->skipping) {
            buf_add(&l->partial, bytes, part);
        }
        if (nl != NULL) {
            end_line(l);
            part++;
        }
        bytes += part;
        n -= part;
    }
}

void lines_end(struct lines *l)
{
    end_line(l);
}

/* ---- life ---- */

static enum mag_status add_pattern(struct lines *l, const char *name, const json_t *v,
                                   struct mag_err *err)
{
    if (l->n_patterns >= LINES_PATTERNS_MAX) {
        return mag_fail(err, MAG_LIMIT, "\"metrics\": more than %d regular expressions",
                        LINES_PATTERNS_MAX);
    }
    if (!json_is_string(v)) {
        return mag_fail(err, MAG_INVALID,
                        "\"metrics\": \"%s\" must be a regular expression in a string", name);
    }
    struct pattern *p = &l->patterns[l->n_patterns++];
    int rv = regcomp(&p->re, json_string_value(v), REG_EXTENDED);
    p->compiled = rv == 0;
    p->name = xstrdup(name);
    if (rv != 0) {
        char why[128];
        (void)regerror(rv, &p->re, why, sizeof(why));
        return mag_fail(err, MAG_INVALID,
                        "\"metrics\": \"%s\" is not a POSIX extended regular expression: %s", name,
                        why);
    }
    return MAG_OK;
}

enum mag_status lines_create(struct lines **ret, const json_t *patterns, const char *objective,
                             int64_t first_step, const struct lines_handler *handler,
                             struct mag_err *err)
{
    struct lines *l = xcalloc(1, sizeof(*l));
    l->handler = *handler;
    l->objective = xstrdup(objective);
    l->next_step = first_step;
    l->pending = json_object();
    l->patterns = xcalloc(LINES_PATTERNS_MAX, sizeof(*l->patterns));
    const char *name = NULL;
    json_t *v = NULL;
    json_object_foreach((json_t *)(uintptr_t)patterns, name, v)
    {
        enum mag_status st = add_pattern(l, name, v, err);
        if (st != MAG_OK) {
            lines_destroy(l);
            return st;
        }
    }
    *ret = l;
    return MAG_OK;
}

void lines_destroy(struct lines *l)
{
    if (l == NULL) {
        return;
    }
    for (size_t i = 0; i < l->n_patterns; i++) {
        if (l->patterns[i].compiled) {
            regfree(&l->patterns[i].re);
        }
        free(l->patterns[i].name);
    }
    free(l->patterns);
    free(l->objective);
    json_decref(l->pending);
    buf_fini(&l->partial);
    free(l);
}
