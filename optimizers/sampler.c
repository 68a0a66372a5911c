/* SPDX-License-Identifier: Apache-2.0
 *
 * The handle over the samplers: forwards calls, keeps the record of them, and sees to it that
 * proposals meet the constraints and repeat no point while untried ones are left.
 */
#include "optimizers/sampler.h"

#include "base/alloc.h"
#include "optimizers/idtab.h"
#include "optimizers/options.h"
#include "optimizers/seen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Proposals that a sampler gets to make before the handle looks for an untried point itself. */
#define PROPOSALS 8

enum told { TOLD_PENDING = 0, TOLD_OBSERVE = 1, TOLD_ENDED = 2, TOLD_OTHERS = 3 };

/* One call in the record; `numbers` are n_numbers doubles: the point, or values and violation, or
 * both in this order. */
struct call {
    enum told what;
    int64_t trial, budget;
    enum opt_outcome outcome;
    double *numbers;
};

struct sampler {
    const struct sampler_ops *ops;
    const struct space *space;
    struct seen seen;
    uint64_t seed;
    int objectives;
    double *values;
    struct call *calls;
    size_t n_calls, cap;
    max_align_t state[];
};

enum mag_status sampler_create(const struct sampler_ops *ops, const struct opt_config *cfg,
                               const double *values, const char *purpose, const char **ret_pointer,
                               struct sampler **ret, struct mag_err *err)
{
    struct sampler *s = xcalloc(1, sizeof(*s) + ops->state_size);
    *ret = NULL;
    s->ops = ops;
    s->space = cfg->space;
    s->seed = cfg->seed;
    seen_init(&s->seen, cfg->space);
    s->objectives = cfg->objectives;
    s->values = xcalloc(OPTIONS_MAX, sizeof(*s->values));
    for (int i = 0; i < options_count(ops->options); i++) {
        s->values[i] = values != NULL ? values[i] : ops->options[i].def;
    }
    struct sampler_config c = {.opt = *cfg, .purpose = purpose};
    c.opt.values = s->values;
    enum mag_status st = ops->init(s->state, &c, ret_pointer, err);
    if (st != MAG_OK) {
        sampler_destroy(s);
        return st;
    }
    *ret = s;
    return MAG_OK;
}

void sampler_destroy(struct sampler *s)
{
    if (s == NULL) {
        return;
    }
    if (s->ops->fini != NULL) {
        s->ops->fini(s->state);
    }
    for (size_t i = 0; i < s->n_calls; i++) {
        free(s->calls[i].numbers);
    }
    seen_fini(&s->seen);
    free(s->calls);
    free(s->values);
    free(s);
}

const struct sampler_ops *sampler_ops_of(const struct sampler *s)
{
    return s->ops;
}

bool sampler_propose(const struct sampler *s, int64_t trial, double *point)
{
    if (seen_exhausted(&s->seen)) {
        return false;
    }
    for (uint32_t i = 0; i < PROPOSALS; i++) {
        s->ops->propose(s->state, trial, i, point);
        if ((s->ops->caps & OPT_CAP_STATELESS) != 0 && i + 1 < PROPOSALS &&
            !space_is_feasible(s->space, point)) {
            continue; /* mending would crowd the edge; another draw is as good as this one */
        }
        space_repair(s->space, s->seed, s->ops->name, sampler_stream(trial, i), point);
        if (!seen_has(&s->seen, point)) {
            return true;
        }
    }
    return seen_fresh(&s->seen, s->seed, s->ops->name, (uint64_t)trial, point);
}

/* ---- the record ---- */

static int point_size(const struct sampler *s, enum told what)
{
    return what == TOLD_PENDING || what == TOLD_OTHERS ? s->space->n : 0;
}

static int result_size(const struct sampler *s, enum told what)
{
    return what == TOLD_OBSERVE || what == TOLD_OTHERS ? s->objectives + 1 : 0;
}

static void keep(struct sampler *s, struct call c, const double *point, const struct opt_result *r)
{
    if ((s->ops->caps & OPT_CAP_STATELESS) != 0 &&
        (c.what != TOLD_PENDING || !seen_matters(&s->seen))) {
        return;
    }
    if (s->n_calls == s->cap) {
        s->cap = s->cap > 0 ? 2 * s->cap : 64;
        s->calls = xreallocarray(s->calls, s->cap, sizeof(*s->calls));
    }
    size_t n = (size_t)point_size(s, c.what);
    c.numbers = xcalloc(n + (size_t)result_size(s, c.what) + 1, sizeof(double));
    if (point != NULL) {
        memcpy(c.numbers, point, n * sizeof(double));
    }
    if (r != NULL) {
        memcpy(c.numbers + n, r->values, (size_t)s->objectives * sizeof(double));
        c.numbers[n + (size_t)s->objectives] = r->violation;
    }
    s->calls[s->n_calls++] = c;
}

