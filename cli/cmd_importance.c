/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/buf.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/table.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define BAR 40 /* cells of the longest possible bar */

static void print_report(const json_t *report)
{
    static const char *const heads[] = {"PARAMETER", ">IMPORTANCE", ""};
    struct table t;
    table_init(&t, heads, sizeof(heads) / sizeof(heads[0]));
    size_t i = 0;
    const json_t *p = NULL;
    json_array_foreach(json_object_get(report, "parameters"), i, p)
    {
        const json_t *v = json_object_get(p, "importance");
        char bar[BAR + 1] = "";
        int n = (int)lround(json_number_value(v) * BAR);
        for (int k = 0; k < n && k < BAR; k++) {
            bar[k] = '#';
            bar[k + 1] = '\0';
        }
        table_add(&t, format_string(p, "name"));
        if (json_is_number(v)) {
            table_addf(&t, "%.3f", json_number_value(v));
        } else {
            table_add(&t, NULL);
        }
        table_add(&t, bar);
    }
    table_print(&t, stdout);
    table_fini(&t);
    (void)printf("for the best %" PRId64 " of %" PRId64 " trials by %s (%s)\n",
                 format_int(report, "best"), format_int(report, "trials"),
                 format_string(report, "metric"), format_string(report, "direction"));
    const char *caution = format_string(report, "caution");
    if (caution[0] != '\0') {
        (void)printf("%s\n", caution);
    }
}

static char *path_of(struct client *c, const char *key, double quantile, const char *objective)
{
    struct buf query = {0};
    buf_addf(&query, "/importance?quantile=%.17g", quantile);
    if (objective != NULL) {
        buf_adds(&query, "&objective=");
        char *text = client_escaped(c, objective);
        buf_adds(&query, text);
        free(text);
    }
    char *path = client_experiment(c, key, query.data);
    buf_fini(&query);
    return path;
}

int cmd_importance(int argc, char **argv)
{
    struct client c = {0};
    double quantile = 0;
    const char *objective = NULL;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        FLAG(FLAG_NUMBER, "quantile", &quantile, "Q", "the part of the trials that counts as good",
             .fallback = "0.1"),
        FLAG(FLAG_TEXT, "objective", &objective, "NAME", "which one of several [the first]"),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie importance",
        .args = "ID",
        .flags = flags,
        .min_args = 1,
        .max_args = 1,
        .summary = "Shows how much each parameter mattered for getting among the best trials.",
        .detail = "By PED-ANOVA: for each parameter, how far the values of the best trials are "
                  "from those of all\ncompleted trials. The shares add up to 1."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    if (!(quantile > 0 && quantile < 1)) {
        return cmd_failf(CMD_USAGE, "--quantile: must be above 0 and below 1");
    }
    struct mag_err err = {0};
    json_t *report = NULL;
    enum mag_status st = client_open(&c, &err);
    if (st == MAG_OK) {
        char *path = path_of(&c, args.items[0], quantile, objective);
        st = client_call(&c, "GET", path, NULL, 0, &report, &err);
        free(path);
    }
    client_close(&c);
    if (st != MAG_OK) {
        return cmd_fail(&err);
    }
    if (c.json) {
        cmd_print_json(report);
        return CMD_OK;
    }
    print_report(report);
    json_decref(report);
    return CMD_OK;
}
