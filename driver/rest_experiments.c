/* SPDX-License-Identifier: Apache-2.0
 *
 * Experiments: start, list, show, delete, and what was found.
 */
#include "driver/rest.h"

#include "base/alloc.h"
#include "driver/driver_internal.h"
#include "driver/rest_filter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- start ---- */

static void answer_created(struct http_call *c, const struct experiment *x)
{
    char location[64];
    (void)snprintf(location, sizeof(location), "/api/v1/experiments/%lld", (long long)x->id);
    http_add_header(c, "Location", location);
    c->status = 201;
    rest_add_experiment(&c->out, c->d, x, true);
    http_reply(c);
}

/* "client\nkey\nhash" from the body, the query or the header Idempotency-Key; NULL = not
 * idempotent. */
static char *request_of(struct http_call *c, struct mjson_issues *is)
{
    const char *key = body_text(c->body, "request", EVENT_REQUEST_MAX, is);
    const char *client = body_text(c->body, "client", EVENT_CLIENT_MAX, is);
    key = key != NULL ? key : http_query(c, "request");
    key = key != NULL ? key : http_header(c, "Idempotency-Key");
    client = client != NULL ? client : http_query(c, "client");
    client = client != NULL ? client : "anonymous";
    if (key == NULL) {
        return NULL;
    }
    if (key[0] == '\0' || strlen(key) > EVENT_REQUEST_MAX || strlen(client) > EVENT_CLIENT_MAX ||
        strchr(key, '\n') != NULL || strchr(client, '\n') != NULL) {
        mjson_issue(is, "/request", "must have 1 to %d bytes, \"client\" at most %d",
                    EVENT_REQUEST_MAX, EVENT_CLIENT_MAX);
        return NULL;
    }
    char hash[33];
    body_hash(c->body, hash);
    return xasprintf("%s\n%s\n%s", client, key, hash);
}

/* True when the same request came before: answered. */
static bool answer_again(struct http_call *c, const char *request)
{
    size_t n = (size_t)(strrchr(request, '\n') - request);
    char *key = xstrndup(request, n);
    const struct experiment *x = strmap_get(&c->d->requests, key);
    free(key);
    if (x == NULL) {
        return false;
    }
    if (strcmp(x->request, request) == 0) {
        answer_created(c, x);
    } else {
        http_problem(c, 409, "this request was sent before with another experiment");
    }
    return true;
}

static void submit(struct http_call *c, const char *text, size_t len, const char *request)
{
    struct mjson_issues is = {0};
    struct mag_err err = {0};
    struct experiment *x = NULL;
    enum mag_status st = driver_submit(c->d, text, len, request, &x, &is, &err);
    if (st == MAG_OK) {
        answer_created(c, x);
    } else if (is.total > 0) {
        http_problem_issues(c, 422, err.text, &is);
        return;
    } else {
        http_problem_status(c, st, &err);
    }
    mjson_issues_fini(&is);
}

void rest_experiments_post(struct http_call *c)
{
    struct mjson_issues is = {0};
    if (c->raw_len > SPEC_BYTES_MAX) {
        http_problem(c, 413, "the experiment file has %zu bytes, %d are allowed", c->raw_len,
                     SPEC_BYTES_MAX);
        return;
    }
    char *request = request_of(c, &is);
    if (is.total > 0) {
        http_problem_issues(c, 422, "the request's key is not valid", &is);
    } else if (request == NULL || !answer_again(c, request)) {
        submit(c, c->raw, c->raw_len, request);
    }
    free(request);
}

/* ---- fork and repeat ---- */

static void add_origin(json_t *doc, const char *what, int64_t id)
{
    const char *old = json_string_value(json_object_get(doc, "notes"));
    char *notes = xasprintf("%s%s%s experiment %lld", old != NULL ? old : "",
                            old != NULL && *old != '\0' ? "\n" : "", what, (long long)id);
    (void)json_object_set_new(doc, "notes", json_string(notes));
    free(notes);
}

