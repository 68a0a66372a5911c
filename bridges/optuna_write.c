/* SPDX-License-Identifier: Apache-2.0
 *
 * An experiment as a study of Optuna. The tables are those that Optuna 3.2 to 5 make; what Optuna
 * cannot say (metrics beside the objective, workers, attempts) becomes user attributes.
 */
#include "bridges/optuna.h"

#include "base/alloc.h"
#include "bridges/sql.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char schema[] =
    "CREATE TABLE studies (study_id INTEGER NOT NULL, study_name VARCHAR(512) NOT NULL, PRIMARY "
    "KEY "
    "(study_id));"
    "CREATE TABLE version_info (version_info_id INTEGER NOT NULL, schema_version INTEGER, "
    "library_version VARCHAR(256), PRIMARY KEY (version_info_id), CHECK (version_info_id=1));"
    "CREATE TABLE study_directions (study_direction_id INTEGER NOT NULL, direction VARCHAR(8) NOT "
    "NULL, study_id INTEGER NOT NULL, objective INTEGER NOT NULL, PRIMARY KEY "
    "(study_direction_id), "
    "UNIQUE (study_id, objective), FOREIGN KEY(study_id) REFERENCES studies (study_id));"
    "CREATE TABLE study_user_attributes (study_user_attribute_id INTEGER NOT NULL, study_id "
    "INTEGER, "
    "\"key\" VARCHAR(512), value_json TEXT, PRIMARY KEY (study_user_attribute_id), UNIQUE "
    "(study_id, "
    "\"key\"), FOREIGN KEY(study_id) REFERENCES studies (study_id));"
    "CREATE TABLE study_system_attributes (study_system_attribute_id INTEGER NOT NULL, study_id "
    "INTEGER, \"key\" VARCHAR(512), value_json TEXT, PRIMARY KEY (study_system_attribute_id), "
    "UNIQUE "
    "(study_id, \"key\"), FOREIGN KEY(study_id) REFERENCES studies (study_id));"
    "CREATE TABLE trials (trial_id INTEGER NOT NULL, number INTEGER, study_id INTEGER, state "
    "VARCHAR(8) NOT NULL, datetime_start DATETIME, datetime_complete DATETIME, PRIMARY KEY "
    "(trial_id), FOREIGN KEY(study_id) REFERENCES studies (study_id));"
    "CREATE TABLE trial_user_attributes (trial_user_attribute_id INTEGER NOT NULL, trial_id "
    "INTEGER, "
    "\"key\" VARCHAR(512), value_json TEXT, PRIMARY KEY (trial_user_attribute_id), UNIQUE "
    "(trial_id, "
    "\"key\"), FOREIGN KEY(trial_id) REFERENCES trials (trial_id));"
    "CREATE TABLE trial_system_attributes (trial_system_attribute_id INTEGER NOT NULL, trial_id "
    "INTEGER, \"key\" VARCHAR(512), value_json TEXT, PRIMARY KEY (trial_system_attribute_id), "
    "UNIQUE "
    "(trial_id, \"key\"), FOREIGN KEY(trial_id) REFERENCES trials (trial_id));"
    "CREATE TABLE trial_params (param_id INTEGER NOT NULL, trial_id INTEGER, param_name "
    "VARCHAR(512), "
    "param_value FLOAT, distribution_json TEXT, PRIMARY KEY (param_id), UNIQUE (trial_id, "
    "param_name), FOREIGN KEY(trial_id) REFERENCES trials (trial_id));"
    "CREATE TABLE trial_values (trial_value_id INTEGER NOT NULL, trial_id INTEGER NOT NULL, "
    "objective "
    "INTEGER NOT NULL, value FLOAT, value_type VARCHAR(7) NOT NULL, PRIMARY KEY (trial_value_id), "
    "UNIQUE (trial_id, objective), FOREIGN KEY(trial_id) REFERENCES trials (trial_id));"
    "CREATE TABLE trial_intermediate_values (trial_intermediate_value_id INTEGER NOT NULL, "
    "trial_id "
    "INTEGER NOT NULL, step INTEGER NOT NULL, intermediate_value FLOAT, intermediate_value_type "
    "VARCHAR(7) NOT NULL, PRIMARY KEY (trial_intermediate_value_id), UNIQUE (trial_id, step), "
    "FOREIGN "
    "KEY(trial_id) REFERENCES trials (trial_id));"
    "CREATE TABLE trial_heartbeats (trial_heartbeat_id INTEGER NOT NULL, trial_id INTEGER NOT "
    "NULL, "
    "heartbeat DATETIME NOT NULL, PRIMARY KEY (trial_heartbeat_id), UNIQUE (trial_id), FOREIGN "
    "KEY(trial_id) REFERENCES trials (trial_id));"
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT "
    "alembic_version_pkc "
    "PRIMARY KEY (version_num));"
    "CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);"
    "CREATE INDEX ix_trials_study_id ON trials (study_id);"
    "INSERT INTO alembic_version VALUES ('v3.2.0.a');"
    "INSERT INTO version_info VALUES (1, 12, '4.0.0');";

