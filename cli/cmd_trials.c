/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The trial's place in its point, and what its point's folds say so far. */
static void add_fold(struct table *t, const json_t *trial)
{
    char mean[32];
    char *spread = format_spread(trial);
    table_addf(t, "%" PRId64, format_int(trial, "point"));
    if (json_is_true(json_object_get(trial, "refit"))) {
        table_add(t, "refit");
    } else {
        table_addf(t, "%" PRId64 "/%" PRId64, format_int(trial, "fold"), format_int(trial, "folds"));
    }
    table_addf(t, "%s%s", format_number(json_object_get(trial, "mean"), mean), spread);
    free(spread);
}

static void add_row(struct table *t, const json_t *trial, bool folds)
{
    const char *state = format_string(trial, "state");
    char *values = format_values(trial);
    char *params = format_params(json_object_get(trial, "params"));
    char *budget = mjson_dump(json_object_get(trial, "budget"));
    char *step = mjson_dump(json_object_get(trial, "step"));
    table_addf(t, "%" PRId64, format_int(trial, "trial"));
    table_add_colour(t, format_state_colour(state), state);
    table_addf(t, "%" PRId64, format_int(trial, "attempt"));
    table_addf(t, "%" PRId64, format_int(trial, "failures") + format_int(trial, "losses"));
    table_add(t, strcmp(step, "null") == 0 ? "-" : step);
    table_add(t, strcmp(budget, "null") == 0 ? "-" : budget);
    table_add(t, values);
    if (folds) {
        add_fold(t, trial);
    }
    table_add(t, params);
    table_add(t, format_string(trial, "worker"));
    const char *reason = format_string(trial, "reason");
    table_add(t, reason[0] != '\0' ? reason : format_why(trial));
    free(step);
    free(budget);
    free(params);
    free(values);
}

static void print_table(const json_t *all)
{
    static const char *const heads[] = {">TRIAL",  "STATE",  ">ATTEMPT",   ">ERRORS", ">STEP",
                                        ">BUDGET", ">VALUE", "PARAMETERS", "WORKER",  "WHY"};
    static const char *const fold_heads[] = {
        ">TRIAL", "STATE", ">ATTEMPT", ">ERRORS", ">STEP",      ">BUDGET", ">VALUE",
        ">POINT", ">FOLD", "MEAN",     "PARAMETERS", "WORKER",  "WHY"};
    struct table t;
    bool folds = json_object_get(json_array_get(all, 0), "point") != NULL;
    table_init(&t, folds ? fold_heads : heads,
               folds ? sizeof(fold_heads) / sizeof(fold_heads[0])
                     : sizeof(heads) / sizeof(heads[0]));
    size_t i = 0;
    const json_t *trial = NULL;
    json_array_foreach(all, i, trial)
    {
        add_row(&t, trial, folds);
    }
    table_print(&t, stdout);
    table_fini(&t);
}

/* "best" is by value, in the objective's direction; everything else is the driver's own word. */
static enum mag_status order_of(struct client *c, const char *key, const char *sort,
                                const char **ret, struct mag_err *err)
{
    *ret = sort;
    if (strcmp(sort, "best") != 0) {
        return MAG_OK;
    }
    json_t *x = NULL;
    char *path = client_experiment(c, key, "");
    enum mag_status st = client_call(c, "GET", path, NULL, 0, &x, err);
    const char *direction = format_string(json_object_get(x, "objective"), "direction");
    bool folds = format_int(x, "folds") > 1;
    bool down = strcmp(direction, "min") == 0;
    *ret = folds ? (down ? "mean" : "-mean") : down ? "value" : "-value";
    free(path);
    json_decref(x);
    return st;
}

static enum mag_status fetch(struct client *c, const char *key, const char *sort,
                             const char *filter, int64_t limit, json_t **ret, struct mag_err *err)
{
    const char *order = NULL;
    enum mag_status st = order_of(c, key, sort, &order, err);
    if (st == MAG_OK) {
        char *path = client_experiment(c, key, "/trials");
        char *query = client_query(c, order, filter);
        st = client_list(c, path, query, "trials", limit, ret, err);
        free(query);
        free(path);
    }
    return st;
}

int cmd_trials(int argc, char **argv)
{
    struct client c = {0};
    const char *filter = NULL;
    const char *sort = NULL;
    int64_t limit = 0;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        FLAG(FLAG_TEXT, "filter", &filter, "CONDITIONS",
             "such as state=failed or \"state=completed|stopped,value>0.9,param.lr<0.01\""),
        FLAG(FLAG_TEXT, "sort", &sort, "FIELD",
             "best, or trial, value, step, duration, param.NAME, …; -FIELD: largest first",
             .fallback = "trial"),
        FLAG(FLAG_INT, "limit", &limit, "N", "at most so many [all]", .min = 1, .max = INT32_MAX),
        {0},
    };
    const struct flags_usage u = {.program = "magpie trials",
                                  .args = "ID",
                                  .flags = flags,
                                  .min_args = 1,
                                  .max_args = 1,
                                  .summary = "Lists an experiment's trials.",
                                  .detail = "ID is an experiment's number or its name."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    json_t *all = NULL;
    enum mag_status st = client_open(&c, &err);
    if (st == MAG_OK) {
        st = fetch(&c, args.items[0], sort, filter, limit, &all, &err);
    }
    client_close(&c);
    if (st != MAG_OK) {
        return cmd_fail(&err);
    }
    if (c.json) {
        cmd_print_json(json_pack("{s:o}", "trials", all));
        return CMD_OK;
    }
    print_table(all);
    json_decref(all);
    return CMD_OK;
}
