/* SPDX-License-Identifier: Apache-2.0 */
#include "simulate/setup.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STEP_MS 60000     /* defaults */
#define LEASE_MS 15000
#define HEARTBEAT_MS 2000

static const char *const keys[] = {"workers",    "objective", "timeout",   "step",
                                   "start",      "duration",  "drop",      "deaths",
                                   "silence",    "lease",     "heartbeat", "checkpoint_every",
                                   "report_every", "speculate", "time",    "seed",
                                   "seeds",      "ties",      NULL};

struct reader {
    const json_t *object;
    const char *pointer;
    struct mjson_issues *is;
};

static int64_t read_int(const struct reader *r, const char *key, int64_t min, int64_t max,
                        int64_t fallback)
{
    const json_t *v = json_object_get(r->object, key);
    if (v == NULL) {
        return fallback;
    }
    json_int_t n = json_integer_value(v);
    if (!json_is_integer(v) || n < min || n > max) {
        char *text = mjson_dump(v);
        mjson_issue_at(r->is, r->pointer, key, "must be a whole number from %lld to %lld, not %.40s",
                       (long long)min, (long long)max, text);
        free(text);
        return fallback;
    }
    return n;
}

static double read_number(const struct reader *r, const char *key, double min, double max,
                          double fallback)
{
    const json_t *v = json_object_get(r->object, key);
    double x = json_number_value(v);
    if (v == NULL) {
        return fallback;
    }
    if (!json_is_number(v) || !(x >= min && x <= max)) {
        char *text = mjson_dump(v);
        mjson_issue_at(r->is, r->pointer, key, "must be a number from %g to %g, not %.40s", min,
                       max, text);
        free(text);
        return fallback;
    }
    return x;
}

static int64_t duration_of(const json_t *v, const char *pointer, const char *key,
                           struct mjson_issues *is)
{
    int64_t ms = 0;
    if (json_is_string(v) && duration_parse(json_string_value(v), &ms) == MAG_OK) {
        return ms;
    }
    double s = json_number_value(v);
    if (json_is_number(v) && s >= 0 && s * 1000 <= (double)SIM_TIME_MAX_MS) {
        return (int64_t)(s * 1000 + 0.5);
    }
    mjson_issue_at(is, pointer, key, "must be a duration such as \"30s\", \"2h\" or a number of seconds");
    return 0;
}

static int64_t read_duration(const struct reader *r, const char *key, int64_t fallback)
{
    const json_t *v = json_object_get(r->object, key);
    return v == NULL ? fallback : duration_of(v, r->pointer, key, r->is);
}

/* ---- the keys that are more than one value ---- */

static void read_workers(const struct reader *r, struct sim_setup *s)
{
    const json_t *v = json_object_get(r->object, "workers");
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    s->n_workers = 1;
    s->workers[0] = 4;
    if (v == NULL) {
        return;
    }
    if (n == 0 || n > SIM_COUNTS_MAX) {
        mjson_issue_at(r->is, r->pointer, "workers", "takes 1 to %d numbers of workers",
                       SIM_COUNTS_MAX);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_is_array(v) ? json_array_get(v, i) : v;
        json_int_t w = json_integer_value(one);
        if (!json_is_integer(one) || w < 1 || w > SIM_WORKERS_MAX) {
            mjson_issue_at(r->is, r->pointer, "workers",
                           "must be a number of workers from 1 to %d, or a list of such",
                           SIM_WORKERS_MAX);
            return;
        }
        s->workers[i] = w;
    }
    s->n_workers = (int)n;
}

static void read_model(const json_t *text, const char *pointer, const char *key,
                       struct sim_duration *ret, struct mjson_issues *is)
{
    struct mag_err err = {0};
    if (!json_is_string(text)) {
        mjson_issue_at(is, pointer, key, "must be a model such as \"straggler(0.56)\", not %s",
                       mjson_kind(text));
    } else if (sim_duration_parse(json_string_value(text), ret, &err) != MAG_OK) {
        mjson_issue_at(is, pointer, key, "%s", err.text);
    }
}

static void read_slower(const json_t *by, const char *pointer, struct sim_duration *ret,
                        struct mjson_issues *is)
{
    const char *name = NULL;
    json_t *v = NULL;
    if (!json_is_object(by) || json_object_size(by) > SIM_SLOWER_MAX) {
        mjson_issue_at(is, pointer, "by",
                       "must be an object of at most %d parameters, such as {\"units\": 4}",
                       SIM_SLOWER_MAX);
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)by, name, v)
    {
        double ratio = json_number_value(v);
        if (!(ratio >= 1e-3 && ratio <= 1e3) || strlen(name) > SPACE_NAME_MAX) {
            mjson_issue_at(is, pointer, "by",
                           "\"%.60s\": how many times as long its highest value takes, 0.001 to 1000",
                           name);
            continue;
        }
        struct sim_slower *one = &ret->by[ret->n_by++];
        memcpy(one->name, name, strlen(name) + 1);
        one->ratio = ratio;
    }
}

static void read_model_object(const struct reader *r, const json_t *v, struct sim_setup *s)
{
    static const char *const known[] = {"model", "per", "by", NULL};
    char *at = mjson_pointer(r->pointer, "duration");
    mjson_check_keys(v, known, at, r->is);
    if (json_object_get(v, "model") != NULL) {
        read_model(json_object_get(v, "model"), at, "model", &s->duration, r->is);
    }
    const json_t *per = json_object_get(v, "per");
    const char *text = json_string_value(per);
    bool step = text != NULL && strcmp(text, "step") == 0;
    if (per != NULL && !step && (text == NULL || strcmp(text, "job") != 0)) {
        mjson_issue_at(r->is, at, "per", "must be \"job\" (drawn once for each) or \"step\"");
    }
    s->duration.per_step = step;
    if (json_object_get(v, "by") != NULL) {
        read_slower(json_object_get(v, "by"), at, &s->duration, r->is);
    }
    free(at);
}

