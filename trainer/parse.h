/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of the recipe's parser that read "model". Private to recipe.c and parse_*.c.
 */
#ifndef MAG_TRAINER_PARSE_H
#define MAG_TRAINER_PARSE_H

#include "trainer/value.h"

/* A model that grows layer by layer. */
struct builder {
    struct reader *reader;
    struct model *model;
    size_t base; /* bytes of the model's own pointer, which the layers' begin with */
    int from;    /* the layer that feeds the next, or MODEL_INPUT */
    int depth;   /* blocks around the present layer */
    bool full;   /* it was said that there are too many */
};

/* "model": its input, and its layers or its family. */
void parse_model(struct reader *r, const json_t *v, const char *pointer, struct recipe *ret);

/* {"family": "mlp", …}: all layers of a model (parse_family.c). */
void parse_family(struct reader *r, const json_t *v, const char *pointer, struct recipe *ret);

/* A list of layers and blocks at `pointer`. A list inside the list holds layers that are left out
 * together while a parameter in it is inactive. */
void parse_layers(struct builder *b, const json_t *list, const char *pointer);
/* The numbers of one layer kind, its activation included. */
void parse_layer_fields(const struct place *p, struct layer *l, int *repeat);
/* Puts a layer behind the present one; an issue where the model is full. */
void parse_append(struct builder *b, const struct layer *l, const char *pointer);
/* {"type": "residual"} and {"type": "concat"} (parse_blocks.c). */
void parse_residual(struct builder *b, const struct place *p);
void parse_concat(struct builder *b, const struct place *p);

/* The activation's name under `key`. */
void parse_activation(const struct place *p, const char *key, bool required, enum activation *act);

#endif
