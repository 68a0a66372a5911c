/* SPDX-License-Identifier: Apache-2.0
 *
 * oneDNN's convolutions. One object holds the primitives of one layer for whole batches, with the
 * layouts that its fastest kernels want; weights come and go in the canonical layout and are
 * reordered here, which costs little beside the convolution. Built only with oneDNN;
 * cpu_noonednn.c stands in otherwise.
 */
#include "trainer/cpu.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dlfcn.h>
#include <dnnl.h>

/* The one place where oneDNN's status becomes ours. */
static enum mag_status translate(dnnl_status_t st)
{
    switch (st) {
    case dnnl_success:
        return MAG_OK;
    case dnnl_out_of_memory:
        return MAG_NOMEM;
    case dnnl_unimplemented:
        return MAG_UNSUPPORTED;
    case dnnl_invalid_arguments:
    case dnnl_iterator_ends:
    case dnnl_runtime_error:
    case dnnl_not_required:
    default:
        return MAG_BUG;
    }
}

static bool has_avx512(void)
{
    return ((unsigned)dnnl_get_effective_cpu_isa() & (unsigned)dnnl_cpu_isa_avx512_core) ==
           (unsigned)dnnl_cpu_isa_avx512_core;
}

static const char *isa_name(void)
{
    bool avx2 = ((unsigned)dnnl_get_effective_cpu_isa() & (unsigned)dnnl_cpu_isa_avx2) ==
                (unsigned)dnnl_cpu_isa_avx2;
    return has_avx512() ? "AVX-512" : avx2 ? "AVX2" : "below AVX2";
}

/* oneDNN brings an OpenMP runtime with it, which one depends on its build: ask that one, by name.
 */
static void use_threads(int n)
{
    void (*set_threads)(int) = NULL;
    *(void **)&set_threads = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    if (set_threads != NULL) {
        set_threads(n);
    }
}

enum mag_status onednn_open(struct backend *b, struct mag_err *err)
{
    use_threads(b->threads);
    dnnl_engine_t engine = NULL;
    dnnl_stream_t stream = NULL;
    dnnl_status_t st = dnnl_engine_create(&engine, dnnl_cpu, 0);
    if (st == dnnl_success) {
        st = dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
    }
    if (st != dnnl_success) {
        (void)dnnl_engine_destroy(engine);
        return mag_fail(err, translate(st), "oneDNN does not start (status %d)", (int)st);
    }
    b->engine = engine;
    b->stream = stream;
    b->onednn = true;
    const dnnl_version_t *v = dnnl_version();
    (void)snprintf(b->text, sizeof(b->text), "oneDNN %d.%d.%d, %s", v->major, v->minor, v->patch,
                   isa_name());
    return MAG_OK;
}

void onednn_close(struct backend *b)
{
    if (b->onednn) {
        (void)dnnl_stream_destroy(b->stream);
        (void)dnnl_engine_destroy(b->engine);
        b->onednn = false;
    }
}

/* ---- convolutions ---- */

/* A weights array in a primitive's own layout, with the reorder from or to the canonical one. */
struct weights {
    dnnl_memory_t inner;     /* owns its memory */
    dnnl_memory_t canonical; /* handle set at each use */
    dnnl_primitive_t reorder;
    bool same; /* the layouts are equal: no copy */
};

struct onednn_conv {
    struct backend *b;
    int block;
    dnnl_primitive_t fwd, dw, dx;
    struct weights w_fwd, w_dw, w_dx;
    dnnl_memory_t x, y, bias; /* also their gradients: handles set at each use */
};

/* Everything that the descriptors of one layer share. */
struct conv_shapes {
    dnnl_dims_t stride, dilate, pad_l, pad_r;
    dnnl_memory_desc_t x, y, w_any, w, bias;
    bool has_bias;
};

static dnnl_format_tag_t image_tag(int block)
{
    return block == 16 ? dnnl_aBcd16b : block == 8 ? dnnl_aBcd8b : dnnl_abcd;
}

