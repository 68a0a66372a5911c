/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/cuda/dnn.h"

#include "base/alloc.h"
#include "base/err.h"

#include <stdlib.h>

#define CONFIGS_MAX 48 /* that are asked for; cuDNN's heuristics offer about 40 */
#define ALIGNMENT 16   /* of every tensor's address; ours are aligned to 256 */
#define DESCRIPTORS_MAX 8

enum { UID_X = 'x', UID_W = 'w', UID_Y = 'y' };

struct dnn_plan {
    cudnnBackendDescriptor_t plan;
    int64_t room, engine;
};

/* ---- descriptors: what fails on the way leaves `good` false, and nothing more is asked ---- */

struct maker {
    bool good;
    cudnnBackendDescriptor_t made[DESCRIPTORS_MAX]; /* that are needed until the plan is there */
    int n;
};

static cudnnBackendDescriptor_t make(struct maker *m, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d = NULL;
    MAG_ASSERT(m->n < DESCRIPTORS_MAX, "%d descriptors", m->n);
    m->good = m->good && cudnnBackendCreateDescriptor(type, &d) == CUDNN_STATUS_SUCCESS;
    if (d != NULL) {
        m->made[m->n++] = d;
    }
    return d;
}

static void set(struct maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t n, const void *values)
{
    m->good = m->good && cudnnBackendSetAttribute(d, name, type, n, values) == CUDNN_STATUS_SUCCESS;
}

static void finish(struct maker *m, cudnnBackendDescriptor_t d)
{
    m->good = m->good && cudnnBackendFinalize(d) == CUDNN_STATUS_SUCCESS;
}

static void destroy(cudnnBackendDescriptor_t d)
{
    if (d != NULL) {
        (void)cudnnBackendDestroyDescriptor(d);
    }
}

static void maker_fini(struct maker *m)
{
    while (m->n > 0) {
        destroy(m->made[--m->n]);
    }
}

