/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"

#include <inttypes.h>
#include <stdlib.h>

int cmd_retry(int argc, char **argv)
{
    struct client c = {0};
    const struct flag flags[] = {CLIENT_FLAGS(&c), {0}};
    const struct flags_usage u = {
        .program = "magpie retry",
        .args = "ID TRIAL",
        .flags = flags,
        .min_args = 2,
        .max_args = 2,
        .summary = "Runs the parameters of an ended trial once more, as a new trial.",
        .detail = "For trials that failed, were stopped or cancelled. The new trial's number is "
                  "printed."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    int64_t trial = 0;
    json_t *made = NULL;
    enum mag_status st = cmd_id(args.items[1], "a trial", &trial, &err);
    if (st == MAG_OK) {
        st = client_open(&c, &err);
    }
    if (st == MAG_OK) {
        char suffix[64];
        (void)snprintf(suffix, sizeof(suffix), "/trials/%" PRId64 ":retry", trial);
        char *path = client_experiment(&c, args.items[0], suffix);
        st = client_post_once(&c, path, json_object(), &made, &err);
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
    (void)printf("trial %" PRId64 " runs trial %" PRId64 "'s parameters again\n",
                 format_int(made, "trial"), trial);
    json_decref(made);
    return CMD_OK;
}
