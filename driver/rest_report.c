/* SPDX-License-Identifier: Apache-2.0
 *
 * Report and tell, one at a time and many in one commit.
 */
#include "driver/rest.h"

#include "base/alloc.h"
#include "driver/driver_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define URI_MAX 4096

/* ---- metrics ---- */

static void add_issue(struct mjson_issues *is, size_t at, const char *text)
{
    char pointer[64];
    (void)snprintf(pointer, sizeof(pointer), "/metrics/%zu", at);
    mjson_issue(is, pointer, "%s", text);
}

static int count_values(const json_t *item)
{
    const json_t *values = json_object_get(item, "values");
    return (json_object_get(item, "value") != NULL) +
           (json_is_object(values) ? (int)json_object_size(values) : 0);
}

static bool set_values(const json_t *item, const char *metric, struct event_point *p)
{
    int n = 0;
    const json_t *value = json_object_get(item, "value");
    if (value != NULL && !body_number(value, &p->values[n++].value)) {
        return false;
    }
    const char *name = NULL;
    json_t *v = NULL;
    json_object_foreach(json_object_get(item, "values"), name, v)
    {
        p->values[n].name = strcmp(name, metric) == 0 ? NULL : xstrdup(name);
        if (!body_number(v, &p->values[n++].value)) {
            return false;
        }
    }
    return true;
}

static const char *point_fault(const json_t *item)
{
    const json_t *step = json_object_get(item, "step");
    const json_t *values = json_object_get(item, "values");
    if (!json_is_object(item)) {
        return "is no object";
    }
    if (!json_is_integer(step) || json_integer_value(step) < 0) {
        return "needs \"step\": a whole number, 0 or more";
    }
    if (values != NULL && !json_is_object(values)) {
        return "\"values\" is no object of numbers";
    }
    if (count_values(item) > EVENT_VALUES_MAX) {
        return "has more than 64 values";
    }
    return count_values(item) == 0 ? "needs \"value\" or \"values\"" : NULL;
}

static void read_metrics(const json_t *body, const char *metric, struct event *ev,
                         struct mjson_issues *is)
{
    static const char *const keys[] = {"step", "value", "values", NULL};
    const json_t *list = json_object_get(body, "metrics");
    if (list == NULL) {
        return;
    }
    if (!json_is_array(list) || json_array_size(list) > EVENT_POINTS_MAX) {
        mjson_issue(is, "/metrics", "must be a list of at most %d steps", EVENT_POINTS_MAX);
        return;
    }
    size_t i = 0;
    json_t *item = NULL;
    json_array_foreach(list, i, item)
    {
        const char *fault = point_fault(item);
        if (fault != NULL) {
            add_issue(is, i, fault);
            continue;
        }
        char pointer[64];
        (void)snprintf(pointer, sizeof(pointer), "/metrics/%zu", i);
        mjson_check_keys(item, keys, pointer, is);
        struct event_point *p = event_add_point(
            ev, json_integer_value(json_object_get(item, "step")), count_values(item));
        if (!set_values(item, metric, p)) {
            add_issue(
                is, i,
                "values must be numbers; null, \"NaN\" and \"Infinity\" say that there is none");
        }
    }
}

static void read_checkpoint(const json_t *body, struct event *ev, struct mjson_issues *is)
{
    static const char *const keys[] = {"step", "uri", NULL};
    const json_t *c = json_object_get(body, "checkpoint");
    if (c == NULL || json_is_null(c)) {
        return;
    }
    const json_t *step = json_object_get(c, "step");
    const json_t *uri = json_object_get(c, "uri");
    if (!json_is_object(c) || !json_is_integer(step) || json_integer_value(step) < 0 ||
        (uri != NULL && (!json_is_string(uri) || json_string_length(uri) > URI_MAX))) {
        mjson_issue(is, "/checkpoint",
                    "must be {\"step\": whole number, \"uri\": string of at most %d bytes}",
                    URI_MAX);
        return;
    }
    mjson_check_keys(c, keys, "/checkpoint", is);
    ev->checkpoint_step = json_integer_value(step);
    ev->checkpoint_uri = uri != NULL ? xstrdup(json_string_value(uri)) : NULL;
}

static void read_common(const json_t *body, struct event *ev, const char *metric,
                        struct mjson_issues *is)
{
    if (json_object_get(body, "attempt") == NULL) {
        mjson_issue(is, "/attempt", "is missing: send the attempt that the ask gave");
    }
    ev->attempt = body_int(body, "attempt", 1, INT64_MAX, 1, is);
    read_metrics(body, metric, ev, is);
    read_checkpoint(body, ev, is);
    json_t *where = json_object_get(body, "where");
    if (where != NULL && !json_is_object(where)) {
        mjson_issue(is, "/where", "is %s, expected an object", mjson_kind(where));
    } else {
        ev->where = json_incref(where);
    }
}

