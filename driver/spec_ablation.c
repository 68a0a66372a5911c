/* SPDX-License-Identifier: Apache-2.0
 *
 * "ablation": leave one component out. The study is a grid: the base, then every feature, layer and
 * group of layers once (or "repeats" times), told to trials as the parameters ablated_feature and
 * ablated_layer, which the base does not have. So its file is made into one with a searchspace and
 * the grid before anything else reads it; the resolved file has both and reads as the same.
 */
#include "driver/spec_read.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define REPEATS_MAX 1000
#define COMPONENTS_MAX 1000

struct parts {
    json_t *features, *layers; /* arrays of strings: the values of the two parameters; owned */
    int64_t repeats;
    struct mjson_issues *is;
};

/* ---- reading ---- */

static bool has(const json_t *list, const char *text)
{
    size_t i = 0;
    const json_t *v = NULL;
    json_array_foreach(list, i, v)
    {
        if (strcmp(json_string_value(v), text) == 0) {
            return true;
        }
    }
    return false;
}

static void add(struct parts *p, json_t *to, const char *pointer, const char *text)
{
    if (has(to, text)) {
        mjson_issue(p->is, pointer, "\"%.100s\" is there twice", text);
    } else if (json_array_size(to) == COMPONENTS_MAX) {
        mjson_issue(p->is, pointer, "more than %d components", COMPONENTS_MAX);
    } else {
        (void)json_array_append_new(to, json_string(text));
    }
}

/* A name of one component; NULL with an issue when it is none. */
static const char *read_name(struct parts *p, const json_t *v, const char *pointer, bool layer)
{
    const char *name = json_string_value(v);
    if (name == NULL || name[0] == '\0' || strlen(name) > 128) {
        mjson_issue(p->is, pointer, "must be a name of 1 to 128 bytes, not %s", mjson_kind(v));
        return NULL;
    }
    if (layer && strpbrk(name, ",*") != NULL) {
        mjson_issue(p->is, pointer,
                    "a layer's name has no , and no *: these stand for groups in ablated_layer");
        return NULL;
    }
    return name;
}

static const json_t *read_list(struct parts *p, const json_t *o, const char *key, const char *what)
{
    const json_t *list = json_object_get(o, key);
    if (list != NULL && !json_is_array(list)) {
        mjson_issue_at(p->is, "/ablation", key, "must be a list of %s, not %s", what,
                       mjson_kind(list));
        return NULL;
    }
    return list;
}

static void read_names(struct parts *p, const json_t *o, const char *key, json_t *to, bool layer)
{
    size_t i = 0;
    const json_t *v = NULL;
    char *base = mjson_pointer("/ablation", key);
    json_array_foreach(read_list(p, o, key, "names"), i, v)
    {
        char *at = mjson_pointer_index(base, i);
        const char *name = read_name(p, v, at, layer);
        if (name != NULL) {
            add(p, to, at, name);
        }
        free(at);
    }
    free(base);
}

/* ["a", "b"] is "a,b"; {"prefix": "conv"} is "conv*". */
static void read_group(struct parts *p, const json_t *group, const char *pointer)
{
    static const char *const keys[] = {"prefix", NULL};
    struct buf text = {0};
    const json_t *prefix = json_object_get(group, "prefix");
    int before = p->is->total;
    if (json_is_object(group)) {
        mjson_check_keys(group, keys, pointer, p->is);
        char *at = mjson_pointer(pointer, "prefix");
        const char *name = read_name(p, prefix, at, true);
        buf_addf(&text, "%s*", name != NULL ? name : "");
        free(at);
    } else if (json_is_array(group) && json_array_size(group) >= 2) {
        size_t i = 0;
        const json_t *v = NULL;
        json_array_foreach(group, i, v)
        {
            char *at = mjson_pointer_index(pointer, i);
            const char *name = read_name(p, v, at, true);
            buf_addf(&text, "%s%s", i > 0 ? "," : "", name != NULL ? name : "");
            free(at);
        }
    } else {
        mjson_issue(p->is, pointer,
                    "must be a list of two layers or more, or {\"prefix\": \"conv\"}");
    }
    if (p->is->total == before) {
        add(p, p->layers, pointer, text.data);
    }
    buf_fini(&text);
}

