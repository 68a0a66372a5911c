/* SPDX-License-Identifier: Apache-2.0
 *
 * Trials: list and show.
 */
#include "driver/rest.h"

#include "driver/driver_internal.h"
#include "driver/rest_filter.h"

#include <math.h>
#include <string.h>

/* ---- fields: looked up by name once, then read from many trials ---- */

static double or_nan(int64_t v, int64_t lowest)
{
    return v >= lowest ? (double)v : NAN;
}

#define NUMBER(name, expression)                                                                   \
    static double get_##name(const struct trial *t)                                                \
    {                                                                                              \
        return (expression);                                                                       \
    }
NUMBER(trial, (double)t->id)
NUMBER(value, t->value)
NUMBER(step, or_nan(t->step, 0))
NUMBER(budget, or_nan(t->budget, 1))
NUMBER(attempt, (double)t->attempt)
NUMBER(bracket, (double)t->bracket)
NUMBER(rung, (double)t->rung)
NUMBER(failures, (double)t->failures)
NUMBER(losses, (double)t->losses)
NUMBER(created, or_nan(t->created_ms, 1))
NUMBER(started, or_nan(t->started_ms, 1))
NUMBER(ended, or_nan(t->ended_ms, 1))
NUMBER(point, (double)t->point_of)
NUMBER(fold, (double)t->fold)
NUMBER(duration, t->ended_ms > 0 && t->started_ms > 0 ? (double)(t->ended_ms - t->started_ms) : NAN)

static const char *get_state(const struct trial *t)
{
    return trial_state_name(t->state);
}

static const char *get_worker(const struct trial *t)
{
    return t->holder;
}

struct field {
    const char *name;
    double (*number)(const struct trial *t);
    const char *(*text)(const struct trial *t);
    const struct param *param; /* with its place in a point */
    int index;
    bool measure; /* `index` is that of a measure */
    bool mean, deviation; /* over the folds of its point */
};

static const struct field fields[] = {
    {"trial", get_trial, NULL, NULL, 0},       {"value", get_value, NULL, NULL, 0},
    {"step", get_step, NULL, NULL, 0},         {"budget", get_budget, NULL, NULL, 0},
    {"attempt", get_attempt, NULL, NULL, 0},   {"bracket", get_bracket, NULL, NULL, 0},
    {"rung", get_rung, NULL, NULL, 0},         {"failures", get_failures, NULL, NULL, 0},
    {"losses", get_losses, NULL, NULL, 0},     {"created", get_created, NULL, NULL, 0},
    {"started", get_started, NULL, NULL, 0},   {"ended", get_ended, NULL, NULL, 0},
    {"duration", get_duration, NULL, NULL, 0}, {"state", NULL, get_state, NULL, 0},
    {"worker", NULL, get_worker, NULL, 0},     {"point", get_point, NULL, NULL, 0},
    {"fold", get_fold, NULL, NULL, 0},
};

static bool find_field(const struct experiment *x, const char *name, struct field *ret)
{
    const struct space *s = study_spec(x->study)->space;
    if (strncmp(name, "values.", 7) == 0) {
        int i = spec_measure_find(study_spec(x->study), name + 7);
        *ret = (struct field){.name = name, .index = i, .measure = true};
        return i >= 0;
    }
    if (strncmp(name, "param.", 6) == 0) {
        int i = space_find(s, name + 6);
        *ret = (struct field){.name = name, .param = i >= 0 ? &s->params[i] : NULL, .index = i};
        return i >= 0;
    }
    if (strcmp(name, "mean") == 0 || strcmp(name, "deviation") == 0) {
        *ret = (struct field){.name = name, .mean = name[0] == 'm', .deviation = name[0] == 'd'};
        return true;
    }
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (strcmp(fields[i].name, name) == 0) {
            *ret = fields[i];
            return true;
        }
    }
    return false;
}

