/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/table.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void add_row(struct table *t, const json_t *trial)
{
    const char *state = format_string(trial, "state");
    char number[32];
    char *params = format_params(json_object_get(trial, "params"));
    char *budget = mjson_dump(json_object_get(trial, "budget"));
    char *step = mjson_dump(json_object_get(trial, "step"));
    table_addf(t, "%" PRId64, format_int(trial, "trial"));
    table_add_colour(t, format_state_colour(state), state);
    table_addf(t, "%" PRId64, format_int(trial, "attempt"));
    table_add(t, strcmp(step, "null") == 0 ? "-" : step);
    table_add(t, strcmp(budget, "null") == 0 ? "-" : budget);
    table_add(t, format_number(json_object_get(trial, "value"), number));
    table_add(t, format_string(trial, "worker"));
    table_add(t, params);
    const char *reason = format_string(trial, "reason");
    table_add(t, reason[0] != '\0' ? reason : format_why(trial));
    free(step);
    free(budget);
    free(params);
}

static void print_table(const json_t *all)
{
    static const char *const heads[] = {">TRIAL", "STATE",  ">ATTEMPT",   ">STEP", ">BUDGET",
                                        ">VALUE", "WORKER", "PARAMETERS", "WHY"};
    struct table t;
    table_init(&t, heads, sizeof(heads) / sizeof(heads[0]));
    size_t i = 0;
    const json_t *trial = NULL;
    json_array_foreach(all, i, trial)
    {
        add_row(&t, trial);
    }
    table_print(&t, stdout);
    table_fini(&t);
}

static double value_of(const json_t *trial)
{
    const json_t *v = json_object_get(trial, "value");
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* Best first; without a value last; ties by number. The array's sign makes one order of both directions. */
static int by_value(const void *a, const void *b, void *arg)
{
    const json_t *x = *(json_t *const *)a;
    const json_t *y = *(json_t *const *)b;
    double vx = value_of(x);
    double vy = value_of(y);
    int64_t ids = format_int(x, "trial") - format_int(y, "trial");
    if (isnan(vx) || isnan(vy)) {
        return isnan(vx) != isnan(vy) ? (isnan(vx) ? 1 : -1) : (ids < 0 ? -1 : 1);
    }
    if (vx != vy) {
        return (vx < vy) == *(const bool *)arg ? 1 : -1;
    }
    return ids < 0 ? -1 : 1;
}

/* Those in `state` (NULL = all), sorted, the first `limit` (0 = all). Takes `all`. */
static json_t *pick(json_t *all_take, const char *state, bool sort, bool maximize, int64_t limit)
{
    size_t n = 0;
    json_t **items = xcalloc(json_array_size(all_take) + 1, sizeof(json_t *));
    size_t i = 0;
    json_t *trial = NULL;
    json_array_foreach(all_take, i, trial)
    {
        if (state == NULL || strcmp(format_string(trial, "state"), state) == 0) {
            items[n++] = trial;
        }
    }
    if (sort) {
        qsort_r(items, n, sizeof(json_t *), by_value, &maximize);
    }
    json_t *some = json_array();
    for (i = 0; i < n && (limit == 0 || (int64_t)i < limit); i++) {
        (void)json_array_append(some, items[i]);
    }
    free(items);
    json_decref(all_take);
    return some;
}

static enum mag_status fetch(struct client *c, const char *key, bool need_direction, json_t **ret,
                             bool *ret_maximize, struct mag_err *err)
{
    char *path = client_experiment(c, key, "/trials");
    enum mag_status st = client_list(c, path, "", "trials", 0, ret, err);
    free(path);
    if (st == MAG_OK && need_direction) {
        json_t *x = NULL;
        path = client_experiment(c, key, "");
        st = client_call(c, "GET", path, NULL, 0, &x, err);
        free(path);
        const json_t *objective = json_object_get(x, "objective");
        *ret_maximize = strcmp(format_string(objective, "direction"), "min") != 0;
        json_decref(x);
        if (st != MAG_OK) {
            json_decref(*ret);
        }
    }
    return st;
}

int cmd_trials(int argc, char **argv)
{
    static const char *const states[] = {"waiting", "running", "paused",    "completed",
                                         "stopped", "failed",  "cancelled", NULL};
    static const char *const orders[] = {"number", "value", NULL};
    struct client c = {0};
    const char *state = NULL;
    const char *sort = NULL;
    int64_t limit = 0;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        {.name = "state", .kind = FLAG_TEXT, .to = &state, .value = "STATE", .help = "only those in this state",
         .choices = states},
        {.name = "sort", .kind = FLAG_TEXT, .to = &sort, .value = "ORDER", .help = "number, or value: best first",
         .fallback = "number", .choices = orders},
        {.name = "limit", .kind = FLAG_INT, .to = &limit, .value = "N", .help = "at most so many [all]", .min = 1,
         .max = INT32_MAX},
        {0},
    };
    const struct flags_usage u = {.program = "magpie trials", .args = "ID", .flags = flags, .min_args = 1,
                                  .max_args = 1, .summary = "Lists an experiment's trials.",
                                  .detail = "ID is an experiment's number or its name."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    json_t *all = NULL;
    bool by = strcmp(sort, "value") == 0;
    bool maximize = true;
    enum mag_status st = client_open(&c, &err);
    if (st == MAG_OK) {
        st = fetch(&c, args.items[0], by, &all, &maximize, &err);
    }
    client_close(&c);
    if (st != MAG_OK) {
        return cmd_fail(&err);
    }
    all = pick(all, state, by, maximize, limit);
    if (c.json) {
        cmd_print_json(json_pack("{s:o}", "trials", all));
        return CMD_OK;
    }
    print_table(all);
    json_decref(all);
    return CMD_OK;
}
