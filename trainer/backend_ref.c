/* SPDX-License-Identifier: Apache-2.0
 *
 * The reference backend: every op as plain loops straight from its definition, canonical layouts,
 * sums in double. It is the oracle that the fast backends are compared with, so nothing here is
 * clever. Its own gradients are checked by finite differences.
 */
#include "trainer/backend.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct backend {
    int unused;
};

struct ref_op {
    struct op op; /* first */
    float *out;   /* [rows][out] */
    float *grad;
    float *mask; /* dropout multipliers; maxpool: index of the largest input */
    float *params[OP_PARAMS][OP_SLOTS];
};

static struct ref_op *ref_of(struct op *op)
{
    return (struct ref_op *)(void *)op;
}

static size_t out_size(const struct op *op)
{
    return (size_t)shape_size(&op->layer.out);
}

static size_t param_size(const struct op *op, enum op_param p)
{
    return (size_t)(p == OP_WEIGHTS ? layer_weights(&op->layer) : layer_biases(&op->layer));
}

/* ---- life ---- */

static enum mag_status ref_open(const struct backend_options *o, struct backend **ret,
                                struct mag_err *err)
{
    (void)o;
    (void)err;
    *ret = xcalloc(1, sizeof(struct backend));
    return MAG_OK;
}

static void ref_close(struct backend *b)
{
    free(b);
}

static const char *ref_describe(const struct backend *b)
{
    (void)b;
    return "plain loops";
}

static enum mag_status ref_check(struct backend *b, struct mag_err *err)
{
    (void)b;
    (void)err;
    return MAG_OK;
}

static void ref_op_destroy(struct op *op)
{
    if (op == NULL) {
        return;
    }
    struct ref_op *r = ref_of(op);
    free(r->out);
    free(r->grad);
    free(r->mask);
    for (int p = 0; p < OP_PARAMS; p++) {
        for (int s = 0; s < OP_SLOTS; s++) {
            free(r->params[p][s]);
        }
    }
    free(r);
}

static enum mag_status ref_new(struct backend *b, const struct layer *layer, int index,
                               struct op *input, int rows, struct op **ret, struct mag_err *err)
{
    struct ref_op *r = xcalloc(1, sizeof(*r));
    r->op =
        (struct op){.backend = b, .input = input, .layer = *layer, .index = index, .rows = rows};
    size_t n = out_size(&r->op) * (size_t)rows;
    r->out = mag_try_alloc(n, sizeof(float));
    r->grad = mag_try_alloc(n, sizeof(float));
    r->mask = mag_try_alloc(n, sizeof(float));
    bool full = r->out == NULL || r->grad == NULL || r->mask == NULL;
    for (int p = 0; p < OP_PARAMS; p++) {
        for (int s = 0; s < OP_SLOTS && param_size(&r->op, p) > 0; s++) {
            r->params[p][s] = mag_try_alloc(param_size(&r->op, p), sizeof(float));
            full = full || r->params[p][s] == NULL;
        }
    }
    if (full) {
        ref_op_destroy(&r->op);
        return mag_fail(err, MAG_NOMEM, "no memory for layer %d", index + 1);
    }
    *ret = &r->op;
    return MAG_OK;
}

static enum mag_status ref_input_create(struct backend *b, const struct shape *shape, int rows,
                                        struct op **ret, struct mag_err *err)
{
    struct layer l = {.kind = LAYER_FLATTEN, .out = *shape};
    return ref_new(b, &l, -1, NULL, rows, ret, err);
}

static enum mag_status ref_op_create(struct backend *b, const struct layer *layer, int index,
                                     struct op *input, struct op **ret, struct mag_err *err)
{
    return ref_new(b, layer, index, input, input->rows, ret, err);
}

/* ---- activations ---- */

static float act_value(enum activation a, float z)
{
    switch (a) {
    case ACT_RELU:
        return z > 0 ? z : 0;
    case ACT_TANH:
        return tanhf(z);
    case ACT_SIGMOID:
        return 1.0f / (1.0f + expf(-z));
    case ACT_NONE:
    default:
        return z;
    }
}

