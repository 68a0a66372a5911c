/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/options.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int options_count(const struct opt_option *table)
{
    int n = 0;
    while (table != NULL && table[n].name != NULL) {
        n++;
    }
    return n;
}

static void read_enum(const struct opt_option *o, const json_t *v, const char *pointer,
                      struct mjson_issues *is, double *ret)
{
    const char *name = json_is_string(v) ? json_string_value(v) : "";
    struct buf all = {0};
    for (int k = 0; o->names[k] != NULL; k++) {
        if (strcmp(o->names[k], name) == 0) {
            *ret = k;
            buf_fini(&all);
            return;
        }
        buf_addf(&all, "%s\"%s\"", k > 0 ? ", " : "", o->names[k]);
    }
    if (json_is_string(v)) {
        mjson_issue_at(is, pointer, o->name, "\"%.60s\" is not in this build; it has %s", name,
                       all.data);
    } else {
        mjson_issue_at(is, pointer, o->name, "must be one of %s, not %s", all.data, mjson_kind(v));
    }
    buf_fini(&all);
}

static void read_number(const struct opt_option *o, const json_t *v, const char *pointer,
                        struct mjson_issues *is, double *ret)
{
    bool whole = o->type == OPT_T_INT;
    double x = json_is_number(v) ? json_number_value(v) : NAN;
    if (isnan(x) || (whole && x != floor(x))) {
        mjson_issue_at(is, pointer, o->name, "must be a %s from %.15g to %.15g, not %s",
                       whole ? "whole number" : "number", o->lo, o->hi, mjson_kind(v));
    } else if (x < o->lo || x > o->hi) {
        mjson_issue_at(is, pointer, o->name, "%.15g is outside %.15g to %.15g (%s)", x, o->lo,
                       o->hi, o->help);
    } else {
        *ret = x + 0.0;
    }
}

static void read_option(const struct opt_option *o, const json_t *v, const char *pointer,
                        struct mjson_issues *is, double *ret)
{
    switch (o->type) {
    case OPT_T_INT:
    case OPT_T_REAL:
        read_number(o, v, pointer, is, ret);
        break;
    case OPT_T_ENUM:
        read_enum(o, v, pointer, is, ret);
        break;
    case OPT_T_BOOL:
        if (!json_is_boolean(v)) {
            mjson_issue_at(is, pointer, o->name, "must be true or false, not %s", mjson_kind(v));
        } else {
            *ret = json_is_true(v);
        }
        break;
    }
}

void options_parse(const struct opt_option *table, const char *name_key, const json_t *object,
                   const char *pointer, struct mjson_issues *is, double *values)
{
    const char *known[OPTIONS_MAX + 2] = {name_key};
    int n = options_count(table);
    MAG_ASSERT(n <= OPTIONS_MAX, "%d options", n);
    for (int i = 0; i < n; i++) {
        known[i + 1] = table[i].name;
        values[i] = table[i].def;
        const json_t *v = json_object_get(object, table[i].name);
        if (v != NULL) {
            read_option(&table[i], v, pointer, is, &values[i]);
        }
    }
    mjson_check_keys(object, known, pointer, is);
}

void options_write(const struct opt_option *table, const double *values, json_t *object)
{
    for (int i = 0; i < options_count(table); i++) {
        const struct opt_option *o = &table[i];
        json_t *v = NULL;
        if (isnan(values[i])) {
            continue;
        }
        switch (o->type) {
        case OPT_T_INT:
            v = json_integer((json_int_t)values[i]);
            break;
        case OPT_T_REAL:
            v = json_real(values[i]);
            break;
        case OPT_T_BOOL:
            v = json_boolean(values[i] != 0);
            break;
        case OPT_T_ENUM:
            v = json_string(o->names[(int)values[i]]);
            break;
        }
        (void)json_object_set_new(object, o->name, v);
    }
}
