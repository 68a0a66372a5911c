/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/check.h"

#include "base/alloc.h"
#include "base/pcg.h"
#include "trainer/dataset.h"
#include "trainer/recipe.h"
#include "trainer/tally.h"

#include <stdlib.h>
#include <string.h>

/* One parameter and the values that are tried: bounds of a range, all of a list. */
struct candidate {
    const char *name;
    const json_t *definition; /* for "when" */
    json_t *values;           /* owned array */
    size_t at;
};

/* Stages that were run, and the shape of an example that they made. */
struct prepared {
    char *key;
    struct shape shape;
};

struct check {
    const json_t *trial;
    const json_t *space; /* "searchspace", or NULL */
    const char *pointer; /* of the trial object */
    const json_t *validation; /* of the experiment, or NULL */
    struct candidate *params;
    size_t n;
    char *source_key; /* of `dataset` */
    struct dataset *dataset;
    struct prepared *shapes; /* of `dataset` */
    size_t n_shapes;
    struct mjson_issues *issues;
    struct check_summary *summary;
};

/* ---- the corners of the searchspace ---- */

/* The listed values of a definition in the long or the short form; NULL when it has none that could
 * be read (the searchspace's own check says why). */
static json_t *candidate_values(const json_t *d)
{
    const json_t *list = json_object_get(d, "values");
    if (list == NULL) {
        list = json_object_get(d, "range");
    }
    if (json_is_array(d) && json_array_size(d) >= 2) {
        list = json_array_get(d, 1);
    }
    if (!json_is_array(list) || json_array_size(list) == 0) {
        return NULL;
    }
    return json_copy((json_t *)(uintptr_t)list);
}

static void collect(struct check *c)
{
    const char *name = NULL;
    json_t *d = NULL;
    c->params = xcalloc(json_object_size(c->space) + 1, sizeof(*c->params));
    json_object_foreach((json_t *)(uintptr_t)c->space, name, d)
    {
        json_t *values = candidate_values(d);
        if (values == NULL) {
            mjson_issue_at(c->issues, "/searchspace", name,
                           "no range and no values can be read here");
            continue;
        }
        c->params[c->n++] = (struct candidate){.name = name, .definition = d, .values = values};
    }
}

static const struct candidate *find(const struct check *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++) {
        if (strcmp(c->params[i].name, name) == 0) {
            return &c->params[i];
        }
    }
    return NULL;
}

/* Follows "when" up to the root; depth-limited, because a cycle is another check's to report. */
static bool is_active(const struct check *c, const struct candidate *p, int depth)
{
    const json_t *when = json_object_get(p->definition, "when");
    const char *parent_name = NULL;
    json_t *allowed = NULL;
    json_object_foreach((json_t *)(uintptr_t)when, parent_name, allowed)
    {
        const struct candidate *parent = find(c, parent_name);
        if (parent == NULL || depth > 64 || !is_active(c, parent, depth + 1)) {
            return false;
        }
        const json_t *value = json_array_get(parent->values, parent->at);
        bool hit = false;
        size_t i = 0;
        json_t *v = NULL;
        json_array_foreach(allowed, i, v)
        {
            hit = hit || json_equal(v, value) ||
                  (json_is_number(v) && json_is_number(value) &&
                   json_number_value(v) == json_number_value(value));
        }
        if (!hit) {
            return false;
        }
    }
    return true;
}

static json_t *point(const struct check *c)
{
    json_t *o = json_object();
    for (size_t i = 0; i < c->n; i++) {
        if (is_active(c, &c->params[i], 0)) {
            (void)json_object_set(o, c->params[i].name,
                                  json_array_get(c->params[i].values, c->params[i].at));
        }
    }
    return o;
}

/* Moves to the next corner, last parameter fastest; false after the last. */
static bool next_corner(struct check *c)
{
    for (size_t i = c->n; i > 0; i--) {
        struct candidate *p = &c->params[i - 1];
        if (++p->at < json_array_size(p->values)) {
            return true;
        }
        p->at = 0;
    }
    return false;
}

/* ---- one corner ---- */

