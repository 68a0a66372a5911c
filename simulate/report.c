/* SPDX-License-Identifier: Apache-2.0 */
#include "simulate/report.h"

#include <math.h>
#include <stdio.h>

/* ---- figures ---- */

void sim_figure_add(struct sim_figure *f, double v)
{
    if (isfinite(v)) {
        f->sum += v;
        f->squares += v * v;
        f->n++;
    }
}

double sim_figure_mean(const struct sim_figure *f)
{
    return f->n > 0 ? f->sum / (double)f->n : NAN;
}

double sim_figure_error(const struct sim_figure *f)
{
    if (f->n < 2) {
        return 0;
    }
    double n = (double)f->n;
    double variance = (f->squares - f->sum * f->sum / n) / (n - 1);
    return variance > 0 ? sqrt(variance / n) : 0;
}

static double seconds_of(double ns)
{
    return ns / 1e9;
}

static double lost_share(const struct sim_result *r)
{
    return r->busy_ns > 0 ? r->lost_ns / r->busy_ns : 0;
}

void sim_summary_add(struct sim_summary *s, const struct sim_result *r)
{
    sim_figure_add(&s->seconds, seconds_of((double)r->end_ns));
    sim_figure_add(&s->best, r->best);
    sim_figure_add(&s->truth, r->truth);
    sim_figure_add(&s->trials, (double)r->trials);
    sim_figure_add(&s->full, (double)r->full);
    sim_figure_add(&s->first_full_seconds,
                   r->first_full_ns >= 0 ? seconds_of((double)r->first_full_ns) : NAN);
    sim_figure_add(&s->utilisation, sim_utilisation(r));
    sim_figure_add(&s->utilisation_until_tail, sim_utilisation_until_tail(r));
    sim_figure_add(&s->lost, lost_share(r));
    sim_figure_add(&s->steps, (double)r->steps);
    sim_figure_add(&s->late, (double)r->late);
    sim_figure_add(&s->drops, (double)(r->drops + r->deaths));
    sim_figure_add(&s->copies, (double)r->copies);
}

/* ---- JSON ---- */

static json_t *real(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static void set_real(json_t *o, const char *key, double v)
{
    (void)json_object_set_new(o, key, real(v));
}

static void set_int(json_t *o, const char *key, int64_t v)
{
    (void)json_object_set_new(o, key, json_integer(v));
}

static json_t *rungs_json(const struct sim_result *r)
{
    json_t *rows = json_array();
    for (int i = 0; i < r->n_rungs; i++) {
        const struct sim_rung *g = &r->rungs[i];
        (void)json_array_append_new(
            rows, json_pack("{s:i, s:i, s:I, s:I, s:I, s:I}", "bracket", g->bracket, "rung",
                            g->rung, "budget", (json_int_t)g->budget, "started",
                            (json_int_t)g->started, "reached", (json_int_t)g->reached, "promoted",
                            (json_int_t)g->promoted));
    }
    return rows;
}

static json_t *moments_json(const struct sim_result *r)
{
    json_t *rows = json_array();
    for (int i = 0; i < r->n_moments; i++) {
        const struct sim_moment *p = &r->moments[i];
        json_t *row = json_pack("{s:I, s:I}", "trials", (json_int_t)p->trials, "steps",
                                (json_int_t)p->steps);
        set_real(row, "seconds", seconds_of((double)p->ns));
        set_real(row, "value", p->value);
        set_real(row, "truth", p->truth);
        (void)json_array_append_new(rows, row);
    }
    return rows;
}

static void add_counts(const struct sim_result *r, json_t *o)
{
    json_t *counts = json_object();
    for (int s = 0; s < TRIAL_STATES; s++) {
        set_int(counts, trial_state_name((enum trial_state)s), r->counts[s]);
    }
    (void)json_object_set_new(o, "counts", counts);
    set_int(o, "trials", r->trials);
    set_int(o, "full", r->full);
    set_int(o, "front", r->n_front);
    set_int(o, "jobs", r->jobs);
    set_int(o, "steps", r->steps);
    set_int(o, "lost_steps", r->lost_steps);
    set_int(o, "drops", r->drops);
    set_int(o, "deaths", r->deaths);
    set_int(o, "expiries", r->expiries);
    set_int(o, "late", r->late);
    set_int(o, "copies", r->copies);
    set_int(o, "copies_won", r->copies_won);
    set_int(o, "applies", r->applies);
}

static void add_times(const struct sim_result *r, json_t *o)
{
    set_real(o, "seconds", seconds_of((double)r->end_ns));
    set_real(o, "first_full_seconds",
             r->first_full_ns >= 0 ? seconds_of((double)r->first_full_ns) : NAN);
    set_real(o, "busy_seconds", seconds_of(r->busy_ns));
    set_real(o, "lost_seconds", seconds_of(r->lost_ns));
    set_real(o, "copied_seconds", seconds_of(r->copied_ns));
    set_real(o, "away_seconds", seconds_of(r->away_ns));
    set_real(o, "tail_seconds", seconds_of((double)(r->end_ns - r->tail_ns)));
    set_real(o, "utilisation", sim_utilisation(r));
    set_real(o, "utilisation_until_tail", sim_utilisation_until_tail(r));
}

json_t *sim_result_json(const struct sim_result *r, const char *algorithm)
{
    json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:s, s:{s:s, s:s}}", "kind", "run", "algorithm",
                          algorithm, "workers", (json_int_t)r->workers, "seed",
                          (json_int_t)r->seed, "state", study_state_name(r->state), "end", "code",
                          r->why_code, "text", r->why);
    json_t *best = json_pack("{s:I, s:O?}", "trial", (json_int_t)r->best_trial, "params",
                             r->best_params);
    set_real(best, "value", r->best);
    set_real(best, "truth", r->truth);
    set_real(best, "optimum", r->optimum);
    (void)json_object_set_new(o, "best", r->best_trial > 0 ? best : json_null());
    if (r->best_trial == 0) {
        json_decref(best);
    }
    add_times(r, o);
    add_counts(r, o);
    (void)json_object_set_new(o, "rungs", rungs_json(r));
    (void)json_object_set_new(o, "history", moments_json(r));
    return o;
}

