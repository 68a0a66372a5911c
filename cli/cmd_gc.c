/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"

#include <inttypes.h>
#include <stdio.h>

static int print_report(const json_t *report, bool dry)
{
    size_t i = 0;
    const json_t *key = NULL;
    json_array_foreach(json_object_get(report, "removed"), i, key)
    {
        (void)printf("%s\n", json_string_value(key));
    }
    (void)printf("%s %" PRId64 " checkpoints and %" PRId64 " deleted experiments, %" PRId64
                 " bytes in all\n",
                 dry ? "would remove" : "removed", format_int(report, "checkpoints"),
                 format_int(report, "experiments"), format_int(report, "bytes"));
    const char *error = format_string(report, "error");
    return error[0] == '\0' ? CMD_OK : cmd_failf(CMD_FAILED, "it stopped there: %s", error);
}

int cmd_gc(int argc, char **argv)
{
    struct client c = {0};
    bool dry = false;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        FLAG(FLAG_BOOL, "dry-run", &dry, NULL, "say what would be removed, and remove nothing"),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie gc",
        .args = "",
        .flags = flags,
        .summary = "Removes from storage what nothing needs: folders of deleted experiments, "
                   "checkpoints that\nwere never committed, old ones.",
        .detail =
            "The driver does the same by itself (magpie driver --gc TIME). What a trial may go "
            "on from stays,\nand every trial's newest checkpoint.\n"
            "Each key is printed, the first 1,000 at most. A collection that takes longer than "
            "two minutes\ngoes on in the driver; its log tells the end."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    json_t *report = NULL;
    enum mag_status st = client_open(&c, &err);
    if (st == MAG_OK) {
        st = client_post(&c, "/api/v1/storage:gc", json_pack("{s:b}", "dry_run", dry), &report,
                         &err);
    }
    if (st == MAG_OK && c.json) {
        cmd_print_json(json_incref(report));
        status = json_object_get(report, "error") == NULL ? CMD_OK : CMD_FAILED;
    } else if (st == MAG_OK) {
        status = print_report(report, dry);
    }
    json_decref(report);
    client_close(&c);
    return st == MAG_OK ? status : cmd_fail(&err);
}
