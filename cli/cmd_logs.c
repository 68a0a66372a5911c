/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/clock.h"
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
#define PAGE (1 << 20)    /* bytes in one answer of the driver */
#define LINES_MAX 1000000 /* --tail */
#define GONE_MS 5000      /* how long the rest of an ended attempt is waited for */

struct log {
    struct client *client;
    const char *experiment; /* path */
    const char *trial;      /* path */
    int64_t only;           /* the one attempt wanted, 0 = each after the other */
    bool follow;
    int64_t lines; /* of the end to begin with, -1 = all */

    int64_t attempt; /* printed now */
    int64_t at;      /* offset of the next byte of it */
    bool mid_line;   /* what was printed last ends in the middle of a line */
    bool complete;
    int64_t silent_ns; /* since when nothing came of an attempt that has ended, 0 = it goes on */
    bool said_waiting, said_gone; /* that the driver does not answer */
};

/* ---- how the trial stands ---- */

struct standing {
    int64_t attempt; /* the newest */
    bool over;       /* there will be no other */
};

static enum mag_status look(struct log *l, struct standing *ret, struct mag_err *err)
{
    json_t *trial = NULL;
    json_t *experiment = NULL;
    struct mag_err why = {0};
    enum mag_status st = client_call(l->client, "GET", l->trial, NULL, 0, &trial, &why);
    if (st == MAG_NOTFOUND && l->follow) { /* to be created, perhaps */
        st = client_call(l->client, "GET", l->experiment, NULL, 0, &experiment, err);
        st = st == MAG_OK && status_is_over(experiment)
                 ? mag_fail(err, MAG_NOTFOUND, "%s", why.text)
                 : st;
        if (st == MAG_OK && !l->said_waiting) {
            (void)fprintf(stderr, "magpie logs: %s yet; waiting for it\n", why.text);
            l->said_waiting = true;
        }
    } else if (st == MAG_OK) {
        ret->attempt = format_int(trial, "attempt");
        ret->over = !json_is_null(json_object_get(trial, "ended"));
        bool runs = strcmp(format_string(trial, "state"), "running") == 0;
        if (!runs && !ret->over) { /* it waits, perhaps for ever */
            st = client_call(l->client, "GET", l->experiment, NULL, 0, &experiment, err);
            ret->over = st == MAG_OK && status_is_over(experiment);
        }
    } else {
        *err = why;
    }
    json_decref(trial);
    json_decref(experiment);
    return st;
}

/* ---- printing ---- */

static void print(struct log *l, const char *text, size_t len)
{
    if (len > 0) {
        (void)fwrite(text, 1, len, stdout);
        l->mid_line = text[len - 1] != '\n';
    }
}

static void print_gap(struct log *l, int64_t bytes)
{
    (void)printf("%s[magpie] %" PRId64 " bytes left out here\n", l->mid_line ? "\n" : "", bytes);
    l->mid_line = false;
}

static enum mag_status get(struct log *l, const char *query, int64_t n, struct client_log *ret,
                           struct mag_err *err)
{
    char *path = xasprintf("%s/log?attempt=%" PRId64 "&%s=%" PRId64 "&limit=%d", l->trial,
                           l->attempt, query, n, PAGE);
    char *cut = strcmp(query, "tail") == 0 ? strstr(path, "&limit") : NULL;
    if (cut != NULL) {
        *cut = '\0';
    }
    enum mag_status st = client_get_log(l->client, path, ret, err);
    free(path);
    return st;
}

/* Where the last `l->lines` lines begin. */
static enum mag_status find_lines(struct log *l, struct mag_err *err)
{
    struct client_log part;
    enum mag_status st = get(l, "tail", PAGE, &part, err);
    if (st != MAG_OK) {
        return st;
    }
    size_t from = part.len;
    int64_t left = l->lines + (part.len > 0 && part.text[part.len - 1] == '\n');
    while (from > 0 && !(part.text[from - 1] == '\n' && --left <= 0)) {
        from--;
    }
    l->at = part.offset + (int64_t)(l->lines == 0 ? part.len : from);
    free(part.text);
    return MAG_OK;
}

/* All that is there now. */
static enum mag_status print_new(struct log *l, bool *ret_any, struct mag_err *err)
{
    for (;;) {
        struct client_log part;
        enum mag_status st = get(l, "offset", l->at, &part, err);
        if (st != MAG_OK) {
            return st;
        }
        if (part.len > 0 && part.offset > l->at) {
            print_gap(l, part.offset - l->at);
        }
        print(l, part.text, part.len);
        free(part.text);
        l->complete = part.complete;
        if (part.len == 0) {
            (void)fflush(stdout);
            return MAG_OK;
        }
        l->at = part.offset + (int64_t)part.len;
        *ret_any = true;
    }
}

/* ---- following ---- */

