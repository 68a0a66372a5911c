/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include "base/alloc.h"
#include "space/constraint.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static json_t *parsed(const char *json)
{
    json_t *v = NULL;
    struct mag_err err = {0};
    cr_assert_eq(mjson_parse(json, strlen(json), &v, &err), MAG_OK, "%s: %s", json, err.text);
    return v;
}

struct space *space_of(const char *json)
{
    struct mjson_issues is = {0};
    json_t *v = parsed(json);
    json_t *constraints = json_object_get(v, "constraints");
    bool whole = json_is_array(constraints);
    struct space *s = space_parse(whole ? json_object_get(v, "searchspace") : v, "", &is);
    cr_assert(s != NULL && (!whole || space_constrain(s, constraints, "/constraints", &is)),
              "%s: %s", json, is.n > 0 ? is.items[0].text : "");
    json_decref(v);
    return s;
}

static struct optimizer *try_create(const char *json, const struct space *s, uint64_t seed,
                                    int64_t min, int64_t max, int64_t trials,
                                    struct mjson_issues *is)
{
    struct opt_setup setup = {.space = s,
                              .seed = seed,
                              .resource = {.present = max > 0, .min = min, .max = max},
                              .trials = trials};
    json_t *v = parsed(json);
    struct optimizer *o = optimizer_create(v, "", &setup, is, NULL);
    json_decref(v);
    return o;
}

struct optimizer *optimizer_of(const char *json, const struct space *s, uint64_t seed, int64_t min,
                               int64_t max, int64_t trials)
{
    struct mjson_issues is = {0};
    struct optimizer *o = try_create(json, s, seed, min, max, trials, &is);
    cr_assert_not_null(o, "%s: %s", json, is.n > 0 ? is.items[0].text : "");
    return o;
}

char *optimizer_refusal(const char *json, const struct space *s, int64_t min, int64_t max,
                        int64_t trials)
{
    struct mjson_issues is = {0};
    cr_assert_null(try_create(json, s, 1, min, max, trials, &is), "%s was accepted", json);
    cr_assert_gt(is.total, 0);
    char *text = xasprintf("%s: %s", is.items[0].pointer, is.items[0].text);
    mjson_issues_fini(&is);
    return text;
}

enum opt_action report_value(struct optimizer *o, int64_t trial, int64_t step, double value)
{
    struct opt_result r = opt_result_of(&value);
    return optimizer_report(o, trial, step, &r);
}

void finish_value(struct optimizer *o, int64_t trial, enum opt_outcome outcome, double value)
{
    struct opt_result r = opt_result_of(&value);
    optimizer_finish(o, trial, outcome, &r);
}

double f_sphere(const struct space *s, const double *point, int64_t step)
{
    double sum = 0;
    for (int i = 0; i < s->n; i++) {
        double u = isnan(point[i]) ? 0.5 : param_to_unit(&s->params[i], point[i]);
        sum += (u - 0.7) * (u - 0.7);
    }
    return sum + 1.0 / (double)(step + 1);
}

void sim_init(struct sim *m, const char *space, const char *optimizer, uint64_t seed, int64_t max,
              int64_t limit, int workers)
{
    *m = (struct sim){.limit = limit, .workers = workers, .f = f_sphere};
    m->space = space_of(space);
    m->resource = (struct opt_resource){.present = max > 0, .min = 1, .max = max};
    m->o = optimizer_of(optimizer, m->space, seed, 1, max, limit);
    m->trials = xcalloc((size_t)limit + 2, sizeof(*m->trials));
    pcg_stream(&m->g, seed, "sim", 0);
}

void sim_fini(struct sim *m)
{
    optimizer_destroy(m->o);
    for (int i = 0; i < m->h.n; i++) {
        free(m->h.at[i].answer.point);
    }
    free(m->h.at);
    free(m->trials);
    space_destroy(m->space);
}

static struct record *add(struct history *h, enum call call)
{
    if (h->n == h->cap) {
        h->cap = h->cap > 0 ? 2 * h->cap : 64;
        h->at = xreallocarray(h->at, (size_t)h->cap, sizeof(*h->at));
    }
    struct record *r = &h->at[h->n++];
    *r = (struct record){.call = call};
    return r;
}

static void check_same(const struct space *s, const struct opt_suggestion *a,
                       const struct opt_suggestion *b, const char *what)
{
    cr_assert_eq(a->answer, b->answer, "%s: answer %d, then %d", what, (int)a->answer,
                 (int)b->answer);
    cr_assert_eq(a->trial, b->trial, "%s: trial", what);
    cr_assert_eq(a->budget, b->budget, "%s: budget", what);
    cr_assert(a->bracket == b->bracket && a->rung == b->rung, "%s: rung", what);
    cr_assert_str_eq(a->why, b->why, "%s: why", what);
    if (a->answer == OPT_TRIAL) {
        cr_assert(memcmp(a->point, b->point, (size_t)s->n * sizeof(double)) == 0,
                  "%s: point of %lld", what, (long long)a->trial);
    }
}

