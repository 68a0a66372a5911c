/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolutions by cuDNN: channels last, lanes as groups of channels, only algorithms whose sums
 * have a fixed order. Where cuDNN has none for a shape, the own kernels of windows.cu do it.
 */
#include "trainer/cuda/gpu.h"

#include "base/alloc.h"

#include <stdlib.h>

#define SIZES_MAX 3   /* batch sizes that algorithms are kept for */
#define CHOICES_MAX 8 /* that cuDNN is asked for */

/* One of the three computations: its algorithm's number, or none. */
struct choice {
    bool found;
    int algorithm;
    cudnnMathType_t math;
    size_t workspace;
};

struct sized {
    int n; /* 0 = unused */
    cudnnTensorDescriptor_t x, y;
    struct choice forward, dx, dw;
};

struct device_conv {
    struct device *device;
    struct filter f;
    int lanes, x_lanes;
    bool bf16;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t conv;
    struct sized sizes[SIZES_MAX];
    int next_size;
};

/* ---- life ---- */

static cudnnDataType_t type_of(const struct device_conv *c)
{
    return c->bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

/* What the products may be rounded to. */
static cudnnMathType_t math_of(const struct device_conv *c)
{
    return c->bf16 ? CUDNN_TENSOR_OP_MATH : c->device->tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
}

enum mag_status device_conv_create(struct device *d, const struct filter *f, int lanes, int x_lanes,
                                   bool bf16, int rows, struct device_conv **ret,
                                   struct mag_err *err)
{
    (void)rows;
    MAG_ASSERT(x_lanes == lanes || f->groups == 1, "groups of shared channels");
    struct device_conv *c = xcalloc(1, sizeof(*c));
    *c = (struct device_conv){
        .device = d, .f = *f, .lanes = lanes, .x_lanes = x_lanes, .bf16 = bf16};
    const struct window *w = &f->w;
    const int groups = x_lanes == lanes ? lanes * f->groups : 1;
    bool good =
        DNN(d, cudnnCreateFilterDescriptor(&c->w)) &&
        DNN(d, cudnnCreateConvolutionDescriptor(&c->conv)) &&
        DNN(d, cudnnSetFilter4dDescriptor(c->w, type_of(c), CUDNN_TENSOR_NHWC, lanes * f->k,
                                          f->c / f->groups, w->kernel, w->kernel)) &&
        DNN(d, cudnnSetConvolution2dDescriptor(c->conv, w->pad, w->pad, w->stride, w->stride, 1, 1,
                                               CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT)) &&
        DNN(d, cudnnSetConvolutionGroupCount(c->conv, groups)) &&
        DNN(d, cudnnSetConvolutionMathType(c->conv, math_of(c)));
    for (int i = 0; good && i < SIZES_MAX; i++) {
        good = DNN(d, cudnnCreateTensorDescriptor(&c->sizes[i].x)) &&
               DNN(d, cudnnCreateTensorDescriptor(&c->sizes[i].y));
    }
    if (!good) {
        device_conv_destroy(c);
        return device_check(d, err);
    }
    *ret = c;
    return MAG_OK;
}

void device_conv_destroy(struct device_conv *c)
{
    if (c == NULL) {
        return;
    }
    for (int i = 0; i < SIZES_MAX; i++) {
        if (c->sizes[i].x != NULL) {
            (void)cudnnDestroyTensorDescriptor(c->sizes[i].x);
        }
        if (c->sizes[i].y != NULL) {
            (void)cudnnDestroyTensorDescriptor(c->sizes[i].y);
        }
    }
    if (c->conv != NULL) {
        (void)cudnnDestroyConvolutionDescriptor(c->conv);
    }
    if (c->w != NULL) {
        (void)cudnnDestroyFilterDescriptor(c->w);
    }
    free(c);
}

/* ---- choosing algorithms ---- */

/* Takes an offer that works, is deterministic, fits the workspace and does not round more than was
 * asked for; offers come best first. */
static void consider(const struct device_conv *c, struct choice *to, cudnnStatus_t status,
                     cudnnDeterminism_t determinism, cudnnMathType_t math, size_t memory,
                     int algorithm)
{
    const bool exact =
        math_of(c) != CUDNN_FMA_MATH || math == CUDNN_FMA_MATH || math == CUDNN_DEFAULT_MATH;
    if (!to->found && status == CUDNN_STATUS_SUCCESS && determinism == CUDNN_DETERMINISTIC &&
        memory <= (size_t)DEVICE_WORKSPACE && exact) {
        *to = (struct choice){.found = true,
                              .algorithm = algorithm,
                              .math = math_of(c) == CUDNN_FMA_MATH ? CUDNN_FMA_MATH : math,
                              .workspace = memory};
    }
}

static void choose(struct device_conv *c, struct sized *s)
{
    cudnnHandle_t h = c->device->dnn;
    cudnnConvolutionFwdAlgoPerf_t forward[CHOICES_MAX];
    cudnnConvolutionBwdDataAlgoPerf_t dx[CHOICES_MAX];
    cudnnConvolutionBwdFilterAlgoPerf_t dw[CHOICES_MAX];
    int n = 0;
    s->forward = s->dx = s->dw = (struct choice){0};
    if (cudnnGetConvolutionForwardAlgorithm_v7(h, s->x, c->w, c->conv, s->y, CHOICES_MAX, &n,
                                               forward) == CUDNN_STATUS_SUCCESS) {
        for (int i = 0; i < n; i++) {
            consider(c, &s->forward, forward[i].status, forward[i].determinism, forward[i].mathType,
                     forward[i].memory, (int)forward[i].algo);
        }
    }
    if (cudnnGetConvolutionBackwardDataAlgorithm_v7(h, c->w, s->y, c->conv, s->x, CHOICES_MAX, &n,
                                                    dx) == CUDNN_STATUS_SUCCESS) {
        for (int i = 0; i < n; i++) {
            consider(c, &s->dx, dx[i].status, dx[i].determinism, dx[i].mathType, dx[i].memory,
                     (int)dx[i].algo);
        }
    }
    if (cudnnGetConvolutionBackwardFilterAlgorithm_v7(h, s->x, s->y, c->conv, c->w, CHOICES_MAX, &n,
                                                      dw) == CUDNN_STATUS_SUCCESS) {
        for (int i = 0; i < n; i++) {
            consider(c, &s->dw, dw[i].status, dw[i].determinism, dw[i].mathType, dw[i].memory,
                     (int)dw[i].algo);
        }
    }
}

/* Descriptors and algorithms for batches of n. */
static struct sized *sized_for(struct device_conv *c, int n)
{
    for (int i = 0; i < SIZES_MAX; i++) {
        if (c->sizes[i].n == n) {
            return &c->sizes[i];
        }
    }
    struct device *d = c->device;
    const struct window *w = &c->f.w;
    struct sized *s = &c->sizes[c->next_size];
    c->next_size = (c->next_size + 1) % SIZES_MAX;
    s->n = n;
    s->forward = s->dx = s->dw = (struct choice){0};
    if (!d->own_kernels &&
        DNN(d, cudnnSetTensor4dDescriptor(s->x, CUDNN_TENSOR_NHWC, type_of(c), n,
                                          c->x_lanes * c->f.c, w->in_h, w->in_w)) &&
        DNN(d, cudnnSetTensor4dDescriptor(s->y, CUDNN_TENSOR_NHWC, type_of(c), n, c->lanes * c->f.k,
                                          w->out_h, w->out_w))) {
        (void)DNN(d, cudnnSetConvolutionMathType(c->conv, math_of(c)));
        choose(c, s);
    }
    return s;
}

/* ---- running ---- */

/* After cuDNN was asked: true when it does the work. What it does not support after all is left to
 * the own kernel, now and later. */
static bool accepted(struct device_conv *c, struct choice *choice, cudnnStatus_t s,
                     const char *what)
{
    if (s == CUDNN_STATUS_NOT_SUPPORTED) {
        choice->found = false;
        return false;
    }
    (void)gpu_dnn(c->device, s, what);
    return true; /* done, or a failure that is noted */
}

static bool use(struct device_conv *c, const struct choice *choice)
{
    return choice->found && DNN(c->device, cudnnSetConvolutionMathType(c->conv, choice->math));
}

void device_conv_forward(struct device_conv *c, struct tensor x, struct tensor w, struct tensor y,
                         int n)
{
    const float one = 1;
    const float zero = 0;
    struct device *d = c->device;
    struct sized *s = sized_for(c, n);
    if (x.bf16 == w.bf16 && use(c, &s->forward) &&
        accepted(c, &s->forward,
                 cudnnConvolutionForward(d->dnn, &one, s->x, x.data, c->w, w.data, c->conv,
                                         (cudnnConvolutionFwdAlgo_t)s->forward.algorithm,
                                         d->workspace, s->forward.workspace, &zero, s->y, y.data),
                 "cudnnConvolutionForward")) {
        return;
    }
    k_conv(x, w, y, c->f, n, c->lanes, d->stream);
}

void device_conv_dx(struct device_conv *c, struct tensor dy, struct tensor w, struct tensor dx,
                    int n, bool add)
{
    const float one = 1;
    const float before = add ? 1 : 0;
    struct device *d = c->device;
    struct sized *s = sized_for(c, n);
    if (use(c, &s->dx) && accepted(c, &s->dx,
                                   cudnnConvolutionBackwardData(
                                       d->dnn, &one, c->w, w.data, s->y, dy.data, c->conv,
                                       (cudnnConvolutionBwdDataAlgo_t)s->dx.algorithm, d->workspace,
                                       s->dx.workspace, &before, s->x, dx.data),
                                   "cudnnConvolutionBackwardData")) {
        return;
    }
    k_conv_dx(dy, w, dx, c->f, n, c->lanes, add, d->stream);
}

void device_conv_dw(struct device_conv *c, struct tensor x, struct tensor dy, float *dw,
                    uint16_t *half, int n)
{
    const float one = 1;
    const float zero = 0;
    struct device *d = c->device;
    struct sized *s = sized_for(c, n);
    void *to = c->bf16 ? (void *)half : (void *)dw;
    if (x.bf16 == dy.bf16 && use(c, &s->dw) &&
        accepted(c, &s->dw,
                 cudnnConvolutionBackwardFilter(d->dnn, &one, s->x, x.data, s->y, dy.data, c->conv,
                                                (cudnnConvolutionBwdFilterAlgo_t)s->dw.algorithm,
                                                d->workspace, s->dw.workspace, &zero, c->w, to),
                 "cudnnConvolutionBackwardFilter")) {
        if (c->bf16) {
            const int64_t weights =
                (int64_t)c->lanes * c->f.k * c->f.w.kernel * c->f.w.kernel * (c->f.c / c->f.groups);
            k_from_bf16(half, dw, weights, d->stream);
        }
        return;
    }
    const struct tensor own = {dw, 0, 1};
    k_conv_dw(x, dy, own, c->f, n, c->lanes, d->stream);
}