/* The derivative, from the output. */
static float act_slope(enum activation a, float y)
{
    switch (a) {
    case ACT_RELU:
        return y > 0 ? 1 : 0;
    case ACT_TANH:
        return 1 - y * y;
    case ACT_SIGMOID:
        return y * (1 - y);
    case ACT_NONE:
    default:
        return 1;
    }
}

/* dL/dy -> dL/dz, in place. */
static void act_backward(struct ref_op *r, int n)
{
    for (size_t i = 0; i < out_size(&r->op) * (size_t)n; i++) {
        r->grad[i] *= act_slope(r->op.layer.act, r->out[i]);
    }
}

/* ---- dense: y = act(W x + b) ---- */

static void dense_forward(struct ref_op *r, const float *x, int n)
{
    size_t in = (size_t)shape_size(&r->op.layer.in);
    size_t out = out_size(&r->op);
    for (size_t i = 0; i < (size_t)n; i++) {
        for (size_t o = 0; o < out; o++) {
            double sum = (double)r->params[OP_BIAS][SLOT_VALUE][o];
            for (size_t k = 0; k < in; k++) {
                sum +=
                    (double)r->params[OP_WEIGHTS][SLOT_VALUE][o * in + k] * (double)x[i * in + k];
            }
            r->out[i * out + o] = act_value(r->op.layer.act, (float)sum);
        }
    }
}

static void dense_backward(struct ref_op *r, const float *x, float *dx, int n)
{
    size_t in = (size_t)shape_size(&r->op.layer.in);
    size_t out = out_size(&r->op);
    const float *w = r->params[OP_WEIGHTS][SLOT_VALUE];
    float *dw = r->params[OP_WEIGHTS][SLOT_GRAD];
    for (size_t o = 0; o < out; o++) {
        double db = 0;
        for (size_t i = 0; i < (size_t)n; i++) {
            db += (double)r->grad[i * out + o];
        }
        r->params[OP_BIAS][SLOT_GRAD][o] = (float)db;
        for (size_t k = 0; k < in; k++) {
            double sum = 0;
            for (size_t i = 0; i < (size_t)n; i++) {
                sum += (double)r->grad[i * out + o] * (double)x[i * in + k];
            }
            dw[o * in + k] = (float)sum;
        }
    }
    for (size_t i = 0; i < (size_t)n; i++) {
        for (size_t k = 0; k < in; k++) {
            double sum = 0;
            for (size_t o = 0; o < out; o++) {
                sum += (double)r->grad[i * out + o] * (double)w[o * in + k];
            }
            dx[i * in + k] = (float)sum;
        }
    }
}

/* ---- convolution: y[o][p][q] = act(b[o] + sum W[o][c][i][j] x[c][p s + i - pad][q s + j - pad])
 * ---- */

/* Calls `visit` for every product in the sum, with the indices of y, x and W. */
typedef void (*conv_visit)(void *ctx, size_t y, size_t x, size_t w);

static void conv_each(const struct layer *l, size_t row, conv_visit visit, void *ctx)
{
    const int k = l->kernel;
    for (int o = 0; o < l->out.c; o++) {
        for (int p = 0; p < l->out.h * l->out.w; p++) {
            int top = p / l->out.w * l->stride - l->pad;
            int left = p % l->out.w * l->stride - l->pad;
            for (int t = 0; t < l->in.c * k * k; t++) {
                int c = t / (k * k);
                int h = top + t / k % k;
                int w = left + t % k;
                if (h >= 0 && h < l->in.h && w >= 0 && w < l->in.w) {
                    visit(ctx,
                          (row * (size_t)l->out.c + (size_t)o) * (size_t)(l->out.h * l->out.w) +
                              (size_t)p,
                          row * (size_t)shape_size(&l->in) +
                              (size_t)((c * l->in.h + h) * l->in.w + w),
                          (size_t)o * (size_t)(l->in.c * k * k) + (size_t)t);
                }
            }
        }
    }
}

