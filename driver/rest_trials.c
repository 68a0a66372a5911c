/* SPDX-License-Identifier: Apache-2.0
 *
 * Trials: list and show.
 */
#include "driver/rest.h"

#include "driver/driver_internal.h"
#include "driver/rest_filter.h"

#include <math.h>
#include <string.h>

static struct filter_value param_of(const struct experiment *x, const struct trial *t, const char *name)
{
    const struct space *s = study_spec(x->study)->space;
    struct filter_value v = {.number = NAN};
    int i = space_find(s, name);
    if (i < 0 || isnan(t->point[i])) {
        return v;
    }
    const struct param *p = &s->params[i];
    if (p->type == PARAM_CATEGORICAL) {
        v.text = p->labels[(uint32_t)t->point[i]];
    } else {
        v.number = p->type == PARAM_DISCRETE ? p->values[(uint32_t)t->point[i]] : t->point[i];
    }
    return v;
}

static double or_nan(int64_t v, int64_t lowest)
{
    return v >= lowest ? (double)v : NAN;
}

static struct filter_value field_of(const struct experiment *x, const struct trial *t, const char *field)
{
    struct filter_value v = {.number = NAN};
    const struct {
        const char *name;
        double number;
    } numbers[] = {
        {"trial", (double)t->id},
        {"value", t->value},
        {"step", or_nan(t->step, 0)},
        {"budget", or_nan(t->budget, 1)},
        {"attempt", (double)t->attempt},
        {"bracket", (double)t->bracket},
        {"rung", (double)t->rung},
        {"failures", (double)t->failures},
        {"losses", (double)t->losses},
        {"created", or_nan(t->created_ms, 1)},
        {"started", or_nan(t->started_ms, 1)},
        {"ended", or_nan(t->ended_ms, 1)},
        {"duration", t->ended_ms > 0 && t->started_ms > 0 ? (double)(t->ended_ms - t->started_ms) : NAN},
    };
    if (strcmp(field, "state") == 0) {
        v.text = trial_state_name(t->state);
        return v;
    }
    if (strcmp(field, "worker") == 0) {
        v.text = t->holder;
        return v;
    }
    if (strncmp(field, "param.", 6) == 0) {
        return param_of(x, t, field + 6);
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strcmp(numbers[i].name, field) == 0) {
            v.number = numbers[i].number;
        }
    }
    return v;
}

static bool is_field(const struct experiment *x, const char *field)
{
    static const char *const known[] = {"trial",   "value",    "step",   "budget",  "attempt", "bracket",
                                        "rung",    "failures", "losses", "created", "started", "ended",
                                        "duration", "state",   "worker", NULL};
    if (strncmp(field, "param.", 6) == 0) {
        return space_find(study_spec(x->study)->space, field + 6) >= 0;
    }
    for (int i = 0; known[i] != NULL; i++) {
        if (strcmp(known[i], field) == 0) {
            return true;
        }
    }
    return false;
}

static void check_fields(const struct experiment *x, const struct filter *f, const char *sort, struct mjson_issues *is)
{
    if (!is_field(x, sort) || strcmp(sort, "state") == 0 || strcmp(sort, "worker") == 0) {
        mjson_issue(is, "", "sort '%s': trials are sorted by trial, value, step, budget, attempt, bracket, rung, "
                            "failures, losses, created, started, ended, duration or param.NAME", sort);
    }
    for (int i = 0; i < f->n; i++) {
        if (!is_field(x, f->items[i].field)) {
            mjson_issue(is, "", "filter '%s': no such field of a trial", f->items[i].field);
        }
    }
}

static bool passes(const struct experiment *x, const struct trial *t, const struct filter *f)
{
    for (int i = 0; i < f->n; i++) {
        struct filter_value v = field_of(x, t, f->items[i].field);
        if (!filter_holds(&f->items[i], &v)) {
            return false;
        }
    }
    return true;
}

/* By id, the usual case, only the page's own trials are looked at. */
static void collect_by_id(const struct experiment *x, const struct filter *f, struct page *p)
{
    int64_t n = study_trials(x->study);
    int64_t id = p->has_cursor ? p->cursor.id + (p->down ? -1 : 1) : p->down ? n : 1;
    for (; id >= 1 && id <= n && !p->more; id += p->down ? -1 : 1) {
        if (f->n == 0 || passes(x, study_trial(x->study, id), f)) {
            page_offer(p, (double)id, id);
        }
    }
}

static void collect(const struct experiment *x, const struct filter *f, const char *sort, struct page *p)
{
    if (strcmp(sort, "trial") == 0) {
        collect_by_id(x, f, p);
        return;
    }
    for (int64_t id = 1; id <= study_trials(x->study); id++) {
        const struct trial *t = study_trial(x->study, id);
        if (passes(x, t, f)) {
            page_offer(p, field_of(x, t, sort).number, id);
        }
    }
}

void rest_trials_list(struct http_call *c)
{
    struct mjson_issues is = {0};
    struct filter f = {0};
    struct page p;
    const char *sort = NULL;
    if (c->x->broken != NULL) {
        http_problem(c, 409, "the experiment's record cannot be replayed: %s", c->x->broken);
        return;
    }
    filter_parse(c, &f, &is);
    page_init(&p, c, "trial", &sort, &is);
    check_fields(c->x, &f, sort, &is);
    if (is.total > 0) {
        page_fini(&p);
        http_problem_issues(c, 422, "the query is not valid", &is);
        return;
    }
    collect(c->x, &f, sort, &p);
    buf_adds(&c->out, "{\"trials\":[");
    for (int i = 0; i < p.n; i++) {
        buf_adds(&c->out, i > 0 ? "," : "");
        rest_add_trial(&c->out, c->x, study_trial(c->x->study, p.items[i].id));
    }
    buf_addc(&c->out, ']');
    page_add_next(&p, &c->out);
    buf_addc(&c->out, '}');
    page_fini(&p);
    http_reply(c);
}

void rest_trial_get(struct http_call *c)
{
    rest_add_trial(&c->out, c->x, study_trial(c->x->study, c->trial));
    http_reply(c);
}
