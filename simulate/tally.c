/* SPDX-License-Identifier: Apache-2.0
 *
 * What a simulation counts.
 */
#include "simulate/sim_impl.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>

static const char *const ends[SIM_ENDS] = {
    [SIM_PAUSED] = "paused",   [SIM_COMPLETED] = "completed", [SIM_STOPPED] = "stopped",
    [SIM_FAILED] = "failed",   [SIM_DROPPED] = "dropped",     [SIM_DIED] = "died",
    [SIM_LATE] = "late",       [SIM_OUTRUN] = "outrun",       [SIM_CUT] = "cut",
};

const char *sim_end_name(enum sim_end e)
{
    return e < SIM_ENDS ? ends[e] : "?";
}

int32_t tally_rung(struct sim *m, int32_t bracket, int32_t rung, int64_t budget)
{
    struct sim_result *r = m->r;
    int at = 0;
    while (at < r->n_rungs && (r->rungs[at].bracket != bracket || r->rungs[at].rung != rung ||
                               r->rungs[at].budget != budget)) {
        at++;
    }
    if (at < r->n_rungs) {
        return at;
    }
    if (r->n_rungs == m->cap_rungs) {
        m->cap_rungs = m->cap_rungs > 0 ? m->cap_rungs * 2 : 16;
        r->rungs = xreallocarray(r->rungs, (size_t)m->cap_rungs, sizeof(*r->rungs));
    }
    r->rungs[r->n_rungs++] =
        (struct sim_rung){.bracket = bracket, .rung = rung, .budget = budget};
    return at;
}

static void keep(struct sim *m, const struct sim_job *job)
{
    struct sim_result *r = m->r;
    if (r->n_list == m->cap_list) {
        m->cap_list = m->cap_list > 0 ? m->cap_list * 2 : 256;
        r->list = xreallocarray(r->list, (size_t)m->cap_list, sizeof(*r->list));
    }
    r->list[r->n_list++] = *job;
}

void tally_job(struct sim *m, struct sim_worker *w, enum sim_end end)
{
    struct sim_result *r = m->r;
    double ns = (double)(m->now_ns - w->job.start_ns);
    w->job.end = end;
    w->job.end_ns = m->now_ns;
    r->jobs++;
    r->busy_ns += ns;
    if (end == SIM_DROPPED || end == SIM_DIED || end == SIM_LATE) {
        r->lost_ns += (double)(m->now_ns - w->job.saved_ns);
        r->lost_steps += w->job.to - w->saved_step;
    } else if (end == SIM_OUTRUN) {
        r->copied_ns += ns;
    }
    if (m->options->keep_jobs) {
        keep(m, &w->job);
    }
}

void tally_best(struct sim *m)
{
    struct sim_result *r = m->r;
    const struct trial *best = study_best(m->study);
    double value = best != NULL ? study_measure(m->study, best, 0) : NAN;
    if (best == NULL || (best->id == m->best_seen && value == m->best_value)) {
        return;
    }
    m->best_seen = best->id;
    m->best_value = value;
    if (r->n_moments == m->cap_moments) {
        m->cap_moments = m->cap_moments > 0 ? m->cap_moments * 2 : 32;
        r->moments = xreallocarray(r->moments, (size_t)m->cap_moments, sizeof(*r->moments));
    }
    r->moments[r->n_moments++] =
        (struct sim_moment){.ns = m->now_ns,
                            .trials = study_trials(m->study),
                            .steps = r->steps,
                            .value = value,
                            .truth = objective_truth(m->objective, best->point)};
}

void tally_idle(struct sim *m, struct sim_worker *w, bool begins)
{
    struct sim_result *r = m->r;
    if (begins) {
        w->idle_ns = m->now_ns;
        if (m->idle.n == 0) {
            r->tail_ns = m->now_ns;
            r->tail_idle_ns = r->idle_ns;
        }
    } else {
        r->idle_ns += (double)(m->now_ns - w->idle_ns);
    }
}

static int by_bracket(const void *a, const void *b)
{
    const struct sim_rung *x = a, *y = b;
    if (x->bracket != y->bracket) {
        return x->bracket < y->bracket ? -1 : 1;
    }
    if (x->budget != y->budget) {
        return x->budget < y->budget ? -1 : 1;
    }
    return (x->rung > y->rung) - (x->rung < y->rung);
}

void tally_end(struct sim *m)
{
    struct sim_result *r = m->r;
    const struct trial *best = study_best(m->study);
    char why[512];
    const char *code = study_why(m->study, why, sizeof(why));
    r->state = study_state(m->study);
    r->why_code = xstrdup(code != NULL ? code : "time-up");
    r->why = xstrdup(r->state == STUDY_RUNNING && m->idle.n < m->options->workers
                         ? "the simulated time is over"
                         : why);
    r->end_ns = m->now_ns;
    r->trials = study_trials(m->study);
    study_counts(m->study, r->counts);
    (void)study_front(m->study, &r->n_front);
    r->optimum = objective_optimum(m->objective);
    r->best = r->truth = NAN;
    if (best != NULL) {
        r->best_trial = best->id;
        r->best = study_measure(m->study, best, 0);
        r->truth = objective_truth(m->objective, best->point);
        r->best_params = space_point_to_json(m->spec->space, best->point);
    }
    if (m->idle.n == 0) {
        r->tail_ns = m->now_ns;
        r->tail_idle_ns = r->idle_ns;
    }
    if (r->n_rungs > 1) {
        qsort(r->rungs, (size_t)r->n_rungs, sizeof(*r->rungs), by_bracket);
    }
}

void sim_result_fini(struct sim_result *r)
{
    free(r->why_code);
    free(r->why);
    json_decref(r->best_params);
    free(r->rungs);
    free(r->moments);
    free(r->list);
    *r = (struct sim_result){0};
}

double sim_utilisation(const struct sim_result *r)
{
    double there = (double)r->workers * (double)r->end_ns - r->away_ns;
    return there > 0 ? r->busy_ns / there : 0;
}

double sim_utilisation_until_tail(const struct sim_result *r)
{
    double there = (double)r->workers * (double)r->tail_ns;
    return there > 0 ? 1 - r->tail_idle_ns / there : 0;
}
