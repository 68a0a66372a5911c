/* SPDX-License-Identifier: Apache-2.0
 *
 * A search behind a pipe: the study core and the optimizers that production links, driven by JSON
 * lines on standard input, one answer a line on standard output. Benchmarks in other languages run
 * thousands of searches through one process and hold as many trials pending as they like.
 *
 *   {"op": "start", "experiment": {…}}  {"algorithm","why","optimizer"}; ends the search before it
 *   {"op": "ask", "count": 4}           {"state": "running|waiting|done", "why", "trials":
 * [{"trial", "attempt", "params", "budget", "resume_from", "parent", "bracket", "rung"}]}
 *   {"op": "report", "trial": 1, "step": 3, "value": 0.5, "values": {…}, "checkpoint": 3}
 *                                       {"action": "continue|pause|stop", "state"}
 *   {"op": "tell", "trial": 1, "value": 0.5, "state": "completed|failed|lost", "reason": "…"}
 *                                       {"state": "completed|paused|waiting|failed|stopped"}
 *   {"op": "best"}                      {"trial", "value", "step", "params"} or {"trial": null}
 *
 * "attempt" may be given with report and tell; without it the trial's newest is meant. "now"
 * (seconds, rising) sets the virtual clock of time limits. A wrong line is answered {"error": "…"}
 * and changes nothing. Status: 0 at the end of the input, 2 for wrong arguments or a FILE that
 * cannot be run.
 *
 * usage: search_pipe [FILE]   (FILE: start with this experiment, without a start line)
 */
#include "driver/study.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WALL_MS 1700000000000 /* nothing here may depend on the hour */

struct pipe {
    struct study *study; /* NULL before the first start */
    int64_t now_ns;
};

/* ---- reading a line ---- */

/* A whole number at `key`, `absent` without it. */
static enum mag_status read_int(const json_t *line, const char *key, int64_t absent, int64_t *ret,
                                struct mag_err *err)
{
    const json_t *v = json_object_get(line, key);
    if (v != NULL && !json_is_integer(v)) {
        return mag_fail(err, MAG_INVALID, "\"%s\" must be a whole number, not %s", key,
                        mjson_kind(v));
    }
    *ret = v != NULL ? json_integer_value(v) : absent;
    return MAG_OK;
}

/* null means NaN, as a program's broken objective does. */
static enum mag_status read_value(const json_t *v, const char *key, double *ret,
                                  struct mag_err *err)
{
    if (!json_is_number(v) && !json_is_null(v)) {
        return mag_fail(err, MAG_INVALID, "\"%s\" must be a number or null, not %s", key,
                        mjson_kind(v));
    }
    *ret = json_is_null(v) ? NAN : json_number_value(v);
    return MAG_OK;
}

static enum mag_status check_keys(const json_t *line, const char *const known[],
                                  struct mag_err *err)
{
    struct mjson_issues is = {0};
    mjson_check_keys(line, known, "", &is);
    enum mag_status st = MAG_OK;
    if (is.total > 0) {
        st = mag_fail(err, MAG_INVALID, "%s: %s", is.items[0].pointer, is.items[0].text);
    }
    mjson_issues_fini(&is);
    return st;
}

/* The trial that the line names, and its attempt. */
static enum mag_status read_trial(const struct pipe *p, const json_t *line, struct event *ev,
                                  struct mag_err *err)
{
    enum mag_status st = read_int(line, "trial", 0, &ev->trial, err);
    if (st != MAG_OK) {
        return st;
    }
    const struct trial *t = study_trial(p->study, ev->trial);
    if (t == NULL) {
        return mag_fail(err, MAG_NOTFOUND, "\"trial\": there is no trial %lld, only 1 to %lld",
                        (long long)ev->trial, (long long)study_trials(p->study));
    }
    return read_int(line, "attempt", t->attempt, &ev->attempt, err);
}

/* ---- answers ---- */

