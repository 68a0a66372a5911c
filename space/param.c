/* SPDX-License-Identifier: Apache-2.0
 *
 * One parameter: its distinct values ("cells") and the way between values and the unit interval.
 * Every value has its own piece of [0, 1); to_unit gives a point inside that piece, so that
 * from_unit(to_unit(v)) is v for all but continuous parameters.
 */
#include "space/space.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_list(const struct param *p)
{
    return p->type == PARAM_DISCRETE || p->type == PARAM_CATEGORICAL;
}

static bool is_fixed(const struct param *p)
{
    return !is_list(p) && p->lo == p->hi;
}

static bool is_continuous(const struct param *p)
{
    return p->type == PARAM_DOUBLE && p->step <= 0 && !is_fixed(p);
}

bool param_is_ordered(const struct param *p)
{
    return p->type != PARAM_CATEGORICAL || p->ordered;
}

static double clamp(double v, double lo, double hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

double param_cells(const struct param *p)
{
    if (is_list(p)) {
        return p->n_values;
    }
    if (is_continuous(p) || is_fixed(p)) {
        return is_fixed(p) ? 1 : INFINITY;
    }
    /* 0..0.99 by 0.01 divides as 98.999…: a value that misses hi by rounding alone counts. */
    return floor((p->hi - p->lo) / p->step + (p->type == PARAM_DOUBLE ? 1e-9 : 0)) + 1;
}

double param_cell_value(const struct param *p, double k)
{
    if (is_list(p)) {
        return k;
    }
    double v = p->lo + k * p->step;
    if (p->type == PARAM_DOUBLE && k > 0) {
        /* What a person would write: 0.3, not 0.30000000000000004. */
        char text[32];
        (void)snprintf(text, sizeof(text), "%.15g", v);
        v = strtod(text, NULL);
    }
    return clamp(v, p->lo, p->hi);
}

double param_cell_of(const struct param *p, double value)
{
    double n = param_cells(p);
    if (!isfinite(value)) {
        return -1;
    }
    if (is_list(p)) {
        return value >= 0 && value < n && value == floor(value) ? value : -1;
    }
    if (is_fixed(p)) {
        return value == p->lo ? 0 : -1;
    }
    double k = floor((value - p->lo) / p->step + 0.5);
    if (k < 0 || k >= n) {
        return -1;
    }
    double off = fabs(value - param_cell_value(p, k));
    return off <= (p->type == PARAM_DOUBLE ? 1e-9 * p->step : 0) ? k : -1;
}

/* The ends of the unit interval in log space. A stepped value owns half a step on either side; the
 * lowest may not reach zero, so its piece ends at half the value at most. */
static void log_ends(const struct param *p, double *lo, double *hi)
{
    if (is_continuous(p)) {
        *lo = log(p->lo);
        *hi = log(p->hi);
        return;
    }
    *lo = log(fmax(p->lo - p->step / 2, p->lo / 2));
    *hi = log(param_cell_value(p, param_cells(p) - 1) + p->step / 2);
}

double param_from_unit(const struct param *p, double u)
{
    u = u >= 0 ? fmin(u, 1) : 0; /* NaN is 0 too */
    double n = param_cells(p);
    if (n <= 1) {
        return param_cell_value(p, 0);
    }
    if (p->reverse_log) {
        double lo = log1p(-p->lo);
        return clamp(-expm1(lo + u * (log1p(-p->hi) - lo)), p->lo, p->hi);
    }
    if (p->log) {
        double lo = 0;
        double hi = 0;
        log_ends(p, &lo, &hi);
        double v = exp(lo + u * (hi - lo));
        if (is_continuous(p)) {
            return clamp(v, p->lo, p->hi);
        }
        return param_cell_value(p, clamp(floor((v - p->lo) / p->step + 0.5), 0, n - 1));
    }
    if (is_continuous(p)) {
        return clamp(p->lo + u * (p->hi - p->lo), p->lo, p->hi);
    }
    double k = fmin(floor(u * n), n - 1);
    return param_cell_value(p, p->at != NULL ? p->at[(uint32_t)k] : k);
}

double param_to_unit(const struct param *p, double value)
{
    if (param_cells(p) <= 1) {
        return 0.5;
    }
    if (p->reverse_log) {
        double lo = log1p(-p->lo);
        return clamp((log1p(-value) - lo) / (log1p(-p->hi) - lo), 0, 1);
    }
    if (p->log) {
        double lo = 0;
        double hi = 0;
        log_ends(p, &lo, &hi);
        return clamp((log(value) - lo) / (hi - lo), 0, 1);
    }
    if (is_continuous(p)) {
        return clamp((value - p->lo) / (p->hi - p->lo), 0, 1);
    }
    double k = p->rank != NULL ? p->rank[(uint32_t)value]
               : is_list(p)    ? value
                               : floor((value - p->lo) / p->step + 0.5);
    return clamp((k + 0.5) / param_cells(p), 0, 1);
}

int param_value_index(const struct param *p, const json_t *v)
{
    for (uint32_t k = 0; k < p->n_values; k++) {
        if (p->type == PARAM_CATEGORICAL
                ? json_is_string(v) && strcmp(json_string_value(v), p->labels[k]) == 0
                : json_is_number(v) && json_number_value(v) == p->values[k]) {
            return (int)k;
        }
    }
    return -1;
}
