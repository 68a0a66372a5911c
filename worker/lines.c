/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/lines.h"

#include "base/alloc.h"
#include "base/json.h"
#include "base/pattern.h"

#include <ctype.h>
#include <math.h>
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
    bool returned; /* the last byte was a carriage return */
    bool redrawn;  /* this line has had a carriage return in it */
    char *objective;
    struct pattern *patterns;
    size_t n_patterns;
    int64_t next_step;
    json_t *pending; /* metrics seen since the last step ended */
    bool complete;   /* the objective is among them; the line may still be redrawn */
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

bool lines_step(const json_t *v, int64_t *ret)
{
    double x = json_number_value(v); /* 0 when it is no number */
    if (!json_is_number(v) || !(x >= 0 && x <= (double)LINES_STEP_MAX) || x > floor(x)) {
        return false;
    }
    *ret = json_is_integer(v) ? json_integer_value(v) : (int64_t)x;
    return *ret <= LINES_STEP_MAX;
}

/* ---- "::magpie" lines ---- */


static void bad(struct lines *l, const char *why)
{
    l->handler.bad(l->handler.arg, why);
}

/* An objective that is there and is no number would be missed without a word. */
static void check_objective(struct lines *l, const json_t *given, const json_t *taken)
{
    const json_t *v = json_object_get(given, l->objective);
    if (v != NULL && json_object_get(taken, l->objective) == NULL) {
        char *why = xasprintf("\"%.128s\" must be a number, not %s", l->objective, mjson_kind(v));
        bad(l, why);
        free(why);
    }
}

static void use_metrics(struct lines *l, const json_t *doc)
{
    const json_t *given = json_object_get(doc, "metrics");
    int64_t step = l->next_step;
    if (!json_is_object(given)) {
        bad(l, "\"metrics\" must be an object of numbers");
        return;
    }
    const json_t *own = json_object_get(doc, "step");
    if (own != NULL && !lines_step(own, &step)) {
        bad(l, "\"step\" must be a whole number from 0 on");
        return;
    }
    l->next_step = step < LINES_STEP_MAX ? step + 1 : step;
    json_t *metrics = lines_metrics(given);
    check_objective(l, given, metrics);
    l->handler.metrics(l->handler.arg, step, metrics);
    json_decref(metrics);
}

/* One of ours, which outlives the line; NULL = it is none. */
static const char *cause_of(const json_t *v)
{
    static const char *const causes[] = {"program", "configuration", "out-of-memory"};
    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
        if (json_is_string(v) && strcmp(json_string_value(v), causes[i]) == 0) {
            return causes[i];
        }
    }
    return NULL;
}

/* Whatever is wrong with the rest of it, it has failed. */
static void use_failed(struct lines *l, const json_t *doc)
{
    const char *reason = json_string_value(json_object_get(doc, "failed"));
    const json_t *given = json_object_get(doc, "cause");
    const char *cause = cause_of(given);
    if (reason == NULL) {
        bad(l, "\"failed\" must be the reason, a text");
        return;
    }
    if (given != NULL && cause == NULL) {
        bad(l, "\"cause\" must be \"program\", \"configuration\" or \"out-of-memory\"");
    }
    l->handler.failed(l->handler.arg, reason, cause, json_is_true(json_object_get(doc, "retry")));
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
        if (lines_step(json_object_get(doc, "checkpoint"), &step)) {
            l->handler.checkpoint(l->handler.arg, step);
        } else {
            bad(l, "\"checkpoint\" must be the step, a whole number");
        }
    }
    if (json_is_object(result)) {
        json_t *metrics = lines_metrics(result);
        check_objective(l, result, metrics);
        l->handler.result(l->handler.arg, metrics);
        json_decref(metrics);
        used = true;
    }
    if (json_object_get(doc, "failed") != NULL) {
        use_failed(l, doc);
    } else if (!used) {
        bad(l, "it has none of \"metrics\", \"checkpoint\", \"result\" and \"failed\"");
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
    int64_t step = l->next_step;
    const json_t *own = json_object_get(l->pending, "step");
    if (json_is_number(own)) {
        double x = nearbyint(json_number_value(own));
        step = x >= 0 && x <= (double)LINES_STEP_MAX ? (int64_t)x : step;
    }
    (void)json_object_del(l->pending, "step");
    l->next_step = step < LINES_STEP_MAX ? step + 1 : step;
    l->complete = false;
    l->handler.metrics(l->handler.arg, step, l->pending);
    (void)json_object_clear(l->pending);
}

/* What the patterns find in a text; NULL = nothing. */
static json_t *match_all(const struct lines *l, const char *text)
{
    json_t *found = NULL;
    for (size_t i = 0; i < l->n_patterns; i++) {
        json_t *v = matched_number(&l->patterns[i], text);
        if (v != NULL) {
            found = found != NULL ? found : json_object();
            (void)json_object_set_new(found, l->patterns[i].name, v);
        }
    }
    return found;
}