static void read_groups(struct parts *p, const json_t *o)
{
    size_t i = 0;
    const json_t *v = NULL;
    json_array_foreach(read_list(p, o, "groups", "groups of layers"), i, v)
    {
        char *at = mjson_pointer_index("/ablation/groups", i);
        read_group(p, v, at);
        free(at);
    }
}

/* ---- what does not go with it ---- */

static void check_rest(const json_t *doc, struct mjson_issues *is)
{
    const json_t *algorithm = json_object_get(json_object_get(doc, "optimizer"), "algorithm");
    if (json_object_get(doc, "optimizer") != NULL &&
        (!json_is_string(algorithm) || strcmp(json_string_value(algorithm), "grid") != 0)) {
        mjson_issue(is, "/optimizer",
                    "an ablation study runs every component once, in order: leave this out");
    }
    if (json_object_get(doc, "early_stopping") != NULL) {
        mjson_issue(is, "/early_stopping",
                    "an ablation study compares whole trials: leave this out");
    }
}

/* ---- the searchspace ---- */

static void put_parameter(json_t *space, const char *name, json_t *definition_take,
                          struct mjson_issues *is)
{
    const json_t *own = json_object_get(space, name);
    if (own != NULL && !json_equal(own, definition_take)) {
        mjson_issue_at(is, "/searchspace", name, "is the ablation's own parameter: leave it out");
    }
    (void)json_object_set_new(space, name, definition_take);
}

static json_t *component(const json_t *values, const char *kind)
{
    return json_pack("{s:s, s:O, s:{s:[s]}}", "type", "CATEGORICAL", "values", values, "when",
                     "ablated", kind);
}

static json_t *make_space(const json_t *given, const struct parts *p)
{
    json_t *space = json_is_object(given) ? json_copy((json_t *)(uintptr_t)given) : json_object();
    json_t *kinds = json_pack("[s]", "none");
    if (json_array_size(p->features) > 0) {
        (void)json_array_append_new(kinds, json_string("feature"));
        put_parameter(space, "ablated_feature", component(p->features, "feature"), p->is);
    }
    if (json_array_size(p->layers) > 0) {
        (void)json_array_append_new(kinds, json_string("layer"));
        put_parameter(space, "ablated_layer", component(p->layers, "layer"), p->is);
    }
    put_parameter(space, "ablated",
                  json_pack("{s:s, s:o}", "type", "CATEGORICAL", "values", kinds), p->is);
    if (p->repeats > 1) {
        put_parameter(space, "ablation_repeat",
                      json_pack("{s:s, s:[i, I], s:s}", "type", "INTEGER", "range", 1,
                                (json_int_t)p->repeats, "scale", "linear"),
                      p->is);
    }
    return space;
}

json_t *spec_expand_ablation(const json_t *doc, struct mjson_issues *is)
{
    static const char *const keys[] = {"features", "layers", "groups", "repeats", NULL};
    const json_t *o = json_object_get(doc, "ablation");
    if (o == NULL || !spec_object(o, "/ablation", is)) {
        return NULL;
    }
    int before = is->total;
    struct parts p = {.features = json_array(), .layers = json_array(), .is = is};
    mjson_check_keys(o, keys, "/ablation", is);
    read_names(&p, o, "features", p.features, false);
    read_names(&p, o, "layers", p.layers, true);
    read_groups(&p, o);
    p.repeats = spec_int(o, "/ablation", "repeats", 1, REPEATS_MAX, 1, is);
    if (is->total == before && json_array_size(p.features) + json_array_size(p.layers) == 0) {
        mjson_issue(is, "/ablation",
                    "names nothing to leave out: give \"features\", \"layers\" or \"groups\"");
    }
    check_rest(doc, is);
    json_t *expanded = json_copy((json_t *)(uintptr_t)doc);
    (void)json_object_set_new(expanded, "searchspace",
                              make_space(json_object_get(doc, "searchspace"), &p));
    (void)json_object_set_new(expanded, "optimizer", json_pack("{s:s}", "algorithm", "grid"));
    json_decref(p.features);
    json_decref(p.layers);
    return expanded;
}

/* ---- afterwards ---- */