struct conv_sums {
    double *y, *dx, *dw;
    const float *x, *w, *dy;
};

static void visit_forward(void *ctx, size_t y, size_t x, size_t w)
{
    struct conv_sums *s = ctx;
    s->y[y] += (double)s->x[x] * (double)s->w[w];
}

static void visit_backward(void *ctx, size_t y, size_t x, size_t w)
{
    struct conv_sums *s = ctx;
    s->dw[w] += (double)s->dy[y] * (double)s->x[x];
    s->dx[x] += (double)s->dy[y] * (double)s->w[w];
}

static void conv_forward(struct ref_op *r, const float *x, int n)
{
    const struct layer *l = &r->op.layer;
    size_t size = out_size(&r->op) * (size_t)n;
    size_t area = (size_t)(l->out.h * l->out.w);
    struct conv_sums s = {
        .y = xcalloc(size, sizeof(double)), .x = x, .w = r->params[OP_WEIGHTS][SLOT_VALUE]};
    for (int i = 0; i < n; i++) {
        conv_each(l, (size_t)i, visit_forward, &s);
    }
    for (size_t i = 0; i < size; i++) {
        float b = r->params[OP_BIAS][SLOT_VALUE][i / area % (size_t)l->out.c];
        r->out[i] = act_value(l->act, (float)(s.y[i] + (double)b));
    }
    free(s.y);
}

static void to_float(double *from, float *to, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = (float)from[i];
    }
    free(from);
}

static void conv_backward(struct ref_op *r, const float *x, float *dx, int n)
{
    const struct layer *l = &r->op.layer;
    size_t nw = param_size(&r->op, OP_WEIGHTS);
    size_t nx = (size_t)shape_size(&l->in) * (size_t)n;
    size_t area = (size_t)(l->out.h * l->out.w);
    struct conv_sums s = {.dx = xcalloc(nx, sizeof(double)),
                          .dw = xcalloc(nw, sizeof(double)),
                          .x = x,
                          .w = r->params[OP_WEIGHTS][SLOT_VALUE],
                          .dy = r->grad};
    double *db = xcalloc((size_t)l->filters, sizeof(double));
    for (int i = 0; i < n; i++) {
        conv_each(l, (size_t)i, visit_backward, &s);
    }
    for (size_t i = 0; i < out_size(&r->op) * (size_t)n; i++) {
        db[i / area % (size_t)l->out.c] += (double)r->grad[i];
    }
    to_float(s.dw, r->params[OP_WEIGHTS][SLOT_GRAD], nw);
    to_float(s.dx, dx, nx);
    to_float(db, r->params[OP_BIAS][SLOT_GRAD], (size_t)l->filters);
}

/* ---- maxpool; of equal values the first in row order wins ---- */

static void pool_forward(struct ref_op *r, const float *x, int n)
{
    const struct layer *l = &r->op.layer;
    size_t area = (size_t)(l->out.h * l->out.w);
    for (size_t i = 0; i < out_size(&r->op) * (size_t)n; i++) {
        size_t plane = i / area * (size_t)(l->in.h * l->in.w);
        int p = (int)(i % area) / l->out.w;
        int q = (int)(i % area) % l->out.w;
        float best = -INFINITY;
        for (int t = 0; t < l->kernel * l->kernel; t++) {
            size_t at = plane + (size_t)((p * l->stride + t / l->kernel) * l->in.w + q * l->stride +
                                         t % l->kernel);
            if (t == 0 || x[at] > best) {
                best = x[at];
                r->mask[i] = (float)t;
            }
        }
        r->out[i] = best;
    }
}

