/* SPDX-License-Identifier: Apache-2.0
 *
 * recipe_keys: what the parser of recipes takes, as JSON: {"PLACE": {"KEY": {…}, …}, …}. It is
 * found out by parsing one recipe of each kind and listening to what is looked for.
 * tools/gen-recipe-schema makes the published schema of it.
 */
#include "base/alloc.h"
#include "base/json.h"
#include "trainer/format.h"
#include "trainer/recipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is listened to: keys of one object of a recipe. */
struct listener {
    const char *pointer;
    json_t *keys;
};

static void listen(void *ctx, const struct recipe_key *k)
{
    static const char *const kinds[] = {"whole", "number", "flag", "choice"};
    const struct listener *l = ctx;
    if (strcmp(k->pointer, l->pointer) != 0) {
        return;
    }
    json_t *o = json_pack("{s:s, s:b}", "kind", kinds[k->kind], "required", k->required);
    if (k->kind == KEY_WHOLE || k->kind == KEY_NUMBER) {
        (void)json_object_set_new(o, "lo", json_real(k->lo));
        (void)json_object_set_new(o, "hi", json_real(k->hi));
    }
    for (int i = 0; k->names != NULL && k->names[i] != NULL; i++) {
        json_t *names = json_object_get(o, "names");
        if (names == NULL) {
            names = json_array();
            (void)json_object_set_new(o, "names", names);
        }
        (void)json_array_append_new(names, json_string(k->names[i]));
    }
    (void)json_object_set_new(l->keys, k->key, o);
}

/* Parses the recipe and tells whether a key at the pointer was unknown to it. */
static bool parse(json_t *trial, struct listener *l, const char *key)
{
    struct mjson_issues *is = xcalloc(1, sizeof(*is));
    const struct recipe_context ctx = {.looks = listen, .looks_ctx = l};
    struct recipe r;
    bool unknown = false;
    if (recipe_parse(trial, "/trial", &ctx, is, &r)) {
        recipe_fini(&r);
    }
    char *at = mjson_pointer(l->pointer, key);
    for (int i = 0; i < is->n; i++) {
        unknown = unknown || (strcmp(is->items[i].pointer, at) == 0 &&
                              strncmp(is->items[i].text, "unknown key", 11) == 0);
    }
    free(at);
    mjson_issues_fini(is);
    free(is);
    return unknown;
}

/* {"trial"…} with `object` where the pointer says; "0" is a list's first. */
static json_t *recipe_with(const char *pointer, json_t *object)
{
    char *path = xstrdup(pointer + strlen("/trial"));
    json_t *at = json_incref(object);
    for (char *slash = NULL; (slash = strrchr(path, '/')) != NULL; *slash = '\0') {
        json_t *outer = slash[1] == '0' ? json_pack("[o]", at) : json_pack("{s:o}", slash + 1, at);
        at = outer;
    }
    (void)json_object_set_new(at, "program", json_string("builtin"));
    (void)json_object_set_new(at, "dataset", json_string("idx:/x"));
    if (json_object_get(at, "model") == NULL) {
        (void)json_object_set_new(at, "model", json_pack("{s:s}", "family", "linear"));
    }
    free(path);
    return at;
}

/* Every key that the object takes when its `key` is `value` (NULL: it has none). */
static json_t *keys_of(const char *pointer, const char *key, const char *value)
{
    json_t *object = json_object();
    struct listener l = {.pointer = pointer, .keys = json_object()};
    if (key != NULL) {
        (void)json_object_set_new(object, key, json_string(value));
    }
    json_t *trial = recipe_with(pointer, object);
    (void)parse(trial, &l, "");
    json_decref(trial);
    const char *name = NULL;
    json_t *about = NULL;
    void *next = NULL;
    json_object_foreach_safe(l.keys, next, name, about)
    {
        struct listener again = {.pointer = pointer, .keys = json_object()};
        json_t *tried = json_deep_copy(object);
        if (json_object_get(tried, name) == NULL) {
            (void)json_object_set_new(tried, name, json_string("${x}"));
        }
        trial = recipe_with(pointer, tried);
        if (parse(trial, &again, name)) {
            (void)json_object_del(l.keys, name);
        }
        json_decref(again.keys);
        json_decref(trial);
        json_decref(tried);
    }
    json_decref(object);
    return l.keys;
}

/* One entry for each value of a choice. */
static void add_kinds(json_t *to, const char *label, const char *pointer, const char *key)
{
    json_t *any = keys_of(pointer, key, "?");
    json_t *names = json_incref(json_object_get(json_object_get(any, key), "names"));
    size_t i = 0;
    json_t *name = NULL;
    json_array_foreach(names, i, name)
    {
        char *place = xasprintf("%s %s", label, json_string_value(name));
        (void)json_object_set_new(to, place, keys_of(pointer, key, json_string_value(name)));
        free(place);
    }
    json_decref(names);
    json_decref(any);
}

int main(void)
{
    json_t *all = json_object();
    add_kinds(all, "layer", "/trial/model/layers/0", "type");
    add_kinds(all, "family", "/trial/model", "family");
    add_kinds(all, "stage", "/trial/preprocessing/0", "type");
    add_kinds(all, "schedule", "/trial/training/schedule", "type");
    (void)json_object_set_new(all, "training", keys_of("/trial/training", NULL, NULL));
    (void)json_object_set_new(all, "augmentation",
                              keys_of("/trial/training/augmentation", NULL, NULL));
    for (int i = 0; dataset_formats[i] != NULL; i++) {
        char *place = xasprintf("format %s", dataset_formats[i]->name);
        json_t *keys = json_object();
        for (int k = 0; dataset_formats[i]->options[k] != NULL; k++) {
            const char *option = dataset_formats[i]->options[k];
            bool required = dataset_formats[i]->labelled && strcmp(option, "label") == 0;
            (void)json_object_set_new(keys, option, json_pack("{s:b}", "required", required));
        }
        (void)json_object_set_new(all, place, keys);
        free(place);
    }
    char *text = json_dumps(all, JSON_INDENT(1));
    (void)puts(text);
    free(text);
    json_decref(all);
    return 0;
}
