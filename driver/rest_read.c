/* SPDX-License-Identifier: Apache-2.0
 *
 * Metric points of trials, read from the record on the reader thread. The job copies what it needs;
 * the call is kept until it is done.
 */
#include "driver/rest.h"

#include "base/alloc.h"
#include "driver/driver_internal.h"
#include "driver/reader.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POINTS_DEFAULT 1000
#define POINTS_MAX 10000
#define CURVES_MAX 200          /* trials in one answer */
#define CURVE_POINTS_MAX 10000  /* of one trial; a longer curve is cut and says so */
#define CURVES_POINTS_MAX 50000 /* after so many the answer ends; `next` goes on */

struct read_job {
    struct reader_job job;
    struct http_call *call; /* NULL: its peer has gone */
    int status;
    struct buf out;
    char *fault;
    /* metrics */
    int64_t experiment, trial, attempt, after;
    int dims, limit, n;
    char *metric;
    int64_t last_seq;
    bool more;
    struct event before; /* the trial's last message with points */
    /* curves: the trials, and one trial's points as three lists */
    int64_t *trials;
    int n_trials, points;
    struct buf steps, attempts, values;
};

static void job_free(struct read_job *j)
{
    buf_fini(&j->out);
    event_fini(&j->before);
    free(j->fault);
    free(j->metric);
    free(j->trials);
    buf_fini(&j->steps);
    buf_fini(&j->attempts);
    buf_fini(&j->values);
    free(j);
}

static void on_gone(struct http_call *c)
{
    struct read_job *j = c->state;
    if (c->req == NULL) {
        j->call = NULL;
        c->state = NULL;
        http_call_free(c);
    }
    /* Half closed: the job answers soon anyway. */
}

static void push(struct http_call *c, struct reader *r, struct read_job *j)
{
    j->call = c;
    c->state = j;
    http_keep(c, on_gone);
    if (!reader_push(r, &j->job)) {
        c->state = NULL;
        job_free(j);
        http_problem(c, 503, "too many reads are waiting; try again");
    }
}

static void answer(struct read_job *j, const char *content_type)
{
    struct http_call *c = j->call;
    if (c != NULL) {
        c->state = NULL;
        if (j->fault != NULL) {
            http_problem(c, j->status, "%s", j->fault);
        } else {
            struct buf had = c->out;
            c->out = j->out;
            j->out = had;
            c->content_type = content_type;
            http_reply(c);
        }
    }
    job_free(j);
}

/* ---- points ---- */

static bool same_value(const struct event_value *a, const struct event_value *b)
{
    bool name =
        a->name == NULL || b->name == NULL ? a->name == b->name : strcmp(a->name, b->name) == 0;
    return name && (a->value == b->value || (isnan(a->value) && isnan(b->value)));
}

static bool same_point(const struct event_point *a, const struct event_point *b)
{
    bool same = a->step == b->step && a->n_values == b->n_values;
    for (int i = 0; i < a->n_values && same; i++) {
        same = same_value(&a->values[i], &b->values[i]);
    }
    return same;
}

/* A message whose answer was lost comes again, and where it holds more than the objective it is
 * recorded again: its points are shown once. Points lie in the order of their steps. */
static bool is_repeat(const struct event *before, const struct event *ev,
                      const struct event_point *p)
{
    int n = before->attempt == ev->attempt && before->late == ev->late ? before->n_points : 0;
    int lo = 0;
    int hi = n;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        if (before->points[mid].step < p->step) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    while (lo < n && before->points[lo].step == p->step) {
        if (same_point(&before->points[lo++], p)) {
            return true;
        }
    }
    return false;
}

typedef void (*point_fn)(struct read_job *j, const struct event *ev, const struct event_point *p);

