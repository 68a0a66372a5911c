/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"

#include <inttypes.h>
#include <stdlib.h>

static void print_text(const json_t *best)
{
    char number[32];
    (void)printf("trial %" PRId64 ": %s at step %" PRId64 " (%s)\n", format_int(best, "trial"),
                 format_number(json_object_get(best, "value"), number), format_int(best, "step"),
                 format_string(best, "state"));
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(json_object_get(best, "params"), key, value)
    {
        char *text = json_is_string(value) ? NULL : mjson_dump(value);
        (void)printf("  %-16s %s\n", key, text != NULL ? text : json_string_value(value));
        free(text);
    }
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
        .summary = "Shows the best completed trial; while none is completed, the best at the "
                   "highest step.",
        .detail = "ID is an experiment's number or its name. Exit status 1 while there is none."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    json_t *best = NULL;
    char *path = NULL;
    enum mag_status st = client_open(&c, &err);
    if (st == MAG_OK) {
        path = client_experiment(&c, args.items[0], "/best");
        st = client_call(&c, "GET", path, NULL, 0, &best, &err);
    }
    free(path);
    client_close(&c);
    if (st != MAG_OK) {
        return cmd_fail(&err);
    }
    if (c.json) {
        cmd_print_json(best);
    } else {
        print_text(best);
        json_decref(best);
    }
    return CMD_OK;
}
