/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A value on the command line: JSON when it is JSON, else a string. */
static json_t *value_of(const char *text)
{
    json_t *v = NULL;
    return mjson_parse(text, strlen(text), &v, NULL) == MAG_OK ? v : json_string(text);
}

/* Puts `value` at "a.b.c" in a JSON merge patch (RFC 7396). Takes `value`. */
static enum mag_status put(json_t *patch, const char *dotted, size_t len, json_t *value_take,
                           struct mag_err *err)
{
    json_t *at = patch;
    const char *end = dotted + len;
    for (;;) {
        size_t n = 0;
        while (dotted + n < end && dotted[n] != '.') {
            n++;
        }
        char *key = xstrndup(dotted, n);
        bool last = dotted + n == end;
        json_t *next = json_object_get(at, key);
        if (n > 0 && !last && !json_is_object(next)) {
            next = json_object();
            (void)json_object_set_new(at, key, next);
        }
        if (n > 0 && last) {
            (void)json_object_set_new(at, key, value_take);
        }
        free(key);
        if (n == 0) {
            json_decref(value_take);
            return mag_fail(err, MAG_INVALID, "\"%.*s\": expected a place such as limits.trials",
                            (int)len, end - len);
        }
        if (last) {
            return MAG_OK;
        }
        at = next;
        dotted += n + 1;
    }
}

static enum mag_status make_patch(const struct flag_list *sets, const struct flag_list *drops,
                                  const char *name, json_t *patch, struct mag_err *err)
{
    enum mag_status st = MAG_OK;
    for (int i = 0; i < sets->n && st == MAG_OK; i++) {
        size_t n = strcspn(sets->items[i], "=");
        st = sets->items[i][n] == '='
                 ? put(patch, sets->items[i], n, value_of(sets->items[i] + n + 1), err)
                 : mag_fail(err, MAG_INVALID, "--set %s: expected PLACE=VALUE", sets->items[i]);
    }
    for (int i = 0; i < drops->n && st == MAG_OK; i++) {
        st = put(patch, drops->items[i], strlen(drops->items[i]), json_null(), err);
    }
    if (name != NULL) {
        (void)json_object_set_new(patch, "name", json_string(name));
    }
    return st;
}

int cmd_fork(int argc, char **argv)
{
    struct client c = {0};
    struct flag_list sets = {0};
    struct flag_list drops = {0};
    const char *name = NULL;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        FLAG(FLAG_LIST, "set", &sets, "PLACE=VALUE",
             "a change, such as limits.trials=50 or optimizer.algorithm=random (several)"),
        FLAG(FLAG_LIST, "drop", &drops, "PLACE", "leave this out (several)"),
        FLAG(FLAG_TEXT, "name", &name, "NAME", "the new experiment's name"),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie fork",
        .args = "ID",
        .flags = flags,
        .min_args = 1,
        .max_args = 1,
        .summary = "Starts a new experiment with the settings of an old one and your changes.",
        .detail = "VALUE is JSON (50, 0.1, true, [\"a\"], {\"lr\": ...}); anything else is taken "
                  "as a string."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    json_t *patch = json_object();
    json_t *x = NULL;
    enum mag_status st = make_patch(&sets, &drops, name, patch, &err);
    if (st == MAG_OK) {
        st = client_open(&c, &err);
    }
    if (st == MAG_OK) {
        char *path = client_experiment(&c, args.items[0], ":fork");
        st = client_post_once(&c, path, json_incref(patch), &x, &err);
        free(path);
    }
    json_decref(patch);
    client_close(&c);
    if (st != MAG_OK) {
        return cmd_fail(&err);
    }
    if (c.json) {
        cmd_print_json(x);
        return CMD_OK;
    }
    (void)printf("experiment %" PRId64 " \"%s\", from \"%s\"\n", format_int(x, "id"),
                 format_string(x, "name"), args.items[0]);
    json_decref(x);
    return CMD_OK;
}