/* The experiment file as it was sent, with the seed that was drawn for it. */
static json_t *source_of(const struct experiment *x)
{
    json_t *doc = NULL;
    if (mjson_parse(x->spec_text, x->spec_len, &doc, NULL) != MAG_OK) {
        return json_object();
    }
    (void)json_object_del(doc, "request");
    (void)json_object_del(doc, "client");
    if (json_object_get(doc, "seed") == NULL) {
        (void)json_object_set_new(doc, "seed",
                                  json_integer((json_int_t)study_spec(x->study)->seed));
    }
    return doc;
}

/* RFC 7396. */
static void merge_patch(json_t *target, const json_t *patch)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)patch, key, value)
    {
        json_t *old = json_object_get(target, key);
        if (json_is_null(value)) {
            (void)json_object_del(target, key);
        } else if (json_is_object(value)) {
            json_t *into = json_is_object(old) ? json_incref(old) : json_object();
            merge_patch(into, value);
            (void)json_object_set_new(target, key, into);
        } else {
            (void)json_object_set_new(target, key, json_deep_copy(value));
        }
    }
}

void rest_experiment_fork(struct http_call *c)
{
    if (rest_refuse_broken(c)) {
        return;
    }
    struct mjson_issues is = {0};
    char *request = request_of(c, &is);
    if (is.total > 0) {
        http_problem_issues(c, 422, "the request's key is not valid", &is);
        free(request);
        return;
    }
    if (request == NULL || !answer_again(c, request)) {
        json_t *doc = source_of(c->x);
        (void)json_object_del(c->body, "request");
        (void)json_object_del(c->body, "client");
        add_origin(doc, "forked from", c->x->id);
        merge_patch(doc, c->body);
        char *text = json_dumps(doc, JSON_INDENT(2));
        json_decref(doc);
        submit(c, text, strlen(text), request);
        free(text);
    }
    free(request);
}

/* The k best completed points by value, ties by id. */
static int best_trials(const struct experiment *x, int k, int64_t *ids)
{
    struct page p = {.limit = k, .down = study_spec(x->study)->maximize};
    p.items = xcalloc((size_t)k + 1, sizeof(*p.items));
    for (int64_t id = 1; id <= study_trials(x->study); id++) {
        const struct trial *t = study_trial(x->study, id);
        double v = study_measure(x->study, t, 0);
        if (t->id == t->point_of && study_point_state(x->study, t) == TRIAL_COMPLETED && !isnan(v) &&
            trial_violation(x->study, t) == 0) {
            page_offer(&p, v, id);
        }
    }
    for (int i = 0; i < p.n; i++) {
        ids[i] = p.items[i].id;
    }
    int n = p.n;
    page_fini(&p);
    return n;
}

/* One experiment for each seed: it runs the k points and nothing else, each at full budget. */
static json_t *repeat_of(const struct experiment *x, const int64_t *ids, int k, uint64_t seed)
{
    json_t *doc = source_of(x);
    json_t *points = json_array();
    const struct space *space = study_spec(x->study)->space;
    for (int i = 0; i < k; i++) {
        (void)json_array_append_new(
            points, space_point_to_json(space, study_trial(x->study, ids[i])->point));
    }
    (void)json_object_set_new(doc, "points", points);
    (void)json_object_set_new(doc, "seed", json_integer((json_int_t)seed));
    (void)json_object_set_new(doc, "optimizer", json_pack("{s:s}", "algorithm", "random"));
    (void)json_object_del(doc, "early_stopping");
    json_t *limits = json_object_get(doc, "limits");
    limits = json_is_object(limits) ? limits : json_object();
    (void)json_object_set(doc, "limits", limits);
    (void)json_object_set_new(limits, "trials", json_integer(k));
    (void)json_object_del(limits, "target");
    if (json_is_object(json_object_get(doc, "validation"))) {
        (void)json_object_set_new(json_object_get(doc, "validation"), "refit", json_false());
    }
    const char *name = study_spec(x->study)->name;
    char *label = xasprintf("%s-repeat-%llu", name != NULL && *name != '\0' ? name : "experiment",
                            (unsigned long long)seed);
    (void)json_object_set_new(doc, "name", json_string(label));
    free(label);
    add_origin(doc, "repeats the best of", x->id);
    return doc;
}

