/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/said.h"

#include "base/alloc.h"
#include "base/json.h"
#include "wire/wire.h"
#include "worker/lines.h"

#include <stdlib.h>
#include <string.h>

static const char *const types[] = {"ready",    "report", "checkpoint", "result", "error",
                                    "declined", "needs",  "memory",     NULL};
static const char *const statuses[] = {"completed", "stopped", "paused", NULL};
static const char *const causes[] = {"program", "configuration", "out-of-memory", NULL};

/* The index of a word, -1 = none of them. */
static int find_word(const char *word, const char *const *words)
{
    for (int i = 0; word != NULL && words[i] != NULL; i++) {
        if (strcmp(word, words[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static const char *text_of(const json_t *doc, const char *key)
{
    return json_string_value(json_object_get(doc, key));
}

static void unusable(struct said *s, const char *why)
{
    s->kind = SAID_UNUSABLE;
    s->reason = xstrdup(why);
}

static void read_report(struct said *s, const json_t *doc)
{
    json_t *metrics = json_object_get(doc, "metrics");
    if (!lines_step(json_object_get(doc, "step"), &s->step) || !json_is_object(metrics)) {
        unusable(s, "a report needs \"step\" (a whole number from 0 on) and \"metrics\" (an "
                    "object of numbers)");
        return;
    }
    s->metrics = json_incref(metrics);
}

static void read_checkpoint(struct said *s, const json_t *doc)
{
    const char *path = text_of(doc, "path");
    if (!lines_step(json_object_get(doc, "step"), &s->step) || path == NULL || path[0] == '\0') {
        unusable(s, "a checkpoint needs \"step\" (a whole number from 0 on) and \"path\" (its "
                    "folder)");
        return;
    }
    s->path = xstrdup(path);
}

static enum mag_status read_result(struct said *s, const json_t *doc, struct mag_err *err)
{
    json_t *metrics = json_object_get(doc, "metrics");
    int status = find_word(text_of(doc, "status"), statuses);
    if (status < 0) {
        return mag_fail(err, MAG_INVALID,
                        "a result needs \"status\": \"completed\", \"stopped\" or \"paused\"");
    }
    if (metrics != NULL && !json_is_null(metrics) && !json_is_object(metrics)) {
        return mag_fail(err, MAG_INVALID,
                        "\"metrics\" of a result must be an object of numbers, not %s",
                        mjson_kind(metrics));
    }
    s->status = statuses[status];
    s->metrics = json_is_object(metrics) ? json_incref(metrics) : NULL;
    return MAG_OK;
}

/* A number of MiB; 0 where there is none. */
static int64_t mb_of(const json_t *doc, const char *key)
{
    int64_t mb = 0;
    return lines_step(json_object_get(doc, key), &mb) ? mb : 0;
}

static void read_error(struct said *s, const json_t *doc)
{
    const char *reason = text_of(doc, "reason");
    int cause = find_word(text_of(doc, "cause"), causes);
    s->cause = causes[cause >= 0 ? cause : 0];
    s->retry = json_is_true(json_object_get(doc, "retry"));
    s->final = json_is_false(json_object_get(doc, "retry"));
    s->need_mb = mb_of(doc, "need_mb");
    s->reason = xstrdup(reason != NULL && reason[0] != '\0'
                            ? reason
                            : "the program reported an error without a reason");
}

static void read_memory(struct said *s, const json_t *doc)
{
    s->need_mb = mb_of(doc, "need_mb");
    s->data_mb = mb_of(doc, "data_mb");
    s->free_mb = mb_of(doc, "free_mb");
    s->total_mb = mb_of(doc, "total_mb");
    if (s->total_mb == 0) {
        unusable(s, "\"needs\" and \"memory\" tell \"free_mb\" and \"total_mb\" of the GPU");
    }
}

/* Programs that know nothing of groups take one trial at a time. */
static int lanes_of(const json_t *doc)
{
    int64_t n = 0;
    bool given = lines_step(json_object_get(doc, "lanes"), &n);
    return !given || n < 1 ? 1 : n < WIRE_LANES_MAX ? (int)n : WIRE_LANES_MAX;
}

static enum mag_status read_doc(struct said *s, const json_t *doc, struct mag_err *err)
{
    const char *type = text_of(doc, "type");
    const json_t *trial = json_object_get(doc, "trial");
    int kind = find_word(type, types);
    if (type == NULL) {
        return mag_fail(err, MAG_INVALID, "the message has no \"type\"");
    }
    if (trial != NULL && !json_is_null(trial) && (!lines_step(trial, &s->trial) || s->trial < 1)) {
        return mag_fail(err, MAG_INVALID,
                        "\"trial\" must be the number that \"start\" gave, not %s",
                        mjson_kind(trial));
    }
    s->kind = kind >= 0 ? (enum said_kind)kind : SAID_UNUSABLE;
    switch (s->kind) {
    case SAID_READY:
        s->versions = json_incref(json_object_get(doc, "versions"));
        s->lanes = lanes_of(doc);
        s->admits = json_is_true(json_object_get(doc, "admits"));
        break;
    case SAID_NEEDS:
    case SAID_MEMORY:
        read_memory(s, doc);
        break;
    case SAID_DECLINED:
        s->lanes = lanes_of(doc);
        break;
    case SAID_REPORT:
        read_report(s, doc);
        break;
    case SAID_CHECKPOINT:
        read_checkpoint(s, doc);
        break;
    case SAID_RESULT:
        return read_result(s, doc, err);
    case SAID_ERROR:
        read_error(s, doc);
        break;
    case SAID_UNUSABLE:
    default:
        s->reason = xasprintf("\"%.40s\" is no type of message", type);
        break;
    }
    return MAG_OK;
}

enum mag_status said_parse(const char *text, size_t len, struct said *ret, struct mag_err *err)
{
    struct said s = {0};
    json_t *doc = NULL;
    enum mag_status st = mjson_parse_nan(text, len, &doc, err);
    if (st == MAG_OK && !json_is_object(doc)) {
        st = mag_fail(err, MAG_INVALID, "the line is %s, not a JSON object", mjson_kind(doc));
    }
    if (st == MAG_OK) {
        st = read_doc(&s, doc, err);
    }
    json_decref(doc);
    if (st != MAG_OK) {
        said_fini(&s);
        return MAG_INVALID;
    }
    *ret = s;
    return MAG_OK;
}

void said_fini(struct said *s)
{
    free(s->path);
    free(s->reason);
    json_decref(s->metrics);
    json_decref(s->versions);
    *s = (struct said){0};
}