static bool describe(const struct layer *l, int rows, int in_block, int out_block,
                     struct conv_shapes *s)
{
    *s = (struct conv_shapes){.stride = {l->stride, l->stride}, .pad_l = {l->pad, l->pad}};
    /* The right side is padded by what the last window needs; it may be less, even negative. */
    s->pad_r[0] = (l->out.h - 1) * l->stride + l->kernel - l->in.h - l->pad;
    s->pad_r[1] = (l->out.w - 1) * l->stride + l->kernel - l->in.w - l->pad;
    const dnnl_dims_t x = {rows, l->in.c, l->in.h, l->in.w};
    const dnnl_dims_t y = {rows, l->out.c, l->out.h, l->out.w};
    /* [groups][filters of one][channels of one][k][k]: the same memory, in one dimension more */
    const dnnl_dims_t w = {l->filters, l->in.c, l->kernel, l->kernel};
    const dnnl_dims_t grouped = {l->groups, l->filters / l->groups, l->in.c / l->groups, l->kernel,
                                 l->kernel};
    const dnnl_dims_t b = {l->filters};
    const bool many = l->groups > 1;
    s->has_bias = !l->no_bias;
    return dnnl_memory_desc_init_by_tag(&s->x, 4, x, dnnl_f32, image_tag(in_block)) ==
               dnnl_success &&
           dnnl_memory_desc_init_by_tag(&s->y, 4, y, dnnl_f32, image_tag(out_block)) ==
               dnnl_success &&
           dnnl_memory_desc_init_by_tag(&s->w_any, many ? 5 : 4, many ? grouped : w, dnnl_f32,
                                        dnnl_format_tag_any) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&s->w, many ? 5 : 4, many ? grouped : w, dnnl_f32,
                                        many ? dnnl_abcde : dnnl_abcd) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&s->bias, 1, b, dnnl_f32, dnnl_a) == dnnl_success;
}

static const dnnl_memory_desc_t *bias_of(const struct conv_shapes *s)
{
    return s->has_bias ? &s->bias : NULL;
}

/* Only the vector kernels are worth it: the rest is slower than im2col and oneDNN's own product. */
static bool is_fast(const_dnnl_primitive_desc_t pd)
{
    const char *name = NULL;
    return dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name) ==
               dnnl_success &&
           (strncmp(name, "jit", 3) == 0 || strncmp(name, "brg", 3) == 0);
}

/* A primitive descriptor, or NULL when there is no fast kernel. */
static dnnl_primitive_desc_t fast_pd(struct backend *b, const dnnl_convolution_desc_t *d, bool relu,
                                     dnnl_primitive_desc_t hint)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t post = NULL;
    if (relu && dnnl_primitive_attr_create(&attr) == dnnl_success &&
        dnnl_post_ops_create(&post) == dnnl_success) {
        (void)dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f);
        (void)dnnl_primitive_attr_set_post_ops(attr, post);
    }
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t st = dnnl_primitive_desc_create(&pd, d, attr, b->engine, hint);
    (void)dnnl_post_ops_destroy(post);
    (void)dnnl_primitive_attr_destroy(attr);
    if (st == dnnl_success && is_fast(pd)) {
        return pd;
    }
    (void)dnnl_primitive_desc_destroy(pd);
    return NULL;
}

static dnnl_primitive_desc_t forward_pd(struct backend *b, const struct layer *l,
                                        const struct conv_shapes *s)
{
    dnnl_convolution_desc_t d;
    if (dnnl_dilated_convolution_forward_desc_init(
            &d, dnnl_forward_training, dnnl_convolution_direct, &s->x, &s->w_any, bias_of(s), &s->y,
            s->stride, s->dilate, s->pad_l, s->pad_r) != dnnl_success) {
        return NULL;
    }
    return fast_pd(b, &d, l->act == ACT_RELU, NULL);
}

static dnnl_primitive_desc_t weights_pd(struct backend *b, const struct conv_shapes *s,
                                        dnnl_primitive_desc_t hint)
{
    dnnl_convolution_desc_t d;
    if (dnnl_dilated_convolution_backward_weights_desc_init(
            &d, dnnl_convolution_direct, &s->x, &s->w_any, bias_of(s), &s->y, s->stride, s->dilate,
            s->pad_l, s->pad_r) != dnnl_success) {
        return NULL;
    }
    return fast_pd(b, &d, false, hint);
}

static dnnl_primitive_desc_t data_pd(struct backend *b, const struct conv_shapes *s,
                                     dnnl_primitive_desc_t hint)
{
    dnnl_convolution_desc_t d;
    if (dnnl_dilated_convolution_backward_data_desc_init(&d, dnnl_convolution_direct, &s->x,
                                                         &s->w_any, &s->y, s->stride, s->dilate,
                                                         s->pad_l, s->pad_r) != dnnl_success) {
        return NULL;
    }
    return fast_pd(b, &d, false, hint);
}