void rest_experiment_repeat(struct http_call *c)
{
    static const char *const keys[] = {"best", "seeds", NULL};
    if (rest_refuse_broken(c)) {
        return;
    }
    struct mjson_issues is = {0};
    struct mag_err err = {0};
    int64_t ids[100];
    mjson_check_keys(c->body, keys, "", &is);
    int k = (int)body_int(c->body, "best", 1, 100, 1, &is);
    int seeds = (int)body_int(c->body, "seeds", 1, 100, 3, &is);
    if (is.total > 0) {
        http_problem_issues(c, 422, "the request is not valid", &is);
        return;
    }
    k = best_trials(c->x, k, ids);
    if (k == 0) {
        http_problem(c, 409, "experiment %lld has no completed trial to repeat",
                     (long long)c->x->id);
        return;
    }
    buf_adds(&c->out, "{\"experiments\":[");
    enum mag_status st = MAG_OK;
    for (int i = 0; i < seeds && st == MAG_OK; i++) {
        json_t *doc = repeat_of(c->x, ids, k, study_spec(c->x->study)->seed + 1 + (uint64_t)i);
        char *text = json_dumps(doc, JSON_INDENT(2));
        struct experiment *made = NULL;
        st = driver_submit(c->d, text, strlen(text), NULL, &made, &is, &err);
        if (st == MAG_OK) {
            buf_adds(&c->out, i > 0 ? "," : "");
            rest_add_experiment(&c->out, c->d, made, false);
        }
        free(text);
        json_decref(doc);
    }
    buf_adds(&c->out, "]}");
    if (st == MAG_OK) {
        c->status = 201;
        http_reply(c);
    } else if (is.total > 0) {
        http_problem_issues(c, 422, err.text, &is);
    } else {
        http_problem_status(c, st, &err);
    }
}

/* ---- list, show, delete ---- */

static struct filter_value field_of(const struct experiment *x, const char *field)
{
    const struct spec *spec = x->study != NULL ? study_spec(x->study) : NULL;
    struct filter_value v = {.number = NAN};
    if (strcmp(field, "id") == 0) {
        v.number = (double)x->id;
    } else if (strcmp(field, "created") == 0) {
        v.number = (double)x->created_ms;
    } else if (strcmp(field, "state") == 0) {
        v.text = study_state_name(record_state(x));
    } else if (strcmp(field, "name") == 0) {
        v.text = spec != NULL && spec->name != NULL ? spec->name : "";
    } else if (strcmp(field, "project") == 0) {
        v.text = spec != NULL && spec->project != NULL ? spec->project : "default";
    }
    return v;
}

static bool has_tag(const struct experiment *x, const char *tag)
{
    size_t i = 0;
    const json_t *tags = x->study != NULL ? study_tags(x->study) : NULL;
    for (i = 0; i < json_array_size(tags); i++) {
        if (strcmp(json_string_value(json_array_get(tags, i)), tag) == 0) {
            return true;
        }
    }
    return false;
}

static bool passes(const struct experiment *x, const struct filter *f)
{
    for (int i = 0; i < f->n; i++) {
        struct filter_value v = field_of(x, f->items[i].field);
        bool holds = strcmp(f->items[i].field, "tag") == 0 ? has_tag(x, f->items[i].text)
                                                           : filter_holds(&f->items[i], &v);
        if (!holds) {
            return false;
        }
    }
    return true;
}

static void check_fields(const struct filter *f, const char *sort, struct mjson_issues *is)
{
    static const char *const known[] = {"id", "created", "state", "name", "project", "tag", NULL};
    for (int i = -1; i < f->n; i++) {
        const char *field = i < 0 ? sort : f->items[i].field;
        bool found = false;
        for (int k = 0; known[k] != NULL; k++) {
            found = found || strcmp(known[k], field) == 0;
        }
        if (!found || (i < 0 && strcmp(field, "id") != 0 && strcmp(field, "created") != 0)) {
            mjson_issue(is, "", "%s '%s': experiments are %s", i < 0 ? "sort" : "filter", field,
                        i < 0 ? "sorted by id or created"
                              : "filtered by id, created, state, name, project or tag");
        }
    }
}

