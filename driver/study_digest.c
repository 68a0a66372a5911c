/* SPDX-License-Identifier: Apache-2.0
 *
 * A digest of all that a restart must bring back: every stored field of study and trials, the order
 * of the queue, the optimizer's own state. Left out: leases' deadlines and estimates, which are not
 * stored, and answers of requests, which age.
 */
#include "driver/study_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void add(uint64_t *h, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) {
        *h = (*h ^ p[i]) * 0x100000001b3ULL;
    }
}

static void add_int(uint64_t *h, int64_t v)
{
    add(h, &v, sizeof(v));
}

/* All NaNs are one value. */
static void add_double(uint64_t *h, double v)
{
    double one = isnan(v) ? -1e308 : v;
    add(h, &one, sizeof(one));
}

static void add_text(uint64_t *h, const char *text)
{
    add_int(h, text != NULL ? (int64_t)strlen(text) : -1);
    add(h, text, text != NULL ? strlen(text) : 0);
}

static void add_json(uint64_t *h, const json_t *v)
{
    char *text = v != NULL ? mjson_dump(v) : NULL;
    add_text(h, text);
    free(text);
}

static void add_attempts(uint64_t *h, const struct trial *t)
{
    add_int(h, t->n_attempts);
    for (int i = 0; i < t->n_attempts; i++) {
        const struct trial_attempt *a = &t->attempts[i];
        const int64_t fields[] = {a->first_step, a->last_step, a->end_step, a->action,
                                  a->told_state, a->gaps,      a->told,     a->told_late};
        add(h, fields, sizeof(fields));
    }
}

static void add_trial(uint64_t *h, const struct trial *t, int dims, int extras)
{
    const int64_t fields[] = {t->id,          t->attempt,       t->state,      t->cause,
                              t->budget,      t->step,          t->seen_step,  t->failures,
                              t->losses,      t->losses_in_row, t->late,       t->checkpoint_step,
                              t->parent,      t->parent_step,   t->bracket,    t->rung,
                              t->from_worker, t->reserved,      t->lost,       t->enqueued,
                              t->lease_ms,    t->created_ms,    t->started_ms, t->ended_ms,
                              t->rerun_of,    t->value_step,      t->attempt_step, t->point_of,
                              t->ordinal,     t->fold};
    add(h, fields, sizeof(fields));
    for (int i = 0; i < dims; i++) {
        add_double(h, t->point[i]);
    }
    for (int i = 0; i < extras; i++) {
        add_double(h, t->extras[i]);
    }
    add_double(h, t->value);
    add_double(h, t->attempt_value);
    const char *const texts[] = {t->checkpoint_uri, t->reason, t->why_code, t->why,
                                 t->holder,         t->notes};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        add_text(h, texts[i]);
    }
    for (int i = 0; i < t->n_kept; i++) {
        const struct trial_kept *k = &t->kept[i];
        const int64_t kept[] = {k->step, k->attempt, k->bytes};
        add(h, kept, sizeof(kept));
        add_double(h, k->score);
    }
    add_json(h, t->where);
    add_attempts(h, t);
}

static void add_list(uint64_t *h, const struct list_node *head)
{
    for (struct list_node *n = head->next; n != head; n = n->next) {
        add_int(h, container_of(n, struct trial, link)->id);
    }
    add_int(h, -1);
}

static void add_limits(uint64_t *h, const struct spec_limits *l)
{
    const int64_t fields[] = {l->trials, l->parallel, l->time_ms,       l->has_target,   l->retries,
                              l->losses, l->failures, l->trial_time_ms, l->storage_bytes};
    add(h, fields, sizeof(fields));
    add_double(h, l->target);
}

uint64_t study_digest(const struct study *s)
{
    uint64_t h = 0xcbf29ce484222325ULL;
    const struct trial *best = study_best(s);
    const int64_t fields[] = {s->state,       s->stop_at_checkpoint, s->seq,
                              s->created_ms,  s->started_ms,         s->ended_ms,
                              s->n_trials,    s->n_reserved,         s->failures_in_row,
                              s->last_failed, s->best_completed,     best != NULL ? best->id : 0,
                              s->n_points,    s->n_points_ended,     s->refit,              s->refitted};
    add(&h, fields, sizeof(fields));
    add(&h, s->counts, sizeof(s->counts));
    add_int(&h, s->usage.log_bytes);
    for (int i = 0; i < s->n_notices && s->spec->notify_recorded; i++) {
        add_int(&h, s->notices[i].seq * NOTICE_KINDS + s->notices[i].kind);
    }
    add_text(&h, s->recorded_maker);
    add_text(&h, s->why_code);
    add_text(&h, s->why);
    add_text(&h, s->notes);
    add_text(&h, s->refit_code);
    add_text(&h, s->refit_why);
    add_json(&h, s->tags);
    add_limits(&h, &s->limits);
    for (int64_t id = 1; id <= s->n_trials; id++) {
        add_trial(&h, trial_at(s, id), s->spec->space->n, s->spec->n_measures - 1);
    }
    add(&h, s->front, (size_t)s->n_front * sizeof(*s->front));
    add_list(&h, &s->queue);
    add_list(&h, &s->open);
    json_t *state = optimizer_save(s->opt);
    add_json(&h, state);
    json_decref(state);
    return h;
}
