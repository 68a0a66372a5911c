/* SPDX-License-Identifier: Apache-2.0 */
#include "bridges/optuna.h"

#include "base/alloc.h"
#include "bridges/sql.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- distributions ---- */

static void put_number(json_t *o, const char *key, double v)
{
    (void)json_object_set_new(o, key, json_real(v));
}

/* Optuna 3's three kinds, and the five of Optuna 2 that studies upgraded by hand may still hold. */
static json_t *distribution_of(const json_t *given)
{
    const char *name = json_string_value(json_object_get(given, "name"));
    const json_t *a = json_object_get(given, "attributes");
    if (name == NULL || !json_is_object(a)) {
        return NULL;
    }
    if (strcmp(name, "CategoricalDistribution") == 0) {
        json_t *choices = json_object_get(a, "choices");
        return json_is_array(choices)
                   ? json_pack("{s:s, s:O}", "kind", "categorical", "choices", choices)
                   : NULL;
    }
    bool whole = strncmp(name, "Int", 3) == 0;
    bool known = whole || strcmp(name, "FloatDistribution") == 0 ||
                 strcmp(name, "UniformDistribution") == 0 ||
                 strcmp(name, "LogUniformDistribution") == 0 ||
                 strcmp(name, "DiscreteUniformDistribution") == 0;
    const json_t *low = json_object_get(a, "low");
    const json_t *high = json_object_get(a, "high");
    if (!known || !json_is_number(low) || !json_is_number(high)) {
        return NULL;
    }
    const json_t *q = json_object_get(a, "q");
    const json_t *step = json_is_number(q) ? q : json_object_get(a, "step");
    bool log = json_is_true(json_object_get(a, "log")) || strstr(name, "Log") != NULL;
    json_t *o = json_pack("{s:s, s:b}", "kind", whole ? "int" : "float", "log", log);
    put_number(o, "low", json_number_value(low));
    put_number(o, "high", json_number_value(high));
    put_number(o, "step", json_is_number(step) ? json_number_value(step) : 0);
    return o;
}

static bool has_choice(const json_t *choices, const json_t *c)
{
    for (size_t i = 0; i < json_array_size(choices); i++) {
        if (json_equal(json_array_get(choices, i), c)) {
            return true;
        }
    }
    return false;
}

/* A parameter that was suggested from several distributions has all of what they hold. */
static void widen(json_t *have, const json_t *more)
{
    const char *kind = json_string_value(json_object_get(have, "kind"));
    if (strcmp(kind, json_string_value(json_object_get(more, "kind"))) != 0) {
        return;
    }
    if (strcmp(kind, "categorical") == 0) {
        json_t *choices = json_object_get(have, "choices");
        size_t i = 0;
        json_t *c = NULL;
        json_array_foreach(json_object_get(more, "choices"), i, c)
        {
            if (!has_choice(choices, c)) {
                (void)json_array_append(choices, c);
            }
        }
        return;
    }
    put_number(have, "low",
               fmin(json_number_value(json_object_get(have, "low")),
                    json_number_value(json_object_get(more, "low"))));
    put_number(have, "high",
               fmax(json_number_value(json_object_get(have, "high")),
                    json_number_value(json_object_get(more, "high"))));
    if (!json_equal(json_object_get(have, "step"), json_object_get(more, "step"))) {
        put_number(have, "step", 0);
    }
}

static void learn(json_t *params, const char *name, json_t *distribution)
{
    json_t *have = json_object_get(params, name);
    if (have == NULL) {
        json_t *own = json_deep_copy(distribution);
        (void)json_object_set_new(params, name, own);
    } else {
        widen(have, distribution);
    }
}

/* ---- rows ---- */

struct reading {
    struct sql sql;
    int64_t study;
    json_t *out;
    json_t *trials; /* of out; borrowed */
    int64_t *ids;   /* trial_id of each of them, rising */
    size_t n;
};

/* "FILE: what is wrong, and more". */
static void refuse(struct reading *r, const char *what, const char *more)
{
    r->sql.status = mag_fail(r->sql.err, MAG_INVALID, "%s: %s%s", r->sql.path, what, more);
}

