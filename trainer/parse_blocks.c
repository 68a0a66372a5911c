/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks: layers with a shortcut around them, and branches side by side. They become plain layers
 * that name their inputs.
 */
#include "base/alloc.h"
#include "trainer/parse.h"

#include <stdlib.h>

/* The list under `key`, which must be there. */
static const json_t *list_of(const struct place *p, const char *key)
{
    const json_t *list = json_object_get(p->object, key);
    if (!json_is_array(list) || json_array_size(list) == 0) {
        mjson_issue_at(p->reader->issues, p->pointer, key, "\"%s\" must be a list, not %s", key,
                       json_is_array(list) ? "an empty one" : mjson_kind(list));
        return NULL;
    }
    return list;
}

/* ---- residual ---- */

/* The last batch norm among the layers from `first` on; NULL = there is none. */
static const struct layer *norm_in(const struct model *m, int first)
{
    for (int i = m->n - 1; i >= first; i--) {
        if (m->layers[i].kind == LAYER_BATCHNORM) {
            return &m->layers[i];
        }
    }
    return NULL;
}

/* From the block's input `from` around its layers, the last of which is `last`: a projection is
 * normalised where the block's layers are (He et al. 2015). Returns the layer that it ends in. */
static int add_shortcut(struct builder *b, const struct place *p, enum shortcut how, int from,
                        int first, int last)
{
    const struct layer *norm = norm_in(b->model, first);
    struct layer through = {.kind = LAYER_CONV,
                            .groups = 1,
                            .no_bias = norm != NULL,
                            .shortcut = how,
                            .target = last,
                            .n_inputs = 1,
                            .inputs = {from}};
    struct layer normed = {.kind = LAYER_BATCHNORM, .shortcut = how, .target = last};
    if (norm != NULL) {
        normed.momentum = norm->momentum;
        normed.epsilon = norm->epsilon;
    }
    parse_append(b, &through, p->pointer);
    if (norm != NULL && how != SHORTCUT_IDENTITY) {
        parse_append(b, &normed, p->pointer);
    }
    return b->from;
}

void parse_residual(struct builder *b, const struct place *p)
{
    static const char *const names[] = {"auto", "identity", "projection", NULL};
    const json_t *list = list_of(p, "layers");
    const int from = b->from;
    const int first = b->model->n;
    int how = 0;
    struct layer sum = {.kind = LAYER_ADD, .n_inputs = 2};
    (void)value_choice(p, "shortcut", false, names, &how);
    parse_activation(p, "activation", false, &sum.act);
    if (list == NULL) {
        return;
    }
    char *at = mjson_pointer(p->pointer, "layers");
    parse_layers(b, list, at);
    free(at);
    if (b->from == from) {
        return; /* all its layers are left out, and so is the block */
    }
    const int last = b->from;
    sum.inputs[0] = last;
    sum.inputs[1] = add_shortcut(b, p, (enum shortcut)(how + 1), from, first, last);
    parse_append(b, &sum, p->pointer);
}

/* ---- concat ---- */

void parse_concat(struct builder *b, const struct place *p)
{
    const json_t *list = list_of(p, "branches");
    const int from = b->from;
    struct layer all = {.kind = LAYER_CONCAT};
    size_t i = 0;
    const json_t *branch = NULL;
    if (json_array_size(list) > MODEL_INPUTS_MAX) {
        mjson_issue_at(p->reader->issues, p->pointer, "branches", "over %d branches",
                       MODEL_INPUTS_MAX);
        return;
    }
    char *base = mjson_pointer(p->pointer, "branches");
    json_array_foreach(list, i, branch)
    {
        char *at = mjson_pointer_index(base, i);
        if (!json_is_array(branch)) {
            mjson_issue(p->reader->issues, at,
                        "a branch must be a list of layers (an empty one hands its input on), not "
                        "%s",
                        mjson_kind(branch));
        }
        b->from = from;
        parse_layers(b, branch, at);
        all.inputs[all.n_inputs++] = b->from;
        free(at);
    }
    free(base);
    b->from = from;
    if (all.n_inputs > 0) {
        parse_append(b, &all, p->pointer);
    }
}
