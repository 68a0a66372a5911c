/* SPDX-License-Identifier: Apache-2.0
 *
 * A second copy of a slow job (Zaharia et al., Improving MapReduce Performance in Heterogeneous
 * Environments, OSDI 2008): of those that are slower than `speculate` times the usual pace, the one
 * that is expected to end last, if a copy from its newest checkpoint is expected to end before it.
 *
 * As soon as both have shown their pace, the one that is expected to end later is stopped: what is
 * spent twice is a few steps, and a slow job has in effect moved.
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

#define TWICE_STEPS 2  /* of a copy that takes the place of a new trial */
#define COPIES_SHARE 4 /* at most one worker in so many runs a copy */

/* The time of a step of this job so far; the step under way can only show that it is slower. */
static double pace_of(const struct sim *m, const struct sim_worker *w)
{
    double started = (double)(w->job.start_ns + m->setup->start_ms * MAG_NS_PER_MS);
    double done = (double)(w->job.to - w->job.from);
    double pace = ((double)m->now_ns - started) / (done + 1);
    double reached = done > 0 ? ((double)w->reached_ns - started) / done : 0;
    return reached > pace ? reached : pace;
}

/* Nanoseconds that the job still needs at this pace. */
static double left_at(const struct sim *m, const struct sim_worker *w, double pace)
{
    double steps = w->job.budget > 0 ? (double)(w->job.budget - w->job.to) : 1;
    double left = steps * pace - (double)(m->now_ns - w->reached_ns);
    return left > 0 ? left : pace;
}

/* Likewise, at its own; 0 = it is not slow. */
static double left_if_slow(const struct sim *m, const struct sim_worker *w)
{
    double pace = pace_of(m, w);
    bool slow = m->step_seen_ns > 0 && pace >= m->setup->speculate * m->step_seen_ns;
    return slow ? left_at(m, w, pace) : 0;
}

static bool may_copy(struct sim *m, const struct sim_worker *w, bool idle)
{
    if (!w->busy || w->told_off || !(idle || w->job.rung > 0)) {
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
        double left = may_copy(m, w, idle) ? left_if_slow(m, w) : 0;
        if (left <= longest) {
            continue;
        }
        const struct trial *t = study_trial(m->study, w->job.trial);
        int64_t from = t->checkpoint_step > 0 ? t->checkpoint_step : 0;
        double steps = w->job.budget > 0 ? (double)(w->job.budget - from) : 1;
        double copy = steps * m->step_seen_ns + (double)m->setup->start_ms * 1e6;
        /* Until both have shown their pace a step or two is run twice: it must be worth that. */
        copy += idle ? 0 : TWICE_STEPS * m->step_seen_ns;
        if (copy < left) {
            slowest = w;
            longest = left;
        }
    }
    return slowest;
}

struct sim_worker *speculate_loser(struct sim *m, struct sim_worker *w)
{
    const struct sim_trial *t = sim_trial_of(m, w->job.trial);
    if (t->attempt != w->job.attempt || t->holder < 0 || t->copy < 0) {
        return NULL;
    }
    struct sim_worker *other = &m->workers[t->holder == w->number ? t->copy : t->holder];
    if (w->told_off || other->told_off || w->job.to == w->job.from ||
        other->job.to == other->job.from) {
        return NULL;
    }
    double mine = left_at(m, w, pace_of(m, w)), its = left_at(m, other, pace_of(m, other));
    if (mine == its) {
        return other->job.copy ? other : w;
    }
    return mine < its ? other : w;
}
