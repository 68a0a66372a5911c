/* SPDX-License-Identifier: Apache-2.0 */
#include "simulate/call.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *skip_blanks(const char *p)
{
    while (isblank((unsigned char)*p)) {
        p++;
    }
    return p;
}

static bool is_name_char(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '_';
}

/* The numbers between the brackets; NULL when they are none. */
static const char *read_args(const char *p, struct sim_call *ret)
{
    for (p = skip_blanks(p); *p != ')'; p = skip_blanks(p)) {
        char *end = NULL;
        errno = 0;
        double v = strtod(p, &end);
        if (end == p || errno != 0 || !isfinite(v) || ret->n == SIM_CALL_ARGS_MAX) {
            return NULL;
        }
        ret->args[ret->n++] = v;
        p = skip_blanks(end);
        if (*p == ',') {
            p++;
        } else if (*p != ')') {
            return NULL;
        }
    }
    return p + 1;
}

enum mag_status sim_call_parse(const char *text, struct sim_call *ret, struct mag_err *err)
{
    struct sim_call call = {0};
    const char *p = skip_blanks(text);
    size_t n = 0;
    while (is_name_char(p[n])) {
        n++;
    }
    bool named = n > 0 && n < sizeof(call.name);
    if (named) {
        memcpy(call.name, p, n);
        p = skip_blanks(p + n);
    }
    if (named && *p == '(') {
        p = read_args(p + 1, &call);
    }
    if (!named || p == NULL || *skip_blanks(p) != '\0') {
        return mag_fail(err, MAG_INVALID,
                        "\"%.80s\" is no name with numbers such as \"lognormal(0.5)\"", text);
    }
    *ret = call;
    return MAG_OK;
}
