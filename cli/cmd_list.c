/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stdlib.h>

static void add_row(struct table *t, const json_t *x, double now)
{
    const char *state = format_string(x, "state");
    const json_t *counts = json_object_get(x, "counts");
    char number[32];
    char age[32];
    int64_t all = 0;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)counts, key, value)
    {
        all += json_integer_value(value);
    }
    table_addf(t, "%" PRId64, format_int(x, "id"));
    table_add(t, format_string(x, "name"));
    table_add_colour(t, format_state_colour(state), state);
    table_addf(t, "%" PRId64, all);
    table_addf(t, "%" PRId64, format_int(counts, "running"));
    table_add(t, format_number(json_object_get(json_object_get(x, "best"), "value"), number));
    table_addf(t, "%s ago", format_duration(now - format_time(format_string(x, "created")), age));
    table_add(t, format_why(x));
}

static void print_table(const json_t *all)
{
    static const char *const heads[] = {">ID",      "NAME",  "STATE",    ">TRIALS",
                                        ">RUNNING", ">BEST", ">CREATED", "WHY"};
    struct table t;
    table_init(&t, heads, sizeof(heads) / sizeof(heads[0]));
    double now = (double)clock_wall_ms() / 1000;
    size_t i = 0;
    const json_t *x = NULL;
    json_array_foreach(all, i, x)
    {
        add_row(&t, x, now);
    }
    table_print(&t, stdout);
    table_fini(&t);
}

int cmd_list(int argc, char **argv)
{
    struct client c = {0};
    const char *filter = NULL;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        FLAG(FLAG_TEXT, "filter", &filter, "CONDITIONS",
             "by id, name, state, project, tag or created, such as "
             "\"state=running|paused,tag=baseline\""),
        {0},
    };
    const struct flags_usage u = {.program = "magpie list",
                                  .args = "",
                                  .flags = flags,
                                  .summary = "Lists the driver's experiments."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    json_t *all = NULL;
    enum mag_status st = client_open(&c, &err);
    if (st == MAG_OK) {
        char *query = client_query(&c, NULL, filter);
        st = client_list(&c, "/api/v1/experiments", query, "experiments", 0, &all, &err);
        free(query);
    }
    client_close(&c);
    if (st != MAG_OK) {
        return cmd_fail(&err);
    }
    if (c.json) {
        cmd_print_json(json_pack("{s:o}", "experiments", all));
        return CMD_OK;
    }
    if (json_array_size(all) == 0) {
        (void)fprintf(stderr, "no experiments; 'magpie submit FILE' makes one\n");
    } else {
        print_table(all);
    }
    json_decref(all);
    return CMD_OK;
}
