/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/session.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

static enum mag_status use_dataset(struct session *s, const struct dataset_source *source,
                                   struct mag_err *err)
{
    char *key = dataset_source_key(source);
    if (s->source_key != NULL && strcmp(key, s->source_key) == 0) {
        free(key);
        return MAG_OK;
    }
    dataset_destroy(s->dataset);
    free(s->source_key);
    s->dataset = NULL;
    s->source_key = NULL;
    char *what = xasprintf("reading %s", source->path != NULL ? source->path : "the data set");
    room_doing(what);
    enum mag_status st = dataset_open(source, &s->dataset, err);
    free(what);
    if (st == MAG_OK) {
        s->source_key = key;
    } else {
        free(key);
    }
    return st;
}

static enum mag_status use_backend(struct session *s, const struct training *t, struct mag_err *err)
{
    if (s->backend != NULL && s->ops == t->backend && s->threads == t->threads &&
        s->precision == t->precision) {
        return MAG_OK;
    }
    if (s->backend != NULL) {
        s->ops->close(s->backend);
        s->backend = NULL;
    }
    const struct backend_options o = {
        .threads = t->threads, .device = s->device, .precision = t->precision};
    enum mag_status st = t->backend->open(&o, &s->backend, err);
    s->ops = t->backend;
    s->threads = t->threads;
    s->precision = t->precision;
    return st;
}

enum mag_status session_admit(struct session *s, const struct recipe *r, struct mag_err *err)
{
    const struct room_ask ask = {
        .recipe = r, .dataset = s->dataset, .processes = s->processes, .server = s->server};
    return room_admit(&ask, s->backend, &s->verdict, err);
}

enum mag_status session_prepare(struct session *s, struct recipe *r, uint64_t seed,
                                const struct dataset_part *part, const char *pointer,
                                struct mjson_issues *is, struct mag_err *err)
{
    if (part->column != NULL) {
        r->source.fold_column = xstrdup(part->column);
    }
    enum mag_status st = use_dataset(s, &r->source, err);
    room_doing("preparing the data set");
    if (st == MAG_OK && part->folds > 0) {
        st = dataset_split_part(s->dataset, &r->source, seed, part, err);
    } else if (st == MAG_OK) {
        st = dataset_split(s->dataset, &r->source, seed, r->training.validation, err);
    }
    if (st == MAG_OK && !recipe_fit(r, s->dataset, pointer, is)) {
        return MAG_INVALID;
    }
    if (st == MAG_OK) {
        st = use_backend(s, &r->training, err);
    }
    s->verdict = (struct room_verdict){0};
    if (st == MAG_OK) {
        room_doing("training");
        st = s->asks ? MAG_OK : session_admit(s, r, err);
    } else {
        room_explain(err);
    }
    return st;
}

void session_fini(struct session *s)
{
    dataset_destroy(s->dataset);
    free(s->source_key);
    if (s->backend != NULL) {
        s->ops->close(s->backend);
    }
    *s = (struct session){0};
}