static void check_schema(struct reading *r)
{
    if (!sql_has_table(&r->sql, "studies") || !sql_has_table(&r->sql, "trials")) {
        if (r->sql.status == MAG_OK) {
            refuse(r, "no study of Optuna: it has no tables \"studies\" and \"trials\"", "");
        }
    } else if (!sql_has_table(&r->sql, "study_directions") ||
               !sql_has_column(&r->sql, "trial_values", "value_type")) {
        refuse(r,
               "its schema is older than Optuna 3; first run  optuna storage upgrade --storage "
               "sqlite:///",
               r->sql.path);
    }
}

/* Finds the study; the message lists what is there. */
static void find_study(struct reading *r, const char *name)
{
    struct buf names = {0};
    int n = 0;
    sqlite3_stmt *q =
        sql_prepare(&r->sql, "SELECT study_id, study_name FROM studies ORDER BY study_id");
    while (sql_step(&r->sql, q)) {
        const char *found = sql_text(q, 1);
        buf_addf(&names, "%s\"%s\"", n++ > 0 ? ", " : "", found);
        if (name == NULL || strcmp(name, found) == 0) {
            r->study = sqlite3_column_int64(q, 0);
            (void)json_object_set_new(r->out, "name", json_string(found));
        }
    }
    if (r->sql.status == MAG_OK && n == 0) {
        refuse(r, "it holds no study", "");
    } else if (r->sql.status == MAG_OK && name == NULL && n > 1) {
        refuse(r, "it holds several studies: pick one with --study: ", names.data);
    } else if (r->sql.status == MAG_OK && r->study == 0) {
        refuse(r, "no study of that name; it holds ", names.data);
    }
    buf_fini(&names);
}

static sqlite3_stmt *query(struct reading *r, const char *text)
{
    sqlite3_stmt *q = sql_prepare(&r->sql, text);
    if (q != NULL) {
        (void)sqlite3_bind_int64(q, 1, r->study);
    }
    return q;
}

static void read_directions(struct reading *r)
{
    json_t *directions = json_array();
    sqlite3_stmt *q =
        query(r, "SELECT direction FROM study_directions WHERE study_id = ? ORDER BY objective");
    while (sql_step(&r->sql, q)) {
        bool max = strcmp(sql_text(q, 0), "MAXIMIZE") == 0;
        (void)json_array_append_new(directions, json_string(max ? "max" : "min"));
    }
    (void)json_object_set_new(r->out, "directions", directions);
    if (r->sql.status == MAG_OK && json_array_size(directions) == 0) {
        refuse(r, "the study has no direction", "");
    }
}

/* Names that study.set_metric_names gave, else "value" or "value_0", "value_1", … */
static void read_metrics(struct reading *r)
{
    size_t n = json_array_size(json_object_get(r->out, "directions"));
    json_t *names = NULL;
    sqlite3_stmt *q = query(r, "SELECT value_json FROM study_system_attributes WHERE study_id = ? "
                               "AND key = 'study:metric_names'");
    while (sql_step(&r->sql, q)) {
        const char *text = sql_text(q, 0);
        json_decref(names);
        names = NULL;
        if (mjson_parse(text, strlen(text), &names, NULL) != MAG_OK) {
            names = NULL; /* then they have none */
        }
    }
    if (!json_is_array(names) || json_array_size(names) != n) {
        json_decref(names);
        names = json_array();
        for (size_t i = 0; i < n; i++) {
            (void)json_array_append_new(names, n == 1 ? json_string("value")
                                                      : json_sprintf("value_%d", (int)i));
        }
    }
    (void)json_object_set_new(r->out, "metrics", names);
}

static void read_trials(struct reading *r)
{
    size_t objectives = json_array_size(json_object_get(r->out, "directions"));
    sqlite3_stmt *q =
        query(r, "SELECT trial_id, number, state FROM trials WHERE study_id = ? ORDER BY trial_id");
    while (sql_step(&r->sql, q)) {
        if (r->n == OPTUNA_TRIALS_MAX) {
            refuse(r, "over a million trials", "");
            continue;
        }
        if ((r->n & (r->n - 1)) == 0) {
            r->ids = xreallocarray(r->ids, 2 * r->n + 1, sizeof(*r->ids));
        }
        r->ids[r->n++] = sqlite3_column_int64(q, 0);
        json_t *values = json_array();
        for (size_t i = 0; i < objectives; i++) {
            (void)json_array_append_new(values, json_null());
        }
        (void)json_array_append_new(r->trials,
                                    json_pack("{s:I, s:s, s:{}, s:o}", "number",
                                              (json_int_t)sqlite3_column_int64(q, 1), "state",
                                              sql_text(q, 2), "params", "values", values));
    }
}

