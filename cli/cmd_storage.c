/* SPDX-License-Identifier: Apache-2.0 */
#include "base/size.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stdio.h>

static void add_size(struct table *t, const json_t *object, const char *key)
{
    char text[24];
    const json_t *v = json_object_get(object, key);
    size_format(json_integer_value(v), text);
    table_add(t, json_is_integer(v) ? text : NULL);
}

static void print_holders(const json_t *all)
{
    static const char *const heads[] = {">ID",          "NAME",  "STATE",  ">USED",
                                        ">CHECKPOINTS", ">LOGS", ">LIMIT", "WHY"};
    struct table t;
    table_init(&t, heads, sizeof(heads) / sizeof(heads[0]));
    size_t i = 0;
    const json_t *x = NULL;
    json_array_foreach(all, i, x)
    {
        const char *state = format_string(x, "state");
        table_addf(&t, "%" PRId64, format_int(x, "id"));
        table_add(&t, format_string(x, "name"));
        table_add_colour(&t, format_state_colour(state), state);
        add_size(&t, x, "used");
        table_addf(&t, "%" PRId64, format_int(x, "checkpoints"));
        add_size(&t, x, "log_bytes");
        add_size(&t, x, "limit");
        table_add(&t, format_why(x));
    }
    table_print(&t, stdout);
    table_fini(&t);
}

static void print_report(const json_t *report)
{
    char used[24];
    char quota[24];
    const json_t *all = json_object_get(report, "experiments");
    const json_t *limit = json_object_get(report, "quota");
    size_format(format_int(report, "used"), used);
    size_format(json_integer_value(limit), quota);
    if (json_array_size(all) > 0) {
        print_holders(all);
    }
    int64_t left = format_int(report, "holders") - (int64_t)json_array_size(all);
    if (left > 0) {
        (void)printf("and %" PRId64 " more\n", left);
    }
    (void)printf("%s used, %s%s%s\n", used, json_is_integer(limit) ? "quota " : "no quota",
                 json_is_integer(limit) ? quota : "",
                 json_is_true(json_object_get(report, "full")) ? ": full, workers get no new trials"
                                                               : "");
}

int cmd_storage(int argc, char **argv)
{
    struct client c = {0};
    const struct flag flags[] = {CLIENT_FLAGS(&c), {0}};
    const struct flags_usage u = {
        .program = "magpie storage",
        .args = "",
        .flags = flags,
        .summary = "What experiments hold in shared storage, the largest first, and the quota.",
        .detail = "Checkpoints count from their commit to their removal; logs by what was written, "
                  "before compression.\n'magpie gc' removes what nothing needs; "
                  "'magpie driver --storage-quota' sets the quota."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    json_t *report = NULL;
    enum mag_status st = client_open(&c, &err);
    if (st == MAG_OK) {
        st = client_call(&c, "GET", "/api/v1/storage", NULL, 0, &report, &err);
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
