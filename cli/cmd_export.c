/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "bridges/mlflow.h"
#include "bridges/optuna.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const columns[] = {"trial",  "state",   "attempt", "budget", "step",  "value",
                                      "worker", "created", "started", "ended",  "reason"};
#define N_COLUMNS (sizeof(columns) / sizeof(columns[0]))

/* ---- CSV (RFC 4180) ---- */

static void add_text(struct buf *b, const char *text)
{
    if (strpbrk(text, ",\"\r\n") == NULL) {
        buf_adds(b, text);
        return;
    }
    buf_addc(b, '"');
    for (; *text != '\0'; text++) {
        if (*text == '"') {
            buf_addc(b, '"');
        }
        buf_addc(b, *text);
    }
    buf_addc(b, '"');
}

/* Null and absent members are empty cells. */
static void add_cell(struct buf *b, const json_t *value)
{
    if (json_is_string(value)) {
        add_text(b, json_string_value(value));
    } else if (json_is_integer(value)) {
        buf_add_int(b, json_integer_value(value));
    } else if (json_is_real(value)) {
        buf_add_json_number(b, json_real_value(value));
    } else if (value != NULL && !json_is_null(value)) {
        char *text = mjson_dump(value);
        add_text(b, text);
        free(text);
    }
}

/* The parameters in the order of the search space, then what trials measure when that is more than
 * the objective. */
static const char *const fold_columns[] = {"point", "fold", "mean", "deviation"};
#define N_FOLD_COLUMNS (sizeof(fold_columns) / sizeof(fold_columns[0]))

static void csv_trials(const json_t *space, const json_t *trials, struct buf *b)
{
    const char *name = NULL;
    json_t *value = NULL;
    const json_t *measures = json_object_get(json_array_get(trials, 0), "values");
    for (size_t c = 0; c < N_COLUMNS; c++) {
        buf_addf(b, "%s%s", c > 0 ? "," : "", columns[c]);
    }
    size_t n_fold = json_object_get(json_array_get(trials, 0), "point") != NULL ? N_FOLD_COLUMNS : 0;
    for (size_t c = 0; c < n_fold; c++) {
        buf_addf(b, ",%s", fold_columns[c]);
    }
    json_object_foreach((json_t *)(uintptr_t)space, name, value)
    {
        buf_adds(b, ",");
        char *head = xasprintf("param:%s", name);
        add_text(b, head);
        free(head);
    }
    json_object_foreach((json_t *)(uintptr_t)measures, name, value)
    {
        buf_adds(b, ",");
        char *head = xasprintf("values:%s", name);
        add_text(b, head);
        free(head);
    }
    buf_adds(b, "\r\n");
    size_t i = 0;
    const json_t *trial = NULL;
    json_array_foreach(trials, i, trial)
    {
        for (size_t c = 0; c < N_COLUMNS; c++) {
            buf_adds(b, c > 0 ? "," : "");
            add_cell(b, json_object_get(trial, columns[c]));
        }
        for (size_t c = 0; c < n_fold; c++) {
            buf_adds(b, ",");
            add_cell(b, json_object_get(trial, fold_columns[c]));
        }
        json_object_foreach((json_t *)(uintptr_t)space, name, value)
        {
            buf_adds(b, ",");
            add_cell(b, json_object_get(json_object_get(trial, "params"), name));
        }
        json_object_foreach((json_t *)(uintptr_t)measures, name, value)
        {
            buf_adds(b, ",");
            add_cell(b, json_object_get(json_object_get(trial, "values"), name));
        }
        buf_adds(b, "\r\n");
    }
}

/* One row a (trial, attempt, step, metric). */
static void csv_metrics(const json_t *trials, struct buf *b)
{
    buf_adds(b, "trial,attempt,step,metric,value\r\n");
    size_t i = 0;
    const json_t *trial = NULL;
    json_array_foreach(trials, i, trial)
    {
        size_t p = 0;
        const json_t *point = NULL;
        json_array_foreach(json_object_get(trial, "metrics"), p, point)
        {
            const char *name = NULL;
            json_t *value = NULL;
            json_object_foreach(json_object_get(point, "values"), name, value)
            {
                buf_addf(b, "%" PRId64 ",%" PRId64 ",%" PRId64 ",", format_int(trial, "trial"),
                         format_int(point, "attempt"), format_int(point, "step"));
                add_text(b, name);
                buf_addc(b, ',');
                add_cell(b, value);
                buf_adds(b, "\r\n");
            }
        }
    }
}

/* ---- fetching ---- */

static enum mag_status add_curves(struct client *c, const char *key, json_t *trials,
                                  struct mag_err *err)
{
    size_t i = 0;
    json_t *trial = NULL;
    json_array_foreach(trials, i, trial)
    {
        char suffix[64];
        (void)snprintf(suffix, sizeof(suffix), "/trials/%" PRId64 "/metrics",
                       format_int(trial, "trial"));
        char *path = client_experiment(c, key, suffix);
        json_t *points = NULL;
        enum mag_status st = client_list(c, path, "", "metrics", 0, &points, err);
        free(path);
        if (st != MAG_OK) {
            return st;
        }
        (void)json_object_set_new(trial, "metrics", points);
    }
    return MAG_OK;
}

