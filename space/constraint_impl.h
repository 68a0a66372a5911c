/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the files of constraints (constraint.c, forbidden.c, cells.c, repair.c, sample.c); nobody
 * else includes this.
 */
#ifndef MAG_SPACE_CONSTRAINT_IMPL_H
#define MAG_SPACE_CONSTRAINT_IMPL_H

#include "base/pcg.h"
#include "space/constraint.h"
#include "space/expr.h"

/* One part of a forbidden combination: "the value of `param` is among these". */
struct term {
    int param;
    bool *listed;   /* DISCRETE, CATEGORICAL: one flag a value */
    double *values; /* else: n values, or a range */
    int n;
    double lo, hi;
};

struct constraint {
    struct expr *condition; /* NULL = a forbidden combination */
    struct term *terms;
    int n_terms;
    char *text; /* for messages */
    json_t *json;
};

struct constraints {
    struct constraint *at;
    int n;
    uint64_t *bits; /* one for each cell of the space without constraints; NULL = not enumerated */
    uint32_t *rank; /* feasible cells before each word of bits */
    uint64_t words, feasible;
    double *witness; /* a feasible point */
};

/* ---- forbidden.c ---- */
bool forbidden_parse(struct constraint *c, const struct space *s, const json_t *object,
                     const char *pointer, struct mjson_issues *is);
void forbidden_fini(struct constraint *c);
/* As expr_violation. */
double forbidden_violation(const struct constraint *c, const struct space *s, const double *point);

/* ---- constraint.c ---- */
double constraint_violation(const struct constraint *c, const struct space *s, const double *point);
bool constraint_reads(const struct constraint *c, int index);
void constraints_destroy(struct constraints *c);

/* ---- grid.c ---- */
/* Fills s->counts. */
void space_count(struct space *s);
/* The cells of the space, whether feasible or not. */
void cells_point(const struct space *s, uint64_t cell, double *point);
uint64_t cells_index(const struct space *s, const double *point);

/* ---- cells.c ---- */
/* Marks the feasible cells of a space of at most SPACE_CELLS_MAX; sets the witness. */
void cells_enumerate(const struct space *s, struct constraints *c);
uint64_t cells_select(const struct constraints *c, uint64_t index);
uint64_t cells_rank(const struct constraints *c, uint64_t cell); /* UINT64_MAX: infeasible */

/* ---- repair.c ---- */
/* Looks for any feasible point, long but bounded; `best` becomes it, or the least broken point. */
bool repair_witness(const struct space *s, double *best);
/* Moves a feasible point among the feasible ones by slice sampling along the parameters, drawing
 * from one generator for each. */
void repair_wander(const struct space *s, struct pcg64 *g, double *point);

#endif
