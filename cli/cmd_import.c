/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "bridges/optuna.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "driver/spec.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct import {
    struct client client;
    const char *file, *study, *name, *output;
    int64_t trials, limit;
    bool submit;
};

/* Removes the observations that the issues name; how many, or -1 when they name anything else. */
static int64_t remove_named(json_t *list, const struct mjson_issues *is, struct mag_err *err)
{
    static const char at[] = "/warm_start/observations/";
    size_t last = json_array_size(list);
    int64_t n = 0;
    bool *bad = xcalloc(last + 1, sizeof(*bad));
    for (int i = 0; i < is->n && n >= 0; i++) {
        const char *pointer = is->items[i].pointer;
        size_t row = strncmp(pointer, at, sizeof(at) - 1) == 0
                         ? (size_t)strtoll(pointer + sizeof(at) - 1, NULL, 10)
                         : last;
        if (row >= last) {
            (void)mag_fail(err, MAG_INVALID, "the study makes no sound experiment: %s: %s", pointer,
                           is->items[i].text);
            n = -1;
        } else if (!bad[row]) {
            bad[row] = true;
            n++;
        }
    }
    for (size_t i = last; n > 0 && i > 0; i--) {
        if (bad[i - 1]) {
            (void)json_array_remove(list, i - 1);
        }
    }
    free(bad);
    return n;
}

/* Observations that the file's own check refuses (a value beyond a range that was narrowed by hand,
 * say) are left out. Returns how many, or -1 when something else is wrong (then `err` says). */
static int64_t drop_refused(json_t *x, struct mag_err *err)
{
    int64_t dropped = 0;
    for (;;) {
        struct mjson_issues is = {0};
        json_t *list = json_object_get(json_object_get(x, "warm_start"), "observations");
        struct spec *s = spec_parse(x, 1, &is);
        int64_t n = s == NULL ? remove_named(list, &is, err) : 0;
        spec_destroy(s);
        mjson_issues_fini(&is);
        if (n <= 0) {
            return n == 0 ? dropped : -1;
        }
        dropped += n;
        if (json_array_size(list) == 0) {
            (void)json_object_del(x, "warm_start");
        }
    }
}

/* A file may have a mebibyte: fewer observations until it fits. */
static enum mag_status make(const struct import *o, const json_t *study, json_t **ret,
                            struct optuna_kept *kept, int64_t *ret_refused, struct mag_err *err)
{
    int64_t limit = o->limit;
    for (;;) {
        json_t *x = NULL;
        enum mag_status st = optuna_to_experiment(study, limit, &x, kept, err);
        if (st != MAG_OK) {
            return st;
        }
        if (o->name != NULL) {
            (void)json_object_set_new(x, "name", json_string(o->name));
        }
        (void)json_object_set_new(x, "limits", json_pack("{s:I}", "trials", o->trials));
        *ret_refused = drop_refused(x, err);
        char *text = format_file(x, 2);
        size_t len = strlen(text);
        free(text);
        if (*ret_refused < 0) {
            json_decref(x);
            return err->code;
        }
        if (len < SPEC_BYTES_MAX || kept->used == 0) {
            *ret = x;
            return MAG_OK;
        }
        json_decref(x);
        limit = kept->used * 9 / 10;
    }
}

static void tell(const struct optuna_kept *kept, int64_t refused)
{
    (void)fprintf(stderr, "%" PRId64 " finished trials are known to the search from the start",
                  kept->used - refused);
    const struct {
        int64_t n;
        const char *why;
    } rows[] = {{kept->unfinished, "without a final value"},
                {kept->partial, "lack a parameter"},
                {refused, "lie outside the space"},
                {kept->beyond, "over the limit"}};
    const char *before = "; left out: ";
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].n > 0) {
            (void)fprintf(stderr, "%s%" PRId64 " %s", before, rows[i].n, rows[i].why);
            before = ", ";
        }
    }
    (void)fputs("\n", stderr);
}

static int write_file(const char *path, const char *text)
{
    FILE *f = path != NULL ? fopen(path, "wxe") : stdout;
    if (f == NULL) {
        return cmd_failf(errno == EEXIST ? CMD_USAGE : CMD_FAILED, "%s: %s", path,
                         errno == EEXIST ? "it is there already; give another --output"
                                         : strerror(errno));
    }
    bool good = fprintf(f, "%s\n", text) > 0;
    good = (f == stdout ? fflush(f) == 0 : fclose(f) == 0) && good;
    return good ? CMD_OK
                : cmd_failf(CMD_FAILED, "cannot write %s: %s",
                            path != NULL ? path : "standard output", strerror(errno));
}

static int submit(struct import *o, const char *text)
{
    struct mag_err err = {0};
    json_t *x = NULL;
    enum mag_status st = client_open(&o->client, &err);
    if (st == MAG_OK) {
        st = client_submit(&o->client, text, strlen(text), &x, &err);
    }
    client_close(&o->client);
    if (st != MAG_OK) {
        return cmd_fail(&err);
    }
    if (o->client.json) {
        cmd_print_json(x);
        return CMD_OK;
    }
    (void)printf("experiment %" PRId64 " \"%s\"\n", format_int(x, "id"), format_string(x, "name"));
    json_decref(x);
    return CMD_OK;
}

static int run(struct import *o)
{
    struct mag_err err = {0};
    struct optuna_kept kept;
    int64_t refused = 0;
    json_t *study = NULL;
    json_t *x = NULL;
    enum mag_status st = optuna_read(o->file, o->study, &study, &err);
    if (st == MAG_OK) {
        st = make(o, study, &x, &kept, &refused, &err);
    }
    json_decref(study);
    if (st != MAG_OK) {
        return cmd_failf(st == MAG_IO ? CMD_FAILED : CMD_USAGE, "%s", err.text);
    }
    char *text = format_file(x, 2);
    tell(&kept, refused);
    int status = o->submit ? submit(o, text) : write_file(o->output, text);
    free(text);
    json_decref(x);
    return status;
}

int cmd_import(int argc, char **argv)
{
    struct import o = {0};
    const struct flag flags[] = {
        FLAG(FLAG_TEXT, "study", &o.study, "NAME", "which study, where the file holds several"),
        FLAG(FLAG_TEXT, "name", &o.name, "NAME", "of the experiment [the study's]"),
        FLAG(FLAG_INT, "trials", &o.trials, "N", "limits.trials: how many new ones",
             .fallback = "100", .min = 1, .max = SPEC_TRIALS_MAX),
        FLAG(FLAG_INT, "limit", &o.limit, "N",
             "the most earlier trials to take: the best quarter, the rest evenly",
             .fallback = "2000", .min = 1, .max = SPEC_OBSERVATIONS_MAX),
        FLAG(FLAG_TEXT, "output", &o.output, "FILE", "a new file [standard output]", .letter = 'o'),
        FLAG(FLAG_BOOL, "submit", &o.submit, NULL, "give it to the driver at once"),
        CLIENT_FLAGS(&o.client),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie import",
        .args = "FILE",
        .flags = flags,
        .min_args = 1,
        .max_args = 1,
        .summary =
            "Makes an experiment of a study of Optuna (its SQLite file, Optuna 3 and later).",
        .detail =
            "Search space, directions and metric names are taken over; a parameter that the trials "
            "have only under\nsome values of another becomes conditional. Finished trials are the "
            "experiment's warm start. Add what a\ntrial runs (\"trial\") to the file; without it "
            "trials are asked and told over REST."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    if (o.submit && o.output != NULL) {
        return cmd_failf(CMD_USAGE, "--submit or --output, not both");
    }
    o.file = args.items[0];
    return run(&o);
}