struct writing {
    struct sql sql;
    const json_t *space, *objectives;
    bool ended; /* the experiment */
    sqlite3_stmt *trial, *param, *value, *step, *attribute;
};

/* ---- parameters ---- */

static double number_at(const json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

/* Optuna's distributions know no log scale beside a step, and want whole steps to the top. */
static json_t *numeric(const json_t *p, bool whole)
{
    const json_t *range = json_object_get(p, "range");
    const char *scale = json_string_value(json_object_get(p, "scale"));
    bool log = scale != NULL && strcmp(scale, "log") == 0;
    double low = number_at(range, 0);
    double high = number_at(range, 1);
    double step = json_number_value(json_object_get(p, "step"));
    if (step > 0 && !log) {
        high = low + floor((high - low) / step + 1e-9) * step;
    }
    if (whole) {
        return json_pack("{s:s, s:{s:b, s:I, s:I, s:I}}", "name", "IntDistribution", "attributes",
                         "log", log, "step", (json_int_t)(log || step <= 0 ? 1 : llround(step)),
                         "low", (json_int_t)llround(low), "high", (json_int_t)llround(high));
    }
    json_t *steps = step > 0 && !log ? json_real(step) : json_null();
    return json_pack("{s:s, s:{s:o, s:f, s:f, s:b}}", "name", "FloatDistribution", "attributes",
                     "step", steps, "low", low, "high", high, "log", log);
}

static json_t *distribution_of(const json_t *p)
{
    const char *type = json_string_value(json_object_get(p, "type"));
    if (strcmp(type, "DOUBLE") == 0 || strcmp(type, "INTEGER") == 0) {
        return numeric(p, type[0] == 'I');
    }
    return json_pack("{s:s, s:{s:O}}", "name", "CategoricalDistribution", "attributes", "choices",
                     json_object_get(p, "values"));
}

/* Categorical values are stored as their place in the list. */
static double stored_value(const json_t *p, const json_t *v)
{
    const json_t *choices = json_object_get(p, "values");
    for (size_t i = 0; i < json_array_size(choices); i++) {
        const json_t *c = json_array_get(choices, i);
        bool same = json_is_number(c) && json_is_number(v)
                        ? json_number_value(c) == json_number_value(v)
                        : json_equal(c, v);
        if (same) {
            return (double)i;
        }
    }
    return json_number_value(v);
}

static void put_params(struct writing *w, int64_t id, const json_t *trial)
{
    const char *name = NULL;
    json_t *v = NULL;
    json_object_foreach(json_object_get(trial, "params"), name, v)
    {
        const json_t *p = json_object_get(w->space, name);
        if (p == NULL || w->param == NULL) {
            continue;
        }
        json_t *distribution = distribution_of(p);
        char *text = json_dumps(distribution, JSON_REAL_PRECISION(17));
        (void)sqlite3_bind_int64(w->param, 1, id);
        (void)sqlite3_bind_text(w->param, 2, name, -1, SQLITE_TRANSIENT);
        (void)sqlite3_bind_double(w->param, 3, stored_value(p, v));
        (void)sqlite3_bind_text(w->param, 4, text, -1, SQLITE_TRANSIENT);
        sql_put(&w->sql, w->param);
        free(text);
        json_decref(distribution);
    }
}

/* ---- values ---- */

static void put_number(struct writing *w, sqlite3_stmt *stmt, int64_t id, int64_t at,
                       const json_t *v)
{
    if (stmt == NULL) {
        return;
    }
    (void)sqlite3_bind_int64(stmt, 1, id);
    (void)sqlite3_bind_int64(stmt, 2, at);
    if (json_is_number(v)) {
        (void)sqlite3_bind_double(stmt, 3, json_number_value(v));
        (void)sqlite3_bind_text(stmt, 4, "FINITE", -1, SQLITE_STATIC);
    } else {
        (void)sqlite3_bind_text(stmt, 4, "NAN", -1, SQLITE_STATIC);
    }
    sql_put(&w->sql, stmt);
}

static const char *metric_at(const struct writing *w, size_t i)
{
    return json_string_value(json_object_get(json_array_get(w->objectives, i), "metric"));
}

/* The final value of each objective; Optuna's trials have all of them or none. */
static void put_values(struct writing *w, int64_t id, const json_t *trial)
{
    const json_t *values = json_object_get(trial, "values");
    for (size_t i = 0; i < json_array_size(w->objectives); i++) {
        const json_t *v = json_object_get(values, metric_at(w, i));
        v = v == NULL && i == 0 ? json_object_get(trial, "value") : v;
        if (!json_is_number(v)) {
            return;
        }
        put_number(w, w->value, id, (int64_t)i, v);
    }
}

static void put_attribute(struct writing *w, int64_t id, const char *key, const json_t *v)
{
    if (v == NULL || json_is_null(v) || w->attribute == NULL) {
        return;
    }
    char *text = mjson_dump(v);
    (void)sqlite3_bind_int64(w->attribute, 1, id);
    (void)sqlite3_bind_text(w->attribute, 2, key, -1, SQLITE_TRANSIENT);
    (void)sqlite3_bind_text(w->attribute, 3, text, -1, SQLITE_TRANSIENT);
    sql_put(&w->sql, w->attribute);
    free(text);
}

/* Steps of the objective, the newest attempt's where several saw one; the last value of every other
 * metric becomes an attribute. */
static void put_metrics(struct writing *w, int64_t id, const json_t *trial)
{
    json_t *others = json_object();
    size_t i = 0;
    const json_t *point = NULL;
    json_array_foreach(json_object_get(trial, "metrics"), i, point)
    {
        const char *name = NULL;
        json_t *v = NULL;
        json_int_t step = json_integer_value(json_object_get(point, "step"));
        json_object_foreach(json_object_get(point, "values"), name, v)
        {
            if (strcmp(name, metric_at(w, 0)) != 0) {
                (void)json_object_set(others, name, v);
            } else if (json_array_size(w->objectives) == 1) {
                put_number(w, w->step, id, step, v);
            }
        }
    }
    const char *name = NULL;
    json_t *v = NULL;
    json_object_foreach(others, name, v)
    {
        put_attribute(w, id, name, v);
    }
    json_decref(others);
}

/* ---- trials ---- */

/* A paused trial of a search that is over was pruned, in Optuna's words. */
static const char *state_of(const struct writing *w, const json_t *trial)
{
    const char *state = json_string_value(json_object_get(trial, "state"));
    static const char *const names[][2] = {{"completed", "COMPLETE"}, {"stopped", "PRUNED"},
                                           {"failed", "FAIL"},        {"cancelled", "FAIL"},
                                           {"waiting", "WAITING"},    {"running", "RUNNING"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(state, names[i][0]) == 0) {
            return names[i][1];
        }
    }
    return w->ended ? "PRUNED" : "RUNNING";
}

/* "2026-11-28T17:42:21.480Z" as "2026-11-28 17:42:21.480000"; NULL stays NULL. */
static void bind_time(sqlite3_stmt *stmt, int at, const json_t *v)
{
    const char *text = json_string_value(v);
    char out[32];
    int year, month, day, hour, minute;
    double second;
    if (text != NULL && sscanf(text, "%4d-%2d-%2dT%2d:%2d:%lf", &year, &month, &day, &hour, &minute,
                               &second) == 6) {
        (void)snprintf(out, sizeof(out), "%04d-%02d-%02d %02d:%02d:%09.6f", year % 10000,
                       month % 100, day % 100, hour % 100, minute % 100, fmod(second, 60));
        (void)sqlite3_bind_text(stmt, at, out, -1, SQLITE_TRANSIENT);
    }
}

static void put_trial(struct writing *w, int64_t number, const json_t *trial)
{
    static const char *const kept[] = {"trial", "attempt", "worker", "reason", "notes", "budget"};
    int64_t id = number + 1;
    const char *state = state_of(w, trial);
    if (w->trial == NULL) {
        return;
    }
    (void)sqlite3_bind_int64(w->trial, 1, id);
    (void)sqlite3_bind_int64(w->trial, 2, number);
    (void)sqlite3_bind_text(w->trial, 3, state, -1, SQLITE_STATIC);
    bind_time(w->trial, 4, json_object_get(trial, "started"));
    bind_time(w->trial, 5, json_object_get(trial, "ended"));
    sql_put(&w->sql, w->trial);
    put_params(w, id, trial);
    if (strcmp(state, "COMPLETE") == 0 || strcmp(state, "PRUNED") == 0) {
        put_values(w, id, trial);
    }
    put_metrics(w, id, trial);
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "magpie:%s", kept[i]);
        put_attribute(w, id, key, json_object_get(trial, kept[i]));
    }
}

