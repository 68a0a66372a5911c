/* SPDX-License-Identifier: Apache-2.0
 *
 * What people write on experiments and trials: note, tag.
 */
#include "base/alloc.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* GET when `body_take` is NULL, else POST to `path` + ":note". */
static enum mag_status exchange(struct client *c, const char *path, json_t *body_take, json_t **ret,
                                struct mag_err *err)
{
    if (body_take == NULL) {
        return client_call(c, "GET", path, NULL, 0, ret, err);
    }
    char *verb = xasprintf("%s:note", path);
    enum mag_status st = client_post(c, verb, body_take, ret, err);
    free(verb);
    return st;
}

static int print_notes(const struct client *c, json_t *thing_take)
{
    if (c->json) {
        cmd_print_json(thing_take);
        return CMD_OK;
    }
    const char *notes = format_string(thing_take, "notes");
    (void)printf("%s%s", notes, notes[0] != '\0' ? "\n" : "");
    json_decref(thing_take);
    return CMD_OK;
}

int cmd_note(int argc, char **argv)
{
    struct client c = {0};
    const char *trial = NULL;
    bool clear = false;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        FLAG(FLAG_TEXT, "trial", &trial, "TRIAL", "the note of this trial"),
        FLAG(FLAG_BOOL, "clear", &clear, NULL, "take the note away"),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie note",
        .args = "ID [TEXT]",
        .flags = flags,
        .min_args = 1,
        .max_args = 2,
        .summary =
            "Writes the note of an experiment, or of one of its trials; without TEXT, prints it."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    int64_t number = 0;
    char suffix[64] = "";
    enum mag_status st = trial != NULL ? cmd_id(trial, "a trial", &number, &err) : MAG_OK;
    if (trial != NULL) {
        (void)snprintf(suffix, sizeof(suffix), "/trials/%" PRId64, number);
    }
    json_t *thing = NULL;
    if (st == MAG_OK) {
        st = client_open(&c, &err);
    }
    if (st == MAG_OK) {
        const char *text = clear ? "" : args.n == 2 ? args.items[1] : NULL;
        char *path = client_experiment(&c, args.items[0], suffix);
        st = exchange(&c, path, text != NULL ? json_pack("{s:s}", "notes", text) : NULL, &thing,
                      &err);
        free(path);
    }
    client_close(&c);
    return st == MAG_OK ? print_notes(&c, thing) : cmd_fail(&err);
}

/* The experiment's tags with `args` put on or taken off, new reference. */
static json_t *changed_tags(const json_t *tags, const struct flags_args *args, bool take_off)
{
    json_t *out = json_array();
    size_t i = 0;
    const json_t *tag = NULL;
    json_array_foreach(tags, i, tag)
    {
        bool named = false;
        for (int a = 1; a < args->n; a++) {
            named = named || strcmp(args->items[a], json_string_value(tag)) == 0;
        }
        if (!named) {
            (void)json_array_append_new(out, json_string(json_string_value(tag)));
        }
    }
    for (int a = 1; a < args->n && !take_off; a++) {
        (void)json_array_append_new(out, json_string(args->items[a]));
    }
    return out;
}

int cmd_tag(int argc, char **argv)
{
    struct client c = {0};
    bool take_off = false;
    const struct flag flags[] = {
        CLIENT_FLAGS(&c),
        FLAG(FLAG_BOOL, "remove", &take_off, NULL, "take these tags off"),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie tag",
        .args = "ID [TAG]...",
        .flags = flags,
        .min_args = 1,
        .max_args = FLAGS_ARGS_MAX,
        .summary = "Puts tags on an experiment, or takes them off; without tags, prints them."};
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
        st = exchange(&c, path, NULL, &x, &err);
    }
    if (st == MAG_OK && args.n > 1) {
        json_t *tags = changed_tags(json_object_get(x, "tags"), &args, take_off);
        json_decref(x);
        x = NULL;
        st = exchange(&c, path, json_pack("{s:o}", "tags", tags), &x, &err);
    }
    free(path);
    client_close(&c);
    if (st != MAG_OK) {
        return cmd_fail(&err);
    }
    if (c.json) {
        cmd_print_json(json_pack("{s:O*}", "tags", json_object_get(x, "tags")));
    } else {
        char *text = format_join(json_object_get(x, "tags"));
        (void)puts(text);
        free(text);
    }
    json_decref(x);
    return CMD_OK;
}
