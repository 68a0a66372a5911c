/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"

#include <inttypes.h>
#include <stdlib.h>

int cmd_repeat(int argc, char **argv)
{
    struct client c = {0};
    int64_t best = 0;
    int64_t seeds = 0;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        FLAG(FLAG_INT, "best", &best, "K", "how many of the best trials", .fallback = "3", .min = 1,
             .max = 100),
        FLAG(FLAG_INT, "seeds", &seeds, "N", "how many seeds", .fallback = "5", .min = 1,
             .max = 100),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie repeat",
        .args = "ID",
        .flags = flags,
        .min_args = 1,
        .max_args = 1,
        .summary =
            "Runs the best K trials again over N seeds, as new experiments: is the best one luck?"};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    json_t *made = NULL;
    enum mag_status st = client_open(&c, &err);
    if (st == MAG_OK) {
        char *path = client_experiment(&c, args.items[0], ":repeat");
        st = client_post(&c, path, json_pack("{s:I, s:I}", "best", best, "seeds", seeds), &made,
                         &err);
        free(path);
    }
    client_close(&c);
    if (st != MAG_OK) {
        return cmd_fail(&err);
    }
    if (c.json) {
        cmd_print_json(made);
        return CMD_OK;
    }
    size_t i = 0;
    const json_t *x = NULL;
    json_array_foreach(json_object_get(made, "experiments"), i, x)
    {
        (void)printf("experiment %" PRId64 " \"%s\"\n", format_int(x, "id"),
                     format_string(x, "name"));
    }
    json_decref(made);
    return CMD_OK;
}