static void check_answer(const struct sim *m, const struct opt_ask *ask,
                         const struct opt_suggestion *a)
{
    int64_t top = m->resource.present ? m->resource.max : 0;
    if (a->answer == OPT_TRIAL) {
        double *p = xcalloc((size_t)m->space->n, sizeof(*p));
        memcpy(p, a->point, (size_t)m->space->n * sizeof(*p));
        cr_assert(ask->may_create, "a trial beyond the limit");
        cr_assert_eq(a->trial, ask->next_trial);
        cr_assert(space_normalize(m->space, p), "a point outside the space");
        cr_assert(memcmp(p, a->point, (size_t)m->space->n * sizeof(*p)) == 0,
                  "a point off its steps");
        cr_assert_null(space_broken(m->space, p), "a point breaks %s", space_broken(m->space, p));
        cr_assert(a->budget <= top && (top == 0 || a->budget >= 1), "budget %lld",
                  (long long)a->budget);
        free(p);
    } else if (a->answer == OPT_RESUME) {
        cr_assert(a->trial >= 1 && a->trial <= m->n_trials);
        cr_assert_eq(m->trials[a->trial].state, SIM_PAUSED, "resumed trial %lld is not paused",
                     (long long)a->trial);
        cr_assert(a->budget > m->trials[a->trial].step && a->budget <= top, "budget %lld",
                  (long long)a->budget);
    } else {
        cr_assert(a->why_code != NULL && a->why_code[0] != '\0' && a->why[0] != '\0',
                  "an answer without why");
        cr_assert(a->answer == OPT_DONE || m->running > 0, "waits for nothing: %s", a->why);
    }
}

bool sim_ask(struct sim *m)
{
    struct record *r = add(&m->h, CALL_ASK);
    r->ask = (struct opt_ask){.next_trial = m->n_trials + 1, .may_create = m->n_trials < m->limit};
    r->answer.point = xcalloc((size_t)m->space->n, sizeof(double));
    struct opt_suggestion again = {.point = xcalloc((size_t)m->space->n, sizeof(double))};
    optimizer_suggest(m->o, &r->ask, &r->answer);
    optimizer_suggest(m->o, &r->ask, &again);
    check_same(m->space, &r->answer, &again, "asked twice");
    free(again.point);
    check_answer(m, &r->ask, &r->answer);
    enum opt_answer a = r->answer.answer;
    cr_assert(!m->done || a == OPT_DONE, "answer %d after DONE", (int)a);
    m->waits += a == OPT_WAIT;
    if (a == OPT_WAIT || a == OPT_DONE) {
        m->done = a == OPT_DONE;
        return false;
    }
    optimizer_adopt(m->o, &r->answer);
    struct sim_trial *t = &m->trials[r->answer.trial];
    if (a == OPT_TRIAL) {
        m->n_trials++;
        t->point = r->answer.point;
    }
    m->resumes += a == OPT_RESUME;
    t->state = SIM_RUNNING;
    t->budget = r->answer.budget;
    m->running++;
    return true;
}

void sim_finish(struct sim *m, int64_t id, enum opt_outcome outcome, bool has_value, double value)
{
    struct record *r = add(&m->h, CALL_FINISH);
    r->trial = id;
    r->outcome = outcome;
    r->has_value = has_value;
    r->value = has_value ? value : 0;
    if (has_value) {
        finish_value(m->o, id, outcome, r->value);
    } else {
        optimizer_finish(m->o, id, outcome, NULL);
    }
    m->running -= m->trials[id].state == SIM_RUNNING;
    m->trials[id].state = SIM_ENDED;
}

static int64_t pick(struct sim *m, enum sim_state state)
{
    int64_t found = 0;
    uint64_t n = 0;
    for (int64_t id = 1; id <= m->n_trials; id++) {
        if (m->trials[id].state == state && pcg64_below(&m->g, ++n) == 0) {
            found = id;
        }
    }
    return found;
}