static void pool_backward(struct ref_op *r, float *dx, int n)
{
    const struct layer *l = &r->op.layer;
    size_t area = (size_t)(l->out.h * l->out.w);
    memset(dx, 0, (size_t)shape_size(&l->in) * (size_t)n * sizeof(float));
    for (size_t i = 0; i < out_size(&r->op) * (size_t)n; i++) {
        size_t plane = i / area * (size_t)(l->in.h * l->in.w);
        int p = (int)(i % area) / l->out.w;
        int q = (int)(i % area) % l->out.w;
        int t = (int)r->mask[i];
        dx[plane + (size_t)((p * l->stride + t / l->kernel) * l->in.w + q * l->stride +
                            t % l->kernel)] += r->grad[i];
    }
}

/* ---- dispatch ---- */

static void ref_load(struct op *input, const struct dataset *d, const uint32_t *rows, int n)
{
    size_t width = out_size(input);
    for (size_t i = 0; i < (size_t)n; i++) {
        for (size_t k = 0; k < width; k++) {
            size_t at = rows[i] * width + k;
            ref_of(input)->out[i * width + k] =
                d->bytes != NULL ? (float)d->bytes[at] * d->scale : d->values[at];
        }
    }
}

static void ref_forward(struct op *op, int n, const struct pass *pass)
{
    struct ref_op *r = ref_of(op);
    const float *x = ref_of(op->input)->out;
    size_t size = out_size(op) * (size_t)n;
    switch (op->layer.kind) {
    case LAYER_DENSE:
        dense_forward(r, x, n);
        break;
    case LAYER_CONV:
        conv_forward(r, x, n);
        break;
    case LAYER_MAXPOOL:
        pool_forward(r, x, n);
        break;
    case LAYER_FLATTEN:
        memcpy(r->out, x, size * sizeof(float));
        break;
    case LAYER_DROPOUT:
    default:
        memcpy(r->out, x, size * sizeof(float));
        if (pass->training) {
            backend_dropout_mask(pass, op->index, op->layer.rate, r->mask, (int64_t)size);
        }
        for (size_t i = 0; pass->training && i < size; i++) {
            r->out[i] *= r->mask[i];
        }
        break;
    }
}

static void ref_score(struct op *last, const struct dataset *d, const uint32_t *rows, int n,
                      struct loss loss, bool want_grad, struct score *add)
{
    struct ref_op *r = ref_of(last);
    backend_score(r->out, want_grad ? r->grad : NULL, last->layer.filters, d, rows, n, loss, add);
}

static void ref_backward(struct op *op, int n, const struct pass *pass)
{
    (void)pass;
    struct ref_op *r = ref_of(op);
    const float *x = ref_of(op->input)->out;
    float *dx = ref_of(op->input)->grad;
    size_t size = out_size(op) * (size_t)n;
    switch (op->layer.kind) {
    case LAYER_DENSE:
        act_backward(r, n);
        dense_backward(r, x, dx, n);
        break;
    case LAYER_CONV:
        act_backward(r, n);
        conv_backward(r, x, dx, n);
        break;
    case LAYER_MAXPOOL:
        pool_backward(r, dx, n);
        break;
    case LAYER_FLATTEN:
        memcpy(dx, r->grad, size * sizeof(float));
        break;
    case LAYER_DROPOUT:
    default:
        for (size_t i = 0; i < size; i++) {
            dx[i] = r->grad[i] * r->mask[i];
        }
        break;
    }
}

/* The step s of one value; moments are kept in m and v. */
static double step_of(const struct update *u, double g, float *m, float *v)
{
    double c1 = 1 - pow((double)u->beta1, (double)u->count);
    double c2 = 1 - pow((double)u->beta2, (double)u->count);
    switch (u->kind) {
    case OPTIMIZER_SGD:
        *m = (float)((double)u->momentum * (double)*m + g);
        return u->nesterov ? g + (double)u->momentum * (double)*m : (double)*m;
    case OPTIMIZER_RMSPROP:
        *v = (float)((double)u->beta2 * (double)*v + (1 - (double)u->beta2) * g * g);
        *m =
            (float)((double)u->momentum * (double)*m + g / (sqrt((double)*v) + (double)u->epsilon));
        return (double)*m;
    case OPTIMIZER_ADAGRAD:
        *v = (float)((double)*v + g * g);
        return g / (sqrt((double)*v) + (double)u->epsilon);
    case OPTIMIZER_ADAM:
    case OPTIMIZER_LAMB:
    default:
        *m = (float)((double)u->beta1 * (double)*m + (1 - (double)u->beta1) * g);
        *v = (float)((double)u->beta2 * (double)*v + (1 - (double)u->beta2) * g * g);
        return ((double)*m / c1) / (sqrt((double)*v / c2) + (double)u->epsilon);
    }
}

