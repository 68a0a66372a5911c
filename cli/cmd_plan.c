/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One column of the schedule: the key in a row, and its head ("epochs" goes by the resource's
 * unit). */
struct column {
    const char *key;
    char head[40];
};

/* The columns that matter: a resource's only where there is one. */
static int columns_of(const struct spec *s, struct column out[5])
{
    static const char *const keys[] = {"bracket", "rung", "budget", "trials", "epochs"};
    int n = 0;
    for (size_t i = 0; i < 5; i++) {
        bool of_resource = strcmp(keys[i], "trials") != 0;
        if (of_resource && s->resource_unit == NULL) {
            continue;
        }
        out[n].key = keys[i];
        if (strcmp(keys[i], "epochs") == 0) {
            (void)snprintf(out[n].head, sizeof(out[n].head), ">%.30ss", s->resource_unit);
        } else {
            (void)snprintf(out[n].head, sizeof(out[n].head), ">%s", keys[i]);
        }
        n++;
    }
    return n;
}

static void print_rows(const struct spec *s, const json_t *rows)
{
    struct column columns[5];
    const char *heads[5];
    int n = columns_of(s, columns);
    for (int c = 0; c < n; c++) {
        heads[c] = columns[c].head;
    }
    if (n < 2 || json_array_size(rows) == 0) {
        return; /* without a resource there is no schedule */
    }
    struct table t;
    table_init(&t, heads, n);
    size_t i = 0;
    const json_t *row = NULL;
    json_array_foreach(rows, i, row)
    {
        for (int c = 0; c < n; c++) {
            char *text = mjson_dump(json_object_get(row, columns[c].key));
            table_add(&t, strcmp(text, "null") == 0 ? "-" : text);
            free(text);
        }
    }
    (void)putchar('\n');
    table_print(&t, stdout);
    table_fini(&t);
}

static void print_number(const char *label, const json_t *value, const char *none)
{
    if (json_is_number(value) && json_number_value(value) > 0) {
        (void)printf("%-11s %.15g\n", label, json_number_value(value));
    } else {
        (void)printf("%-11s %s\n", label, none);
    }
}

static void print_text(const struct cmd_spec *cs, const json_t *plan)
{
    const struct spec *s = cs->spec;
    (void)printf("%-11s %s\n", "experiment", s->name);
    char *objectives = format_objectives(s->resolved);
    (void)printf("%-11s %s\n", "objective", objectives);
    free(objectives);
    (void)printf("%-11s %s\n", "algorithm", json_string_value(json_object_get(plan, "algorithm")));
    const char *why = json_string_value(json_object_get(plan, "why"));
    if (why != NULL) {
        (void)printf("%-11s %s\n", "why", why);
    }
    print_number("trials", json_object_get(plan, "trials"), "no limit");
    if (s->resource_unit != NULL) {
        char label[40];
        (void)snprintf(label, sizeof(label), "%ss", s->resource_unit);
        print_number(label, json_object_get(plan, "epochs"), "no limit");
    }
    cmd_print_memory(cs, "memory     ");
    print_rows(s, json_object_get(plan, "table"));
    size_t i = 0;
    const json_t *note = NULL;
    json_array_foreach(json_object_get(plan, "notes"), i, note)
    {
        (void)printf("%s%s\n", i == 0 ? "\n" : "", json_string_value(note));
    }
}

int cmd_plan(int argc, char **argv)
{
    bool json = false;
    const struct flag flags[] = {FLAG(FLAG_BOOL, "json", &json, NULL, "as JSON"), {0}};
    const struct flags_usage u = {
        .program = "magpie plan",
        .args = "FILE",
        .flags = flags,
        .min_args = 1,
        .max_args = 1,
        .summary =
            "Tells what a search will do before anything is spent: brackets, rungs, trials and\n"
            "the epochs (or other resource) in each; for the built-in trainer also the memory\n"
            "that a trial takes at most."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct cmd_spec cs;
    status = cmd_spec_read(args.items[0], json, &cs);
    if (status == CMD_GO_ON) {
        status = CMD_OK;
        cmd_spec_weigh(&cs);
        json_t *plan = spec_plan(cs.spec);
        if (json) {
            if (cs.memory != NULL) {
                (void)json_object_set(plan, "memory", cs.memory);
            }
            cmd_print_json(plan);
        } else {
            print_text(&cs, plan);
            json_decref(plan);
        }
    }
    cmd_spec_fini(&cs);
    return status;
}