/* Every fold must have rows, and the column that names folds must be there. */
static enum mag_status split_by(const struct check *c, const struct dataset_source *s,
                                struct mag_err *err)
{
    const json_t *folds = json_object_get(c->validation, "folds");
    struct dataset_part p = {.folds = json_is_integer(folds) ? (int)json_integer_value(folds) : 1,
                             .column = s->fold_column,
                             .stratified =
                                 json_is_true(json_object_get(c->validation, "stratified"))};
    p.train_ratio =
        p.folds == 1 ? json_number_value(json_object_get(c->validation, "train_ratio")) : 0;
    enum mag_status st = MAG_OK;
    for (p.fold = 0; st == MAG_OK && p.fold <= p.folds; p.fold++) {
        st = dataset_split_part(c->dataset, s, 0, &p, err);
    }
    return st;
}

/* Splits the data and makes them ready by the recipe's stages. */
static bool prepare(struct check *c, const struct recipe *r)
{
    const struct dataset_source *s = &r->source;
    struct mag_err err = {0};
    enum mag_status st = c->validation != NULL
                             ? split_by(c, s, &err)
                             : dataset_split(c->dataset, s, 0, r->training.validation, &err);
    if (st != MAG_OK) {
        bool stages = c->dataset->n_train > 0 && s->stages != NULL;
        mjson_issue_at(c->issues, c->pointer, stages ? "preprocessing" : "dataset", "%s", err.text);
    }
    return st == MAG_OK;
}

static void forget_shapes(struct check *c)
{
    for (size_t i = 0; i < c->n_shapes; i++) {
        free(c->shapes[i].key);
    }
    free(c->shapes);
    c->shapes = NULL;
    c->n_shapes = 0;
}

static bool open_dataset(struct check *c, struct dataset_source *s)
{
    char *key = dataset_source_key(s);
    if (c->source_key != NULL && strcmp(key, c->source_key) == 0) {
        free(key);
        return c->dataset != NULL;
    }
    free(c->source_key);
    c->source_key = key;
    dataset_destroy(c->dataset);
    c->dataset = NULL;
    forget_shapes(c);
    struct mag_err err = {0};
    if (dataset_probe(s, &c->dataset, &err) != MAG_OK) {
        mjson_issue_at(c->issues, c->pointer, "dataset", "%s", err.text);
        return false;
    }
    return true;
}

/* Opens and prepares the recipe's data; stages that were tried before are not run again. */
static bool use_dataset(struct check *c, struct recipe *r)
{
    struct dataset_source *s = &r->source;
    const char *column = json_string_value(json_object_get(c->validation, "fold_column"));
    s->fold_column = column != NULL ? xstrdup(column) : NULL;
    if (!open_dataset(c, s)) {
        return false;
    }
    char *key = dataset_stages_key(s);
    for (size_t i = 0; i < c->n_shapes; i++) {
        if (strcmp(c->shapes[i].key, key) == 0) {
            c->dataset->shape = c->shapes[i].shape;
            free(key);
            return true;
        }
    }
    if (!prepare(c, r)) {
        free(key);
        return false;
    }
    c->shapes = xreallocarray(c->shapes, c->n_shapes + 1, sizeof(*c->shapes));
    c->shapes[c->n_shapes++] = (struct prepared){.key = key, .shape = c->dataset->shape};
    return true;
}

/* Remembers the corner that takes the most memory. */
static void weigh(struct check *c, const struct recipe *r, const json_t *params)
{
    struct check_summary *s = c->summary;
    const struct room_ask ask = {.recipe = r, .dataset = c->dataset};
    struct room room;
    room_of(&ask, &room);
    if (model_weights(&r->model) > s->most_weights) {
        s->most_weights = model_weights(&r->model);
    }
    if (s->largest == NULL || room_sum(&room) > room_sum(&s->room)) {
        json_decref(s->largest);
        s->largest = json_deep_copy(params);
        s->room = room;
        s->rows = room_rows(&ask);
    }
}

static bool try_point(struct check *c, const json_t *params, struct recipe *keep)
{
    const struct recipe_context ctx = {.params = params, .declared = c->space};
    struct recipe r;
    if (!recipe_parse(c->trial, c->pointer, &ctx, c->issues, &r)) {
        return false;
    }
    bool good = use_dataset(c, &r) && recipe_fit(&r, c->dataset, c->pointer, c->issues);
    if (good) {
        weigh(c, &r, params);
        *keep = r;
        keep->source = (struct dataset_source){0};
    }
    recipe_fini(&r);
    return good;
}

