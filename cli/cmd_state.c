/* SPDX-License-Identifier: Apache-2.0
 *
 * Commands that change an experiment and print what became of it: pause, resume, cancel, extend.
 */
#include "base/alloc.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* POST to the experiment's `suffix`, then the experiment as it is now. Takes `body`. */
static int change(struct client *c, const char *key, const char *suffix, json_t *body_take)
{
    struct mag_err err = {0};
    json_t *x = NULL;
    char *path = NULL;
    enum mag_status st = client_open(c, &err);
    if (st == MAG_OK) {
        path = client_experiment(c, key, suffix);
        /* Only :extend knows keys: a second pause is a pause, a second extension need not be one.
         */
        st = strcmp(suffix, ":extend") == 0 ? client_post_once(c, path, body_take, NULL, &err)
                                            : client_post(c, path, body_take, NULL, &err);
        free(path);
        path = client_experiment(c, key, "");
    } else {
        json_decref(body_take);
    }
    if (st == MAG_OK) {
        st = client_call(c, "GET", path, NULL, 0, &x, &err);
    }
    free(path);
    client_close(c);
    if (st != MAG_OK) {
        return cmd_fail(&err);
    }
    if (c->json) {
        cmd_print_json(x);
        return CMD_OK;
    }
    const char *why = format_why(x);
    (void)printf("experiment %" PRId64 " \"%s\" is %s%s%s\n", format_int(x, "id"),
                 format_string(x, "name"), format_string(x, "state"), why[0] != '\0' ? ": " : "",
                 why);
    json_decref(x);
    return CMD_OK;
}

int cmd_pause(int argc, char **argv)
{
    struct client c = {0};
    bool stop = false;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        FLAG(FLAG_BOOL, "stop", &stop, NULL,
             "running trials stop at their next checkpoint, instead of finishing"),
        {0},
    };
    const struct flags_usage u = {.program = "magpie pause",
                                  .args = "ID",
                                  .flags = flags,
                                  .min_args = 1,
                                  .max_args = 1,
                                  .summary = "Pauses an experiment: no more trials are given out."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    return status != CMD_GO_ON ? status
                               : change(&c, args.items[0], ":pause",
                                        stop ? json_pack("{s:b}", "stop", 1) : json_object());
}

int cmd_resume(int argc, char **argv)
{
    struct client c = {0};
    const struct flag flags[] = {CLIENT_FLAGS(&c), {0}};
    const struct flags_usage u = {.program = "magpie resume",
                                  .args = "ID",
                                  .flags = flags,
                                  .min_args = 1,
                                  .max_args = 1,
                                  .summary = "Lets a paused experiment go on."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    return status != CMD_GO_ON ? status : change(&c, args.items[0], ":resume", json_object());
}

int cmd_cancel(int argc, char **argv)
{
    struct client c = {0};
    const struct flag flags[] = {CLIENT_FLAGS(&c), {0}};
    const struct flags_usage u = {.program = "magpie cancel",
                                  .args = "ID [TRIAL]",
                                  .flags = flags,
                                  .min_args = 1,
                                  .max_args = 2,
                                  .summary =
                                      "Cancels an experiment with its open trials, or one trial.",
                                  .detail = "A cancelled experiment stays in the record; it does "
                                            "not go on again ('magpie fork' starts a\n"
                                            "new one like it)."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    char suffix[64] = ":cancel";
    if (args.n == 2) {
        int64_t trial = 0;
        struct mag_err err = {0};
        if (cmd_id(args.items[1], "a trial", &trial, &err) != MAG_OK) {
            return cmd_fail(&err);
        }
        (void)snprintf(suffix, sizeof(suffix), "/trials/%" PRId64 ":cancel", trial);
    }
    return change(&c, args.items[0], suffix, json_object());
}

int cmd_extend(int argc, char **argv)
{
    struct client c = {0};
    int64_t trials = 0;
    int64_t parallel = 0;
    const char *time = NULL;
    int64_t storage = -1;
    const char *target = NULL;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        FLAG(FLAG_INT, "trials", &trials, "N", "the new total of trials", .min = 1,
             .max = SPEC_TRIALS_MAX),
        FLAG(FLAG_TEXT, "time", &time, "TIME", "the new total time, such as 4h"),
        FLAG(FLAG_TEXT, "target", &target, "X", "the new target; \"none\" drops it"),
        FLAG(FLAG_INT, "parallel", &parallel, "N", "trials at a time", .min = 1,
             .max = SPEC_TRIALS_MAX),
        FLAG(FLAG_SIZE, "storage", &storage, "SIZE",
             "what it may hold in storage, such as 20GB; 0 = no limit"),
        {0},
    };
    const struct flags_usage u = {.program = "magpie extend",
                                  .args = "ID",
                                  .flags = flags,
                                  .min_args = 1,
                                  .max_args = 1,
                                  .summary =
                                      "Changes an experiment's limits; a completed one goes on.",
                                  .detail = "Numbers are new totals, not additions."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    json_t *body = json_object();
    if (trials > 0) {
        (void)json_object_set_new(body, "trials", json_integer(trials));
    }
    if (parallel > 0) {
        (void)json_object_set_new(body, "parallel", json_integer(parallel));
    }
    if (storage >= 0) {
        (void)json_object_set_new(body, "storage", json_integer(storage));
    }
    if (time != NULL) {
        (void)json_object_set_new(body, "time", json_string(time));
    }
    if (target != NULL) {
        char *end = NULL;
        double v = strtod(target, &end);
        bool number = end != target && *end == '\0';
        if (!number && strcmp(target, "none") != 0) {
            json_decref(body);
            return cmd_failf(CMD_USAGE, "--target: expected a number or \"none\", not \"%s\"",
                             target);
        }
        (void)json_object_set_new(body, "target", number ? json_real(v) : json_null());
    }
    if (json_object_size(body) == 0) {
        json_decref(body);
        return cmd_failf(CMD_USAGE, "say what to extend: --trials, --time, --target, --parallel or "
                                    "--storage");
    }
    return change(&c, args.items[0], ":extend", body);
}
