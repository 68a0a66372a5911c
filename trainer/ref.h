/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to the reference backend (backend_ref.c, ref_*.c). Every kind of layer is two functions
 * that work on one lane in the canonical layout, written straight from the definition.
 */
#ifndef MAG_TRAINER_REF_H
#define MAG_TRAINER_REF_H

#include "trainer/backend.h"

#include <stddef.h>

struct backend {
    enum precision precision;
};

struct ref_op;

struct ref_kind {
    void (*forward)(struct ref_op *r, int lane, int n, const struct pass *pass);
    /* From the gradient of the output to those of the parameters, and to dx[i] of every input i:
     * zeroed arrays, which the caller adds to the input's gradient. */
    void (*backward)(struct ref_op *r, int lane, int n, float *const *dx);
};

struct ref_op {
    struct op op; /* first */
    const struct ref_kind *kind;
    float *out; /* [lanes][rows][out] */
    float *grad;
    float *kept; /* [lanes][rows][out] of what backward needs beside: masks, places of maxima, what
                    went into gelu and silu */
    float *params[OP_PARAMS][OP_SLOTS]; /* [lanes][op_param_floats] */
};

static inline struct ref_op *ref_of(struct op *op)
{
    return (struct ref_op *)(void *)op;
}

static inline size_t ref_size(const struct op *op)
{
    return (size_t)shape_size(&op->layer.out);
}

static inline size_t ref_lane(const struct op *op, int lane)
{
    return op->lanes == 1 ? 0 : (size_t)lane * (size_t)op->rows * ref_size(op);
}

static inline float *ref_out(struct ref_op *r, int lane)
{
    return r->out + ref_lane(&r->op, lane);
}

static inline float *ref_grad(struct ref_op *r, int lane)
{
    return r->grad + ref_lane(&r->op, lane);
}

static inline float *ref_kept(struct ref_op *r, int lane)
{
    return r->kept + ref_lane(&r->op, lane);
}

static inline const float *ref_in(struct ref_op *r, int input, int lane)
{
    return ref_out(ref_of(r->op.inputs[input]), lane);
}

static inline float *ref_param(struct ref_op *r, int lane, enum op_param p, enum op_slot s)
{
    return r->params[p][s] + (size_t)lane * (size_t)op_param_floats(&r->op.layer, p);
}

/* A factor of a product, as the precision has it. */
static inline double ref_factor(const struct ref_op *r, float v)
{
    return (double)(r->op.backend->precision == PRECISION_BF16 ? backend_bf16(v) : v);
}

/* dL/dz of a layer of products, as the precision has it, in place. */
static inline void ref_round_grad(struct ref_op *r, int lane, int n)
{
    for (size_t i = 0; i < ref_size(&r->op) * (size_t)n; i++) {
        ref_grad(r, lane)[i] = (float)ref_factor(r, ref_grad(r, lane)[i]);
    }
}

/* The bias of an output, 0 where the layer has none. */
static inline double ref_bias(struct ref_op *r, int lane, size_t o)
{
    return r->op.layer.no_bias ? 0 : (double)ref_param(r, lane, OP_BIAS, SLOT_VALUE)[o];
}

/* ---- a layer's own activation, in place (ref_act.c) ---- */
/* Outputs that hold z become act(z); `kept` gets z where backward needs it. */
void ref_act_forward(struct ref_op *r, int lane, int n);
/* dL/dy -> dL/dz. */
void ref_act_backward(struct ref_op *r, int lane, int n);

/* ---- kinds ---- */
extern const struct ref_kind ref_dense;
extern const struct ref_kind ref_conv;
extern const struct ref_kind ref_maxpool;
extern const struct ref_kind ref_avgpool;
extern const struct ref_kind ref_globalpool;
extern const struct ref_kind ref_flatten;
extern const struct ref_kind ref_dropout;
extern const struct ref_kind ref_batchnorm;
extern const struct ref_kind ref_layernorm;
extern const struct ref_kind ref_embedding;
extern const struct ref_kind ref_activation;
extern const struct ref_kind ref_add;
extern const struct ref_kind ref_concat;

/* ---- the optimizer's step on one lane (ref_update.c) ---- */
void ref_update(struct op *op, const struct update *lanes);

#endif