/* Says with which values the last issues arise, unless they do with any. */
static void add_example(struct check *c, const json_t *params, int from)
{
    char *text = json_object_size(params) > 0 ? mjson_dump(params) : NULL;
    for (int i = from; i < c->issues->n && text != NULL && strlen(text) < 400; i++) {
        char *longer = xasprintf("%s (with %s)", c->issues->items[i].text, text);
        free(c->issues->items[i].text);
        c->issues->items[i].text = longer;
    }
    free(text);
}

/* Tries one corner; false, with its issues, when it does not fit. */
static bool try_corner(struct check *c, struct recipe *keep)
{
    int before = c->issues->n;
    json_t *params = point(c);
    bool good = try_point(c, params, keep);
    if (!good && c->summary->points > 0) {
        add_example(c, params, before);
    }
    c->summary->points++;
    json_decref(params);
    return good;
}

static bool try_all(struct check *c, struct recipe *keep)
{
    double corners = 1;
    for (size_t i = 0; i < c->n; i++) {
        corners *= (double)json_array_size(c->params[i].values);
    }
    bool good = try_corner(c, keep);
    if (corners <= CHECK_POINTS_MAX) {
        while (good && next_corner(c)) {
            good = try_corner(c, keep);
        }
        return good;
    }
    struct pcg64 g;
    pcg_stream(&g, 0, "check", 0);
    for (int k = 1; good && k < CHECK_POINTS_MAX; k++) {
        for (size_t i = 0; i < c->n; i++) {
            size_t n = json_array_size(c->params[i].values);
            c->params[i].at = k == 1 ? n - 1 : (size_t)pcg64_below(&g, n);
        }
        good = try_corner(c, keep);
    }
    return good;
}

/* ---- ablation: every component left out, once ---- */

/* What "ablated_layer" says for a group, as the driver writes it; malloc'ed. */
static char *group_text(const json_t *group)
{
    struct buf b = {0};
    size_t i = 0;
    const json_t *v = NULL;
    if (json_is_object(group)) {
        const char *prefix = json_string_value(json_object_get(group, "prefix"));
        buf_addf(&b, "%s*", prefix != NULL ? prefix : "");
    }
    json_array_foreach(group, i, v)
    {
        buf_addf(&b, "%s%s", i > 0 ? "," : "", json_is_string(v) ? json_string_value(v) : "");
    }
    return buf_take(&b);
}

static void check_without(struct check *c, const char *pointer, const char *key, const char *text)
{
    struct mjson_issues *all = c->issues;
    struct mjson_issues own = {0};
    struct recipe keep;
    json_t *params = point(c);
    (void)json_object_set_new(params, key, json_string(text));
    c->issues = &own;
    if (!try_point(c, params, &keep)) {
        mjson_issue(all, pointer, "without \"%.100s\": %s: %s", text,
                    own.n > 0 ? own.items[0].pointer : "", own.n > 0 ? own.items[0].text : "?");
    }
    c->issues = all;
    c->summary->points++;
    mjson_issues_fini(&own);
    json_decref(params);
}

static void check_ablation(struct check *c, const json_t *ablation)
{
    static const char *const lists[][2] = {{"features", "ablated_feature"},
                                           {"layers", "ablated_layer"},
                                           {"groups", "ablated_layer"}};
    for (size_t k = 0; k < 3; k++) {
        char *base = mjson_pointer("/ablation", lists[k][0]);
        size_t i = 0;
        const json_t *v = NULL;
        json_array_foreach(json_object_get(ablation, lists[k][0]), i, v)
        {
            char *at = mjson_pointer_index(base, i);
            char *text = json_is_string(v) ? xstrdup(json_string_value(v)) : group_text(v);
            check_without(c, at, lists[k][1], text != NULL ? text : "");
            free(text);
            free(at);
        }
        free(base);
    }
}

/* ---- the objective ---- */

