/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/format.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *format_string(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s != NULL ? s : "";
}

int64_t format_int(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

const char *format_number(const json_t *value, char buf[32])
{
    if (!json_is_number(value)) {
        return "-";
    }
    (void)snprintf(buf, 32, "%.6g", json_number_value(value));
    return buf;
}

const char *format_duration(double seconds, char buf[32])
{
    int64_t s = llround(seconds);
    if (!(seconds >= 0) || seconds > 1e12) {
        (void)snprintf(buf, 32, "-");
    } else if (seconds < 10) {
        (void)snprintf(buf, 32, "%.1fs", seconds);
    } else if (s < 60) {
        (void)snprintf(buf, 32, "%" PRId64 "s", s);
    } else if (s < 3600) {
        (void)snprintf(buf, 32, "%" PRId64 "m%02ds", s / 60, (int)(s % 60));
    } else if (s < 86400) {
        (void)snprintf(buf, 32, "%" PRId64 "h%02dm", s / 3600, (int)(s / 60 % 60));
    } else {
        (void)snprintf(buf, 32, "%" PRId64 "d%dh", s / 86400, (int)(s / 3600 % 24));
    }
    return buf;
}

double format_time(const char *rfc3339)
{
    struct tm tm = {0};
    const char *end = strptime(rfc3339, "%Y-%m-%dT%H:%M:%S", &tm);
    if (end == NULL) {
        return -1;
    }
    double fraction = end[0] == '.' ? strtod(end, NULL) : 0;
    return (double)timegm(&tm) + fraction;
}

char *format_params(const json_t *params)
{
    struct buf b = {0};
    const char *key = NULL;
    const json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)params, key, value)
    {
        char number[32];
        buf_addf(&b, "%s%s=", b.len > 0 ? " " : "", key);
        if (json_is_string(value)) {
            buf_adds(&b, json_string_value(value));
        } else {
            buf_adds(&b, format_number(value, number));
        }
    }
    return buf_take(&b);
}

enum term_colour format_state_colour(const char *state)
{
    static const struct {
        const char *state;
        enum term_colour colour;
    } table[] = {{"running", TERM_BLUE},   {"completed", TERM_GREEN}, {"paused", TERM_YELLOW},
                 {"waiting", TERM_YELLOW}, {"failed", TERM_RED},      {"stopped", TERM_DIM},
                 {"cancelled", TERM_DIM}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(table[i].state, state) == 0) {
            return table[i].colour;
        }
    }
    return TERM_PLAIN;
}

char *format_join(const json_t *strings)
{
    struct buf b = {0};
    size_t i = 0;
    const json_t *s = NULL;
    json_array_foreach(strings, i, s)
    {
        buf_addf(&b, "%s%s", i > 0 ? ", " : "", json_string_value(s));
    }
    return buf_take(&b);
}

const char *format_why(const json_t *object)
{
    const json_t *why = json_object_get(object, "why");
    if (json_is_string(why)) {
        return json_string_value(why);
    }
    const char *text = format_string(why, "text");
    return text[0] != '\0' ? text : format_string(why, "code");
}

char *format_values(const json_t *trial)
{
    char number[32];
    struct buf b = {0};
    const char *name = NULL;
    json_t *value = NULL;
    size_t n = 0;
    buf_adds(&b, format_number(json_object_get(trial, "value"), number));
    json_object_foreach(json_object_get(trial, "values"), name, value)
    {
        if (n++ > 0) { /* the first is the value itself */
            buf_addf(&b, " %s=%s", name, format_number(value, number));
        }
    }
    return b.data;
}

char *format_spread(const json_t *best)
{
    char number[32];
    const json_t *deviation = json_object_get(best, "deviation");
    if (!json_is_number(deviation)) {
        return xstrdup("");
    }
    return xasprintf(" ± %s over %" PRId64 " folds", format_number(deviation, number),
                     format_int(best, "folds_done"));
}

char *format_refit(const json_t *best)
{
    const json_t *refit = json_object_get(best, "refit");
    if (!json_is_object(refit)) {
        return NULL;
    }
    const char *state = format_string(refit, "state");
    const char *uri = format_string(json_object_get(refit, "checkpoint"), "uri");
    bool done = strcmp(state, "completed") == 0;
    return xasprintf("%s as trial %" PRId64 "%s%s%s%s", done ? "refitted" : "refit",
                     format_int(refit, "trial"), done ? "" : ", ", done ? "" : state,
                     uri[0] != '\0' ? ": " : "", uri);
}

char *format_objectives(const json_t *object)
{
    struct buf b = {0};
    const json_t *several = json_object_get(object, "objectives");
    const json_t *one = json_object_get(object, "objective");
    size_t n = several != NULL ? json_array_size(several) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *o = several != NULL ? json_array_get(several, i) : one;
        bool down = strcmp(format_string(o, "direction"), "min") == 0;
        buf_addf(&b, "%s%s %s", i > 0 ? ", " : "", down ? "minimize" : "maximize",
                 format_string(o, "metric"));
    }
    return b.data;
}

/* ---- files ---- */

static void add_value(struct buf *b, const json_t *v, int level, int depth);

static void add_break(struct buf *b, bool lines, int level)
{
    if (!lines) {
        return;
    }
    buf_addc(b, '\n');
    for (int i = 0; i < level; i++) {
        buf_adds(b, "  ");
    }
}

static void add_members(struct buf *b, const json_t *v, int level, int depth)
{
    bool lines = level < depth;
    const char *key = NULL;
    json_t *item = NULL;
    const char *between = "";
    buf_addc(b, '{');
    json_object_foreach((json_t *)(uintptr_t)v, key, item)
    {
        buf_adds(b, between);
        add_break(b, lines, level + 1);
        buf_add_json_string(b, key);
        buf_adds(b, ": ");
        add_value(b, item, level + 1, depth);
        between = lines ? "," : ", ";
    }
    add_break(b, lines, level);
    buf_addc(b, '}');
}

/* A list of objects takes a line for each. */
static void add_items(struct buf *b, const json_t *v, int level, int depth)
{
    bool lines = json_is_object(json_array_get(v, 0)) && level < depth;
    size_t i = 0;
    json_t *item = NULL;
    buf_addc(b, '[');
    json_array_foreach(v, i, item)
    {
        buf_adds(b, i == 0 ? "" : lines ? "," : ", ");
        add_break(b, lines, level + 1);
        add_value(b, item, lines ? depth : level + 1, depth);
    }
    add_break(b, lines, level);
    buf_addc(b, ']');
}

static void add_value(struct buf *b, const json_t *v, int level, int depth)
{
    if (json_is_object(v)) {
        add_members(b, v, level, depth);
    } else if (json_is_array(v)) {
        add_items(b, v, level, depth);
    } else if (json_is_real(v)) {
        buf_add_json_number(b, json_real_value(v));
    } else {
        char *text = mjson_dump(v);
        buf_adds(b, text);
        free(text);
    }
}

char *format_file(const json_t *value, int depth)
{
    struct buf b = {0};
    add_value(&b, value, 0, depth);
    return buf_take(&b);
}