static json_t *real_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *grant_json(const struct pipe *p, const struct event_grant *g)
{
    const struct trial *t = study_trial(p->study, g->trial);
    json_t *out = json_pack("{s:I, s:I, s:o, s:i, s:i}", "trial", (json_int_t)g->trial, "attempt",
                            (json_int_t)g->attempt, "params",
                            space_point_to_json(study_spec(p->study)->space, t->point), "bracket",
                            (int)g->bracket, "rung", (int)g->rung);
    json_object_set_new(out, "budget", g->budget > 0 ? json_integer(g->budget) : json_null());
    json_object_set_new(out, "resume_from",
                        g->resume_step >= 0 ? json_integer(g->resume_step) : json_null());
    json_object_set_new(out, "parent", g->parent > 0 ? json_integer(g->parent) : json_null());
    return out;
}

static json_t *why_json(const char *code, const char *text)
{
    return code != NULL ? json_pack("{s:s, s:s}", "code", code, "text", text != NULL ? text : "")
                        : json_null();
}

/* ---- the lines ---- */

static enum mag_status issues_fail(struct mjson_issues *is, struct mag_err *err)
{
    struct buf all = {0};
    for (int i = 0; i < is->n; i++) {
        buf_addf(&all, "%s%s: %s", i > 0 ? "; " : "", is->items[i].pointer, is->items[i].text);
    }
    enum mag_status st = mag_fail(err, MAG_INVALID, "%s", all.data);
    buf_fini(&all);
    return st;
}

static enum mag_status start(struct pipe *p, const json_t *doc, json_t **ret, struct mag_err *err)
{
    struct mjson_issues is = {0};
    struct spec *spec = spec_parse(doc, 0, &is);
    if (spec == NULL) {
        enum mag_status st = issues_fail(&is, err);
        mjson_issues_fini(&is);
        return st;
    }
    mjson_issues_fini(&is);
    study_destroy(p->study);
    p->now_ns = 0;
    json_t *resolved = json_object_get(spec->resolved, "optimizer");
    *ret = json_pack("{s:O, s:O, s:s?}", "algorithm", json_object_get(resolved, "algorithm"),
                     "optimizer", resolved, "why", spec->auto_why);
    p->study = study_create(spec);
    return MAG_OK;
}

static enum mag_status op_start(struct pipe *p, const json_t *line, json_t **ret,
                                struct mag_err *err)
{
    const json_t *doc = json_object_get(line, "experiment");
    if (doc == NULL) {
        return mag_fail(err, MAG_INVALID,
                        "start needs \"experiment\": an experiment file's object");
    }
    return start(p, doc, ret, err);
}

static enum mag_status apply(struct pipe *p, struct event *ev, struct mag_err *err)
{
    ev->wall_ms = WALL_MS + p->now_ns / MAG_NS_PER_MS;
    return study_apply(p->study, ev, p->now_ns, err);
}

static enum mag_status op_ask(struct pipe *p, const json_t *line, json_t **ret, struct mag_err *err)
{
    int64_t count = 1;
    enum mag_status st = read_int(line, "count", 1, &count, err);
    if (st == MAG_OK && (count < 1 || count > EVENT_GRANTS_MAX)) {
        st = mag_fail(err, MAG_INVALID, "\"count\" must be 1 to %d", EVENT_GRANTS_MAX);
    }
    if (st != MAG_OK) {
        return st;
    }
    struct event ev;
    event_init(&ev, EV_ASK);
    ev.holder = xstrdup("pipe");
    ev.count = (int)count;
    st = apply(p, &ev, err);
    if (st == MAG_OK) {
        json_t *trials = json_array();
        for (int i = 0; i < ev.n_grants; i++) {
            json_array_append_new(trials, grant_json(p, &ev.grants[i]));
        }
        *ret = json_pack("{s:s, s:o, s:o}", "state",
                         ev.done      ? "done"
                         : ev.waiting ? "waiting"
                                      : "running",
                         "trials", trials, "why", why_json(ev.why_code, ev.why));
    }
    event_fini(&ev);
    return st;
}