static void next_attempt(struct log *l)
{
    (void)fflush(stdout);
    l->attempt++;
    l->at = 0;
    l->complete = false;
    l->silent_ns = 0;
    if (l->mid_line) {
        print(l, "\n", 1);
    }
    (void)printf("[magpie] attempt %" PRId64 "\n", l->attempt);
}

/* The attempt has ended: is its output here? Of a killed worker no more may ever come. */
static bool is_through(struct log *l, bool any)
{
    int64_t now = clock_mono_ns();
    if (any || l->silent_ns == 0) {
        l->silent_ns = now;
    }
    return l->complete || now - l->silent_ns > GONE_MS * MAG_NS_PER_MS;
}

static bool may_pass(enum mag_status st)
{
    return st == MAG_CLOSED || st == MAG_TIMEOUT || st == MAG_UNSUPPORTED;
}

static void say_gone(struct log *l, const struct mag_err *err)
{
    if (!l->said_gone) {
        (void)fflush(stdout);
        (void)fprintf(stderr, "magpie logs: %s; going on when it answers\n", err->text);
        l->said_gone = true;
    }
}

/* One look; *ret_end when there is no more to be followed. */
static enum mag_status follow_once(struct log *l, bool *ret_end, struct mag_err *err)
{
    struct standing now = {0};
    bool any = false;
    enum mag_status st = look(l, &now, err); /* before the output, so that no line is missed */
    if (st == MAG_OK && l->attempt == 0 && now.attempt > 0) {
        l->attempt = l->only > 0 ? l->only : l->lines >= 0 ? now.attempt : 1;
        st = l->lines >= 0 ? find_lines(l, err) : MAG_OK;
    }
    if (st == MAG_OK && l->attempt > 0) {
        st = print_new(l, &any, err);
    }
    if (st == MAG_NOTFOUND && now.attempt > 0) {
        st = MAG_OK; /* nothing is there yet */
    }
    if (st != MAG_OK) {
        return st;
    }
    l->said_gone = false;
    bool ended = now.over || (l->attempt > 0 && l->attempt < now.attempt);
    if (l->attempt == 0) {
        *ret_end = now.over;
    } else if (ended && is_through(l, any)) {
        *ret_end = l->only > 0 || l->attempt >= now.attempt;
        if (!*ret_end) {
            next_attempt(l);
        }
    }
    return MAG_OK;
}

static enum mag_status follow(struct log *l, struct mag_err *err)
{
    bool end = false;
    while (!end) {
        struct mag_err one = {0};
        int64_t was = l->attempt;
        enum mag_status st = follow_once(l, &end, &one);
        if (may_pass(st)) {
            say_gone(l, &one);
        } else if (st != MAG_OK) {
            *err = one;
            return st;
        }
        if (!end && was == l->attempt) {
            (void)poll(NULL, 0, LOOK_MS);
        }
    }
    return MAG_OK;
}

static enum mag_status print_once(struct log *l, struct mag_err *err)
{
    struct standing now = {0};
    bool any = false;
    enum mag_status st = look(l, &now, err);
    l->attempt = l->only > 0 ? l->only : now.attempt > 0 ? now.attempt : 1;
    if (st == MAG_OK && l->lines >= 0) {
        st = find_lines(l, err);
    }
    return st == MAG_OK ? print_new(l, &any, err) : st;
}

int cmd_logs(int argc, char **argv)
{
    struct client c = {0};
    struct log l = {.client = &c, .lines = -1};
    bool once = false;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        FLAG(FLAG_INT, "attempt", &l.only, "N", "which attempt [the newest; with -f all of them]",
             .min = 1, .max = INT32_MAX),
        FLAG(FLAG_INT, "tail", &l.lines, "N",
             "begin with the last N lines (within the last MiB) of the newest attempt", .min = 0,
             .max = LINES_MAX),
        FLAG(FLAG_BOOL, "follow", &l.follow, NULL,
             "go on to the trial's end, over attempts, restarts of the driver and of workers",
             .letter = 'f'),
        FLAG(FLAG_BOOL, "no-follow", &once, NULL, "print what there is and end (the default)"),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie logs",
        .args = "ID TRIAL",
        .flags = flags,
        .min_args = 2,
        .max_args = 2,
        .summary = "Prints what a trial's program wrote.",
        .detail = "Output of a running trial is there after a second or two. Where bytes were left "
                  "out (beyond\nlogs.limit of the experiment file) a line says how many."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    if (once && l.follow) {
        return cmd_failf(CMD_USAGE, "--follow and --no-follow exclude each other");
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
        char *experiment = client_experiment(&c, args.items[0], "");
        char *path = client_experiment(&c, args.items[0], suffix);
        l.experiment = experiment;
        l.trial = path;
        st = l.follow ? follow(&l, &err) : print_once(&l, &err);
        free(path);
        free(experiment);
    }
    client_close(&c);
    return st == MAG_OK ? CMD_OK : cmd_fail(&err);
}