static void read_times(const struct reader *r, struct sim_setup *s)
{
    const json_t *v = json_object_get(r->object, "duration");
    if (json_is_object(v)) {
        read_model_object(r, v, s);
    } else if (v != NULL) {
        read_model(v, r->pointer, "duration", &s->duration, r->is);
    }
    s->step_ms = read_duration(r, "step", STEP_MS);
    if (s->step_ms < 1) {
        mjson_issue_at(r->is, r->pointer, "step", "a step takes a millisecond at least");
        s->step_ms = STEP_MS;
    }
    s->start_ms = read_duration(r, "start", 0);
    s->time_ms = read_duration(r, "time", 0);
}

/* {"every": "2h", "for": "5m"}, both durations above 0. */
static void read_outage(const struct reader *r, const char *key, int64_t *ret_every,
                        int64_t *ret_for)
{
    static const char *const known[] = {"every", "for", NULL};
    const json_t *v = json_object_get(r->object, key);
    if (v == NULL) {
        return;
    }
    char *at = mjson_pointer(r->pointer, key);
    if (!json_is_object(v) || json_object_get(v, "every") == NULL ||
        json_object_get(v, "for") == NULL) {
        mjson_issue(r->is, at, "must say how often and for how long: {\"every\": \"2h\", \"for\": "
                               "\"5m\"}");
    } else {
        mjson_check_keys(v, known, at, r->is);
        *ret_every = duration_of(json_object_get(v, "every"), at, "every", r->is);
        *ret_for = duration_of(json_object_get(v, "for"), at, "for", r->is);
    }
    free(at);
}

static void read_faults(const struct reader *r, struct sim_setup *s)
{
    s->drop = read_number(r, "drop", 0, 0.999, 0);
    read_outage(r, "deaths", &s->death_every_ms, &s->away_ms);
    read_outage(r, "silence", &s->silent_every_ms, &s->silent_ms);
    s->lease_ms = read_duration(r, "lease", LEASE_MS);
    s->heartbeat_ms = read_duration(r, "heartbeat",
                                    s->lease_ms < HEARTBEAT_MS * 2 ? s->lease_ms / 4 : HEARTBEAT_MS);
    if (s->lease_ms > 0 && s->heartbeat_ms >= s->lease_ms) {
        mjson_issue_at(r->is, r->pointer, "heartbeat", "must be shorter than the lease");
    }
    s->speculate = read_number(r, "speculate", 0, 1000, 0);
    if (s->speculate > 0 && s->speculate < 1) {
        mjson_issue_at(r->is, r->pointer, "speculate",
                       "how many times the usual time a job may take before a second copy starts: 1 "
                       "or more");
    }
}

static void read_objective(const struct reader *r, struct sim_setup *s)
{
    const json_t *v = json_object_get(r->object, "objective");
    char *at = mjson_pointer(r->pointer, "objective");
    json_t *fallback = json_string("curve");
    objective_spec_parse(v != NULL ? v : fallback, at, &s->objective, r->is);
    s->objective.timeout_ms = read_duration(r, "timeout", s->objective.timeout_ms);
    if (s->objective.timeout_ms < 1 || s->objective.timeout_ms > INT32_MAX) {
        mjson_issue_at(r->is, r->pointer, "timeout", "must be 1 ms to 24 days");
    }
    json_decref(fallback);
    free(at);
}

void sim_setup_parse(const json_t *value, const char *pointer, struct sim_setup *ret,
                     struct mjson_issues *is)
{
    *ret = (struct sim_setup){0};
    if (value != NULL && !json_is_object(value)) {
        mjson_issue(is, pointer, "must be an object such as {\"workers\": [1, 4, 16], \"step\": "
                                 "\"30s\"}, not %s",
                    mjson_kind(value));
        value = NULL;
    }
    struct reader r = {.object = value, .pointer = pointer, .is = is};
    if (value != NULL) {
        mjson_check_keys(value, keys, pointer, is);
    }
    read_workers(&r, ret);
    read_objective(&r, ret);
    read_times(&r, ret);
    read_faults(&r, ret);
    ret->checkpoint_every = read_int(&r, "checkpoint_every", 0, INT32_MAX, -1);
    ret->report_every = read_int(&r, "report_every", 1, INT32_MAX, 1);
    ret->seed = (uint64_t)read_int(&r, "seed", 0, INT64_C(1) << 53, 1);
    ret->seeds = read_int(&r, "seeds", 1, SIM_SEEDS_MAX, 1);
    ret->ties = read_int(&r, "ties", 0, INT64_C(1) << 53, 0);
}

void sim_setup_fini(struct sim_setup *s)
{
    objective_spec_fini(&s->objective);
}

void sim_setup_check(const struct sim_setup *s, const struct spec *spec, const char *pointer,
                     struct mjson_issues *is)
{
    for (int i = 0; i < s->duration.n_by; i++) {
        if (space_find(spec->space, s->duration.by[i].name) < 0) {
            mjson_issue_at(is, pointer, "duration", "\"by\" names \"%s\", which is no parameter",
                           s->duration.by[i].name);
        }
    }
    const struct optimizer_ops *ops =
        optimizer_find(json_string_value(json_object_get(
            json_object_get(spec->resolved, "optimizer"), "algorithm")));
    bool ends = spec->limits.trials > 0 || spec->limits.time_ms > 0 || s->time_ms > 0 ||
                (ops != NULL && (ops->caps & OPT_CAP_FINITE) != 0);
    if (!ends) {
        mjson_issue_at(is, pointer, "time",
                       "the search has no end: limit its trials or its time");
    }
}