/* Hands each point of a recorded message that is news to `add`. */
static void each_point(struct read_job *j, const struct store_event *row, point_fn add)
{
    struct event ev;
    if (event_decode((enum event_kind)row->kind, row->text, (size_t)row->text_len, j->dims, &ev,
                     NULL) != MAG_OK) {
        return; /* replay says so; a curve just lacks it */
    }
    ev.wall_ms = row->wall_ms;
    for (int i = 0; i < ev.n_points; i++) {
        if (!is_repeat(&j->before, &ev, &ev.points[i])) {
            add(j, &ev, &ev.points[i]);
        }
    }
    if (ev.n_points > 0) {
        struct event older = j->before;
        j->before = ev;
        ev = older;
    }
    event_fini(&ev);
}

/* ---- metrics ---- */

static void add_point(struct read_job *j, const struct event *ev, const struct event_point *p)
{
    struct buf *out = &j->out;
    if (j->attempt > 0 && ev->attempt != j->attempt) {
        return;
    }
    buf_adds(out, j->n++ > 0 ? ",{\"step\":" : "{\"step\":");
    buf_add_int(out, p->step);
    buf_adds(out, ",\"attempt\":");
    buf_add_int(out, ev->attempt);
    buf_adds(out, ",\"time\":");
    rest_add_time(out, ev->wall_ms);
    if (ev->late) {
        buf_adds(out, ",\"late\":true");
    }
    buf_adds(out, ",\"values\":{");
    for (int i = 0; i < p->n_values; i++) {
        buf_adds(out, i > 0 ? "," : "");
        buf_add_json_string(out, p->values[i].name != NULL ? p->values[i].name : j->metric);
        buf_addc(out, ':');
        buf_add_json_number(out, p->values[i].value);
    }
    buf_adds(out, "}}");
}

static bool on_event(void *arg, const struct store_event *row)
{
    struct read_job *j = arg;
    if (row->kind != EV_REPORT && row->kind != EV_TELL) {
        return true;
    }
    if (j->n >= j->limit) {
        j->more = true;
        return false;
    }
    each_point(j, row, add_point);
    j->last_seq = row->seq;
    return true;
}

static void run_metrics(struct reader_job *job, struct store_reader *store,
                        const struct mag_err *why)
{
    struct read_job *j = container_of(job, struct read_job, job);
    struct mag_err err = *why;
    enum mag_status st = err.code;
    buf_adds(&j->out, "{\"metrics\":[");
    if (store != NULL) {
        st = store_read_trial(store, j->experiment, j->trial, j->after, on_event, j, &err);
    }
    if (st != MAG_OK) {
        j->status = 503;
        j->fault = xasprintf("the record cannot be read: %s", err.text);
        return;
    }
    if (j->more) {
        buf_addf(&j->out, "],\"next\":\"%lld\"}", (long long)j->last_seq);
    } else {
        buf_adds(&j->out, "],\"next\":null}");
    }
}

static void done_metrics(struct reader_job *job)
{
    answer(container_of(job, struct read_job, job), "application/json");
}

void rest_trial_metrics(struct http_call *c)
{
    struct mjson_issues is = {0};
    struct read_job *j = xcalloc(1, sizeof(*j));
    j->job.run = run_metrics;
    j->job.done = done_metrics;
    j->experiment = c->x->id;
    j->trial = c->trial;
    j->dims = c->x->dims;
    j->metric = xstrdup(study_spec(c->x->study)->metric);
    j->limit = (int)http_query_int(c, "limit", 1, POINTS_MAX, POINTS_DEFAULT, &is);
    j->attempt = http_query_int(c, "attempt", 0, INT64_MAX, 0, &is);
    j->after = http_query_int(c, "cursor", 0, STORE_SEQ_MAX, 0, &is);
    if (is.total > 0) {
        job_free(j);
        http_problem_issues(c, 422, "the query is not valid", &is);
        return;
    }
    push(c, c->d->reader, j);
}

/* ---- the objective of many trials ---- */

static void add_curve_point(struct read_job *j, const struct event *ev, const struct event_point *p)
{
    for (int i = 0; i < p->n_values && !ev->late; i++) {
        if (p->values[i].name != NULL && strcmp(p->values[i].name, j->metric) != 0) {
            continue;
        }
        const char *comma = j->n++ > 0 ? "," : "";
        buf_adds(&j->steps, comma);
        buf_add_int(&j->steps, p->step);
        buf_adds(&j->attempts, comma);
        buf_add_int(&j->attempts, ev->attempt);
        buf_adds(&j->values, comma);
        buf_add_json_number(&j->values, p->values[i].value);
        return;
    }
}

