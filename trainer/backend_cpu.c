/* SPDX-License-Identifier: Apache-2.0
 *
 * The CPU backend: memory, dispatch and transfer. What the ops compute lies in cpu_*.c.
 */
#include "trainer/cpu.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(MAG_ONEDNN) && defined(MAG_OPENBLAS)
#include <cblas.h>
#endif

static size_t param_size(const struct cpu_op *c, enum op_param p)
{
    return (size_t)(p == OP_WEIGHTS ? layer_weights(&c->op.layer) : layer_biases(&c->op.layer));
}

/* ---- life ---- */

static enum mag_status cpu_open(const struct backend_options *o, struct backend **ret,
                                struct mag_err *err)
{
    struct backend *b = xcalloc(1, sizeof(*b));
    b->threads = o->threads > 0 ? o->threads : 1;
    enum mag_status st = onednn_open(b, err);
    if (st != MAG_OK) {
        free(b);
        return st;
    }
#if !defined(MAG_ONEDNN) && defined(MAG_OPENBLAS)
    openblas_set_num_threads(b->threads);
    (void)snprintf(b->text, sizeof(b->text), "OpenBLAS, %s, without oneDNN",
                   openblas_get_corename());
#elif !defined(MAG_ONEDNN)
    (void)snprintf(b->text, sizeof(b->text), "portable loops, without oneDNN and OpenBLAS");
#endif
    *ret = b;
    return MAG_OK;
}

static void cpu_close(struct backend *b)
{
    if (b != NULL) {
        onednn_close(b);
        free(b);
    }
}

static const char *cpu_describe(const struct backend *b)
{
    return b->text;
}

static enum mag_status cpu_check(struct backend *b, struct mag_err *err)
{
    struct mag_err failure = b->failure;
    b->failure = (struct mag_err){0};
    return failure.code == MAG_OK ? MAG_OK : mag_fail(err, failure.code, "%s", failure.text);
}

static void cpu_op_destroy(struct op *op)
{
    if (op == NULL) {
        return;
    }
    struct cpu_op *c = cpu_of(op);
    onednn_conv_destroy(c->onednn);
    if (c->owns_act) {
        free(c->act.out);
        free(c->act.grad);
    }
    for (int p = 0; p < OP_PARAMS; p++) {
        for (int s = 0; s < OP_SLOTS; s++) {
            free(c->params[p][s]);
        }
    }
    free(c->column);
    free(c->scratch);
    free(c->mask);
    free(c->where);
    free(c);
}

/* Outputs and gradients for every row of a batch. */
static bool alloc_act(struct cpu_op *c)
{
    size_t n = cpu_out_size(c) * (size_t)c->op.rows;
    c->owns_act = true;
    c->act.out = cpu_alloc(n);
    c->act.grad = cpu_alloc(n);
    return c->act.out != NULL && c->act.grad != NULL;
}

static bool alloc_params(struct cpu_op *c)
{
    bool good = true;
    for (int p = 0; p < OP_PARAMS; p++) {
        for (int s = 0; s < OP_SLOTS && param_size(c, p) > 0; s++) {
            c->params[p][s] = cpu_alloc(param_size(c, p));
            good = good && c->params[p][s] != NULL;
        }
    }
    return good;
}

static enum mag_status cpu_input_create(struct backend *b, const struct shape *shape, int rows,
                                        struct op **ret, struct mag_err *err)
{
    struct cpu_op *c = xcalloc(1, sizeof(*c));
    c->op = (struct op){
        .backend = b, .index = -1, .rows = rows, .layer = {.kind = LAYER_FLATTEN, .out = *shape}};
    c->act.block = 1;
    if (!alloc_act(c)) {
        cpu_op_destroy(&c->op);
        return mag_fail(err, MAG_NOMEM, "no memory for %d examples", rows);
    }
    *ret = &c->op;
    return MAG_OK;
}

static const struct cpu_kind *kind_of(enum layer_kind k)
{
    switch (k) {
    case LAYER_DENSE:
        return &cpu_dense;
    case LAYER_CONV:
        return &cpu_conv;
    case LAYER_MAXPOOL:
        return &cpu_maxpool;
    case LAYER_DROPOUT:
        return &cpu_dropout;
    case LAYER_FLATTEN:
    default:
        return NULL; /* hands its input's activations on as they are */
    }
}

static bool has_weights_before(const struct op *op)
{
    for (op = op->input; op != NULL && op->index >= 0; op = op->input) {
        if (layer_weights(&op->layer) > 0) {
            return true;
        }
    }
    return false;
}

static enum mag_status cpu_op_create(struct backend *b, const struct layer *layer, int index,
                                     struct op *input, struct op **ret, struct mag_err *err)
{
    struct cpu_op *c = xcalloc(1, sizeof(*c));
    c->op = (struct op){
        .backend = b, .input = input, .layer = *layer, .index = index, .rows = input->rows};
    c->kind = kind_of(layer->kind);
    c->want_dx = has_weights_before(&c->op);
    c->act.block = 1;
    enum mag_status st = MAG_OK;
    if (c->kind == NULL) {
        c->act = cpu_of(input)->act;
    } else if (!alloc_act(c) || !alloc_params(c)) {
        st = mag_fail(err, MAG_NOMEM, "no memory for layer %d (%s)", index + 1,
                      layer_kind_name(layer->kind));
    } else if (c->kind->init != NULL) {
        st = c->kind->init(c, err);
    }
    if (st != MAG_OK) {
        cpu_op_destroy(&c->op);
        return st;
    }
    *ret = &c->op;
    return MAG_OK;
}

/* ---- running ---- */

static void fetch(const uint8_t *at, size_t n)
{
    for (size_t i = 0; i < n && i < 4096; i += 64) {
        __builtin_prefetch(at + i);
    }
}

