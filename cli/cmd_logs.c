/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/status.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS 500
#define PAGE (1 << 20) /* bytes in one answer of the driver */

struct log {
    struct client *client;
    const char *experiment; /* path */
    char *trial;            /* path */
    int64_t attempt;        /* 0 = the newest */
    struct buf shown;       /* what the driver last had */
};

/* Ended, waiting in an experiment that has, or no such trial: nothing more will come. */
static bool is_over(const struct log *l)
{
    json_t *trial = NULL;
    json_t *experiment = NULL;
    enum mag_status st = client_call(l->client, "GET", l->trial, NULL, 0, &trial, NULL);
    bool over = st == MAG_NOTFOUND;
    if (st == MAG_OK && strcmp(format_string(trial, "state"), "running") != 0) {
        over = !json_is_null(json_object_get(trial, "ended"));
        over = over || (client_call(l->client, "GET", l->experiment, NULL, 0, &experiment, NULL) ==
                            MAG_OK &&
                        status_is_over(experiment));
    }
    json_decref(trial);
    json_decref(experiment);
    return over;
}

/* Everything that the driver has of the output: all of an ended attempt, the tail of a running one.
 */
static enum mag_status fetch(const struct log *l, struct buf *out, struct mag_err *err)
{
    char attempt[40] = "";
    if (l->attempt > 0) {
        (void)snprintf(attempt, sizeof(attempt), "&attempt=%" PRId64, l->attempt);
    }
    size_t len = PAGE;
    while (len == PAGE) {
        char *text = NULL;
        enum mag_status st =
            client_get_text(l->client, &text, &len, err, "%s/log?offset=%zu&limit=%d%s", l->trial,
                            out->len, PAGE, attempt);
        if (st != MAG_OK) {
            return st;
        }
        buf_add(out, text, len);
        free(text);
    }
    return MAG_OK;
}

/* Where in `now` that begins which `old` did not have: `old` may be a tail of it from the middle,
 * or a tail that has moved on since. */
static size_t new_from(const struct buf *old, const struct buf *now)
{
    if (old->len == 0 || now->len == 0) {
        return 0;
    }
    for (size_t at = now->len >= old->len ? now->len - old->len + 1 : 0; at > 0; at--) {
        if (memcmp(now->data + at - 1, old->data, old->len) == 0) {
            return at - 1 + old->len;
        }
    }
    for (size_t keep = old->len < now->len ? old->len : now->len; keep > 0; keep--) {
        if (memcmp(old->data + old->len - keep, now->data, keep) == 0) {
            return keep;
        }
    }
    return 0;
}

static enum mag_status show_new(struct log *l, struct mag_err *err)
{
    struct buf now = {0};
    enum mag_status st = fetch(l, &now, err);
    if (st == MAG_OK) {
        size_t from = new_from(&l->shown, &now);
        if (now.len > from) {
            (void)fwrite(now.data + from, 1, now.len - from, stdout);
            (void)fflush(stdout);
        }
        buf_fini(&l->shown);
        l->shown = now;
    } else {
        buf_fini(&now);
    }
    return st;
}

/* Output that is not there yet is no failure while the trial goes on. */
static enum mag_status print_log(struct log *l, bool follow, struct mag_err *err)
{
    for (;;) {
        bool last = !follow || is_over(l); /* asked before the output, so that no line is missed */
        struct mag_err one = {0};
        enum mag_status st = show_new(l, &one);
        if (last || (st != MAG_OK && st != MAG_NOTFOUND)) {
            *err = one;
            return st;
        }
        (void)poll(NULL, 0, LOOK_MS);
    }
}

int cmd_logs(int argc, char **argv)
{
    struct client c = {0};
    struct log l = {.client = &c};
    bool follow = false;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        FLAG(FLAG_INT, "attempt", &l.attempt, "N", "which attempt [the newest]", .min = 1,
             .max = INT32_MAX),
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
        char *path = client_experiment(&c, args.items[0], "");
        l.experiment = path;
        l.trial = client_experiment(&c, args.items[0], suffix);
        st = print_log(&l, follow, &err);
        free(l.trial);
        free(path);
        buf_fini(&l.shown);
    }
    client_close(&c);
    return st == MAG_OK ? CMD_OK : cmd_fail(&err);
}
