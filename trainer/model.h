/* SPDX-License-Identifier: Apache-2.0
 *
 * A model as a flat list of layers with every shape worked out. Each layer names the earlier ones
 * that feed it, so that the list is a graph in an order in which it can be computed; the last layer
 * is the model's output. Pure data: backends build their ops from it, the recipe parser fills it,
 * checkpoints compare it.
 */
#ifndef MAG_TRAINER_MODEL_H
#define MAG_TRAINER_MODEL_H

#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

#define MODEL_LAYERS_MAX 512            /* layers after "repeat" */
#define MODEL_INPUTS_MAX 8              /* layers that feed one */
#define MODEL_DEPTH_MAX 8               /* blocks within blocks */
#define MODEL_AT_MAX 128                /* bytes of a layer's pointer */
#define MODEL_VOCABULARY_MAX 4000000    /* rows of an embedding */
#define MODEL_INPUT (-1)                /* in `inputs`: the model's own input */
#define MODEL_UNITS_MAX 65536           /* units of a dense layer */
#define MODEL_FILTERS_MAX 4096          /* filters of a convolution */
#define MODEL_KERNEL_MAX 64             /* side of a kernel */
#define MODEL_POOL_MAX 16               /* side of a pooling window */
#define MODEL_SIDE_MAX 4096             /* channels, height or width of an input */
#define MODEL_WEIGHTS_MAX (1 << 28)     /* weights of one model: 1 GiB of floats */
#define MODEL_ACTIVATIONS_MAX (1 << 28) /* values of one example over all layers */

enum layer_kind {
    LAYER_DENSE = 0,
    LAYER_CONV = 1,
    LAYER_MAXPOOL = 2,
    LAYER_FLATTEN = 3,
    LAYER_DROPOUT = 4,
    LAYER_AVGPOOL = 5,
    LAYER_GLOBALPOOL = 6, /* an image becomes one value a channel */
    LAYER_BATCHNORM = 7,  /* Ioffe and Szegedy 2015 */
    LAYER_LAYERNORM = 8,  /* Ba et al. 2016, over all values of an example */
    LAYER_EMBEDDING = 9,  /* whole numbers become rows of a table, [width][1][numbers] */
    LAYER_ACTIVATION = 10,
    LAYER_ADD = 11,
    LAYER_CONCAT = 12,   /* of channels, or of flat values */
    LAYER_IDENTITY = 13, /* what a shortcut comes to where shapes are equal */
};
#define LAYER_KINDS 14

/* How a shortcut is resolved once the shapes are known (model_shapes). */
enum shortcut {
    SHORTCUT_NONE = 0,     /* the layer is no shortcut */
    SHORTCUT_AUTO = 1,     /* the identity where shapes are equal, else a projection */
    SHORTCUT_IDENTITY = 2, /* it is an error where they are not */
    SHORTCUT_PROJECTION = 3,
};

/* The arrays of a layer that are saved with it. */
enum op_param {
    OP_WEIGHTS = 0,
    OP_BIAS = 1,
    OP_MEAN = 2, /* running statistics: state that training leaves behind, but no gradient moves */
    OP_VAR = 3,
};
#define OP_PARAMS 4

/* gelu: x P(X <= x), with the error function; silu: x sigmoid(x). */
enum activation {
    ACT_NONE = 0,
    ACT_RELU = 1,
    ACT_TANH = 2,
    ACT_SIGMOID = 3,
    ACT_GELU = 4,
    ACT_SILU = 5,
};
#define ACTIVATIONS 6
/* Is its slope a function of the output alone? */
static inline bool act_by_output(enum activation a)
{
    return a < ACT_GELU;
}

/* One example's values: channels x height x width, or a flat row of c values. */
struct shape {
    int c, h, w;
    bool flat; /* h = w = 1, and the values are no image */
};

struct layer {
    enum layer_kind kind;
    enum activation act; /* of the output: dense, conv, norms, activation, add */
    int filters;    /* dense: units, conv: filters (0 = as many as channels), embedding: width */
    int kernel;     /* conv: side of the kernel, pools: side of the window */
    int stride;     /* conv, pools */
    int pad;        /* conv: zeros on each side */
    int groups;     /* conv: channels are split into so many; 0 = depthwise, until resolved */
    bool pad_same;  /* conv: pad so that stride 1 keeps the size (resolved into `pad`) */
    bool no_bias;   /* dense, conv */
    bool max;       /* globalpool: the largest value, not the mean */
    float rate;     /* dropout: part of the values that is set to 0 */
    float momentum; /* batchnorm: the weight of a batch in the running statistics */
    float epsilon;  /* norms */
    int vocabulary; /* embedding: numbers are 0 to vocabulary - 1 */
    enum shortcut shortcut;
    int target; /* shortcut: the layer whose shape it must reach */
    int n_inputs;
    int inputs[MODEL_INPUTS_MAX]; /* indices of earlier layers, or MODEL_INPUT */
    struct shape in, out;         /* in: of the first input */
    char at[MODEL_AT_MAX];        /* its pointer below the model's, for messages: "/layers/2" */
};

struct model {
    struct layer layers[MODEL_LAYERS_MAX];
    int n;
    struct shape input;
};

static inline int64_t shape_size(const struct shape *s)
{
    return (int64_t)s->c * s->h * s->w;
}

/* "1x28x28" or "784", into `out`. */
void shape_text(const struct shape *s, char out[48]);

/* Works out in and out of every layer from `model->input`, and checks the last layer against
 * `outputs` (classes or targets; 0 = not checked). The first shape that does not fit becomes one
 * issue at the layer's pointer below `pointer`, the model's. Shortcuts become what they come to.
 * True when all fit. */
bool model_shapes(struct model *m, int outputs, const char *pointer, struct mjson_issues *is);

/* Values in a parameter array of a layer; 0 for one that it has not. */
int64_t op_param_floats(const struct layer *l, enum op_param p);
/* Whether a gradient moves it, so that it has moments. */
bool op_param_trained(enum op_param p);
/* Does weight decay pull at it (and LAMB scale its step)? Weights of products do, biases and the
 * scales of norms do not. */
bool op_param_decays(const struct layer *l, enum op_param p);
/* Does the layer have an array that is trained? */
bool layer_learns(const struct layer *l);
/* Values that feed one output value: the fan-in that the initialisation scales by. */
int64_t layer_fan_in(const struct layer *l);
/* All trained values. */
int64_t model_weights(const struct model *m);

/* Multiplications with additions that the products and convolutions of one example take when they
 * are computed as they are defined: applied, or in a training step, where each layer also makes
 * the gradient of its weights and, behind another layer that computes, that of its inputs. */
int64_t model_products(const struct model *m, bool training);

/* Is every layer fed by the one before it alone? */
bool model_is_chain(const struct model *m);

/* "784; dense 256 relu", for descriptions and for telling checkpoints apart: two models with
 * equal signatures have the same arrays. Malloc'ed. */
char *model_signature(const struct model *m);

const char *layer_kind_name(enum layer_kind k);
const char *activation_name(enum activation a);

#endif