/* The trial with this trial_id, NULL = none. */
static json_t *trial_of(const struct reading *r, int64_t id)
{
    size_t lo = 0;
    size_t hi = r->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (r->ids[mid] < id) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < r->n && r->ids[lo] == id ? json_array_get(r->trials, lo) : NULL;
}

static json_t *value_of(const json_t *distribution, double v)
{
    const char *kind = json_string_value(json_object_get(distribution, "kind"));
    if (strcmp(kind, "categorical") == 0) {
        const json_t *choices = json_object_get(distribution, "choices");
        bool valid = v >= 0 && v < (double)json_array_size(choices);
        return valid ? json_incref(json_array_get(choices, (size_t)v)) : NULL;
    }
    return strcmp(kind, "int") == 0 ? json_integer((json_int_t)llround(v)) : json_real(v);
}

static void read_param(struct reading *r, json_t *params, sqlite3_stmt *q)
{
    const char *name = sql_text(q, 1);
    const char *text = sql_text(q, 3);
    json_t *given = NULL;
    json_t *trial = trial_of(r, sqlite3_column_int64(q, 0));
    json_t *distribution =
        mjson_parse(text, strlen(text), &given, NULL) == MAG_OK ? distribution_of(given) : NULL;
    json_t *value =
        distribution != NULL ? value_of(distribution, sqlite3_column_double(q, 2)) : NULL;
    if (trial == NULL || value == NULL) {
        refuse(r, "a distribution that is not known here, or no value of it, of the parameter ",
               name);
        json_decref(value);
    } else {
        learn(params, name, distribution);
        (void)json_object_set_new(json_object_get(trial, "params"), name, value);
    }
    json_decref(distribution);
    json_decref(given);
}

static void read_params(struct reading *r)
{
    json_t *params = json_object();
    sqlite3_stmt *q = query(
        r,
        "SELECT p.trial_id, p.param_name, p.param_value, p.distribution_json FROM trial_params p "
        "JOIN trials t ON t.trial_id = p.trial_id WHERE t.study_id = ? ORDER BY p.param_id");
    while (sql_step(&r->sql, q)) {
        read_param(r, params, q);
    }
    (void)json_object_set_new(r->out, "params", params);
}

static void read_values(struct reading *r)
{
    sqlite3_stmt *q =
        query(r, "SELECT v.trial_id, v.objective, v.value FROM trial_values v JOIN trials t ON "
                 "t.trial_id = v.trial_id WHERE t.study_id = ? AND v.value_type = 'FINITE'");
    while (sql_step(&r->sql, q)) {
        json_t *trial = trial_of(r, sqlite3_column_int64(q, 0));
        json_t *values = json_object_get(trial, "values");
        sqlite3_int64 at = sqlite3_column_int64(q, 1);
        if (at >= 0 && (size_t)at < json_array_size(values)) {
            (void)json_array_set_new(values, (size_t)at, json_real(sqlite3_column_double(q, 2)));
        }
    }
}

enum mag_status optuna_read(const char *path, const char *name, json_t **ret, struct mag_err *err)
{
    struct reading r = {.out = json_object()};
    r.trials = json_array();
    (void)json_object_set_new(r.out, "trials", r.trials);
    void (*const steps[])(struct reading *) = {read_directions, read_metrics, read_trials,
                                               read_params, read_values};
    if (sql_open(&r.sql, path, false, err) == MAG_OK) {
        check_schema(&r);
    }
    if (r.sql.status == MAG_OK) {
        find_study(&r, name);
    }
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && r.sql.status == MAG_OK; i++) {
        steps[i](&r);
    }
    sql_close(&r.sql);
    free(r.ids);
    if (r.sql.status != MAG_OK) {
        json_decref(r.out);
        return r.sql.status;
    }
    *ret = r.out;
    return MAG_OK;
}