void sampler_pending(struct sampler *s, int64_t trial, const double *point)
{
    keep(s, (struct call){.what = TOLD_PENDING, .trial = trial}, point, NULL);
    seen_add(&s->seen, point);
    if (s->ops->pending != NULL) {
        s->ops->pending(s->state, trial, point);
    }
}

void sampler_observe(struct sampler *s, int64_t trial, int64_t budget, const struct opt_result *r)
{
    keep(s, (struct call){.what = TOLD_OBSERVE, .trial = trial, .budget = budget}, NULL, r);
    if (s->ops->observe != NULL) {
        s->ops->observe(s->state, trial, budget, r);
    }
}

void sampler_ended(struct sampler *s, int64_t trial, enum opt_outcome outcome)
{
    keep(s, (struct call){.what = TOLD_ENDED, .trial = trial, .outcome = outcome}, NULL, NULL);
    if (s->ops->ended != NULL) {
        s->ops->ended(s->state, trial, outcome);
    }
}

void sampler_others(struct sampler *s, const double *point, int64_t budget,
                    const struct opt_result *r)
{
    keep(s, (struct call){.what = TOLD_OTHERS, .budget = budget}, point, r);
    if (s->ops->others != NULL) {
        s->ops->others(s->state, point, budget, r);
    }
}

/* ---- save and load: [what, trial, budget, outcome, numbers …]; an inactive coordinate is null
 * ----
 */

json_t *sampler_save(const struct sampler *s)
{
    json_t *record = json_array();
    for (size_t i = 0; i < s->n_calls; i++) {
        const struct call *c = &s->calls[i];
        json_t *row = json_pack("[i,I,I,i]", (int)c->what, (json_int_t)c->trial,
                                (json_int_t)c->budget, (int)c->outcome);
        for (int k = 0; k < point_size(s, c->what) + result_size(s, c->what); k++) {
            (void)json_array_append_new(row, isnan(c->numbers[k]) ? json_null()
                                                                  : json_real(c->numbers[k]));
        }
        (void)json_array_append_new(record, row);
    }
    return record;
}

/* Reads one row into `c` and `numbers`; false when it is none of ours. */
static bool read_row(const struct sampler *s, const json_t *row, struct call *c, double *numbers)
{
    json_int_t what = json_integer_value(json_array_get(row, 0));
    json_int_t outcome = json_integer_value(json_array_get(row, 3));
    if (what < TOLD_PENDING || what > TOLD_OTHERS || outcome < OPT_COMPLETED ||
        outcome > OPT_CANCELLED) {
        return false;
    }
    *c = (struct call){.what = (enum told)what,
                       .trial = json_integer_value(json_array_get(row, 1)),
                       .budget = json_integer_value(json_array_get(row, 2)),
                       .outcome = (enum opt_outcome)outcome};
    int n = point_size(s, c->what);
    int all = n + result_size(s, c->what);
    bool ok = json_array_size(row) == (size_t)all + 4 && c->trial <= IDTAB_ID_MAX &&
              (c->trial > 0) == (c->what != TOLD_OTHERS);
    for (int i = 0; ok && i < all; i++) {
        const json_t *v = json_array_get(row, (size_t)i + 4);
        ok = json_is_number(v) || (json_is_null(v) && i < n);
        numbers[i] = json_is_number(v) ? json_number_value(v) : NAN;
    }
    return ok && (n == 0 || space_normalize(s->space, numbers));
}

static void tell(struct sampler *s, const struct call *c, const double *numbers)
{
    const double *values = numbers + point_size(s, c->what);
    struct opt_result r = {
        .value = values[0], .values = values, .violation = values[s->objectives]};
    switch (c->what) {
    case TOLD_PENDING:
        sampler_pending(s, c->trial, numbers);
        break;
    case TOLD_OBSERVE:
        sampler_observe(s, c->trial, c->budget, &r);
        break;
    case TOLD_ENDED:
        sampler_ended(s, c->trial, c->outcome);
        break;
    case TOLD_OTHERS:
        sampler_others(s, numbers, c->budget, &r);
        break;
    }
}

enum mag_status sampler_load(struct sampler *s, const json_t *record, struct mag_err *err)
{
    if (!json_is_array(record)) {
        return mag_fail(err, MAG_CORRUPT, "the state has no record of what was told");
    }
    double *numbers = xcalloc((size_t)(s->space->n + 2 * s->objectives + 2), sizeof(*numbers));
    enum mag_status st = MAG_OK;
    size_t i = 0;
    json_t *row = NULL;
    if (!json_is_array(record)) {
        st = mag_fail(err, MAG_CORRUPT, "the sampler's record is missing");
    }
    json_array_foreach(record, i, row)
    {
        struct call c;
        if (!read_row(s, row, &c, numbers)) {
            st = mag_fail(err, MAG_CORRUPT, "row %zu of the sampler's record is wrong", i);
            break;
        }
        tell(s, &c, numbers);
    }
    free(numbers);
    return st;
}
