/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pattern.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Behind the bracket expression that begins at p; its end when it is never closed. */
static const char *skip_bracket(const char *p)
{
    p++;
    p += *p == '^';
    p += *p == ']';
    while (*p != '\0' && *p != ']') {
        if (p[0] == '[' && p[1] != '\0' && strchr(":.=", p[1]) != NULL) {
            const char close[3] = {p[1], ']', '\0'};
            const char *end = strstr(p + 2, close);
            p = end != NULL ? end + 2 : p + 1;
        } else {
            p++;
        }
    }
    return *p == ']' ? p + 1 : p;
}

/* Sizes as regcomp writes the expression out: of each open group so far, and of the last item in it,
 * which a repeat multiplies. */
struct sizes {
    long total[PATTERN_GROUPS_MAX + 1];
    long last[PATTERN_GROUPS_MAX + 1];
    int depth;
};

static void add_item(struct sizes *z, long n)
{
    z->total[z->depth] += n;
    z->last[z->depth] = n;
}

static void repeat_item(struct sizes *z, long times)
{
    z->total[z->depth] += z->last[z->depth] * (times - 1);
    z->last[z->depth] *= times;
}

static void close_group(struct sizes *z)
{
    if (z->depth > 0) {
        z->depth--;
        add_item(z, z->total[z->depth + 1] + 1);
    }
}

/* The larger number of an interval "{n}", "{n,}" or "{n,m}", within reason; 1 when it is none. */
static long repeats_of(const char *p)
{
    char *end = NULL;
    if (!isdigit((unsigned char)p[1])) {
        return 1;
    }
    long n = strtol(p + 1, &end, 10);
    if (*end == ',' && isdigit((unsigned char)end[1])) {
        n = strtol(end + 1, NULL, 10);
    }
    return n < 1 ? 1 : n > PATTERN_SIZE_MAX ? PATTERN_SIZE_MAX : n;
}

/* One character of the expression, or a bracket or an escape as one; returns what is behind it. */
static const char *measure_one(struct sizes *z, const char *p)
{
    switch (*p) {
    case '[':
        add_item(z, 1);
        return skip_bracket(p);
    case '\\':
        add_item(z, 1);
        return p + (p[1] != '\0' ? 2 : 1);
    case '(':
        z->depth++;
        z->total[z->depth] = z->last[z->depth] = 0;
        return p + 1;
    case ')':
        close_group(z);
        return p + 1;
    case '+':
        repeat_item(z, 2);
        return p + 1;
    case '{':
        repeat_item(z, repeats_of(p));
        return p + 1;
    case '*':
    case '?':
        return p + 1;
    default:
        add_item(z, 1);
        return p + 1;
    }
}

static enum mag_status check(const char *text, struct mag_err *err)
{
    struct sizes z = {0};
    for (const char *p = text; *p != '\0';) {
        if (*p == '\\' && isdigit((unsigned char)p[1])) {
            return mag_fail(err, MAG_INVALID,
                            "has the back-reference \\%c, which is not supported here", p[1]);
        }
        if (*p == '(' && z.depth == PATTERN_GROUPS_MAX) {
            return mag_fail(err, MAG_INVALID, "has more than %d groups one within another",
                            PATTERN_GROUPS_MAX);
        }
        p = measure_one(&z, p);
        if (z.total[z.depth] > PATTERN_SIZE_MAX) {
            return mag_fail(err, MAG_INVALID,
                            "repeats too much: written out it has more than %d characters",
                            PATTERN_SIZE_MAX);
        }
    }
    return MAG_OK;
}

enum mag_status pattern_compile(const char *text, regex_t *ret, struct mag_err *err)
{
    size_t n = strlen(text);
    if (n == 0 || n > PATTERN_BYTES_MAX) {
        return mag_fail(err, MAG_INVALID, "is not a regular expression of 1 to %d bytes",
                        PATTERN_BYTES_MAX);
    }
    enum mag_status st = check(text, err);
    if (st != MAG_OK) {
        return st;
    }
    int bad = regcomp(ret, text, REG_EXTENDED);
    if (bad != 0) {
        char why[128];
        (void)regerror(bad, ret, why, sizeof(why));
        return mag_fail(err, MAG_INVALID, "is no POSIX extended regular expression: %s", why);
    }
    return MAG_OK;
}
