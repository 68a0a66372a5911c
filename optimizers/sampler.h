/* SPDX-License-Identifier: Apache-2.0
 *
 * Samplers: where the points of new trials come from. A sampler learns (point, budget, result) and
 * proposes points; it knows nothing of rungs, limits or stops. ASHA, Hyperband and their kin take
 * any of them by the option "sampler"; search.h makes a whole optimizer of one.
 *
 * The rules of optimizer.h hold: deterministic, no clock, no I/O; `propose` changes nothing; draws
 * come from pcg_stream(seed, purpose, sampler_stream(trial, attempt)).
 *
 * The handle keeps the ordered record of what it told the sampler. Saving writes that record and
 * loading tells it again, so a sampler has no save and load of its own, and a loaded one is equal
 * to the saved one by construction.
 */
#ifndef MAG_OPTIMIZERS_SAMPLER_H
#define MAG_OPTIMIZERS_SAMPLER_H

#include "optimizers/optimizer.h"

struct sampler_config {
    struct opt_config opt; /* opt.values: the sampler's own options */
    const char *purpose;   /* name of the algorithm that uses it: a prefix for streams; borrowed */
};

struct sampler_ops {
    const char *name;
    const char *summary;
    const char *paper;                /* or NULL */
    unsigned caps;                    /* OPT_CAP_SLOW, _MULTI, _OUTCOME, _FINITE, _STATELESS */
    const struct opt_option *options; /* ends with a NULL name */
    int version; /* raised when the same history gives other points: the record names it */
    size_t state_size; /* the framework allocates zeroed state */

    enum mag_status (*init)(void *self, const struct sampler_config *cfg, const char **ret_pointer,
                            struct mag_err *err);
    void (*fini)(void *self); /* NULL = nothing to free; copes with half-built state */
    /* A point for a new trial; changes nothing. `attempt` is 0, and goes up when the point was
     * refused because it repeats an earlier one: then another one is wanted, cheaply. The point is
     * in the domain; it may break constraints (the handle repairs it), but better does not. */
    void (*propose)(const void *self, int64_t trial, uint32_t attempt, double *point);
    /* The trial runs from `point`: ours, an enqueued one, a recorded one. NULL = of no interest. */
    void (*pending)(void *self, int64_t trial, const double *point);
    /* Its value at `budget` (0: its end, where there is no resource). A trial may be seen at
     * several rising budgets. */
    void (*observe)(void *self, int64_t trial, int64_t budget, const struct opt_result *r);
    /* It ended and is pending no more; FAILED may be learnt from. Exactly once. */
    void (*ended)(void *self, int64_t trial, enum opt_outcome outcome);
    /* An earlier experiment's trial, before everything else. */
    void (*others)(void *self, const double *point, int64_t budget, const struct opt_result *r);
};

const struct sampler_ops *const *sampler_registry(void); /* NULL-terminated */
const struct sampler_ops *sampler_find(const char *name);
/* The registry's names, NULL-terminated, for the option "sampler"; index 0 is "random". */
extern const char *const sampler_names[];

struct sampler;

/* `cfg` as the algorithm got it; its `values` are not the sampler's: `values` are, NULL = every
 * option's default. On failure *ret is NULL. */
enum mag_status sampler_create(const struct sampler_ops *ops, const struct opt_config *cfg,
                               const double *values, const char *purpose, const char **ret_pointer,
                               struct sampler **ret, struct mag_err *err) MAG_MUSTCHECK;
void sampler_destroy(struct sampler *s);
const struct sampler_ops *sampler_ops_of(const struct sampler *s);

/* False: every point of the space is taken, nothing is proposed. */
bool sampler_propose(const struct sampler *s, int64_t trial, double *point) MAG_MUSTCHECK;
void sampler_pending(struct sampler *s, int64_t trial, const double *point);
void sampler_observe(struct sampler *s, int64_t trial, int64_t budget, const struct opt_result *r);
void sampler_ended(struct sampler *s, int64_t trial, enum opt_outcome outcome);
void sampler_others(struct sampler *s, const double *point, int64_t budget,
                    const struct opt_result *r);
/* The record as JSON, new reference; and its inverse for a sampler that was told nothing yet. */
json_t *sampler_save(const struct sampler *s);
enum mag_status sampler_load(struct sampler *s, const json_t *record,
                             struct mag_err *err) MAG_MUSTCHECK;

/* The stream id of one attempt for one trial. */
static inline uint64_t sampler_stream(int64_t trial, uint32_t attempt)
{
    return (uint64_t)trial | (uint64_t)attempt << 40;
}

#endif
