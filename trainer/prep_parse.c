/* SPDX-License-Identifier: Apache-2.0
 *
 * "preprocessing": the list of stages as a recipe gives it.
 */
#include "trainer/prep.h"

#include "base/alloc.h"

#include <stdlib.h>

const struct stage_ops *const stage_registry[] = {
    &stage_impute, &stage_standardize, &stage_minmax,     &stage_normalize, &stage_onehot, &stage_ordinal,
    &stage_hash,   &stage_tokenize,    &stage_hashing_tf, &stage_idf,       NULL};

static void parse_columns(const struct place *p, json_t *out)
{
    const json_t *v = json_object_get(p->object, "columns");
    bool good = json_is_array(v) && json_array_size(v) > 0;
    for (size_t i = 0; good && i < json_array_size(v); i++) {
        good = json_is_string(json_array_get(v, i));
    }
    if (v != NULL && !good) {
        mjson_issue_at(p->reader->issues, p->pointer, "columns",
                       "\"columns\" must list names of columns");
    } else if (v != NULL) {
        (void)json_object_set(out, "columns", (json_t *)(uintptr_t)v);
    }
}

static void parse_stage(struct reader *r, const json_t *v, const char *pointer, json_t *list)
{
    const char *names[16] = {NULL};
    const char *keys[16] = {"type", "columns"};
    int k = 0;
    struct place p = {.reader = r, .object = v, .pointer = pointer};
    for (int i = 0; stage_registry[i] != NULL; i++) {
        names[i] = stage_registry[i]->name;
    }
    if (!json_is_object(v)) {
        mjson_issue(r->issues, pointer,
                    "a stage must be an object such as {\"type\": \"standardize\"}, not %s",
                    mjson_kind(v));
        return;
    }
    if (!value_choice(&p, "type", true, names, &k)) {
        return;
    }
    const struct stage_ops *ops = stage_registry[k];
    for (int i = 0; ops->keys[i] != NULL; i++) {
        keys[i + 2] = ops->keys[i];
    }
    mjson_check_keys(v, keys, pointer, r->issues);
    json_t *out = json_pack("{s:s}", "type", ops->name);
    parse_columns(&p, out);
    ops->parse(&p, out);
    if (json_array_size(list) == PREP_STAGES_MAX) {
        mjson_issue(r->issues, pointer, "over %d stages", PREP_STAGES_MAX);
    }
    (void)json_array_append_new(list, out);
}

static json_t *parse_list(struct reader *r, const json_t *value, const char *pointer)
{
    json_t *list = json_array();
    size_t i = 0;
    json_t *item = NULL;
    json_array_foreach(value, i, item)
    {
        char *at = mjson_pointer_index(pointer, i);
        size_t k = 0;
        json_t *inner = NULL;
        if (!json_is_array(item)) {
            parse_stage(r, item, at, list);
        } else if (!value_has_inactive(r, item)) {
            json_array_foreach(item, k, inner)
            {
                char *inner_at = mjson_pointer_index(at, k);
                parse_stage(r, inner, inner_at, list);
                free(inner_at);
            }
        }
        free(at);
    }
    return list;
}

void prep_parse_into(struct reader *r, const json_t *value, const char *pointer,
                     struct dataset_source *s)
{
    if (value == NULL) {
        return;
    }
    if (!json_is_array(value)) {
        mjson_issue(r->issues, pointer, "\"preprocessing\" must be a list of stages, not %s",
                    mjson_kind(value));
        return;
    }
    s->stages = parse_list(r, value, pointer);
    if (s->standardize_given) {
        mjson_issue(r->issues, pointer,
                    "the data set's \"standardize\" is for trials without \"preprocessing\"; leave it "
                    "out, or say {\"type\": \"standardize\"} here");
    }
}
