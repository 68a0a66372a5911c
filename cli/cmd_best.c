/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ablation.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stdlib.h>

static void print_params(const json_t *params)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)params, key, value)
    {
        char *text = json_is_string(value) ? NULL : mjson_dump(value);
        (void)printf("  %-16s %s\n", key, text != NULL ? text : json_string_value(value));
        free(text);
    }
}

static void print_text(const json_t *best)
{
    char *values = format_values(best);
    char *spread = format_spread(best);
    bool whole = spread[0] != '\0'; /* a point of several folds has no step of its own */
    (void)printf("%s %" PRId64 ": %s%s", whole ? "point" : "trial", format_int(best, "trial"),
                 values, spread);
    if (!whole) {
        (void)printf(" at step %" PRId64, format_int(best, "step"));
    }
    (void)printf(" (%s)\n", format_string(best, whole ? "point_state" : "state"));
    free(spread);
    char *refit = format_refit(best);
    if (refit != NULL) {
        (void)printf("  %s\n", refit);
    }
    free(refit);
    const json_t *violation = json_object_get(best, "violation");
    if (json_number_value(violation) > 0) {
        char number[32];
        (void)printf("  it breaks the outcome constraints by %s; no trial keeps them yet\n",
                     format_number(violation, number));
    }
    print_params(json_object_get(best, "params"));
    free(values);
}

/* The Pareto front as a table, a column for each objective. */
static void print_front(const json_t *front)
{
    const char *heads[TABLE_COLUMNS_MAX] = {">TRIAL"};
    const json_t *objectives = json_object_get(front, "objectives");
    struct table t;
    int n = 1;
    size_t i = 0;
    const json_t *o = NULL;
    json_array_foreach(objectives, i, o)
    {
        if (n < TABLE_COLUMNS_MAX - 1) {
            heads[n++] = format_string(o, "metric");
        }
    }
    heads[n++] = "PARAMETERS";
    table_init(&t, heads, n);
    const json_t *trial = NULL;
    json_array_foreach(json_object_get(front, "trials"), i, trial)
    {
        char number[32];
        char *params = format_params(json_object_get(trial, "params"));
        table_addf(&t, "%" PRId64, format_int(trial, "trial"));
        for (int k = 0; k < n - 2; k++) {
            const json_t *value = json_object_get(json_object_get(trial, "values"), heads[k + 1]);
            table_add(&t, format_number(value, number));
        }
        table_add(&t, params);
        free(params);
    }
    table_print(&t, stdout);
    table_fini(&t);
}

/* The front of several objectives, or the best trial of one. */
static enum mag_status fetch(struct client *c, const char *key, json_t **ret, bool *ret_front,
                             struct mag_err *err)
{
    char *path = client_experiment(c, key, "/pareto");
    enum mag_status st = client_call(c, "GET", path, NULL, 0, ret, err);
    free(path);
    *ret_front = st == MAG_OK && json_array_size(json_object_get(*ret, "objectives")) > 1;
    if (st != MAG_OK || *ret_front) {
        return st;
    }
    json_decref(*ret);
    *ret = NULL;
    path = client_experiment(c, key, "/best");
    st = client_call(c, "GET", path, NULL, 0, ret, err);
    free(path);
    return st;
}

int cmd_best(int argc, char **argv)
{
    struct client c = {0};
    const struct flag flags[] = {CLIENT_FLAGS(&c), {0}};
    const struct flags_usage u = {
        .program = "magpie best",
        .args = "ID",
        .flags = flags,
        .min_args = 1,
        .max_args = 1,
        .summary =
            "Shows the best completed trial, or the Pareto front of several objectives; while "
            "none is\ncompleted, the best trial at the highest step. Of an ablation study, the "
            "table of effects too.",
        .detail = "ID is an experiment's number or its name. Exit status 1 while there is none."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    json_t *best = NULL;
    json_t *table = NULL;
    bool front = false;
    enum mag_status st = client_open(&c, &err);
    if (st == MAG_OK) {
        st = fetch(&c, args.items[0], &best, &front, &err);
    }
    if (st == MAG_OK && !c.json &&
        ablation_fetch(&c, args.items[0], &table, NULL) != MAG_OK) {
        table = NULL; /* no ablation study */
    }
    client_close(&c);
    if (st == MAG_OK && front && json_array_size(json_object_get(best, "trials")) == 0) {
        json_decref(best);
        st = mag_fail(&err, MAG_NOTFOUND, "no completed trial keeps the outcome constraints yet");
    }
    if (st != MAG_OK) {
        return cmd_fail(&err);
    }
    if (c.json) {
        cmd_print_json(best);
        return CMD_OK;
    }
    if (front) {
        print_front(best);
    } else {
        print_text(best);
    }
    if (table != NULL) {
        (void)printf("\n");
        ablation_print(table, stdout);
    }
    json_decref(table);
    json_decref(best);
    return CMD_OK;
}
