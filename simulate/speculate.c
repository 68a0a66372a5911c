/* SPDX-License-Identifier: Apache-2.0
 *
 * A second copy of a slow job (Zaharia et al., Improving MapReduce Performance in Heterogeneous
 * Environments, OSDI 2008): of those that are slower than `speculate` times the usual pace, the one
 * that is expected to end last, if a copy from its newest checkpoint is expected to end before it.
 *
 * Both copies are the same attempt, so the study's fencing holds as it is: the first value of a step
 * counts, the same message again gets the same answer, the first to reach the budget ends the
 * attempt, and a lease runs as long as one of them beats.
 *
 * A worker that would start a new trial prefers the copy of a promoted one; other jobs are copied
 * only by workers that have nothing else to do.
 */
#include "simulate/sim_impl.h"

#include "base/clock.h"

#define COPIES_SHARE 4 /* at most one worker in so many runs a copy */

/* Nanoseconds that the job still needs at the pace it has shown; 0 = not slow. */
static double left_of(const struct sim *m, const struct sim_worker *w)
{
    double elapsed = (double)(m->now_ns - w->job.start_ns);
    double done = (double)(w->job.to - w->job.from);
    double steps = w->job.budget > 0 ? (double)(w->job.budget - w->job.from) : 1;
    double usual = m->step_seen_ns;
    /* Within its first step a job shows only that it is slower than the time so far. */
    double pace = done > 0 ? elapsed / done : elapsed;
    if (usual <= 0 || pace < m->setup->speculate * usual) {
        return 0;
    }
    double left = (steps - done) * pace;
    return done > 0 ? left : left + elapsed;
}

static bool may_copy(struct sim *m, const struct sim_worker *w, bool idle)
{
    if (!w->busy || w->told_off || w->job.copy || !(idle || w->job.rung > 0)) {
        return false;
    }
    const struct sim_trial *t = sim_trial_of(m, w->job.trial);
    return t->attempt == w->job.attempt && t->holder == w->number && t->copy < 0;
}

struct sim_worker *speculate_pick(struct sim *m, bool idle)
{
    struct sim_worker *slowest = NULL;
    double longest = 0;
    if ((int64_t)m->n_copies * COPIES_SHARE >= m->options->workers) {
        return NULL;
    }
    for (int64_t i = 0; i < m->options->workers; i++) {
        struct sim_worker *w = &m->workers[i];
        double left = may_copy(m, w, idle) ? left_of(m, w) : 0;
        if (left <= longest) {
            continue;
        }
        const struct trial *t = study_trial(m->study, w->job.trial);
        int64_t from = t->checkpoint_step > 0 ? t->checkpoint_step : 0;
        double steps = w->job.budget > 0 ? (double)(w->job.budget - from) : 1;
        double copy = steps * m->step_seen_ns + (double)m->setup->start_ms * 1e6;
        if (copy < left) {
            slowest = w;
            longest = left;
        }
    }
    return slowest;
}
