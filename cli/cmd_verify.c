/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "driver/store.h"
#include "driver/study.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* One experiment's verification: the spec first, then its events in order. */
struct check {
    int64_t id;
    struct verifier *verifier;
    int dims;
    bool found;
    struct verify_result result;
    struct mag_err err;
};

static bool on_experiment(void *arg, const struct store_experiment *x)
{
    struct check *k = arg;
    struct mjson_issues is = {0};
    json_t *doc = NULL;
    k->found = true;
    if (mjson_parse(x->resolved, strlen(x->resolved), &doc, &k->err) == MAG_OK) {
        struct spec *spec = spec_parse(doc, 0, &is);
        if (spec != NULL) {
            k->dims = spec->space->n;
            k->verifier = verifier_create(spec);
        } else {
            (void)mag_fail(&k->err, MAG_CORRUPT, "its settings are not sound any more: %s: %s",
                           is.items[0].pointer, is.items[0].text);
        }
    }
    mjson_issues_fini(&is);
    json_decref(doc);
    return false;
}

static bool on_event(void *arg, const struct store_event *row)
{
    struct check *k = arg;
    struct event ev;
    if (event_decode((enum event_kind)row->kind, row->text, (size_t)row->text_len, k->dims, &ev,
                     &k->err) != MAG_OK) {
        (void)mag_wrap(&k->err, MAG_CORRUPT, "event %" PRId64, row->seq);
        return false;
    }
    ev.seq = row->seq;
    ev.wall_ms = row->wall_ms;
    ev.up_ms = row->up_ms;
    bool same = verifier_feed(k->verifier, &ev, &k->result);
    event_fini(&ev);
    return same;
}

/* Reads and compares; k->result tells the outcome. */
static enum mag_status verify(const char *url, struct check *k, struct mag_err *err)
{
    struct store_reader *r = NULL;
    enum mag_status st = store_reader_open_url(url, &r, err);
    if (st == MAG_OK) {
        st = store_read_experiments(r, k->id, on_experiment, k, err);
    }
    if (st == MAG_OK && !k->found) {
        st = mag_fail(err, MAG_NOTFOUND, "there is no experiment %" PRId64 " in this store", k->id);
    }
    if (st == MAG_OK && k->err.code == MAG_OK) {
        st = store_read_events(r, k->id, 0, on_event, k, err);
    }
    if (st == MAG_OK && k->err.code != MAG_OK) {
        *err = k->err;
        st = mag_wrap(err, k->err.code, "experiment %" PRId64, k->id);
    }
    verifier_destroy(k->verifier);
    store_reader_close(r);
    return st;
}

static int print_result(const struct check *k, bool json)
{
    bool good = k->result.first_bad == 0;
    if (json) {
        cmd_print_json(json_pack("{s:I, s:b, s:I, s:I, s:s?, s:I, s:s?}", "experiment", k->id,
                                 "verified", good, "events", k->result.events, "skipped",
                                 k->result.skipped, "other_version", k->result.other,
                                 "first_difference", k->result.first_bad, "text", k->result.text));
    } else if (good && k->result.skipped > 0) {
        (void)printf("experiment %" PRId64 ": %" PRId64
                     " events derived again and the same; %" PRId64
                     " were decided by another version (%s) and stand as recorded\n",
                     k->id, k->result.events, k->result.skipped, k->result.other);
    } else if (good) {
        (void)printf("experiment %" PRId64 ": %" PRId64
                     " events, every decision derived again and the same\n",
                     k->id, k->result.events);
    } else {
        (void)printf("experiment %" PRId64 ": event %" PRId64 " differs: %s\n", k->id,
                     k->result.first_bad, k->result.text != NULL ? k->result.text : "");
    }
    return good ? CMD_OK : CMD_FAILED;
}

int cmd_verify(int argc, char **argv)
{
    const char *data = NULL;
    const char *store = NULL;
    bool json = false;
    const struct flag flags[] = {
        FLAG(FLAG_TEXT, "data", &data, "DIR", "data folder of the record [$XDG_DATA_HOME/magpie]"),
        FLAG(FLAG_TEXT, "store", &store, "URL", "the record itself: sqlite:PATH"),
        FLAG(FLAG_BOOL, "json", &json, NULL, "as JSON"),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie verify",
        .args = "ID",
        .flags = flags,
        .min_args = 1,
        .max_args = 1,
        .summary = "Derives every decision of an experiment again from its settings, seed and "
                   "events, and compares.",
        .detail =
            "Reads the store itself, beside a running driver or without one, and changes nothing. "
            "Exit status:\n"
            "0 the record holds, 1 it differs (the first difference is named) or cannot be read. "
            "Decisions\nof another version of the algorithm, which the record names, are counted, "
            "not derived."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    struct check k = {0};
    if (cmd_id(args.items[0], "an experiment", &k.id, &err) != MAG_OK) {
        return cmd_fail(&err);
    }
    char *own = data == NULL ? cmd_default_data_dir() : NULL;
    char *url = store != NULL ? xstrdup(store)
                              : xasprintf("sqlite:%s/magpie.db", data != NULL ? data : own);
    enum mag_status st = verify(url, &k, &err);
    status = st == MAG_OK ? print_result(&k, json) : cmd_fail(&err);
    free(k.result.text);
    free(k.result.other);
    free(url);
    free(own);
    return status;
}
