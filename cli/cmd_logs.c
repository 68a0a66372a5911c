/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS 500

static bool trial_is_over(struct client *c, const char *path)
{
    json_t *trial = NULL;
    if (client_call(c, "GET", path, NULL, 0, &trial, NULL) != MAG_OK) {
        return false;
    }
    static const char *const open[] = {"waiting", "running", "paused"};
    bool over = true;
    for (size_t i = 0; i < 3; i++) {
        over = over && strcmp(format_string(trial, "state"), open[i]) != 0;
    }
    json_decref(trial);
    return over;
}

/* Where in `text` that begins what `old` did not have: a tail that moved on is matched by its end.
 */
static size_t new_from(const char *old, size_t old_len, const char *text, size_t len)
{
    if (old_len == 0) {
        return 0;
    }
    if (len >= old_len && memcmp(old, text, old_len) == 0) {
        return old_len;
    }
    for (size_t keep = old_len < len ? old_len : len; keep > 0; keep--) {
        if (memcmp(old + old_len - keep, text, keep) == 0) {
            return keep;
        }
    }
    return 0;
}

static enum mag_status print_log(struct client *c, const char *trial_path, bool follow,
                                 struct mag_err *err)
{
    char *old = NULL;
    size_t old_len = 0;
    enum mag_status st = MAG_OK;
    bool last = !follow;
    do {
        char *text = NULL;
        size_t len = 0;
        bool over =
            last ||
            trial_is_over(c, trial_path); /* asked before the log, so that no line is missed */
        st = client_get_text(c, &text, &len, err, "%s/log", trial_path);
        if (st == MAG_OK) {
            size_t from = new_from(old, old_len, text, len);
            (void)fwrite(text + from, 1, len - from, stdout);
            (void)fflush(stdout);
            free(old);
            old = text;
            old_len = len;
        }
        last = over;
        if (!last && st == MAG_OK) {
            (void)poll(NULL, 0, LOOK_MS);
        }
    } while (!last && st == MAG_OK);
    free(old);
    return st;
}

int cmd_logs(int argc, char **argv)
{
    struct client c = {0};
    bool follow = false;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        FLAG(FLAG_BOOL, "follow", &follow, NULL, "go on until the trial ends", .letter = 'f'),
        {0},
    };
    const struct flags_usage u = {.program = "magpie logs",
                                  .args = "ID TRIAL",
                                  .flags = flags,
                                  .min_args = 2,
                                  .max_args = 2,
                                  .summary = "Prints what a trial's program wrote."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    int64_t trial = 0;
    enum mag_status st = cmd_id(args.items[1], "a trial", &trial, &err);
    if (st == MAG_OK) {
        st = client_open(&c, &err);
    }
    if (st == MAG_OK) {
        char suffix[64];
        (void)snprintf(suffix, sizeof(suffix), "/trials/%" PRId64, trial);
        char *path = client_experiment(&c, args.items[0], suffix);
        st = print_log(&c, path, follow, &err);
        free(path);
    }
    client_close(&c);
    return st == MAG_OK ? CMD_OK : cmd_fail(&err);
}