/* Dimensions are n, c, h, w in this order whatever the layout; channels lie last. */
static cudnnBackendDescriptor_t make_tensor(struct maker *m, int64_t uid, bool bf16, int64_t n,
                                            int64_t c, int64_t h, int64_t w)
{
    cudnnBackendDescriptor_t d = make(m, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    const cudnnDataType_t type = bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    const int64_t sizes[] = {n, c, h, w};
    const int64_t strides[] = {h * w * c, 1, w * c, c};
    const int64_t alignment = ALIGNMENT;
    set(m, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(m, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, sizes);
    set(m, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set(m, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(m, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    finish(m, d);
    return d;
}

static cudnnBackendDescriptor_t make_convolution(struct maker *m, const struct dnn_shape *s)
{
    cudnnBackendDescriptor_t d = make(m, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t sides = 2;
    const int64_t pads[] = {s->pad, s->pad};
    const int64_t strides[] = {s->stride, s->stride};
    const int64_t dilations[] = {1, 1};
    set(m, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(m, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(m, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &sides);
    set(m, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    set(m, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    set(m, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    set(m, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
    finish(m, d);
    return d;
}

/* The names of one and the same attribute in the three operations. */
static const struct operation {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t convolution, x, w, y, alpha, beta;
} operations[] = {
    [DNN_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [DNN_DX] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [DNN_DW] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

static void set_one(struct maker *m, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                    cudnnBackendDescriptor_t value)
{
    set(m, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

/* A graph of one operation. */
static cudnnBackendDescriptor_t make_graph(struct maker *m, cudnnHandle_t h, enum dnn_pass pass,
                                           const struct dnn_shape *s, bool add)
{
    const struct operation *o = &operations[pass];
    const float one = 1;
    const float before = add ? 1 : 0;
    cudnnBackendDescriptor_t x = make_tensor(m, UID_X, s->bf16, s->n, s->c, s->h, s->w);
    cudnnBackendDescriptor_t w =
        make_tensor(m, UID_W, s->bf16, s->k, s->c / s->groups, s->kernel, s->kernel);
    cudnnBackendDescriptor_t y = make_tensor(m, UID_Y, s->bf16, s->n, s->k, s->out_h, s->out_w);
    cudnnBackendDescriptor_t convolution = make_convolution(m, s);
    cudnnBackendDescriptor_t operation = make(m, o->type);
    set_one(m, operation, o->convolution, convolution);
    set_one(m, operation, o->x, x);
    set_one(m, operation, o->w, w);
    set_one(m, operation, o->y, y);
    set(m, operation, o->alpha, CUDNN_TYPE_FLOAT, 1, &one);
    set(m, operation, o->beta, CUDNN_TYPE_FLOAT, 1, &before);
    finish(m, operation);
    cudnnBackendDescriptor_t graph = make(m, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set_one(m, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, operation);
    if (h != NULL) {
        set(m, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &h);
    }
    finish(m, graph);
    return graph;
}

/* ---- choosing ---- */

/* The engine's number, or -1 where it may not be used. */
static int64_t engine_of(cudnnBackendDescriptor_t config, const struct dnn_shape *s)
{
    cudnnBackendDescriptor_t engine = NULL;
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t n = 0;
    int64_t number = -1;
    bool good =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) ==
            CUDNN_STATUS_SUCCESS &&
        cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                 1, &n, &engine) == CUDNN_STATUS_SUCCESS &&
        cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &n,
                                 &number) == CUDNN_STATUS_SUCCESS &&
        cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                 CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n,
                                 notes) == CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; good && i < n; i++) {
        /* On tensor cores float32 becomes TensorFloat-32. */
        good = notes[i] == CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP ||
               (notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE && (s->bf16 || s->tf32));
    }
    destroy(engine);
    return good ? number : -1;
}

/* The plan of a configuration, or NULL when it does not suit. */
static struct dnn_plan *plan_of(cudnnHandle_t h, cudnnBackendDescriptor_t config,
                                const struct dnn_shape *s, int64_t room)
{
    struct dnn_plan p = {.engine = engine_of(config, s)};
    int64_t n = 0;
    if (p.engine < 0 || cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR,
                                                     &p.plan) != CUDNN_STATUS_SUCCESS) {
        return NULL;
    }
    struct maker m = {.good = true};
    set_one(&m, p.plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (h != NULL) {
        set(&m, p.plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &h);
    }
    finish(&m, p.plan);
    if (!m.good ||
        cudnnBackendGetAttribute(p.plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
                                 1, &n, &p.room) != CUDNN_STATUS_SUCCESS ||
        p.room > room) {
        destroy(p.plan);
        return NULL;
    }
    struct dnn_plan *made = xmalloc(sizeof(*made));
    *made = p;
    return made;
}

/* The first that suits of what one way of guessing offers. */
static struct dnn_plan *choose(cudnnHandle_t h, cudnnBackendDescriptor_t gpu,
                               cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode,
                               const struct dnn_shape *s, int64_t room)
{
    struct maker m = {.good = true};
    struct dnn_plan *p = NULL;
    cudnnBackendDescriptor_t guess = make(&m, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_one(&m, guess, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(&m, guess, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
#if CUDNN_VERSION >= 90800
    if (gpu != NULL) {
        set_one(&m, guess, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, gpu);
    }
#else
    (void)gpu;
#endif
    finish(&m, guess);
    cudnnBackendDescriptor_t configs[CONFIGS_MAX] = {NULL};
    for (int i = 0; m.good && i < CONFIGS_MAX; i++) {
        m.good = cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[i]) ==
                 CUDNN_STATUS_SUCCESS;
    }
    int64_t n = 0;
    m.good = m.good && cudnnBackendGetAttribute(guess, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGS_MAX, &n,
                                                configs) == CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; m.good && p == NULL && i < n; i++) {
        p = plan_of(h, configs[i], s, room);
    }
    for (int i = 0; i < CONFIGS_MAX; i++) {
        destroy(configs[i]);
    }
    maker_fini(&m);
    return p;
}

struct dnn_plan *dnn_plan_create(cudnnHandle_t h, cudnnBackendDescriptor_t gpu, enum dnn_pass pass,
                                 const struct dnn_shape *shape, bool add, int64_t room)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    struct maker m = {.good = true};
    struct dnn_plan *p = NULL;
    cudnnBackendDescriptor_t graph = make_graph(&m, h, pass, shape, add);
    for (int i = 0; i < 2 && m.good && p == NULL; i++) {
        p = choose(h, gpu, graph, modes[i], shape, room);
    }
    maker_fini(&m);
    return p;
}

void dnn_plan_destroy(struct dnn_plan *p)
{
    if (p != NULL) {
        destroy(p->plan);
        free(p);
    }
}

/* ---- running ---- */

cudnnStatus_t dnn_plan_run(const struct dnn_plan *p, cudnnHandle_t h, void *x, void *w, void *y,
                           void *workspace)
{
    static const int64_t uids[] = {UID_X, UID_W, UID_Y};
    void *const pointers[] = {x, w, y};
    cudnnBackendDescriptor_t pack = NULL;
    cudnnStatus_t s = cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (s == CUDNN_STATUS_SUCCESS) {
        s = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3,
                                     uids);
    }
    if (s == CUDNN_STATUS_SUCCESS) {
        s = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                                     CUDNN_TYPE_VOID_PTR, 3, pointers);
    }
    if (s == CUDNN_STATUS_SUCCESS) {
        s = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR,
                                     1, &workspace);
    }
    if (s == CUDNN_STATUS_SUCCESS) {
        s = cudnnBackendFinalize(pack);
    }
    if (s == CUDNN_STATUS_SUCCESS) {
        s = cudnnBackendExecute(h, p->plan, pack);
    }
    destroy(pack);
    return s;
}

int64_t dnn_plan_room(const struct dnn_plan *p)
{
    return p->room;
}

int64_t dnn_plan_engine(const struct dnn_plan *p)
{
    return p->engine;
}