static void update_array(float *const slots[OP_SLOTS], size_t n, const struct update *u,
                         float decay, bool weights)
{
    double scale = u->scale > 0 ? (double)u->scale : 1;
    double trust = 1;
    double w2 = 0;
    double s2 = 0;
    float *w = slots[SLOT_VALUE];
    float *step = slots[SLOT_GRAD]; /* of no use afterwards */
    for (size_t i = 0; i < n; i++) {
        double g = scale * (double)slots[SLOT_GRAD][i];
        double s = step_of(u, g, &slots[SLOT_FIRST][i], &slots[SLOT_SECOND][i]);
        s += (double)decay * (double)w[i];
        w2 += (double)w[i] * (double)w[i];
        s2 += s * s;
        step[i] = (float)s;
    }
    if (u->kind == OPTIMIZER_LAMB && weights && w2 > 0 && s2 > 0) {
        trust = sqrt(w2) / sqrt(s2);
    }
    for (size_t i = 0; i < n; i++) {
        w[i] = (float)((double)w[i] - (double)u->lr * trust * (double)step[i]);
    }
}

static void ref_update(struct op *op, const struct update *u)
{
    struct ref_op *r = ref_of(op);
    update_array(r->params[OP_WEIGHTS], param_size(op, OP_WEIGHTS), u, u->weight_decay, true);
    update_array(r->params[OP_BIAS], param_size(op, OP_BIAS), u, 0, false);
}

static double ref_grad_square(struct op *op)
{
    double sum = 0;
    for (int p = 0; p < OP_PARAMS; p++) {
        const float *g = ref_of(op)->params[p][SLOT_GRAD];
        for (size_t i = 0; i < param_size(op, (enum op_param)p); i++) {
            sum += (double)g[i] * (double)g[i];
        }
    }
    return sum;
}

static void ref_get(struct op *op, enum op_param p, enum op_slot slot, float *out)
{
    memcpy(out, ref_of(op)->params[p][slot], param_size(op, p) * sizeof(float));
}

static void ref_set(struct op *op, enum op_param p, enum op_slot slot, const float *in)
{
    memcpy(ref_of(op)->params[p][slot], in, param_size(op, p) * sizeof(float));
}

static void ref_read(struct op *op, bool grad, int n, float *out)
{
    memcpy(out, grad ? ref_of(op)->grad : ref_of(op)->out,
           out_size(op) * (size_t)n * sizeof(float));
}

static void ref_put(struct op *op, bool grad, int n, const float *in)
{
    memcpy(grad ? ref_of(op)->grad : ref_of(op)->out, in, out_size(op) * (size_t)n * sizeof(float));
}

const struct backend_ops backend_ref = {
    .version = BACKEND_VERSION,
    .name = "ref",
    .summary = "plain loops, slow: the oracle of the tests",
    .open = ref_open,
    .close = ref_close,
    .describe = ref_describe,
    .check = ref_check,
    .input_create = ref_input_create,
    .op_create = ref_op_create,
    .op_destroy = ref_op_destroy,
    .load = ref_load,
    .forward = ref_forward,
    .score = ref_score,
    .backward = ref_backward,
    .update = ref_update,
    .grad_square = ref_grad_square,
    .get = ref_get,
    .set = ref_set,
    .read = ref_read,
    .put = ref_put,
};