static void check_objective(struct check *c, const json_t *doc, const struct recipe *r)
{
    const char *metric =
        json_string_value(json_object_get(json_object_get(doc, "objective"), "metric"));
    if (metric == NULL) {
        return;
    }
    int k = 0;
    while (measure_names[k] != NULL && strcmp(measure_names[k], metric) != 0) {
        k++;
    }
    const char *at = "/objective/metric";
    if (measure_names[k] == NULL) {
        const char *near = mjson_nearest(metric, measure_names);
        mjson_issue(c->issues, at,
                    "the built-in trainer reports no \"%.100s\"; did you mean \"%s\"? (It reports "
                    "val_accuracy, val_loss and what else docs/TRAINER.md lists.)",
                    metric, near != NULL ? near : measure_names[0]);
    } else if (c->dataset->n_classes == 0 && strstr(metric, "accuracy") != NULL) {
        mjson_issue(c->issues, at,
                    "there is no accuracy when a number is predicted; use \"val_loss\"");
    } else if (!measure_there(metric, c->dataset->n_classes, r->training.loss.kind)) {
        mjson_issue(c->issues, at, "with these data there is no \"%s\"; use \"val_loss\"", metric);
    } else if (strncmp(metric, "val_", 4) == 0 && c->validation == NULL && !(r->training.validation > 0)) {
        mjson_issue(c->issues, at,
                    "\"%s\" needs a validation part: give \"training\" a \"validation\" above 0",
                    metric);
    }
}

/* What does not go with ranks; the object itself is the experiment file's to check. */
static void check_distribution(struct check *c, const json_t *distribution)
{
    const char *strategy = json_string_value(json_object_get(distribution, "strategy"));
    const json_t *ema = json_object_get(json_object_get(c->trial, "training"), "ema");
    if (strategy != NULL && strcmp(strategy, "parameter_server") == 0 && ema != NULL &&
        json_number_value(ema) != 0) {
        mjson_issue(c->issues, "/trial/training/ema",
                    "does not go with \"strategy\": \"parameter_server\": its ranks share one set of "
                    "weights");
    }
}

bool check_document(const json_t *doc, struct mjson_issues *is, struct check_summary *ret)
{
    int before = is->total;
    *ret = (struct check_summary){0};
    const json_t *trial = json_object_get(doc, "trial");
    struct check c = {.trial = trial != NULL ? trial : doc,
                      .pointer = trial != NULL ? "/trial" : "",
                      .space = trial != NULL ? json_object_get(doc, "searchspace") : NULL,
                      .issues = is,
                      .summary = ret};
    struct recipe r = {0};
    const json_t *own = json_object_get(json_object_get(c.trial, "training"), "validation");
    if (trial != NULL && json_is_object(json_object_get(doc, "validation"))) {
        c.validation = json_object_get(doc, "validation");
    }
    if (c.validation != NULL && own != NULL) {
        mjson_issue(is, "/trial/training/validation",
                    "the experiment's \"validation\" says what is held out: leave this out");
    }
    collect(&c);
    if (is->total == before && try_all(&c, &r)) {
        check_objective(&c, doc, &r);
        check_distribution(&c, trial != NULL ? json_object_get(doc, "distribution") : NULL);
        check_ablation(&c, trial != NULL ? json_object_get(doc, "ablation") : NULL);
    }
    if (is->total == before && c.dataset != NULL) {
        shape_text(&c.dataset->shape, ret->shape);
        ret->n_classes = c.dataset->n_classes;
        ret->n_rows = c.dataset->n_rows;
    }
    for (size_t i = 0; i < c.n; i++) {
        json_decref(c.params[i].values);
    }
    free(c.params);
    free(c.source_key);
    forget_shapes(&c);
    dataset_destroy(c.dataset);
    return is->total == before;
}

void check_summary_fini(struct check_summary *s)
{
    json_decref(s->largest);
    *s = (struct check_summary){0};
}

json_t *check_summary_json(const struct check_summary *s)
{
    struct buf text = {0};
    json_t *memory = room_json(&s->room);
    room_text(&s->room, s->rows, &text);
    (void)json_object_set_new(memory, "batch", json_integer(s->rows));
    (void)json_object_set(memory, "of", s->largest);
    (void)json_object_set_new(memory, "text", json_string(text.data));
    buf_fini(&text);
    return json_pack("{s:I, s:s, s:i, s:I, s:i, s:o}", "examples", (json_int_t)s->n_rows, "input",
                     s->shape, "classes", s->n_classes, "weights", (json_int_t)s->most_weights,
                     "corners", s->points, "memory", memory);
}