static void use_patterns(struct lines *l, char *text, size_t len)
{
    if (len > LINES_MATCH_MAX) {
        text[LINES_MATCH_MAX] = '\0';
    }
    json_t *found = match_all(l, text);
    if (found == NULL) {
        return;
    }
    const json_t *step = json_object_get(found, "step");
    if (l->complete && step != NULL && !json_equal(step, json_object_get(l->pending, "step"))) {
        end_step(l); /* a bar that went on to its next step */
    }
    l->complete = l->complete || json_object_get(found, l->objective) != NULL;
    (void)json_object_update(l->pending, found);
    json_decref(found);
}

/* ---- what a terminal would show ---- */

/* Behind the escape sequence that begins at p (colours and movements end with a letter, titles with
 * BEL or ESC \). */
static const char *skip_escape(const char *p, const char *end)
{
    p++;
    if (p < end && *p == '[') {
        p++;
        while (p < end && !(*p >= 0x40 && *p <= 0x7e)) {
            p++;
        }
    } else if (p < end && *p == ']') {
        while (p < end && *p != '\a' && *p != '\033') {
            p++;
        }
        p += p < end && *p == '\033' && p + 1 < end ? 1 : 0;
    }
    return p < end ? p + 1 : end;
}

/* Takes escape sequences and control characters out, in place; the new length. */
static size_t clean(char *text, size_t len)
{
    const char *end = text + len;
    char *to = text;
    for (const char *p = text; p < end;) {
        if (*p == '\033') {
            p = skip_escape(p, end);
        } else {
            unsigned char c = (unsigned char)*p++;
            if (c >= ' ' || c == '\t') {
                *to++ = (char)c;
            }
        }
    }
    *to = '\0';
    return (size_t)(to - text);
}

void lines_clean(char *line)
{
    size_t n = strlen(line);
    while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == '\n')) {
        line[--n] = '\0';
    }
    const char *last = strrchr(line, '\r');
    if (last != NULL) {
        n = strlen(last + 1);
        memmove(line, last + 1, n + 1);
    }
    (void)clean(line, n);
}

/* A mark stands at the beginning of a line, or behind what a progress bar left there. */
static const char *find_mark(const struct lines *l, const char *text)
{
    if (strncmp(text, MARK, strlen(MARK)) == 0) {
        return text;
    }
    return l->redrawn ? strstr(text, MARK "{") : NULL;
}

static void use_text(struct lines *l)
{
    if (l->partial.len == 0) {
        return;
    }
    char *text = l->partial.data;
    size_t len = clean(text, l->partial.len);
    const char *mark = find_mark(l, text);
    if (mark != NULL) {
        size_t skip = (size_t)(mark - text) + strlen(MARK);
        use_mark(l, text + skip, len - skip);
    } else if (l->n_patterns > 0) {
        use_patterns(l, text, len);
    }
}

/* ---- bytes to lines ---- */

/* The text up to here is over, at a carriage return or at the end of the line. */
static void end_text(struct lines *l)
{
    if (!l->skipping) {
        use_text(l);
    }
    l->skipping = false;
    buf_reset(&l->partial);
}

static void end_line(struct lines *l)
{
    end_text(l);
    if (l->complete) {
        end_step(l);
    }
    l->redrawn = false;
}

static void add_text(struct lines *l, const char *bytes, size_t n)
{
    if (!l->skipping && l->partial.len + n > LINES_BYTES_MAX) {
        l->skipping = true;
        buf_reset(&l->partial);
    }
    if (!l->skipping) {
        buf_add(&l->partial, bytes, n);
    }
}

static size_t until_break(const char *bytes, size_t n)
{
    size_t i = 0;
    while (i < n && bytes[i] != '\n' && bytes[i] != '\r') {
        i++;
    }
    return i;
}

void lines_add(struct lines *l, const char *bytes, size_t n)
{
    while (n > 0) {
        size_t part = until_break(bytes, n);
        if (part > 0 && l->returned) {
            end_text(l); /* no line feed came: the line is drawn again */
            l->redrawn = true;
        }
        if (part > 0) {
            l->returned = false;
            add_text(l, bytes, part);
        }
        if (part < n) {
            l->returned = bytes[part] == '\r';
            if (!l->returned) {
                end_line(l);
            }
            part++;
        }
        bytes += part;
        n -= part;
    }
}

void lines_end(struct lines *l)
{
    end_line(l);
    l->returned = false;
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
    struct mag_err why = {0};
    enum mag_status st = pattern_compile(json_string_value(v), &p->re, &why);
    p->compiled = st == MAG_OK;
    p->name = xstrdup(name);
    return st == MAG_OK ? MAG_OK
                        : mag_fail(err, st, "\"metrics\": \"%s\" %s", name, why.text);
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
        if (json_is_object(v)) {
            continue; /* from event files: follow.c */
        }
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