static void cpu_load(struct op *input, const struct dataset *d, const uint32_t *rows, int n)
{
    struct cpu_op *c = cpu_of(input);
    size_t width = cpu_out_size(c);
    float *to = c->act.out;
    for (int i = 0; i < n; i++, to += width) {
        size_t at = (size_t)rows[i] * width;
        if (d->bytes != NULL) {
            if (i + 1 <
                n) { /* rows lie anywhere in memory: ask for the next while this one is read */
                fetch(d->bytes + (size_t)rows[i + 1] * width, width);
            }
            cpu_bytes_to_float(d->bytes + at, d->scale, to, width);
        } else {
            memcpy(to, d->values + at, width * sizeof(float));
        }
    }
    memset(to, 0, width * (size_t)(input->rows - n) * sizeof(float));
}

static void cpu_forward(struct op *op, int n, const struct pass *pass)
{
    struct cpu_op *c = cpu_of(op);
    if (c->kind != NULL) {
        c->kind->forward(c, n, pass);
    }
}

static void cpu_score(struct op *last, const struct dataset *d, const uint32_t *rows, int n,
                      struct loss loss, bool want_grad, struct score *add)
{
    struct cpu_op *c = cpu_of(last);
    backend_score(c->act.out, want_grad ? c->act.grad : NULL, last->layer.filters, d, rows, n, loss,
                  add);
}

static void cpu_backward(struct op *op, int n, const struct pass *pass)
{
    struct cpu_op *c = cpu_of(op);
    if (c->kind != NULL) {
        c->kind->backward(c, n, pass);
    }
}

static void cpu_op_update(struct op *op, const struct update *u)
{
    struct cpu_op *c = cpu_of(op);
    if (c->kind != NULL && c->kind->update != NULL) {
        c->kind->update(c, u);
    } else if (param_size(c, OP_WEIGHTS) > 0) {
        cpu_update(c->params[OP_WEIGHTS], param_size(c, OP_WEIGHTS), u, true);
        cpu_update(c->params[OP_BIAS], param_size(c, OP_BIAS), u, false);
    }
}

static double cpu_grad_square(struct op *op)
{
    struct cpu_op *c = cpu_of(op);
    double sum = 0;
    if (c->kind != NULL && c->kind->finish_grads != NULL) {
        c->kind->finish_grads(c);
    }
    for (int p = 0; p < OP_PARAMS && c->kind != NULL; p++) {
        sum += cpu_square(c->params[p][SLOT_GRAD], param_size(c, (enum op_param)p));
    }
    return sum;
}

/* ---- transfer ---- */

static void cpu_get(struct op *op, enum op_param p, enum op_slot slot, float *out)
{
    struct cpu_op *c = cpu_of(op);
    if (slot == SLOT_GRAD && c->kind != NULL && c->kind->finish_grads != NULL) {
        c->kind->finish_grads(c);
    }
    const float *from = c->params[p][slot];
    size_t n = param_size(c, p);
    size_t width = (size_t)shape_size(&op->layer.in);
    for (size_t i = 0; i < n; i++) {
        out[i] = c->column != NULL && p == OP_WEIGHTS
                     ? from[i / width * width + c->column[i % width]]
                     : from[i];
    }
}

static void cpu_set(struct op *op, enum op_param p, enum op_slot slot, const float *in)
{
    struct cpu_op *c = cpu_of(op);
    float *to = c->params[p][slot];
    size_t n = param_size(c, p);
    size_t width = (size_t)shape_size(&op->layer.in);
    for (size_t i = 0; i < n; i++) {
        to[c->column != NULL && p == OP_WEIGHTS ? i / width * width + c->column[i % width] : i] =
            in[i];
    }
}

static void cpu_read(struct op *op, bool grad, int n, float *out)
{
    struct cpu_op *c = cpu_of(op);
    const float *from = grad ? c->act.grad : c->act.out;
    const struct shape *s = cpu_image(op);
    size_t size = cpu_out_size(c);
    for (int i = 0; i < n && c->act.block > 1; i++) {
        cpu_to_plain(from + (size_t)i * size, s->c, s->h * s->w, c->act.block,
                     out + (size_t)i * size);
    }
    if (c->act.block == 1) {
        memcpy(out, from, size * (size_t)n * sizeof(float));
    }
}

static void cpu_put(struct op *op, bool grad, int n, const float *in)
{
    struct cpu_op *c = cpu_of(op);
    float *to = grad ? c->act.grad : c->act.out;
    const struct shape *s = cpu_image(op);
    size_t size = cpu_out_size(c);
    for (int i = 0; i < n && c->act.block > 1; i++) {
        cpu_to_blocked(in + (size_t)i * size, s->c, s->h * s->w, c->act.block,
                       to + (size_t)i * size);
    }
    if (c->act.block == 1) {
        memcpy(to, in, size * (size_t)n * sizeof(float));
    }
    memset(to + size * (size_t)n, 0, size * (size_t)(op->rows - n) * sizeof(float));
}

const struct backend_ops backend_cpu = {
    .version = BACKEND_VERSION,
    .name = "cpu",
    .summary = "oneDNN where the build has it, else OpenBLAS or portable loops",
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .check = cpu_check,
    .input_create = cpu_input_create,
    .op_create = cpu_op_create,
    .op_destroy = cpu_op_destroy,
    .load = cpu_load,
    .forward = cpu_forward,
    .score = cpu_score,
    .backward = cpu_backward,
    .update = cpu_op_update,
    .grad_square = cpu_grad_square,
    .get = cpu_get,
    .set = cpu_set,
    .read = cpu_read,
    .put = cpu_put,
};