/* ---- report ---- */

static void read_report(const json_t *body, struct event *ev, const char *metric,
                        struct mjson_issues *is)
{
    static const char *const keys[] = {"attempt", "metrics", "checkpoint", "where", "trial", NULL};
    mjson_check_keys(body, keys, "", is);
    read_common(body, ev, metric, is);
}

static void add_late(struct buf *out, const struct event *ev, bool with_state)
{
    if (ev->late) {
        buf_adds(out, ",\"late\":true,\"attempt\":");
        buf_add_int(out, ev->state_attempt);
        if (with_state) {
            buf_addf(out, ",\"state\":\"%s\"", trial_state_name(ev->state));
        }
    }
}

static void answer_report(struct buf *out, const struct event *ev)
{
    buf_addf(out, "\"action\":\"%s\"", report_action_name(ev->action));
    add_late(out, ev, true);
}

/* ---- tell ---- */

static void read_value(const json_t *body, struct event *ev, struct mjson_issues *is)
{
    const json_t *value = json_object_get(body, "value");
    if (value == NULL) {
        return;
    }
    ev->has_value = true;
    if (!body_number(value, &ev->value)) {
        mjson_issue(is, "/value", "is %s, expected a number", mjson_kind(value));
    }
}

/* "values" of a tell: the objective by its name, and what else was measured. */
static void read_told_values(const json_t *body, struct event *ev, const char *metric,
                             struct mjson_issues *is)
{
    const json_t *values = json_object_get(body, "values");
    const char *name = NULL;
    json_t *v = NULL;
    if (values == NULL) {
        return;
    }
    if (!json_is_object(values) || json_object_size(values) > EVENT_VALUES_MAX) {
        mjson_issue(is, "/values", "must be an object of at most %d numbers", EVENT_VALUES_MAX);
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)values, name, v)
    {
        double x = NAN;
        if (!body_number(v, &x)) {
            mjson_issue_at(is, "/values", name, "is %s, expected a number", mjson_kind(v));
        } else if (strcmp(name, metric) != 0) {
            event_add_value(ev, name, x);
        } else if (ev->has_value) {
            mjson_issue_at(is, "/values", name, "is the objective, which \"value\" gives already");
        } else {
            ev->has_value = true;
            ev->value = x;
        }
    }
}

static void read_told(const json_t *body, struct event *ev, struct mjson_issues *is)
{
    const char *state = body_text(body, "state", 32, is);
    if (state == NULL) {
        mjson_issue(is, "/state", "is missing: \"completed\", \"failed\" or \"lost\"");
    } else if (strcmp(state, "completed") == 0) {
        ev->told = TRIAL_COMPLETED;
    } else if (strcmp(state, "failed") == 0) {
        ev->told = TRIAL_FAILED;
        ev->cause = FAIL_CLIENT;
    } else if (strcmp(state, "lost") == 0) {
        ev->told = TRIAL_WAITING;
    } else {
        mjson_issue(is, "/state", "is '%s'; it must be \"completed\", \"failed\" or \"lost\"",
                    state);
    }
    const char *cause = body_text(body, "cause", 32, is);
    if (cause != NULL && (ev->told != TRIAL_FAILED || !fail_cause_from_name(cause, &ev->cause))) {
        mjson_issue(is, "/cause", "'%s' is no cause of a failure", cause);
    }
}

static void read_tell(const json_t *body, struct event *ev, const char *metric,
                      struct mjson_issues *is)
{
    static const char *const keys[] = {"attempt", "state",      "value", "values",
                                       "reason",  "retry",      "cause", "trial",
                                       "metrics", "checkpoint", "where", NULL};
    mjson_check_keys(body, keys, "", is);
    read_common(body, ev, metric, is);
    read_told(body, ev, is);
    read_value(body, ev, is);
    read_told_values(body, ev, metric, is);
    ev->retry = body_bool(body, "retry", false, is);
    const char *reason = body_text(body, "reason", EVENT_TEXT_MAX, is);
    ev->reason = reason != NULL ? xstrdup(reason) : NULL;
}

static void answer_tell(struct buf *out, const struct event *ev)
{
    buf_addf(out, "\"state\":\"%s\"", trial_state_name(ev->state));
    add_late(out, ev, false);
}

/* ---- one ---- */

typedef void (*read_fn)(const json_t *body, struct event *ev, const char *metric,
                        struct mjson_issues *is);
typedef void (*answer_fn)(struct buf *out, const struct event *ev);

static int64_t trial_number(const char *text)
{
    char *end = NULL;
    long long n = strtoll(text, &end, 10);
    return *end == '\0' && n > 0 ? n : 0;
}