static struct filter_value read_field(const struct study *s, const struct field *f,
                                      const struct trial *t)
{
    struct filter_value v = {.number = NAN};
    if (f->mean) {
        v.number = study_measure(s, t, 0);
    } else if (f->deviation) {
        v.number = trial_stands_alone(s, t) ? NAN : study_point_stat(s, t, 0).deviation;
    } else if (f->number != NULL) {
        v.number = f->number(t);
    } else if (f->text != NULL) {
        v.text = f->text(t);
    } else if (f->measure) {
        v.number = trial_measure(t, f->index);
    } else if (!isnan(t->point[f->index])) {
        double raw = t->point[f->index];
        if (f->param->type == PARAM_CATEGORICAL) {
            v.text = f->param->labels[(uint32_t)raw];
        } else {
            v.number = f->param->type == PARAM_DISCRETE ? f->param->values[(uint32_t)raw] : raw;
        }
    }
    return v;
}

/* ---- the list ---- */

struct query {
    struct filter filter;
    struct field by[FILTER_CONDITIONS_MAX]; /* of each condition */
    struct field sort;
};

static void find_fields(const struct experiment *x, const char *sort, struct query *q,
                        struct mjson_issues *is)
{
    if (!find_field(x, sort, &q->sort) || q->sort.text != NULL) {
        mjson_issue(is, "",
                    "sort '%s': trials are sorted by trial, value, step, budget, attempt, bracket, "
                    "rung, failures, "
                    "losses, created, started, ended, duration, point, fold, mean, deviation, "
                    "values.METRIC or param.NAME",
                    sort);
    }
    for (int i = 0; i < q->filter.n; i++) {
        if (!find_field(x, q->filter.items[i].field, &q->by[i])) {
            mjson_issue(is, "", "filter '%s': no such field of a trial", q->filter.items[i].field);
        }
    }
}

static bool passes(const struct study *s, const struct trial *t, const struct query *q)
{
    for (int i = 0; i < q->filter.n; i++) {
        struct filter_value v = read_field(s, &q->by[i], t);
        if (!filter_holds(&q->filter.items[i], &v)) {
            return false;
        }
    }
    return true;
}

/* By id, the usual case, only the page's own trials are looked at. */
static void collect_by_id(const struct experiment *x, const struct query *q, struct page *p)
{
    int64_t n = study_trials(x->study);
    int64_t id = p->has_cursor ? p->cursor.id + (p->down ? -1 : 1) : p->down ? n : 1;
    for (; id >= 1 && id <= n && !p->more; id += p->down ? -1 : 1) {
        if (passes(x->study, study_trial(x->study, id), q)) {
            page_offer(p, (double)id, id);
        }
    }
}

static void collect(const struct experiment *x, const struct query *q, struct page *p)
{
    if (q->sort.number == get_trial) {
        collect_by_id(x, q, p);
        return;
    }
    for (int64_t id = 1; id <= study_trials(x->study); id++) {
        const struct trial *t = study_trial(x->study, id);
        if (passes(x->study, t, q)) {
            page_offer(p, read_field(x->study, &q->sort, t).number, id);
        }
    }
}

void rest_trials_list(struct http_call *c)
{
    struct mjson_issues is = {0};
    struct query q = {0};
    struct page p;
    const char *sort = NULL;
    if (rest_refuse_broken(c)) {
        return;
    }
    filter_parse(c, &q.filter, &is);
    page_init(&p, c, "trial", &sort, &is);
    find_fields(c->x, sort, &q, &is);
    if (is.total > 0) {
        page_fini(&p);
        http_problem_issues(c, 422, "the query is not valid", &is);
        return;
    }
    collect(c->x, &q, &p);
    buf_adds(&c->out, "{\"trials\":[");
    for (int i = 0; i < p.n; i++) {
        buf_adds(&c->out, i > 0 ? "," : "");
        rest_add_trial(&c->out, c->d, c->x, study_trial(c->x->study, p.items[i].id));
    }
    buf_addc(&c->out, ']');
    page_add_next(&p, &c->out);
    buf_addc(&c->out, '}');
    page_fini(&p);
    http_reply(c);
}

void rest_trial_get(struct http_call *c)
{
    rest_add_trial(&c->out, c->d, c->x, study_trial(c->x->study, c->trial));
    http_reply(c);
}