/* Sets up a weights array for the layout that `pd` wants under `what`. */
static dnnl_status_t weights_init(struct backend *b, const struct conv_shapes *s,
                                  dnnl_primitive_desc_t pd, dnnl_query_t what, bool to_canonical,
                                  struct weights *w)
{
    const dnnl_memory_desc_t *inner = dnnl_primitive_desc_query_md(pd, what, 0);
    w->same = dnnl_memory_desc_equal(inner, &s->w) != 0;
    dnnl_status_t st = dnnl_memory_create(&w->canonical, &s->w, b->engine, DNNL_MEMORY_NONE);
    if (st != dnnl_success || w->same) {
        return st;
    }
    st = dnnl_memory_create(&w->inner, inner, b->engine, DNNL_MEMORY_ALLOCATE);
    if (st != dnnl_success) {
        return st;
    }
    dnnl_primitive_desc_t reorder = NULL;
    st = dnnl_reorder_primitive_desc_create(&reorder, to_canonical ? inner : &s->w, b->engine,
                                            to_canonical ? &s->w : inner, b->engine, NULL);
    if (st == dnnl_success) {
        st = dnnl_primitive_create(&w->reorder, reorder);
    }
    (void)dnnl_primitive_desc_destroy(reorder);
    return st;
}

static void weights_fini(struct weights *w)
{
    (void)dnnl_primitive_destroy(w->reorder);
    (void)dnnl_memory_destroy(w->inner);
    (void)dnnl_memory_destroy(w->canonical);
}

/* Primitives and memories for the descriptors found; dw and dx may be NULL. */
static dnnl_status_t build(struct onednn_conv *c, const struct conv_shapes *s,
                           dnnl_primitive_desc_t fwd, dnnl_primitive_desc_t dw,
                           dnnl_primitive_desc_t dx)
{
    struct backend *b = c->b;
    dnnl_status_t st = dnnl_primitive_create(&c->fwd, fwd);
    if (st == dnnl_success) {
        st = weights_init(b, s, fwd, dnnl_query_weights_md, false, &c->w_fwd);
    }
    if (st == dnnl_success && dw != NULL) {
        st = dnnl_primitive_create(&c->dw, dw);
        if (st == dnnl_success) {
            st = weights_init(b, s, dw, dnnl_query_diff_weights_md, true, &c->w_dw);
        }
    }
    if (st == dnnl_success && dx != NULL) {
        st = dnnl_primitive_create(&c->dx, dx);
        if (st == dnnl_success) {
            st = weights_init(b, s, dx, dnnl_query_weights_md, false, &c->w_dx);
        }
    }
    const dnnl_memory_desc_t *mds[] = {&s->x, &s->y, &s->bias};
    dnnl_memory_t *mems[] = {&c->x, &c->y, &c->bias};
    for (int i = 0; i < 3 && st == dnnl_success; i++) {
        st = dnnl_memory_create(mems[i], mds[i], b->engine, DNNL_MEMORY_NONE);
    }
    return st;
}

/* With the output in `block`, when the forward kernel is fast then. */
static enum mag_status try_block(struct backend *b, const struct layer *l, int rows, int in_block,
                                 int block, bool want_dx, struct onednn_conv **ret,
                                 struct mag_err *err)
{
    struct conv_shapes s;
    if (l->filters % block != 0 || !describe(l, rows, in_block, block, &s)) {
        return MAG_OK;
    }
    dnnl_primitive_desc_t fwd = forward_pd(b, l, &s);
    if (fwd == NULL) {
        return MAG_OK;
    }
    /* With few input channels oneDNN's backward weights runs at a tenth of its speed. */
    dnnl_primitive_desc_t dw = l->in.c >= 8 ? weights_pd(b, &s, fwd) : NULL;
    dnnl_primitive_desc_t dx = want_dx ? data_pd(b, &s, fwd) : NULL;
    struct onednn_conv *c = xcalloc(1, sizeof(*c));
    c->b = b;
    c->block = block;
    dnnl_status_t st = build(c, &s, fwd, dw, dx);
    (void)dnnl_primitive_desc_destroy(fwd);
    (void)dnnl_primitive_desc_destroy(dw);
    (void)dnnl_primitive_desc_destroy(dx);
    if (st != dnnl_success) {
        onednn_conv_destroy(c);
        return mag_fail(err, translate(st), "oneDNN cannot set up a convolution (status %d)",
                        (int)st);
    }
    *ret = c;
    return MAG_OK;
}

