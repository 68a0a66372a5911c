/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of the experiment file that describe rather than search: what a trial requires, where
 * metrics are found in its output, checkpoints, project, tags, notes, notifications.
 */
#include "driver/spec_read.h"

#include "base/alloc.h"
#include "base/pattern.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TAGS_MAX 64     /* tags; labels */
#define TAG_MAX 128     /* bytes of a tag, a label, a metric's name */
#define EVENT_TAG_MAX 256  /* bytes of a tag in event files */
#define OFFSET_MAX 1000000 /* added to the steps of one */
#define METRICS_MAX 64  /* regular expressions */
#define NOTES_MAX 65536 /* bytes of notes */
#define URL_MAX 2048    /* bytes of a webhook's address */
#define MEMORY_MAX 1e9  /* MiB */

/* ---- lists of short texts ---- */

static bool good_text(const json_t *v)
{
    size_t n = json_string_length(v);
    const char *t = json_string_value(v);
    if (t == NULL || n == 0 || n > TAG_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (iscntrl((unsigned char)t[i])) {
            return false;
        }
    }
    return true;
}

static bool in_list_before(const json_t *list, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        if (json_equal(json_array_get(list, i), json_array_get(list, at))) {
            return true;
        }
    }
    return false;
}

/* True when `list` is an array of distinct short texts. */
static bool check_texts(const json_t *list, const char *pointer, const char *what,
                        struct mjson_issues *is)
{
    int before = is->total;
    if (!json_is_array(list) || json_array_size(list) > TAGS_MAX) {
        mjson_issue(is, pointer, "must be a list of at most %d %ss", TAGS_MAX, what);
        return false;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        char *at = mjson_pointer_index(pointer, i);
        if (!good_text(json_array_get(list, i))) {
            mjson_issue(is, at, "a %s is a string of 1 to %d bytes without control characters",
                        what, TAG_MAX);
        } else if (in_list_before(list, i)) {
            mjson_issue(is, at, "this %s is in the list already", what);
        }
        free(at);
    }
    return is->total == before;
}

/* ---- requires ---- */

int64_t spec_memory(const json_t *o, const char *pointer, const char *key, struct mjson_issues *is)
{
    const json_t *v = json_object_get(o, key);
    if (v == NULL) {
        return 0;
    }
    double mib = json_is_integer(v) ? (double)json_integer_value(v) : -1;
    if (json_is_string(v) && isdigit((unsigned char)json_string_value(v)[0])) {
        char *unit = NULL;
        double x = strtod(json_string_value(v), &unit);
        unit += *unit == ' ';
        mib = strcmp(unit, "MB") == 0 || strcmp(unit, "MiB") == 0   ? x
              : strcmp(unit, "GB") == 0 || strcmp(unit, "GiB") == 0 ? x * 1024
                                                                    : -1;
    }
    if (!(mib >= 0 && mib <= MEMORY_MAX)) {
        mjson_issue_at(is, pointer, key, "must be whole MiB or a text such as \"16GB\"");
        return 0;
    }
    return (int64_t)ceil(mib);
}

static void read_requires(struct spec_requires *r, const json_t *doc, struct mjson_issues *is)
{
    static const char *const keys[] = {"gpus", "gpu_memory", "memory", "cores", "labels", NULL};
    const json_t *o = json_object_get(doc, "requires");
    if (!spec_object(o, "/requires", is)) {
        return;
    }
    mjson_check_keys(o, keys, "/requires", is);
    r->gpus = spec_int(o, "/requires", "gpus", 0, 1024, 0, is);
    r->cores = spec_int(o, "/requires", "cores", 0, 65536, 0, is);
    r->gpu_memory_mb = spec_memory(o, "/requires", "gpu_memory", is);
    r->memory_mb = spec_memory(o, "/requires", "memory", is);
    const json_t *labels = json_object_get(o, "labels");
    if (labels == NULL || !check_texts(labels, "/requires/labels", "label", is)) {
        return;
    }
    r->labels = xcalloc(json_array_size(labels) + 1, sizeof(*r->labels));
    for (size_t i = 0; i < json_array_size(labels); i++) {
        r->labels[r->n_labels++] = xstrdup(json_string_value(json_array_get(labels, i)));
    }
}

/* ---- metrics ---- */

/* {"tensorboard": tag, "offset": n}: from the event files that the program writes. */
static void check_tag(const char *name, const json_t *v, struct mjson_issues *is)
{
    static const char *const keys[] = {"tensorboard", "offset", NULL};
    char *at = mjson_pointer("/metrics", name);
    mjson_check_keys(v, keys, at, is);
    free(spec_text(v, at, "tensorboard", EVENT_TAG_MAX, false, NULL, is));
    (void)spec_int(v, at, "offset", -OFFSET_MAX, OFFSET_MAX, 0, is);
    if (strcmp(name, "step") == 0) {
        mjson_issue(is, at, "an event file's scalars have their own steps: leave \"step\" out, "
                            "or shift a metric's steps with its \"offset\"");
    }
    free(at);
}

static void check_metric(const char *name, const json_t *v, struct mjson_issues *is)
{
    regex_t re;
    struct mag_err err = {0};
    if (json_is_object(v)) {
        check_tag(name, v, is);
        return;
    }
    if (!json_is_string(v)) {
        mjson_issue_at(is, "/metrics", name,
                       "must be a regular expression of 1 to %d bytes, or {\"tensorboard\": TAG}",
                       PATTERN_BYTES_MAX);
        return;
    }
    if (pattern_compile(json_string_value(v), &re, &err) != MAG_OK) {
        mjson_issue_at(is, "/metrics", name, "%s", err.text);
        return;
    }
    if (re.re_nsub < 1) {
        mjson_issue_at(is, "/metrics", name,
                       "needs a group around the number, such as \"accuracy=([0-9.]+)\"");
    }
    regfree(&re);
}

