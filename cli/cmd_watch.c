/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/status.h"
#include "cli/term.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS 500
#define PLAIN_LINE_MS 10000
#define PATIENCE_MS 60000 /* how long a driver may be away: it may be starting again */

/* Looks until the experiment is over (or pauses, with `until_paused`). */
static enum mag_status follow(struct client *c, const char *path, bool stop_paused, json_t **ret,
                              struct mag_err *err)
{
    struct term_progress progress = {0};
    int64_t seen_ms = clock_mono_ns() / MAG_NS_PER_MS;
    for (;;) {
        json_t *x = NULL;
        struct mag_err one = {0};
        enum mag_status st = client_call(c, "GET", path, NULL, 0, &x, &one);
        int64_t now_ms = clock_mono_ns() / MAG_NS_PER_MS;
        if (st == MAG_OK) {
            seen_ms = now_ms;
            char *line = status_line(x, term_is_tty(stderr));
            term_progress(&progress, stderr, now_ms, PLAIN_LINE_MS, line);
            free(line);
            json_decref(*ret);
            *ret = x;
        } else if (*ret != NULL && (st == MAG_CLOSED || st == MAG_TIMEOUT) &&
                   now_ms - seen_ms < PATIENCE_MS) {
            term_progress(&progress, stderr, now_ms, PLAIN_LINE_MS,
                          "the driver does not answer; waiting for it");
        } else {
            term_progress_clear(&progress, stderr);
            *err = one;
            return st;
        }
        bool paused = stop_paused && strcmp(format_string(*ret, "state"), "paused") == 0;
        if (st == MAG_OK && (status_is_over(x) || paused)) {
            term_progress_clear(&progress, stderr);
            return MAG_OK;
        }
        (void)poll(NULL, 0, LOOK_MS);
    }
}

int cmd_watch(int argc, char **argv)
{
    struct client c = {0};
    bool stop_paused = false;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        FLAG(FLAG_BOOL, "until-paused", &stop_paused, NULL, "end also when the experiment pauses"),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie watch",
        .args = "ID",
        .flags = flags,
        .min_args = 1,
        .max_args = 1,
        .summary = "Follows an experiment to its end, also over a restart of the driver.",
        .detail = "ID is an experiment's number or its name. Progress goes to standard error, the "
                  "result to standard\n"
                  "output. Exit status: 0 completed, 1 not."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    json_t *x = NULL;
    char *path = NULL;
    enum mag_status st = client_open(&c, &err);
    if (st == MAG_OK) {
        path = client_experiment(&c, args.items[0], "");
        st = follow(&c, path, stop_paused, &x, &err);
    }
    if (st != MAG_OK) {
        status = cmd_fail(&err);
    } else {
        status = strcmp(format_string(x, "state"), "completed") == 0 ? CMD_OK : CMD_FAILED;
        if (c.json) {
            cmd_print_json(json_incref(x));
        } else {
            status_print_end(&c, x, stdout);
        }
    }
    json_decref(x);
    free(path);
    client_close(&c);
    return status;
}
