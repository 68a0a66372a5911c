/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolutions by cuDNN: channels last, lanes as groups of channels. A plan (dnn.h) is looked for
 * when a batch size first comes, and kept. Where cuDNN has none for a shape, the own kernels of
 * windows.cu do it.
 */
#include "trainer/cuda/dnn.h"
#include "trainer/cuda/gpu.h"

#include "base/alloc.h"

#include <stdlib.h>

#define SIZES_MAX                                                                                  \
    6 /* batch sizes that plans are kept for: whole and last ones, of several parts                \
       */

/* A plan that was looked for; NULL when there is none. */
struct choice {
    struct dnn_plan *plan;
    bool known;
};

struct sized {
    int n; /* 0 = unused */
    struct choice forward, dw;
    struct choice dx[2]; /* [add] */
};

struct device_conv {
    struct device *device;
    struct filter f;
    int lanes, x_lanes;
    bool bf16;
    void *work;
    int64_t work_bytes;
    struct sized sizes[SIZES_MAX];
    int next_size;
};

/* ---- life ---- */

struct device_conv *device_conv_create(struct device *d, const struct filter *f, int lanes,
                                       int x_lanes, bool bf16, void *work, int64_t work_bytes)
{
    MAG_ASSERT(x_lanes == lanes || f->groups == 1, "groups of shared channels");
    struct device_conv *c = xcalloc(1, sizeof(*c));
    *c = (struct device_conv){.device = d,
                              .f = *f,
                              .lanes = lanes,
                              .x_lanes = x_lanes,
                              .bf16 = bf16,
                              .work = work,
                              .work_bytes = work_bytes};
    return c;
}

static void forget(struct sized *s)
{
    dnn_plan_destroy(s->forward.plan);
    dnn_plan_destroy(s->dw.plan);
    dnn_plan_destroy(s->dx[0].plan);
    dnn_plan_destroy(s->dx[1].plan);
    *s = (struct sized){0};
}

void device_conv_destroy(struct device_conv *c)
{
    for (int i = 0; c != NULL && i < SIZES_MAX; i++) {
        forget(&c->sizes[i]);
    }
    free(c);
}

/* ---- plans ---- */

static struct sized *sized_for(struct device_conv *c, int n)
{
    for (int i = 0; i < SIZES_MAX; i++) {
        if (c->sizes[i].n == n) {
            return &c->sizes[i];
        }
    }
    struct sized *s = &c->sizes[c->next_size];
    c->next_size = (c->next_size + 1) % SIZES_MAX;
    forget(s);
    s->n = n;
    return s;
}

static struct dnn_shape shape_of(const struct device_conv *c, int n)
{
    const struct window *w = &c->f.w;
    return (struct dnn_shape){.n = n,
                              .c = c->x_lanes * c->f.c,
                              .h = w->in_h,
                              .w = w->in_w,
                              .k = c->lanes * c->f.k,
                              .out_h = w->out_h,
                              .out_w = w->out_w,
                              .kernel = w->kernel,
                              .stride = w->stride,
                              .pad = w->pad,
                              .groups = c->x_lanes == c->lanes ? c->lanes * c->f.groups : 1,
                              .bf16 = c->bf16,
                              .tf32 = c->device->tf32};
}

/* Runs the plan of a choice. False when there is none: then the own kernel has to do it, now and
 * later. A failure is noted. */
static bool run(struct device_conv *c, struct choice *choice, enum dnn_pass pass, int n, bool add,
                void *x, void *w, void *y)
{
    struct device *d = c->device;
    if (!choice->known) {
        const struct dnn_shape shape = shape_of(c, n);
        choice->known = true;
        choice->plan =
            d->own_kernels ? NULL : dnn_plan_create(d->dnn, NULL, pass, &shape, add, c->work_bytes);
    }
    if (choice->plan == NULL) {
        return false;
    }
    const cudnnStatus_t s = dnn_plan_run(choice->plan, d->dnn, x, w, y, c->work);
    if (CUDNN_STATUS_CATEGORY(s) == CUDNN_STATUS_NOT_SUPPORTED) {
        dnn_plan_destroy(choice->plan);
        choice->plan = NULL;
        return false;
    }
    (void)gpu_dnn(d, s, "cudnnBackendExecute");
    return true;
}

/* ---- running ---- */

void device_conv_forward(struct device_conv *c, struct tensor x, struct tensor w, struct tensor y,
                         int n)
{
    struct sized *s = sized_for(c, n);
    if (x.bf16 != w.bf16 || !run(c, &s->forward, DNN_FORWARD, n, false, x.data, w.data, y.data)) {
        k_conv(x, w, y, c->f, n, c->lanes, c->device->stream);
    }
}

void device_conv_dx(struct device_conv *c, struct tensor dy, struct tensor w, struct tensor dx,
                    int n, bool add)
{
    struct sized *s = sized_for(c, n);
    if (!run(c, &s->dx[add], DNN_DX, n, add, dx.data, w.data, dy.data)) {
        k_conv_dx(dy, w, dx, c->f, n, c->lanes, add, c->device->stream);
    }
}

void device_conv_dw(struct device_conv *c, struct tensor x, struct tensor dy, float *dw,
                    uint16_t *half, int n)
{
    struct sized *s = sized_for(c, n);
    void *to = c->bf16 ? (void *)half : (void *)dw; /* cuDNN has no kernel from one to the other */
    const struct tensor own = {dw, 0, 1};
    if (x.bf16 != dy.bf16 || !run(c, &s->dw, DNN_DW, n, false, x.data, to, dy.data)) {
        k_conv_dw(x, dy, own, c->f, n, c->lanes, c->device->stream);
    } else if (c->bf16) {
        const int64_t weights =
            (int64_t)c->lanes * c->f.k * c->f.w.kernel * c->f.w.kernel * (c->f.c / c->f.groups);
        k_from_bf16(half, dw, weights, c->device->stream);
    }
}