enum mag_status onednn_conv_create(struct backend *b, const struct layer *l, int rows, int in_block,
                                   bool want_dx, struct onednn_conv **ret, struct mag_err *err)
{
    enum mag_status st = MAG_OK;
    *ret = NULL;
    if (has_avx512()) {
        st = try_block(b, l, rows, in_block, 16, want_dx, ret, err);
    }
    if (st == MAG_OK && *ret == NULL) {
        st = try_block(b, l, rows, in_block, 8, want_dx, ret, err);
    }
    return st;
}

void onednn_conv_destroy(struct onednn_conv *c)
{
    if (c == NULL) {
        return;
    }
    (void)dnnl_primitive_destroy(c->fwd);
    (void)dnnl_primitive_destroy(c->dw);
    (void)dnnl_primitive_destroy(c->dx);
    weights_fini(&c->w_fwd);
    weights_fini(&c->w_dw);
    weights_fini(&c->w_dx);
    (void)dnnl_memory_destroy(c->x);
    (void)dnnl_memory_destroy(c->y);
    (void)dnnl_memory_destroy(c->bias);
    free(c);
}

int onednn_conv_block(const struct onednn_conv *c)
{
    return c->block;
}

bool onednn_conv_has_dw(const struct onednn_conv *c)
{
    return c->dw != NULL;
}

bool onednn_conv_has_dx(const struct onednn_conv *c)
{
    return c->dx != NULL;
}

static void run(struct onednn_conv *c, dnnl_primitive_t p, int n, const dnnl_exec_arg_t *args)
{
    dnnl_status_t st = dnnl_primitive_execute(p, c->b->stream, n, args);
    if (st != dnnl_success) {
        cpu_fail(c->b, translate(st), "a oneDNN convolution");
    }
}

static void set(dnnl_memory_t m, const float *data)
{
    (void)dnnl_memory_set_data_handle(m, (void *)(uintptr_t)data);
}

/* The memory that a primitive reads the weights from. */
static dnnl_memory_t weights_in(struct onednn_conv *c, struct weights *w, const float *data)
{
    set(w->canonical, data);
    if (w->same) {
        return w->canonical;
    }
    run(c, w->reorder, 2,
        (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, w->canonical}, {DNNL_ARG_TO, w->inner}});
    return w->inner;
}

void onednn_conv_forward(struct onednn_conv *c, const float *x, const float *w, const float *bias,
                         float *y)
{
    set(c->x, x);
    set(c->y, y);
    set(c->bias, bias);
    dnnl_memory_t weights = weights_in(c, &c->w_fwd, w);
    run(c, c->fwd, bias != NULL ? 4 : 3,
        (dnnl_exec_arg_t[]){{DNNL_ARG_SRC, c->x},
                            {DNNL_ARG_WEIGHTS, weights},
                            {DNNL_ARG_DST, c->y},
                            {DNNL_ARG_BIAS, c->bias}});
}

void onednn_conv_dw(struct onednn_conv *c, const float *x, const float *dy, float *dw, float *db)
{
    set(c->x, x);
    set(c->y, dy);
    set(c->bias, db);
    set(c->w_dw.canonical, dw);
    dnnl_memory_t weights = c->w_dw.same ? c->w_dw.canonical : c->w_dw.inner;
    run(c, c->dw, db != NULL ? 4 : 3,
        (dnnl_exec_arg_t[]){{DNNL_ARG_SRC, c->x},
                            {DNNL_ARG_DIFF_DST, c->y},
                            {DNNL_ARG_DIFF_WEIGHTS, weights},
                            {DNNL_ARG_DIFF_BIAS, c->bias}});
    if (!c->w_dw.same) {
        run(c, c->w_dw.reorder, 2,
            (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, c->w_dw.inner}, {DNNL_ARG_TO, c->w_dw.canonical}});
    }
}

void onednn_conv_dx(struct onednn_conv *c, const float *dy, const float *w, float *dx)
{
    set(c->y, dy);
    set(c->x, dx);
    dnnl_memory_t weights = weights_in(c, &c->w_dx, w);
    run(c, c->dx, 3,
        (dnnl_exec_arg_t[]){
            {DNNL_ARG_DIFF_DST, c->y}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DIFF_SRC, c->x}});
}
