/* SPDX-License-Identifier: Apache-2.0 */
#include "base/flags.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/size.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELP_COLUMN 26 /* where the help texts start */
#define HELP_WIDTH 100

static const struct flag *find(const struct flags_usage *u, const char *name, size_t n)
{
    for (const struct flag *f = u->flags; f->name != NULL; f++) {
        if (strlen(f->name) == n && memcmp(f->name, name, n) == 0) {
            return f;
        }
    }
    return NULL;
}

static const struct flag *find_letter(const struct flags_usage *u, char letter)
{
    for (const struct flag *f = u->flags; f->name != NULL; f++) {
        if (f->letter != 0 && f->letter == letter) {
            return f;
        }
    }
    return NULL;
}

static enum mag_status unknown(const struct flags_usage *u, const char *given, size_t n,
                               struct mag_err *err)
{
    const char *known[64] = {"help"};
    size_t count = 1;
    for (const struct flag *f = u->flags; f->name != NULL && count < 63; f++) {
        known[count++] = f->name;
    }
    char word[64];
    (void)snprintf(word, sizeof(word), "%.*s", (int)(n < 60 ? n : 60), given);
    const char *near = mjson_nearest(word, known);
    if (near != NULL) {
        return mag_fail(err, MAG_INVALID, "unknown flag --%s; did you mean --%s?", word, near);
    }
    return mag_fail(err, MAG_INVALID, "unknown flag --%s", word);
}

static enum mag_status set_int(const struct flag *f, const char *text, struct mag_err *err)
{
    char *end = NULL;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0) {
        return mag_fail(err, MAG_INVALID, "--%s: expected a whole number, not \"%s\"", f->name,
                        text);
    }
    if ((f->min != 0 || f->max != 0) && (v < f->min || v > f->max)) {
        return mag_fail(err, MAG_INVALID, "--%s: %lld is not within %lld and %lld", f->name, v,
                        (long long)f->min, (long long)f->max);
    }
    *(int64_t *)f->to = v;
    return MAG_OK;
}

static enum mag_status set_duration(const struct flag *f, const char *text, struct mag_err *err)
{
    int64_t ms = 0;
    if (duration_parse(text, &ms) != MAG_OK) {
        return mag_fail(err, MAG_INVALID,
                        "--%s: expected a duration such as 30s, 20m or 2h, not \"%s\"", f->name,
                        text);
    }
    if ((f->min != 0 || f->max != 0) && (ms < f->min || ms > f->max)) {
        return mag_fail(err, MAG_INVALID, "--%s: %s is not within %g s and %g s", f->name, text,
                        (double)f->min / 1e3, (double)f->max / 1e3);
    }
    *(int64_t *)f->to = ms;
    return MAG_OK;
}

static enum mag_status set_size(const struct flag *f, const char *text, struct mag_err *err)
{
    int64_t bytes = 0;
    if (size_parse(text, &bytes) != MAG_OK) {
        return mag_fail(err, MAG_INVALID, "--%s: expected a size such as 500MB or 10GB, not \"%s\"",
                        f->name, text);
    }
    if ((f->min != 0 || f->max != 0) && (bytes < f->min || bytes > f->max)) {
        return mag_fail(err, MAG_INVALID, "--%s: %s is not within %lld and %lld bytes", f->name,
                        text, (long long)f->min, (long long)f->max);
    }
    *(int64_t *)f->to = bytes;
    return MAG_OK;
}

static enum mag_status set_number(const struct flag *f, const char *text, struct mag_err *err)
{
    char *end = NULL;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(v)) {
        return mag_fail(err, MAG_INVALID, "--%s: expected a number, not \"%s\"", f->name, text);
    }
    *(double *)f->to = v;
    return MAG_OK;
}

static enum mag_status set_text(const struct flag *f, const char *text, struct mag_err *err)
{
    if (f->choices != NULL) {
        struct buf all = {0};
        for (const char *const *c = f->choices; *c != NULL; c++) {
            if (strcmp(*c, text) == 0) {
                *(const char **)f->to = text;
                buf_fini(&all);
                return MAG_OK;
            }
            buf_addf(&all, "%s%s", all.len > 0 ? ", " : "", *c);
        }
        (void)mag_fail(err, MAG_INVALID, "--%s: \"%s\" is not one of %s", f->name, text, all.data);
        buf_fini(&all);
        return MAG_INVALID;
    }
    *(const char **)f->to = text;
    return MAG_OK;
}

static enum mag_status set(const struct flag *f, const char *text, struct mag_err *err)
{
    switch (f->kind) {
    case FLAG_BOOL:
        *(bool *)f->to = true;
        return MAG_OK;
    case FLAG_TEXT:
        return set_text(f, text, err);
    case FLAG_INT:
        return set_int(f, text, err);
    case FLAG_DURATION:
        return set_duration(f, text, err);
    case FLAG_NUMBER:
        return set_number(f, text, err);
    case FLAG_SIZE:
        return set_size(f, text, err);
    case FLAG_LIST: {
        struct flag_list *list = f->to;
        if (list->n == FLAG_LIST_MAX) {
            return mag_fail(err, MAG_LIMIT, "--%s: given more than %d times", f->name,
                            FLAG_LIST_MAX);
        }
        list->items[list->n++] = text;
        return MAG_OK;
    }
    }
    return MAG_BUG;
}