/* ---- the study ---- */

static void put_study(struct writing *w, const char *name)
{
    json_t *metrics = json_array();
    sqlite3_stmt *q = sql_prepare(&w->sql, "INSERT INTO studies VALUES (1, ?)");
    if (q != NULL) {
        (void)sqlite3_bind_text(q, 1, name, -1, SQLITE_TRANSIENT);
        sql_put(&w->sql, q);
        (void)sqlite3_finalize(q);
    }
    for (size_t i = 0; i < json_array_size(w->objectives); i++) {
        const json_t *o = json_array_get(w->objectives, i);
        const char *direction = json_string_value(json_object_get(o, "direction"));
        char text[128];
        (void)snprintf(text, sizeof(text),
                       "INSERT INTO study_directions VALUES (%zu, '%s', 1, %zu)", i + 1,
                       strcmp(direction, "max") == 0 ? "MAXIMIZE" : "MINIMIZE", i);
        sql_run(&w->sql, text);
        (void)json_array_append(metrics, json_object_get(o, "metric"));
    }
    char *names = mjson_dump(metrics);
    q = sql_prepare(&w->sql,
                    "INSERT INTO study_system_attributes VALUES (1, 1, 'study:metric_names', ?)");
    if (q != NULL) {
        (void)sqlite3_bind_text(q, 1, names, -1, SQLITE_TRANSIENT);
        sql_put(&w->sql, q);
        (void)sqlite3_finalize(q);
    }
    free(names);
    json_decref(metrics);
}