/* A trial without a resource takes three. */
void sim_step(struct sim *m, int64_t id)
{
    struct sim_trial *t = &m->trials[id];
    int64_t end = t->budget > 0 ? t->budget : 3;
    struct record *r = add(&m->h, CALL_REPORT);
    r->trial = id;
    r->step = ++t->step;
    r->value = m->f(m->space, t->point, t->step);
    r->action = report_value(m->o, id, r->step, r->value);
    t->value = r->value;
    if (r->action == OPT_PAUSE) {
        cr_assert_eq(t->step, t->budget, "paused before its budget");
        cr_assert_lt(t->step, m->resource.max, "paused at the top");
        t->state = SIM_PAUSED;
        m->running--;
    } else if (r->action == OPT_STOP) {
        sim_finish(m, id, OPT_STOPPED, true, t->value);
    } else if (t->step == end) {
        m->tops += m->resource.present && end == m->resource.max;
        sim_finish(m, id, OPT_COMPLETED, true, t->value);
    }
}

static void enqueue(struct sim *m)
{
    struct record *r = add(&m->h, CALL_ADOPT_POINT);
    int64_t id = ++m->n_trials;
    r->answer = (struct opt_suggestion){.answer = OPT_TRIAL, .trial = id};
    r->answer.point = xcalloc((size_t)m->space->n, sizeof(double));
    r->answer.budget = optimizer_first_budget(m->o);
    space_sample(m->space, 99, "enqueue", (uint64_t)id, r->answer.point);
    optimizer_adopt(m->o, &r->answer);
    m->trials[id].state = SIM_RUNNING;
    m->trials[id].budget = r->answer.budget;
    m->trials[id].point = r->answer.point;
    m->running++;
}

void sim_move(struct sim *m)
{
    double u = pcg64_double(&m->g);
    int64_t running = pick(m, SIM_RUNNING);
    int64_t paused = m->p_cancel > 0 ? pick(m, SIM_PAUSED) : 0;
    double cancel = m->p_enqueue + m->p_cancel;
    double fail = cancel + m->p_fail;
    double stop = fail + m->p_stop;
    if (u < m->p_enqueue) {
        if (m->n_trials < m->limit) {
            enqueue(m);
        }
    } else if (u < cancel && paused > 0) {
        sim_finish(m, paused, OPT_CANCELLED, false, 0);
    } else if (running == 0) {
        return;
    } else if (u < fail) {
        sim_finish(m, running, OPT_FAILED, false, 0);
    } else if (u < stop) {
        sim_finish(m, running, OPT_STOPPED, m->trials[running].step > 0, m->trials[running].value);
    } else if (u >= stop + m->p_lost) { /* a lost lease says nothing to the optimizer */
        sim_step(m, running);
    }
}

void sim_run(struct sim *m, int events)
{
    for (int i = 0; i < events; i++) {
        bool idle = m->running < m->workers && (!m->done || pcg64_below(&m->g, 8) == 0);
        if (idle && pcg64_below(&m->g, 2) == 0) {
            (void)sim_ask(m);
        } else {
            sim_move(m);
        }
        if (m->done && m->running == 0) {
            cr_assert(!sim_ask(m), "a trial after the end");
            return;
        }
    }
}

void replay(struct optimizer *o, const struct space *s, const struct history *h, int from, int to,
            bool suggest)
{
    for (int i = from; i < to; i++) {
        const struct record *r = &h->at[i];
        struct opt_result result = opt_result_of(&r->value);
        bool grants = r->answer.answer == OPT_TRIAL || r->answer.answer == OPT_RESUME;
        if (r->call == CALL_ASK && suggest) {
            struct opt_suggestion a = {.point = xcalloc((size_t)s->n, sizeof(double))};
            optimizer_suggest(o, &r->ask, &a);
            check_same(s, &r->answer, &a, "replayed");
            free(a.point);
        }
        if (r->call == CALL_ADOPT_POINT || (r->call == CALL_ASK && grants)) {
            optimizer_adopt(o, &r->answer);
        } else if (r->call == CALL_REPORT) {
            cr_assert_eq(report_value(o, r->trial, r->step, r->value), r->action,
                         "replayed report");
        } else if (r->call == CALL_FINISH) {
            optimizer_finish(o, r->trial, r->outcome, r->has_value ? &result : NULL);
        }
    }
}

char *state_of(const struct optimizer *o)
{
    json_t *v = optimizer_save(o);
    char *text = mjson_dump(v);
    json_decref(v);
    return text;
}

struct optimizer *reload(const struct optimizer *o, const char *json, const struct space *s,
                         uint64_t seed, int64_t max, int64_t trials)
{
    struct optimizer *b = optimizer_of(json, s, seed, 1, max, trials);
    struct mag_err err = {0};
    char *text = state_of(o);
    json_t *v = parsed(text);
    cr_assert_eq(optimizer_load(b, v, &err), MAG_OK, "%s", err.text);
    char *again = state_of(b);
    cr_assert_str_eq(text, again);
    json_decref(v);
    free(text);
    free(again);
    return b;
}