/* One metric point from "step", "value" and "values". */
static enum mag_status read_point(struct pipe *p, const json_t *line, struct event *ev,
                                  struct mag_err *err)
{
    const json_t *value = json_object_get(line, "value");
    const json_t *values = json_object_get(line, "values");
    int64_t step = -1;
    enum mag_status st = read_int(line, "step", -1, &step, err);
    if (st == MAG_OK && values != NULL && !json_is_object(values)) {
        st = mag_fail(err, MAG_INVALID, "\"values\" must be an object of numbers");
    }
    if (st == MAG_OK && step < 0) {
        st = mag_fail(err, MAG_INVALID, "\"step\" must be 0 or more");
    }
    if (st != MAG_OK) {
        return st;
    }
    struct event_point *point =
        event_add_point(ev, step, (value != NULL) + (int)json_object_size(values));
    int n = 0;
    if (value != NULL) {
        st = read_value(value, "value", &point->values[n++].value, err);
    }
    const char *name = NULL;
    json_t *v = NULL;
    json_object_foreach((json_t *)(uintptr_t)values, name, v)
    {
        bool is_objective = strcmp(name, study_spec(p->study)->metric) == 0;
        point->values[n].name = is_objective ? NULL : xstrdup(name);
        st = st == MAG_OK ? read_value(v, name, &point->values[n].value, err) : st;
        n++;
    }
    return st;
}

static enum mag_status op_report(struct pipe *p, const json_t *line, json_t **ret,
                                 struct mag_err *err)
{
    struct event ev;
    event_init(&ev, EV_REPORT);
    enum mag_status st = read_trial(p, line, &ev, err);
    st = st == MAG_OK ? read_point(p, line, &ev, err) : st;
    st = st == MAG_OK ? read_int(line, "checkpoint", -1, &ev.checkpoint_step, err) : st;
    if (st == MAG_OK && ev.checkpoint_step >= 0) {
        ev.checkpoint_uri = xasprintf("step:%lld", (long long)ev.checkpoint_step);
    }
    st = st == MAG_OK ? apply(p, &ev, err) : st;
    if (st == MAG_OK) {
        *ret = json_pack("{s:s, s:s, s:b}", "action", report_action_name(ev.action), "state",
                         trial_state_name(study_trial(p->study, ev.trial)->state), "late", ev.late);
    }
    event_fini(&ev);
    return st;
}

static enum mag_status read_told(const json_t *line, struct event *ev, struct mag_err *err)
{
    const json_t *state = json_object_get(line, "state");
    const char *name = state == NULL ? "completed" : json_string_value(state);
    if (name != NULL && strcmp(name, "lost") == 0) {
        ev->told = TRIAL_WAITING;
    } else if (name != NULL && strcmp(name, "failed") == 0) {
        ev->told = TRIAL_FAILED;
        ev->cause = FAIL_CLIENT;
    } else if (name != NULL && strcmp(name, "completed") == 0) {
        ev->told = TRIAL_COMPLETED;
    } else {
        return mag_fail(err, MAG_INVALID,
                        "\"state\" must be \"completed\", \"failed\" or \"lost\"");
    }
    return MAG_OK;
}

static enum mag_status op_tell(struct pipe *p, const json_t *line, json_t **ret,
                               struct mag_err *err)
{
    struct event ev;
    event_init(&ev, EV_TELL);
    enum mag_status st = read_trial(p, line, &ev, err);
    st = st == MAG_OK ? read_told(line, &ev, err) : st;
    const json_t *value = json_object_get(line, "value");
    if (st == MAG_OK && value != NULL) {
        ev.has_value = true;
        st = read_value(value, "value", &ev.value, err);
    }
    if (st == MAG_OK && json_object_get(line, "values") != NULL) {
        st = read_point(p, line, &ev, err);
    }
    const char *reason = json_string_value(json_object_get(line, "reason"));
    ev.reason = reason != NULL ? xstrdup(reason) : NULL;
    st = st == MAG_OK ? apply(p, &ev, err) : st;
    if (st == MAG_OK) {
        *ret = json_pack("{s:s, s:b}", "state",
                         trial_state_name(study_trial(p->study, ev.trial)->state), "late", ev.late);
    }
    event_fini(&ev);
    return st;
}

static enum mag_status op_best(struct pipe *p, const json_t *line, json_t **ret,
                               struct mag_err *err)
{
    (void)line;
    (void)err;
    const struct trial *t = study_best(p->study);
    *ret = t == NULL ? json_pack("{s:n}", "trial")
                     : json_pack("{s:I, s:o, s:I, s:o}", "trial", (json_int_t)t->id, "value",
                                 real_or_null(t->value), "step", (json_int_t)t->step, "params",
                                 space_point_to_json(study_spec(p->study)->space, t->point));
    return MAG_OK;
}

struct op {
    const char *name;
    enum mag_status (*run)(struct pipe *p, const json_t *line, json_t **ret, struct mag_err *err);
    const char *const *keys;
};