/* Defaults first, then the environment; a flag given on the line overrides both. */
static enum mag_status set_defaults(const struct flags_usage *u, struct mag_err *err)
{
    for (const struct flag *f = u->flags; f->name != NULL; f++) {
        const char *env = f->env != NULL ? getenv(f->env) : NULL;
        const char *text = env != NULL && env[0] != '\0' ? env : f->fallback;
        enum mag_status st = text != NULL ? set(f, text, err) : MAG_OK;
        if (st != MAG_OK) {
            return text == env ? mag_wrap(err, st, "environment variable %s", f->env) : st;
        }
    }
    return MAG_OK;
}

/* One "--name", "--name=value" or "-x" at argv[*i]; moves *i over a separate value. */
static enum mag_status take_flag(const struct flags_usage *u, int argc, char **argv, int *i,
                                 struct mag_err *err)
{
    const char *word = argv[*i];
    const struct flag *f = NULL;
    const char *value = NULL;
    if (word[1] != '-') {
        f = word[2] == '\0' ? find_letter(u, word[1]) : NULL;
        if (f == NULL) {
            return mag_fail(err, MAG_INVALID, "unknown flag %s", word);
        }
    } else {
        size_t n = strcspn(word + 2, "=");
        f = find(u, word + 2, n);
        if (f == NULL) {
            return unknown(u, word + 2, n, err);
        }
        value = word[2 + n] == '=' ? word + 2 + n + 1 : NULL;
    }
    if (f->kind == FLAG_BOOL) {
        return value == NULL ? set(f, "", err)
                             : mag_fail(err, MAG_INVALID, "--%s takes no value", f->name);
    }
    if (value == NULL) {
        if (*i + 1 >= argc) {
            return mag_fail(err, MAG_INVALID, "--%s needs a value (%s)", f->name, f->value);
        }
        value = argv[++*i];
    }
    return set(f, value, err);
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

enum mag_status flags_parse(const struct flags_usage *u, int argc, char **argv,
                            struct flags_args *ret, struct mag_err *err)
{
    *ret = (struct flags_args){.help = wants_help(argc, argv)};
    if (ret->help) {
        return MAG_OK;
    }
    enum mag_status st = set_defaults(u, err);
    bool flags_over = false;
    for (int i = 1; i < argc && st == MAG_OK; i++) {
        const char *word = argv[i];
        if (!flags_over && strcmp(word, "--") == 0) {
            flags_over = true;
        } else if (!flags_over && word[0] == '-' && word[1] != '\0') {
            st = take_flag(u, argc, argv, &i, err);
        } else if (ret->n == u->max_args) {
            st = u->max_args == 0
                     ? mag_fail(err, MAG_INVALID, "takes no argument, but got \"%s\"", word)
                     : mag_fail(err, MAG_INVALID, "one argument too many: \"%s\"", word);
        } else {
            ret->items[ret->n++] = word;
        }
    }
    if (st == MAG_OK && ret->n < u->min_args) {
        st = mag_fail(err, MAG_INVALID, "needs %s", u->args);
    }
    return st;
}

/* Adds `text` from column `at`, broken at blanks, continued at HELP_COLUMN. */
static void add_wrapped(struct buf *out, const char *text, size_t at)
{
    while (*text != '\0') {
        size_t n = strcspn(text, " ");
        if (at + n > HELP_WIDTH && at > HELP_COLUMN) {
            while (out->len > 0 && out->data[out->len - 1] == ' ') {
                out->data[--out->len] = '\0';
            }
            buf_addf(out, "\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
        }
        buf_add(out, text, n);
        at += n;
        text += n;
        if (*text == ' ') {
            buf_addc(out, ' ');
            at++;
            text++;
        }
    }
    buf_addc(out, '\n');
}

static void help_of(const struct flag *f, struct buf *out)
{
    struct buf left = {0};
    buf_addf(&left, "  --%s", f->name);
    if (f->letter != 0) {
        buf_addf(&left, ", -%c", f->letter);
    }
    if (f->kind != FLAG_BOOL) {
        buf_addf(&left, " %s", f->value);
    }
    struct buf text = {0};
    buf_adds(&text, f->help);
    for (const char *const *c = f->choices; c != NULL && *c != NULL; c++) {
        buf_addf(&text, "%s%s", c == f->choices ? " (" : ", ", *c);
    }
    buf_adds(&text, f->choices != NULL ? ")" : "");
    if (f->fallback != NULL) {
        buf_addf(&text, " [%s]", f->fallback);
    }
    if (f->env != NULL) {
        buf_addf(&text, " (or $%s)", f->env);
    }
    buf_adds(out, left.data);
    size_t at = left.len;
    if (left.len + 2 > HELP_COLUMN) {
        buf_addc(out, '\n');
        at = 0;
    }
    buf_addf(out, "%*s", (int)(HELP_COLUMN - at), "");
    add_wrapped(out, text.data, HELP_COLUMN);
    buf_fini(&left);
    buf_fini(&text);
}

void flags_help(const struct flags_usage *u, struct buf *out)
{
    buf_addf(out, "usage: %s%s%s%s\n\n%s\n", u->program, u->args[0] != '\0' ? " " : "", u->args,
             u->flags[0].name != NULL ? " [flags]" : "", u->summary);
    if (u->detail != NULL) {
        buf_addf(out, "\n%s\n", u->detail);
    }
    if (u->flags[0].name != NULL) {
        buf_adds(out, "\nflags:\n");
    }
    for (const struct flag *f = u->flags; f->name != NULL; f++) {
        help_of(f, out);
    }
}
