/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/size.h"
#include "cli/ablation.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/status.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void row(const char *label, const char *text)
{
    if (text[0] != '\0') {
        (void)printf("%-11s %s\n", label, text);
    }
}

/* "algorithm=asha reduction_factor=3"; members that are null are left out. */
static void row_members(const char *label, const json_t *object)
{
    struct buf b = {0};
    const char *key = NULL;
    const json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        if (json_is_null(value)) {
            continue;
        }
        char *text = json_is_string(value) ? NULL : mjson_dump(value);
        buf_addf(&b, "%s%s=%s", b.len > 0 ? " " : "", key,
                 text != NULL ? text : json_string_value(value));
        free(text);
    }
    row(label, b.data != NULL ? b.data : "");
    buf_fini(&b);
}

static void print_constraints(const json_t *list)
{
    size_t i = 0;
    const json_t *c = NULL;
    json_array_foreach(list, i, c)
    {
        char *text = json_is_string(c) ? xstrdup(json_string_value(c)) : mjson_dump(c);
        char *line = json_is_string(c) ? xstrdup(text) : xasprintf("never %s", text);
        row(i == 0 ? "constraints" : "", line);
        free(line);
        free(text);
    }
}

/* "120 earlier results; 7 dropped: out-of-range=7"; reasons that were not met are left out. */
static void print_warm_start(const json_t *w)
{
    struct buf b = {0};
    const char *reason = NULL;
    const json_t *n = NULL;
    if (!json_is_object(w)) {
        return;
    }
    buf_addf(&b, "%" PRId64 " earlier results", format_int(w, "used"));
    if (format_int(w, "dropped") > 0) {
        buf_addf(&b, "; %" PRId64 " dropped:", format_int(w, "dropped"));
    }
    json_object_foreach(json_object_get(w, "reasons"), reason, n)
    {
        if (json_integer_value(n) > 0) {
            buf_addf(&b, " %s=%" PRId64, reason, (int64_t)json_integer_value(n));
        }
    }
    row("warm start", b.data);
    buf_fini(&b);
}

static void print_bounds(const json_t *list)
{
    size_t i = 0;
    const json_t *o = NULL;
    json_array_foreach(list, i, o)
    {
        char number[32];
        const json_t *lo = json_object_get(o, "min");
        const json_t *hi = json_object_get(o, "max");
        (void)printf("%-11s %s", i == 0 ? "feasible" : "", format_string(o, "metric"));
        if (lo != NULL) {
            (void)printf(" >= %s", format_number(lo, number));
        }
        if (hi != NULL) {
            (void)printf(" <= %s", format_number(hi, number));
        }
        (void)printf("\n");
    }
}

static void print_best(const json_t *x)
{
    const json_t *best = json_object_get(x, "best");
    if (!json_is_object(best)) {
        return;
    }
    char *values = format_values(best);
    char *params = format_params(json_object_get(best, "params"));
    char *spread = format_spread(best);
    if (spread[0] != '\0') { /* a point of several folds has no step of its own */
        (void)printf("%-11s point %" PRId64 ": %s%s\n", "best", format_int(best, "trial"), values,
                     spread);
    } else {
        (void)printf("%-11s trial %" PRId64 ": %s at step %" PRId64 "\n", "best",
                     format_int(best, "trial"), values, format_int(best, "step"));
    }
    char *refit = format_refit(best);
    row("refit", refit != NULL ? refit : "");
    row("", params);
    free(refit);
    free(spread);
    free(values);
    free(params);
    if (json_object_get(x, "pareto") != NULL) {
        (void)printf("%-11s %" PRId64 " trials; magpie best %" PRId64 " lists them\n", "pareto",
                     format_int(x, "pareto"), format_int(x, "id"));
    }
}

/* "3; the last: trial 7: exit status 1; last line: …"; also of one that was tried again. */
static void print_failures(const json_t *x)
{
    const json_t *f = json_object_get(x, "failures");
    const char *reason = format_string(f, "reason");
    if (format_int(f, "count") == 0) {
        return;
    }
    (void)printf("%-11s %" PRId64 "; the last: trial %" PRId64 "%s%s\n", "failures",
                 format_int(f, "count"), format_int(f, "trial"), reason[0] != '\0' ? ": " : "",
                 reason);
}

static void print_text(const json_t *x)
{
    const json_t *spec = json_object_get(x, "spec");
    char *objectives = format_objectives(x);
    const char *state = format_string(x, "state");
    char *counts = status_counts(x);
    char *tags = format_join(json_object_get(x, "tags"));
    char text[32];
    (void)printf("%-11s %" PRId64 " \"%s\"\n", "experiment", format_int(x, "id"),
                 format_string(x, "name"));
    (void)printf("%-11s %s%s%s\n", "state", term_on(stdout, format_state_colour(state)), state,
                 term_off(stdout));
    row("why", format_why(x));
    row("objective", objectives);
    print_bounds(json_object_get(spec, "outcome_constraints"));
    row_members("optimizer", json_object_get(spec, "optimizer"));
    row_members("resource", json_object_get(spec, "resource"));
    row_members("limits", json_object_get(x, "limits"));
    row_members("validation", json_object_get(spec, "validation"));
    print_constraints(json_object_get(spec, "constraints"));
    print_warm_start(json_object_get(x, "warm_start"));
    (void)printf("%-11s %" PRId64 "\n", "seed", format_int(spec, "seed"));
    row("trials", counts);
    if (format_int(x, "folds") > 1) {
        (void)printf("%-11s %" PRId64 ", %" PRId64 " ended\n", "points", format_int(x, "points"),
                     format_int(x, "points_ended"));
    }
    print_failures(x);
    if (format_int(x, "stored") > 0) {
        size_format(format_int(x, "stored"), text);
        row("storage", text);
    }
    print_best(x);
    row("tags", tags);
    row("notes", format_string(x, "notes"));
    row("created", format_string(x, "created"));
    row("started", format_string(x, "started"));
    row("ended", format_string(x, "ended"));
    const json_t *eta = json_object_get(x, "eta");
    if (json_is_number(eta)) {
        row("time left", format_duration(json_number_value(eta), text));
    }
    free(tags);
    free(counts);
    free(objectives);
}

int cmd_show(int argc, char **argv)
{
    struct client c = {0};
    const struct flag flags[] = {CLIENT_FLAGS(&c), {0}};
    const struct flags_usage u = {
        .program = "magpie show",
        .args = "ID",
        .flags = flags,
        .min_args = 1,
        .max_args = 1,
        .summary = "Shows one experiment: state, reason, counts, best, settings.",
        .detail = "ID is an experiment's number or its name."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    json_t *x = NULL;
    json_t *table = NULL;
    char *path = NULL;
    enum mag_status st = client_open(&c, &err);
    if (st == MAG_OK) {
        path = client_experiment(&c, args.items[0], "");
        st = client_call(&c, "GET", path, NULL, 0, &x, &err);
    }
    if (st == MAG_OK && !c.json &&
        json_object_get(json_object_get(x, "spec"), "ablation") != NULL) {
        st = ablation_fetch(&c, args.items[0], &table, &err);
    }
    free(path);
    client_close(&c);
    if (st != MAG_OK) {
        return cmd_fail(&err);
    }
    if (c.json) {
        cmd_print_json(x);
    } else {
        print_text(x);
        if (table != NULL) {
            (void)printf("\n");
            ablation_print(table, stdout);
        }
        json_decref(table);
        json_decref(x);
    }
    return CMD_OK;
}