void rest_experiments_list(struct http_call *c)
{
    struct mjson_issues is = {0};
    struct filter f = {0};
    struct page p;
    const char *sort = NULL;
    filter_parse(c, &f, &is);
    page_init(&p, c, "id", &sort, &is);
    check_fields(&f, sort, &is);
    if (is.total > 0) {
        page_fini(&p);
        http_problem_issues(c, 422, "the query is not valid", &is);
        return;
    }
    for (struct experiment *x = record_next(c->d, NULL); x != NULL; x = record_next(c->d, x)) {
        if (passes(x, &f)) {
            page_offer(&p, field_of(x, sort).number, x->id);
        }
    }
    buf_adds(&c->out, "{\"experiments\":[");
    for (int i = 0; i < p.n; i++) {
        buf_adds(&c->out, i > 0 ? "," : "");
        rest_add_experiment(&c->out, c->d, record_by_id(c->d, p.items[i].id), false);
    }
    buf_addc(&c->out, ']');
    page_add_next(&p, &c->out);
    buf_addc(&c->out, '}');
    page_fini(&p);
    http_reply(c);
}

void rest_experiment_get(struct http_call *c)
{
    const char *source = http_query(c, "source");
    if (source != NULL && strcmp(source, "1") == 0) {
        buf_add(&c->out, c->x->spec_text, c->x->spec_len);
    } else {
        rest_add_experiment(&c->out, c->d, c->x, true);
    }
    http_reply(c);
}

void rest_experiment_delete(struct http_call *c)
{
    struct mag_err err = {0};
    enum mag_status st = driver_delete(c->d, c->x, &err);
    c->x = NULL;
    if (st == MAG_OK) {
        c->status = 204;
        http_reply(c);
    } else {
        http_problem_status(c, st, &err);
    }
}

/* ---- what was found ---- */

void rest_experiment_best(struct http_call *c)
{
    const struct trial *t = c->x->broken == NULL ? study_best(c->x->study) : NULL;
    if (t == NULL) {
        http_problem(c, 404, "experiment %lld has no trial with a value yet", (long long)c->x->id);
        return;
    }
    rest_add_best(&c->out, c->d, c->x, t);
    http_reply(c);
}

void rest_experiment_result(struct http_call *c)
{
    if (rest_refuse_broken(c)) {
        return;
    }
    const struct trial *t = study_best(c->x->study);
    const struct spec *spec = study_spec(c->x->study);
    buf_adds(&c->out, "{\"experiment\":");
    rest_add_experiment(&c->out, c->d, c->x, true);
    buf_adds(&c->out, ",\"metric\":");
    buf_add_json_string(&c->out, spec->metric);
    buf_adds(&c->out, ",\"value\":");
    buf_add_json_number(&c->out, t != NULL ? study_measure(c->x->study, t, 0) : NAN);
    buf_adds(&c->out, ",\"params\":");
    if (t != NULL) {
        rest_add_params(&c->out, spec->space, t->point);
    } else {
        buf_adds(&c->out, "null");
    }
    buf_adds(&c->out, ",\"best\":");
    if (t != NULL) {
        rest_add_best(&c->out, c->d, c->x, t);
    } else {
        buf_adds(&c->out, "null");
    }
    buf_addc(&c->out, '}');
    http_reply(c);
}

void rest_experiment_pareto(struct http_call *c)
{
    if (rest_refuse_broken(c)) {
        return;
    }
    const struct spec *spec = study_spec(c->x->study);
    int n = 0;
    const int64_t *front = study_front(c->x->study, &n);
    const struct trial *best = study_best(c->x->study);
    bool one = spec->n_objectives == 1 && best != NULL && best->state == TRIAL_COMPLETED &&
               trial_violation(c->x->study, best) == 0;
    json_t *objectives = spec_objectives_json(spec);
    buf_adds(&c->out, "{\"objectives\":");
    rest_add_json(&c->out, objectives);
    json_decref(objectives);
    buf_adds(&c->out, ",\"trials\":[");
    for (int i = 0; i < (one ? 1 : n); i++) {
        buf_adds(&c->out, i > 0 ? "," : "");
        rest_add_best(&c->out, c->d, c->x, one ? best : study_trial(c->x->study, front[i]));
    }
    buf_adds(&c->out, "]}");
    http_reply(c);
}
