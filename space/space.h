/* SPDX-License-Identifier: Apache-2.0
 *
 * Search spaces: the four parameter types, conditions, sampling, and the way to the unit cube and
 * back. A space is immutable after space_parse and may be shared between threads. Nothing here
 * reads a clock or global state: the same (space, seed, purpose, id) gives the same bits.
 */
#ifndef MAG_SPACE_SPACE_H
#define MAG_SPACE_SPACE_H

#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

#define SPACE_PARAMS_MAX 256               /* parameters in one space */
#define SPACE_VALUES_MAX 10000             /* values of one DISCRETE or CATEGORICAL parameter */
#define SPACE_NAME_MAX 128                 /* bytes of a parameter name */
#define SPACE_WHOLE_MAX 9007199254740992.0 /* 2^53: largest |value| of an INTEGER */

enum param_type {
    PARAM_DOUBLE = 0,      /* any double in [lo, hi] */
    PARAM_INTEGER = 1,     /* whole numbers in [lo, hi], |value| <= 2^53 */
    PARAM_DISCRETE = 2,    /* one of `values` (numbers) */
    PARAM_CATEGORICAL = 3, /* one of `labels` (strings) */
};

/* One parameter. Read-only outside space/. */
struct param {
    char *name;
    enum param_type type;
    double lo, hi;     /* DOUBLE, INTEGER: inclusive bounds; equal = a fixed value */
    bool log;          /* DOUBLE, INTEGER: uniform in log(value) */
    bool reverse_log;  /* DOUBLE without a step, hi < 1: uniform in log(1 - value) */
    double step;       /* DOUBLE, INTEGER: lo + k * step up to hi; 0 = none (INTEGER: at least 1) */
    uint32_t n_values; /* DISCRETE, CATEGORICAL; 0 otherwise */
    double *values;    /* DISCRETE, as declared */
    bool whole;        /* DISCRETE: every value is whole, and JSON shows it so */
    uint32_t *rank;    /* DISCRETE declared out of order: rank of value k; NULL = as declared */
    uint32_t *at;      /* likewise: the value of a rank */
    char **labels;     /* CATEGORICAL, as declared */
    bool ordered;      /* CATEGORICAL: the labels stand in order, lowest first (ordinal) */
    int parent;        /* index of the parameter that `when` names, -1 = always active */
    bool *when;        /* one flag for each value index of the parent */
};

/* A point is an array of space->n doubles in the order of the names (bytewise): DOUBLE and INTEGER
 * hold the value, DISCRETE and CATEGORICAL the index of the value; NaN = inactive. Sorting makes a
 * space, and with it every recorded point, independent of the order of keys in a JSON text. */
struct space {
    struct param *params; /* by name */
    int n;
    int *order; /* parents before children, else by name */
    /* private to space/ */
    double *counts;                  /* points at and below each parameter where it is active */
    struct constraints *constraints; /* NULL = none; see space/constraint.h */
};

/* Parses the "searchspace" object (long and Maggy's short form) and adds every fault to `is` under
 * `pointer`. Returns NULL exactly when issues were added. */
struct space *space_parse(const json_t *object, const char *pointer, struct mjson_issues *is);
/* The normalised long form, new reference: parsing it gives an equal space. */
json_t *space_to_json(const struct space *s);
void space_destroy(struct space *s);
int space_find(const struct space *s, const char *name); /* index or -1 */

/* Draws every active parameter from the stream (seed, "<purpose>:<name>", id): independent of the
 * order of parameters and of other ids. With constraints: uniform over the points that meet them
 * while one of 256 draws does; beyond that a draw is repaired and then moved by slice sampling,
 * which is nearly so. */
void space_sample(const struct space *s, uint64_t seed, const char *purpose, uint64_t id,
                  double *point);
/* One unit-interval value of one parameter to its (stepped, rounded, clamped) value, and back. The
 * intervals of the values of INTEGER, stepped and listed parameters are equally wide (in log space
 * when log); those of DISCRETE lie in the order of the numbers, of CATEGORICAL as declared. A fixed
 * value is at 0.5. */
double param_from_unit(const struct param *p, double u);
double param_to_unit(const struct param *p, double value);
/* The distinct values of one parameter: INFINITY for a DOUBLE without a step (1 when fixed). */
double param_cells(const struct param *p);
/* Do values have an order, so that near ones are alike? All but CATEGORICAL without "ordered". */
bool param_is_ordered(const struct param *p);
/* The k-th value, 0 <= k < cells (lists: k itself); and its index, -1 for a value that is none. A
 * DOUBLE within 1e-9 steps of a value is that value. Not for a DOUBLE without a step. */
double param_cell_value(const struct param *p, double k);
double param_cell_of(const struct param *p, double value);
/* DISCRETE, CATEGORICAL: the index of a JSON value among the declared ones, or -1. */
int param_value_index(const struct param *p, const json_t *v);
/* Whole points. Inactive parameters: NaN in points; to_unit gives NaN for them; from_unit ignores
 * what stands there and leaves NaN. */
void space_to_unit(const struct space *s, const double *point, double *u);
void space_from_unit(const struct space *s, const double *u, double *point);
/* Sets inactive parameters to NaN. False when an active one is NaN (a hole) or out of its domain.
 */
bool space_normalize(const struct space *s, double *point);
bool space_is_active(const struct space *s, const double *point, int index);

/* Params object (inactive ones absent), new reference; and the strict inverse. */
json_t *space_point_to_json(const struct space *s, const double *point);
bool space_point_from_json(const struct space *s, const json_t *params, const char *pointer,
                           struct mjson_issues *is, double *point);
/* As space_point_from_json, but parameters may be missing: they are drawn from (seed,
 * "<purpose>:<name>", id) so that those given are active and every constraint holds. A point that
 * breaks one, or cannot be completed, is a fault with the constraint's text. */
bool space_point_from_part(const struct space *s, const json_t *params, const char *pointer,
                           uint64_t seed, const char *purpose, uint64_t id,
                           struct mjson_issues *is, double *point);
/* The params of another space's point here. Parameters that this space has not are ignored, those
 * that the point has not take the value of `defaults` (an object, may be NULL) or their only one. */
enum space_fit {
    SPACE_FITS = 0,
    SPACE_FIT_MISSING = 1, /* an active parameter has no value */
    SPACE_FIT_OUTSIDE = 2, /* a value is out of its range, off its steps or no value of the list */
    SPACE_FIT_BROKEN = 3,  /* it breaks a constraint */
};
/* One value; false when it does not fit. */
bool space_value_fit(const struct param *p, const json_t *v, double *ret);
enum space_fit space_point_fit(const struct space *s, const json_t *params, const json_t *defaults,
                               double *point);
bool space_point_equal(const struct space *s, const double *a, const double *b);
uint64_t space_point_hash(const struct space *s, const double *point);

/* Number of distinct points, INFINITY when a DOUBLE has no step; exact below 2^53. With
 * constraints: of those that meet them, exact when the space has at most SPACE_CELLS_MAX points
 * without them (space_size_is_exact), else an upper bound. */
double space_size(const struct space *s);
bool space_size_is_exact(const struct space *s);
/* The index-th point in lexicographic order (the last parameter in `order` fastest), 0 <= index <
 * size < 2^53. Conditional parameters count only where they are active; points that break a
 * constraint have no index where the size is exact, and an index like any other where it is not. */
void space_grid_point(const struct space *s, uint64_t index, double *point);
/* The index of a point of a finite space; UINT64_MAX for one that has none. */
uint64_t space_grid_index(const struct space *s, const double *point);

#endif