static enum mag_status fetch(struct client *c, const char *key, bool curves,
                             json_t **ret_experiment, json_t **ret_trials, struct mag_err *err)
{
    char *path = client_experiment(c, key, "");
    enum mag_status st = client_call(c, "GET", path, NULL, 0, ret_experiment, err);
    free(path);
    if (st == MAG_OK) {
        path = client_experiment(c, key, "/trials");
        st = client_list(c, path, "", "trials", 0, ret_trials, err);
        free(path);
    }
    return st == MAG_OK && curves ? add_curves(c, key, *ret_trials, err) : st;
}

static int write_out(const char *path, const struct buf *b)
{
    FILE *f = path != NULL ? fopen(path, "we") : stdout;
    bool ok = f != NULL && fwrite(b->data, 1, b->len, f) == b->len;
    ok = (f == NULL || f == stdout || fclose(f) == 0) && ok;
    return ok ? CMD_OK
              : cmd_failf(CMD_FAILED, "%s: %s", path != NULL ? path : "standard output",
                          strerror(errno));
}

struct export
{
    struct client client;
    const char *format, *to, *output;
    bool metrics;
};

/* For another tool: always with the curves, always to a place of its own. */
static int export_to(const struct export *o, const json_t *experiment, const json_t *trials)
{
    struct mag_err err = {0};
    enum mag_status st = strcmp(o->to, "optuna") == 0
                             ? optuna_write(o->output, experiment, trials, &err)
                             : mlflow_write(o->output, experiment, trials, &err);
    if (st != MAG_OK) {
        return cmd_failf(st == MAG_CONFLICT ? CMD_USAGE : CMD_FAILED, "%s",
                         err.text);
    }
    (void)printf("%s: %zu trials of \"%s\"\n", o->output, json_array_size(trials),
                 format_string(experiment, "name"));
    return CMD_OK;
}

static int export_text(const struct export *o, json_t *experiment, json_t *trials)
{
    struct buf b = {0};
    if (o->client.json || strcmp(o->format, "json") == 0) {
        json_t *all = json_pack("{s:O, s:O}", "experiment", experiment, "trials", trials);
        char *text = json_dumps(all, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
        buf_addf(&b, "%s\n", text);
        free(text);
        json_decref(all);
    } else if (o->metrics) {
        csv_metrics(trials, &b);
    } else {
        csv_trials(json_object_get(json_object_get(experiment, "spec"), "searchspace"), trials, &b);
    }
    int status = write_out(o->output, &b);
    buf_fini(&b);
    return status;
}

static int run(struct export *o, const char *key)
{
    struct mag_err err = {0};
    json_t *experiment = NULL;
    json_t *trials = NULL;
    enum mag_status st = client_open(&o->client, &err);
    if (st == MAG_OK) {
        st = fetch(&o->client, key, o->metrics || o->to != NULL, &experiment, &trials, &err);
    }
    client_close(&o->client);
    int status = st != MAG_OK    ? cmd_fail(&err)
                 : o->to != NULL ? export_to(o, experiment, trials)
                                 : export_text(o, experiment, trials);
    json_decref(experiment);
    json_decref(trials);
    return status;
}

int cmd_export(int argc, char **argv)
{
    static const char *const formats[] = {"csv", "json", NULL};
    static const char *const tools[] = {"optuna", "mlflow", NULL};
    struct export o = {0};
    const struct flag flags[] = {
        CLIENT_FLAGS(&o.client),
        FLAG(FLAG_TEXT, "format", &o.format, "FORMAT", "of the export", .fallback = "csv",
             .choices = formats),
        FLAG(FLAG_BOOL, "metrics", &o.metrics, NULL,
             "the metric curves (CSV: one row a step and metric)"),
        FLAG(FLAG_TEXT, "to", &o.to, "TOOL", "for another tool, with the curves", .choices = tools),
        FLAG(FLAG_TEXT, "output", &o.output, "FILE", "where to [standard output]", .letter = 'o'),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie export",
        .args = "ID",
        .flags = flags,
        .min_args = 1,
        .max_args = 1,
        .summary = "Writes an experiment's trials as CSV or JSON, or for Optuna or MLflow.",
        .detail =
            "ID is an experiment's number or its name. --json is --format json.\n"
            "--to optuna --output FILE.db: a new study file for optuna.load_study. --to mlflow "
            "--output DIR: adds the\nexperiment to an MLflow file store. What is there already "
            "is never overwritten by these two."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    if (o.to != NULL && o.output == NULL) {
        return cmd_failf(CMD_USAGE, "--to %s needs --output %s", o.to,
                         strcmp(o.to, "optuna") == 0 ? "FILE.db" : "DIR");
    }
    return run(&o, args.items[0]);
}