json_t *sim_summary_json(const struct sim_summary *s)
{
    const struct {
        const char *name;
        const struct sim_figure *f;
    } figures[] = {{"seconds", &s->seconds},
                   {"best", &s->best},
                   {"truth", &s->truth},
                   {"trials", &s->trials},
                   {"full", &s->full},
                   {"first_full_seconds", &s->first_full_seconds},
                   {"utilisation", &s->utilisation},
                   {"utilisation_until_tail", &s->utilisation_until_tail},
                   {"lost_share", &s->lost},
                   {"steps", &s->steps},
                   {"late", &s->late},
                   {"lost_jobs", &s->drops},
                   {"copies", &s->copies}};
    json_t *o = json_pack("{s:s, s:s, s:I, s:I}", "kind", "summary", "algorithm", s->algorithm,
                          "workers", (json_int_t)s->workers, "runs", (json_int_t)s->seconds.n);
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        (void)json_object_set_new(o, figures[i].name,
                                  json_pack("{s:o, s:o}", "mean",
                                            real(sim_figure_mean(figures[i].f)), "error",
                                            real(sim_figure_error(figures[i].f))));
    }
    return o;
}

/* ---- CSV and text ---- */

void sim_jobs_csv(const struct sim_result *r, const char *algorithm, bool head, struct buf *out)
{
    if (head) {
        buf_adds(out, "algorithm,workers,seed,worker,trial,attempt,copy,bracket,rung,from,to,"
                      "start_s,end_s,end,value\n");
    }
    for (int64_t i = 0; i < r->n_list; i++) {
        const struct sim_job *j = &r->list[i];
        buf_addf(out, "%s,%lld,%llu,%d,%lld,%d,%d,%d,%d,%lld,%lld,%.9g,%.9g,%s,", algorithm,
                 (long long)r->workers, (unsigned long long)r->seed, j->worker + 1,
                 (long long)j->trial, j->attempt, j->copy, j->bracket, j->rung, (long long)j->from,
                 (long long)j->to, seconds_of((double)j->start_ns), seconds_of((double)j->end_ns),
                 sim_end_name(j->end));
        if (!isnan(j->value)) {
            buf_add_json_number(out, j->value);
        }
        buf_addc(out, '\n');
    }
}

void sim_time_text(double seconds, char *buf, size_t size)
{
    long long whole = (long long)(seconds + 0.5);
    if (!isfinite(seconds)) {
        (void)snprintf(buf, size, "-");
    } else if (seconds < 100) {
        (void)snprintf(buf, size, "%.3gs", seconds);
    } else if (whole < 3600) {
        (void)snprintf(buf, size, "%lldm %02llds", whole / 60, whole % 60);
    } else if (whole < 86400) {
        (void)snprintf(buf, size, "%lldh %02lldm", whole / 3600, whole % 3600 / 60);
    } else {
        (void)snprintf(buf, size, "%lldd %02lldh", whole / 86400, whole % 86400 / 3600);
    }
}