static bool on_curve_event(void *arg, const struct store_event *row)
{
    struct read_job *j = arg;
    if (row->kind != EV_REPORT && row->kind != EV_TELL) {
        return true;
    }
    if (j->n >= CURVE_POINTS_MAX) {
        j->more = true;
        return false;
    }
    each_point(j, row, add_curve_point);
    return true;
}

static void add_curve(struct read_job *j, int64_t trial, bool first)
{
    buf_addf(&j->out, "%s{\"trial\":%lld", first ? "" : ",", (long long)trial);
    buf_adds(&j->out, ",\"steps\":[");
    buf_add(&j->out, j->steps.data, j->steps.len);
    buf_adds(&j->out, "],\"attempts\":[");
    buf_add(&j->out, j->attempts.data, j->attempts.len);
    buf_adds(&j->out, "],\"values\":[");
    buf_add(&j->out, j->values.data, j->values.len);
    buf_adds(&j->out, j->more ? "],\"cut\":true}" : "]}");
}

static void run_curves(struct reader_job *job, struct store_reader *store,
                       const struct mag_err *why)
{
    struct read_job *j = container_of(job, struct read_job, job);
    struct mag_err err = *why;
    enum mag_status st = err.code;
    int i = 0;
    buf_adds(&j->out, "{\"metric\":");
    buf_add_json_string(&j->out, j->metric);
    buf_adds(&j->out, ",\"curves\":[");
    for (; store != NULL && st == MAG_OK && i < j->n_trials && j->points < CURVES_POINTS_MAX; i++) {
        j->n = 0;
        j->more = false;
        buf_reset(&j->steps);
        buf_reset(&j->attempts);
        buf_reset(&j->values);
        event_fini(&j->before);
        st = store_read_trial(store, j->experiment, j->trials[i], 0, on_curve_event, j, &err);
        add_curve(j, j->trials[i], i == 0);
        j->points += j->n;
    }
    if (st != MAG_OK) {
        j->status = 503;
        j->fault = xasprintf("the record cannot be read: %s", err.text);
    } else if (i < j->n_trials) {
        buf_addf(&j->out, "],\"next\":%lld}", (long long)j->trials[i]);
    } else {
        buf_adds(&j->out, "],\"next\":null}");
    }
}

/* "3,7,9": ids of trials that exist. */
static bool read_trials(struct http_call *c, struct read_job *j)
{
    const char *text = http_query(c, "trials");
    j->trials = xcalloc(CURVES_MAX, sizeof(*j->trials));
    while (text != NULL && *text != '\0') {
        char *end = NULL;
        long long id = strtoll(text, &end, 10);
        bool sound =
            end != text && (*end == ',' || *end == '\0') && study_trial(c->x->study, id) != NULL;
        if (!sound || j->n_trials == CURVES_MAX) {
            return false;
        }
        j->trials[j->n_trials++] = id;
        text = end + (*end == ',');
    }
    return j->n_trials > 0;
}

void rest_experiment_curves(struct http_call *c)
{
    if (c->x->broken != NULL) {
        http_problem(c, 409, "the experiment's record cannot be replayed: %s", c->x->broken);
        return;
    }
    struct read_job *j = xcalloc(1, sizeof(*j));
    j->job.run = run_curves;
    j->job.done = done_metrics;
    if (!read_trials(c, j)) {
        job_free(j);
        http_problem(c, 422,
                     "query parameter 'trials' must name 1 to %d trials of this experiment, such "
                     "as trials=3,7",
                     CURVES_MAX);
        return;
    }
    j->experiment = c->x->id;
    j->dims = c->x->dims;
    j->metric = xstrdup(study_spec(c->x->study)->metric);
    push(c, c->d->reader, j);
}