static void read_metrics(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    const char *name = NULL;
    json_t *v = NULL;
    json_t *o = json_object_get(doc, "metrics");
    if (!spec_object(o, "/metrics", is)) {
        return;
    }
    if (json_object_size(o) > METRICS_MAX) {
        mjson_issue(is, "/metrics", "at most %d metrics", METRICS_MAX);
        return;
    }
    json_object_foreach(o, name, v)
    {
        check_metric(name, v, is);
    }
    s->metrics = json_incref(o);
}

/* ---- notify ---- */

#define NOTIFY_RETRY_MS 86400000 /* where nothing is said */

static void check_event(const char *event, struct mjson_issues *is)
{
    static const char *const events[] = {"end", "failure", "target", NULL};
    for (int i = 0; events[i] != NULL; i++) {
        if (strcmp(event, events[i]) == 0) {
            return;
        }
    }
    const char *near = mjson_nearest(event, events);
    mjson_issue(is, "/notify/on",
                "unknown event \"%s\"; the events are end, failure and target%s%s", event,
                near != NULL ? "; did you mean " : "", near != NULL ? near : "");
}

static bool is_url(const char *url)
{
    return url != NULL && strlen(url) <= URL_MAX && strpbrk(url, " \t\r\n") == NULL &&
           (strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0);
}

static void read_notify(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    static const char *const keys[] = {"url", "on", "retry", NULL};
    int before = is->total;
    const json_t *o = json_object_get(doc, "notify");
    if (!spec_object(o, "/notify", is)) {
        return;
    }
    mjson_check_keys(o, keys, "/notify", is);
    const char *url = json_string_value(json_object_get(o, "url"));
    if (!is_url(url)) {
        mjson_issue(is, "/notify/url", "must be an http:// or https:// address without blanks");
    }
    const json_t *on = json_object_get(o, "on");
    if (on != NULL && check_texts(on, "/notify/on", "event", is)) {
        for (size_t i = 0; i < json_array_size(on); i++) {
            check_event(json_string_value(json_array_get(on, i)), is);
        }
    }
    s->notify_recorded = true;
    s->notify_retry_ms = NOTIFY_RETRY_MS;
    if (json_object_get(o, "retry") != NULL) {
        s->notify_retry_ms = spec_duration(o, "/notify", "retry", is);
    }
    if (is->total == before) {
        json_t *all =
            on != NULL ? json_deep_copy(on) : json_pack("[s,s,s]", "end", "failure", "target");
        s->notify = json_pack("{s:s, s:o, s:f}", "url", url, "on", all, "retry",
                              (double)s->notify_retry_ms / 1000);
    }
}

/* ---- all of them ---- */

static void read_tensorboard(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    const json_t *v = json_object_get(doc, "tensorboard");
    if (v != NULL && !json_is_boolean(v)) {
        mjson_issue(is, "/tensorboard",
                    "must be true (write event files for TensorBoard) or false, not %s",
                    mjson_kind(v));
    }
    s->tensorboard = v == NULL || json_is_true(v);
}

static void read_project(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    s->project = spec_text(doc, "", "project", 64, false, "default", is);
    for (const char *p = s->project; p != NULL && *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && (p == s->project || strchr("-_.", *p) == NULL)) {
            mjson_issue(
                is, "/project",
                "a project's name has letters, digits, - _ . and starts with a letter or digit");
            return;
        }
    }
}

void spec_read_extra(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    read_requires(&s->requires_, doc, is);
    read_metrics(s, doc, is);
    read_tensorboard(s, doc, is);
    read_notify(s, doc, is);
    read_project(s, doc, is);
    s->notes = spec_text(doc, "", "notes", NOTES_MAX, true, "", is);
    const json_t *tags = json_object_get(doc, "tags");
    s->tags =
        tags != NULL && check_texts(tags, "/tags", "tag", is) ? json_deep_copy(tags) : json_array();
    spec_read_keep(s, doc, is);
}

void spec_write_extra(const struct spec *s, json_t *out)
{
    const struct spec_requires *r = &s->requires_;
    json_t *labels = json_array();
    for (int i = 0; i < r->n_labels; i++) {
        (void)json_array_append_new(labels, json_string(r->labels[i]));
    }
    (void)json_object_set_new(out, "requires",
                              json_pack("{s:I, s:I, s:I, s:I, s:o}", "gpus", (json_int_t)r->gpus,
                                        "gpu_memory", (json_int_t)r->gpu_memory_mb, "memory",
                                        (json_int_t)r->memory_mb, "cores", (json_int_t)r->cores,
                                        "labels", labels));
    spec_write_keep(s, out);
    (void)json_object_set_new(out, "project", json_string(s->project));
    (void)json_object_set(out, "tags", s->tags);
    (void)json_object_set_new(out, "notes", json_string(s->notes));
    if (s->metrics != NULL) {
        (void)json_object_set(out, "metrics", s->metrics);
    }
    if (!s->tensorboard) {
        (void)json_object_set_new(out, "tensorboard", json_false());
    }
    if (s->notify != NULL) {
        (void)json_object_set(out, "notify", s->notify);
    }
}