static const char *const start_keys[] = {"op", "experiment", NULL};
static const char *const ask_keys[] = {"op", "now", "count", NULL};
static const char *const report_keys[] = {"op",    "now",    "trial",      "attempt", "step",
                                          "value", "values", "checkpoint", NULL};
static const char *const tell_keys[] = {"op",     "now",   "trial", "attempt", "step",
                                        "values", "value", "state", "reason",  NULL};
static const char *const best_keys[] = {"op", NULL};

static const struct op ops[] = {
    {"start", op_start, start_keys},    {"ask", op_ask, ask_keys},
    {"report", op_report, report_keys}, {"tell", op_tell, tell_keys},
    {"best", op_best, best_keys},
};

static enum mag_status read_now(struct pipe *p, const json_t *line, struct mag_err *err)
{
    const json_t *now = json_object_get(line, "now");
    if (now == NULL) {
        return MAG_OK;
    }
    double seconds = json_number_value(now);
    if (!json_is_number(now) || seconds * 1e9 < (double)p->now_ns || seconds > 1e9) {
        return mag_fail(err, MAG_INVALID, "\"now\" must be seconds that never go back");
    }
    p->now_ns = (int64_t)(seconds * 1e9);
    return MAG_OK;
}

static enum mag_status obey(struct pipe *p, const json_t *line, json_t **ret, struct mag_err *err)
{
    const char *name = json_string_value(json_object_get(line, "op"));
    const struct op *op = NULL;
    for (size_t i = 0; name != NULL && i < sizeof(ops) / sizeof(ops[0]); i++) {
        op = strcmp(ops[i].name, name) == 0 ? &ops[i] : op;
    }
    if (op == NULL) {
        return mag_fail(err, MAG_INVALID,
                        "\"op\" must be \"start\", \"ask\", \"report\", \"tell\" or \"best\"");
    }
    if (p->study == NULL && op->run != op_start) {
        return mag_fail(err, MAG_CONFLICT, "no search is started: send {\"op\": \"start\"} first");
    }
    enum mag_status st = check_keys(line, op->keys, err);
    st = st == MAG_OK && op->run != op_start ? read_now(p, line, err) : st;
    return st == MAG_OK ? op->run(p, line, ret, err) : st;
}

static void answer(struct pipe *p, const char *text, size_t len)
{
    json_t *line = NULL, *out = NULL;
    struct mag_err err = {0};
    enum mag_status st = mjson_parse(text, len, &line, &err);
    if (st == MAG_OK && !json_is_object(line)) {
        st = mag_fail(&err, MAG_INVALID, "a line must be an object, not %s", mjson_kind(line));
    }
    st = st == MAG_OK ? obey(p, line, &out, &err) : st;
    if (st != MAG_OK) {
        out = json_pack("{s:s}", "error", err.text);
    }
    char *dump = mjson_dump(out);
    puts(dump);
    (void)fflush(stdout);
    free(dump);
    json_decref(out);
    json_decref(line);
}

static enum mag_status start_file(struct pipe *p, const char *path, struct mag_err *err)
{
    char *text = NULL;
    size_t len = 0;
    json_t *doc = NULL, *out = NULL;
    enum mag_status st = mjson_read_file(path, SPEC_BYTES_MAX, &text, &len, err);
    st = st == MAG_OK ? mjson_parse(text, len, &doc, err) : st;
    st = st == MAG_OK ? start(p, doc, &out, err) : st;
    json_decref(out);
    json_decref(doc);
    free(text);
    return st;
}

int main(int argc, char **argv)
{
    struct pipe p = {0};
    struct mag_err err = {0};
    if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
        fprintf(stderr, "usage: search_pipe [FILE]   (JSON lines on standard input)\n");
        return 2;
    }
    if (argc == 2 && start_file(&p, argv[1], &err) != MAG_OK) {
        fprintf(stderr, "search_pipe: %s: %s\n", argv[1], err.text);
        return 2;
    }
    char *line = NULL;
    size_t cap = 0;
    ssize_t len = 0;
    while ((len = getline(&line, &cap, stdin)) >= 0) {
        answer(&p, line, (size_t)len);
    }
    free(line);
    study_destroy(p.study);
    return 0;
}