static void one(struct http_call *c, enum event_kind kind, read_fn read, answer_fn answer)
{
    struct experiment *x = c->x;
    if (x->broken != NULL) {
        http_problem(c, 409, "the experiment's record cannot be replayed: %s", x->broken);
        return;
    }
    struct mjson_issues is = {0};
    struct mag_err err = {0};
    struct event ev;
    event_init(&ev, kind);
    ev.trial = trial_number(c->args[1]);
    read(c->body, &ev, study_spec(x->study)->metric, &is);
    if (json_object_get(c->body, "trial") != NULL) {
        mjson_issue(&is, "/trial", "is in the path already");
    }
    if (ev.trial == 0 || study_trial(x->study, ev.trial) == NULL) {
        http_problem(c, 404, "experiment %lld has no trial %s", (long long)x->id, c->args[1]);
    } else if (is.total > 0) {
        http_problem_issues(c, 422, "the message is not valid", &is);
    } else {
        enum mag_status st = driver_apply(c->d, x, &ev, &err);
        if (st == MAG_OK) {
            buf_addc(&c->out, '{');
            answer(&c->out, &ev);
            buf_addc(&c->out, '}');
            http_reply(c);
        } else {
            http_problem_status(c, st, &err);
        }
    }
    event_fini(&ev);
}

void rest_report(struct http_call *c)
{
    one(c, EV_REPORT, read_report, answer_report);
}

void rest_tell(struct http_call *c)
{
    one(c, EV_TELL, read_tell, answer_tell);
}

/* ---- many ---- */

static void add_problem(struct buf *out, int64_t trial, int status, const char *detail,
                        struct mjson_issues *is)
{
    http_problem_open(out, status, detail);
    buf_adds(out, ",\"trial\":");
    buf_add_int(out, trial);
    if (is != NULL) {
        json_t *list = mjson_issues_json(is);
        buf_adds(out, ",\"issues\":");
        rest_add_json(out, list);
        json_decref(list);
    }
    buf_addc(out, '}');
}

static void one_of_many(struct http_call *c, json_t *item, enum event_kind kind, read_fn read,
                        answer_fn answer)
{
    struct mjson_issues is = {0};
    struct mag_err err = {0};
    struct event ev;
    event_init(&ev, kind);
    if (!json_is_object(item)) {
        add_problem(&c->out, 0, 422, "the entry is no object", NULL);
        event_fini(&ev);
        return;
    }
    ev.trial = body_int(item, "trial", 1, INT64_MAX, 0, &is);
    if (json_object_get(item, "trial") == NULL) {
        mjson_issue(&is, "/trial", "is missing");
    }
    read(item, &ev, study_spec(c->x->study)->metric, &is);
    if (is.total > 0) {
        add_problem(&c->out, ev.trial, 422, "the entry is not valid", &is);
    } else {
        enum mag_status st = driver_apply(c->d, c->x, &ev, &err);
        if (st == MAG_OK) {
            buf_adds(&c->out, "{\"trial\":");
            buf_add_int(&c->out, ev.trial);
            buf_addc(&c->out, ',');
            answer(&c->out, &ev);
            buf_addc(&c->out, '}');
        } else {
            add_problem(&c->out, ev.trial, http_status_of(st), err.text, NULL);
        }
    }
    mjson_issues_fini(&is);
    event_fini(&ev);
}

static void many(struct http_call *c, const char *key, enum event_kind kind, read_fn read,
                 answer_fn answer)
{
    const char *const keys[] = {key, NULL};
    struct mjson_issues is = {0};
    json_t *list = json_object_get(c->body, key);
    mjson_check_keys(c->body, keys, "", &is);
    if (!json_is_array(list) || json_array_size(list) > EVENT_GRANTS_MAX) {
        mjson_issue_at(&is, "", key, "must be a list of at most %d entries", EVENT_GRANTS_MAX);
    }
    if (is.total > 0) {
        http_problem_issues(c, 422, "the message is not valid", &is);
        return;
    }
    if (c->x->broken != NULL || c->d->read_only) {
        http_problem(c, c->d->read_only ? 503 : 409, "%s",
                     c->d->read_only ? c->d->read_only_why
                                     : "the experiment's record cannot be replayed");
        return;
    }
    buf_addf(&c->out, "{\"%s\":[", key);
    size_t i = 0;
    json_t *item = NULL;
    json_array_foreach(list, i, item)
    {
        if (i > 0) {
            buf_addc(&c->out, ',');
        }
        one_of_many(c, item, kind, read, answer);
    }
    buf_adds(&c->out, "]}");
    http_reply(c);
}

void rest_report_many(struct http_call *c)
{
    many(c, "reports", EV_REPORT, read_report, answer_report);
}

void rest_tell_many(struct http_call *c)
{
    many(c, "results", EV_TELL, read_tell, answer_tell);
}