static bool is_ours(const char *name)
{
    static const char *const ours[] = {"ablated", "ablated_feature", "ablated_layer",
                                       "ablation_repeat"};
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        if (strcmp(ours[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static void check_fixed(const struct spec *s, struct mjson_issues *is)
{
    for (int i = 0; s->space != NULL && i < s->space->n; i++) {
        const struct param *p = &s->space->params[i];
        if (!is_ours(p->name) && (p->n_values > 0 ? p->n_values > 1 : p->lo < p->hi)) {
            mjson_issue_at(is, "/searchspace", p->name,
                           "has several values, and an ablation study has one base: give one value, "
                           "such as the best of an earlier search");
        }
    }
}

/* Names of the built-in model's layers; the last one is not among them: it gives the result. */
static json_t *layer_names(const json_t *layers, const char **ret_last)
{
    json_t *names = json_array();
    size_t i = 0;
    const json_t *item = NULL;
    json_array_foreach(layers, i, item)
    {
        const json_t *name = json_object_get(item, "name");
        if (json_is_string(name) && i + 1 < json_array_size(layers)) {
            (void)json_array_append(names, (json_t *)(uintptr_t)name);
        } else if (json_is_string(name)) {
            *ret_last = json_string_value(name);
        }
        size_t k = 0;
        const json_t *inner = NULL;
        json_array_foreach(item, k, inner)
        {
            if (json_is_string(json_object_get(inner, "name"))) {
                (void)json_array_append(names, json_object_get(inner, "name"));
            }
        }
    }
    return names;
}

static void check_layer(const json_t *names, const char *last, const char *want, const char *at,
                        struct mjson_issues *is)
{
    if (has(names, want)) {
        return;
    }
    if (last != NULL && strcmp(last, want) == 0) {
        mjson_issue(is, at, "\"%.100s\" is the last layer: it gives the result and stays", want);
        return;
    }
    const char **known = xcalloc(json_array_size(names) + 1, sizeof(*known));
    for (size_t i = 0; i < json_array_size(names); i++) {
        known[i] = json_string_value(json_array_get(names, i));
    }
    const char *near = mjson_nearest(want, known);
    mjson_issue(is, at, "the model has no layer with the \"name\" \"%.100s\"%s%s%s", want,
                near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
                near != NULL ? "\"?" : "");
    free(known);
}

static void check_prefix(const json_t *names, const char *prefix, const char *at,
                         struct mjson_issues *is)
{
    size_t i = 0;
    const json_t *v = NULL;
    json_array_foreach(names, i, v)
    {
        if (strncasecmp(json_string_value(v), prefix, strlen(prefix)) == 0) {
            return;
        }
    }
    mjson_issue(is, at, "no layer's \"name\" but perhaps the last one's begins with \"%.100s\"",
                prefix);
}

static void check_builtin(const struct spec *s, const json_t *o, struct mjson_issues *is)
{
    const char *last = NULL;
    json_t *names = layer_names(
        json_object_get(json_object_get(s->trial, "model"), "layers"), &last);
    const char *const lists[] = {"layers", "groups"};
    for (int k = 0; k < 2; k++) {
        char *base = mjson_pointer("/ablation", lists[k]);
        size_t i = 0;
        const json_t *v = NULL;
        json_array_foreach(json_object_get(o, lists[k]), i, v)
        {
            char *at = mjson_pointer_index(base, i);
            size_t j = 0;
            const json_t *inner = NULL;
            if (json_is_string(v)) {
                check_layer(names, last, json_string_value(v), at, is);
            } else if (json_is_object(v)) {
                check_prefix(names, json_string_value(json_object_get(v, "prefix")), at, is);
            }
            json_array_foreach(v, j, inner)
            {
                check_layer(names, last, json_string_value(inner), at, is);
            }
            free(at);
        }
        free(base);
    }
    json_decref(names);
}

void spec_read_ablation(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    json_t *o = json_object_get(doc, "ablation");
    if (!json_is_object(o)) {
        return;
    }
    int before = is->total;
    check_fixed(s, is);
    if (s->program == SPEC_BUILTIN && is->total == before) {
        check_builtin(s, o, is);
    }
    s->ablation = json_deep_copy(o);
}
