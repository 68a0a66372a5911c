/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"

#include <inttypes.h>

int cmd_submit(int argc, char **argv)
{
    struct client c = {0};
    bool quiet = false;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        FLAG(FLAG_BOOL, "quiet", &quiet, NULL, "print the experiment's number alone",
             .letter = 'q'),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie submit",
        .args = "FILE",
        .flags = flags,
        .min_args = 1,
        .max_args = 1,
        .summary = "Gives an experiment file to a running driver.",
        .detail =
            "The file is checked here first; the driver gets and keeps its bytes as they are.\n"
            "Exit status: 0 it is stored, 1 the driver did not take it, 2 the file is wrong."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct cmd_spec cs;
    struct mag_err err = {0};
    json_t *x = NULL;
    status = cmd_spec_read(args.items[0], c.json, &cs);
    if (status == CMD_GO_ON) {
        status = cmd_spec_check_trainer(&cs, c.json);
    }
    if (status == CMD_GO_ON) {
        enum mag_status st = client_open(&c, &err);
        if (st == MAG_OK) {
            st = client_submit(&c, cs.text, cs.len, &x, &err);
        }
        status = st == MAG_OK ? CMD_OK : cmd_fail(&err);
    }
    if (status == CMD_OK && c.json) {
        cmd_print_json(json_incref(x));
    } else if (status == CMD_OK && quiet) {
        (void)printf("%" PRId64 "\n", format_int(x, "id"));
    } else if (status == CMD_OK) {
        int64_t id = format_int(x, "id");
        (void)printf("experiment %" PRId64 " \"%s\"\nfollow it: magpie watch %" PRId64 "\n", id,
                     cs.spec->name, id);
    }
    json_decref(x);
    client_close(&c);
    cmd_spec_fini(&cs);
    return status;
}