static void prepare(struct writing *w)
{
    w->trial = sql_prepare(&w->sql, "INSERT INTO trials (trial_id, number, study_id, state, "
                                    "datetime_start, datetime_complete) VALUES (?, ?, 1, ?, ?, ?)");
    w->param = sql_prepare(&w->sql, "INSERT INTO trial_params (trial_id, param_name, param_value, "
                                    "distribution_json) VALUES (?, ?, ?, ?)");
    w->value = sql_prepare(&w->sql, "INSERT INTO trial_values (trial_id, objective, value, "
                                    "value_type) VALUES (?, ?, ?, ?)");
    w->step =
        sql_prepare(&w->sql, "INSERT OR REPLACE INTO trial_intermediate_values (trial_id, step, "
                             "intermediate_value, intermediate_value_type) VALUES (?, ?, ?, ?)");
    w->attribute = sql_prepare(&w->sql, "INSERT OR REPLACE INTO trial_user_attributes (trial_id, "
                                        "\"key\", value_json) VALUES (?, ?, ?)");
}

static void write_all(struct writing *w, const json_t *experiment, const json_t *trials)
{
    sql_run(&w->sql, "PRAGMA journal_mode = OFF; PRAGMA synchronous = FULL; BEGIN");
    sql_run(&w->sql, schema);
    put_study(w, json_string_value(json_object_get(experiment, "name")));
    prepare(w);
    size_t i = 0;
    const json_t *trial = NULL;
    json_array_foreach(trials, i, trial)
    {
        put_trial(w, (int64_t)i, trial);
    }
    sqlite3_stmt *const all[] = {w->trial, w->param, w->value, w->step, w->attribute};
    for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        (void)sqlite3_finalize(all[i]);
    }
    sql_run(&w->sql, "COMMIT");
}

static bool has_ended(const json_t *experiment)
{
    const char *state = json_string_value(json_object_get(experiment, "state"));
    return strcmp(state, "running") != 0 && strcmp(state, "paused") != 0;
}

enum mag_status optuna_write(const char *path, const json_t *experiment, const json_t *trials,
                             struct mag_err *err)
{
    const json_t *spec = json_object_get(experiment, "spec");
    json_t *list = json_object_get(spec, "objectives");
    json_t *objectives = json_is_array(list) ? json_incref(list)
                                             : json_pack("[O]", json_object_get(spec, "objective"));
    struct writing w = {.space = json_object_get(spec, "searchspace"),
                        .objectives = objectives,
                        .ended = has_ended(experiment)};
    char *beside = xasprintf("%s.new-%ld", path, (long)getpid());
    enum mag_status st = sql_open(&w.sql, beside, true, err);
    if (st == MAG_OK) {
        write_all(&w, experiment, trials);
        st = w.sql.status;
    }
    sql_close(&w.sql);
    if (st == MAG_OK && link(beside, path) != 0) {
        st = errno == EEXIST ? mag_fail(err, MAG_CONFLICT,
                                        "%s is there already: remove it, or give another "
                                        "--output",
                                        path)
                             : mag_fail(err, MAG_IO, "cannot make %s: %s", path, strerror(errno));
    }
    (void)unlink(beside);
    free(beside);
    json_decref(objectives);
    return st;
}
