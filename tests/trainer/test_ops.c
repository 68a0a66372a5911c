/* SPDX-License-Identifier: Apache-2.0
 *
 * Every op: the reference's gradients against finite differences, and the fast backend against the
 * reference, on a table of models that reaches each kernel and layout.
 */
#include "support.h"

#include "base/alloc.h"
#include "trainer/tally.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How near another backend must come to the reference: every value, relative to an array's largest,
 * or TEST_BY_NORM all together. Builds for other backends and precisions say it (meson.build). */
#ifndef TEST_TOLERANCE
#define TEST_TOLERANCE 2e-5
#define TEST_PRECISION PRECISION_FLOAT32
#endif
#ifndef TEST_BY_NORM
#define TEST_BY_NORM false
#endif

struct op_case {
    const char *name;
    struct shape input;
    int rows; /* of the net */
    int n;    /* of the batch */
    const char *layers;
};

#define IMAGE(c, h, w)                                                                             \
    {                                                                                              \
        c, h, w, false                                                                             \
    }
#define FLAT(n)                                                                                    \
    {                                                                                              \
        n, 1, 1, true                                                                              \
    }
#define END "{\"type\":\"dense\",\"units\":3}]"

static const struct op_case cases[] = {
    {"dense alone", FLAT(7), 4, 4, "[" END},
    {"dense tanh", FLAT(5), 6, 4, "[{\"type\":\"dense\",\"units\":9,\"activation\":\"tanh\"}," END},
    {"dense sigmoid", FLAT(5), 3, 3,
     "[{\"type\":\"dense\",\"units\":4,\"activation\":\"sigmoid\"}," END},
    {"dense relu", FLAT(12), 5, 5,
     "[{\"type\":\"dense\",\"units\":16,\"activation\":\"relu\",\"repeat\":2}," END},
    {"dense on an image", IMAGE(2, 3, 4), 3, 2, "[{\"type\":\"dense\",\"units\":6}," END},
    {"dropout", FLAT(6), 4, 3,
     "[{\"type\":\"dense\",\"units\":11},{\"type\":\"dropout\",\"rate\":0.4}," END},
    {"dropout on a plain image", IMAGE(1, 6, 6), 3, 3,
     "[{\"type\":\"conv\",\"filters\":3,\"kernel\":3},{\"type\":\"dropout\",\"rate\":0.3}," END},
    {"dropout on a blocked image", IMAGE(1, 6, 6), 3, 2,
     "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3},{\"type\":\"dropout\",\"rate\":0.3}," END},
    {"dropout behind flatten", IMAGE(1, 6, 6), 3, 3,
     "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3},{\"type\":\"flatten\"},{\"type\":\"dropout\","
     "\"rate\":0.5}," END},
    {"conv of few filters", IMAGE(2, 7, 6), 3, 3,
     "[{\"type\":\"conv\",\"filters\":3,\"kernel\":3,\"activation\":\"tanh\"}," END},
    {"conv 5x5 in blocks", IMAGE(1, 12, 12), 4, 3,
     "[{\"type\":\"conv\",\"filters\":16,\"kernel\":5,\"activation\":\"relu\"}," END},
    {"conv in blocks, tanh", IMAGE(3, 9, 9), 2, 2,
     "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3,\"activation\":\"tanh\"}," END},
    {"two convs in blocks", IMAGE(1, 10, 10), 4, 3,
     "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3,\"activation\":\"relu\"},"
     "{\"type\":\"conv\",\"filters\":16,\"kernel\":5,\"activation\":\"tanh\"}," END},
    {"blocked, then plain", IMAGE(1, 8, 8), 3, 2,
     "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3},{\"type\":\"conv\",\"filters\":5,\"kernel\":"
     "3}," END},
    {"plain, then blocked", IMAGE(1, 8, 8), 3, 3,
     "[{\"type\":\"conv\",\"filters\":5,\"kernel\":3},{\"type\":\"conv\",\"filters\":8,\"kernel\":"
     "3}," END},
    {"many plain channels", IMAGE(12, 6, 6), 2, 2,
     "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3,\"activation\":\"sigmoid\"}," END},
    {"valid padding, stride 2", IMAGE(1, 9, 11), 3, 3,
     "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3,\"padding\":\"valid\",\"stride\":2},"
     "{\"type\":\"conv\",\"filters\":8,\"kernel\":3,\"stride\":2}," END},
    {"even kernel, padding 1", IMAGE(2, 7, 7), 3, 2,
     "[{\"type\":\"conv\",\"filters\":8,\"kernel\":4,\"padding\":1,\"stride\":3}," END},
    {"wide padding", IMAGE(1, 4, 4), 2, 2,
     "[{\"type\":\"conv\",\"filters\":4,\"kernel\":3,\"padding\":3}," END},
    {"kernel 1", IMAGE(1, 5, 5), 3, 3,
     "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3},{\"type\":\"conv\",\"filters\":16,\"kernel\":"
     "1}," END},
    {"maxpool, plain", IMAGE(1, 8, 8), 3, 3,
     "[{\"type\":\"conv\",\"filters\":3,\"kernel\":3},{\"type\":\"maxpool\",\"size\":2}," END},
    {"maxpool in blocks", IMAGE(1, 8, 8), 3, 2,
     "[{\"type\":\"conv\",\"filters\":16,\"kernel\":3},{\"type\":\"maxpool\",\"size\":2}," END},
    {"maxpool leaves a border", IMAGE(1, 7, 9), 3, 3,
     "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3},{\"type\":\"maxpool\",\"size\":2}," END},
    {"overlapping maxpool", IMAGE(1, 9, 9), 2, 2,
     "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3},{\"type\":\"maxpool\",\"size\":3,\"stride\":"
     "2}," END},
    {"overlapping maxpool, plain", IMAGE(1, 9, 9), 2, 2,
     "[{\"type\":\"conv\",\"filters\":2,\"kernel\":3},{\"type\":\"maxpool\",\"size\":3,\"stride\":"
     "1}," END},
    {"maxpool first", IMAGE(2, 6, 6), 3, 3, "[{\"type\":\"maxpool\",\"size\":2}," END},
    {"a small CNN", IMAGE(1, 12, 12), 5, 4,
     "[{\"type\":\"conv\",\"filters\":8,\"kernel\":5,\"activation\":\"relu\"},{\"type\":"
     "\"maxpool\"},"
     "{\"type\":\"conv\",\"filters\":16,\"kernel\":3,\"activation\":\"relu\"},{\"type\":"
     "\"maxpool\"},"
     "{\"type\":\"flatten\"},{\"type\":\"dense\",\"units\":20,\"activation\":\"relu\"}," END},
#include "op_cases.inc"
};
#define N_CASES (sizeof(cases) / sizeof(cases[0]))

#ifndef backend_cpu
/* Kernels of 3 and 5 between 16 channels and more, most of which the cpu backend convolves by
 * Winograd's minimal filtering: too large for differences. */
static const struct op_case wide_cases[] = {
    {"3x3, sides no multiple of a tile", IMAGE(1, 7, 9), 3, 2,
     "[{\"type\":\"conv\",\"filters\":16,\"kernel\":3},{\"type\":\"conv\",\"filters\":32,"
     "\"kernel\":3,\"activation\":\"relu\"}," END},
    {"5x5, several blocks of tiles", IMAGE(1, 13, 11), 6, 5,
     "[{\"type\":\"conv\",\"filters\":16,\"kernel\":3},{\"type\":\"conv\",\"filters\":16,"
     "\"kernel\":5,\"activation\":\"relu\"},{\"type\":\"maxpool\"}," END},
    {"5x5, odd numbers of eights, tanh", IMAGE(1, 6, 5), 3, 3,
     "[{\"type\":\"conv\",\"filters\":24,\"kernel\":3},{\"type\":\"conv\",\"filters\":40,"
     "\"kernel\":5,\"activation\":\"tanh\"}," END},
    {"3x3, one image, no bias, silu", IMAGE(1, 12, 9), 1, 1,
     "[{\"type\":\"conv\",\"filters\":16,\"kernel\":3},{\"type\":\"conv\",\"filters\":16,"
     "\"kernel\":3,\"activation\":\"silu\",\"bias\":false}," END},
    {"3x3 and 5x5, valid", IMAGE(1, 12, 10), 3, 2,
     "[{\"type\":\"conv\",\"filters\":16,\"kernel\":3},{\"type\":\"conv\",\"filters\":16,"
     "\"kernel\":3,\"padding\":\"valid\",\"activation\":\"relu\"},{\"type\":\"conv\","
     "\"filters\":16,\"kernel\":5,\"padding\":\"valid\"}," END},
    {"padding in numbers", IMAGE(1, 6, 7), 3, 2,
     "[{\"type\":\"conv\",\"filters\":16,\"kernel\":3},{\"type\":\"conv\",\"filters\":16,"
     "\"kernel\":3,\"padding\":2},{\"type\":\"conv\",\"filters\":16,\"kernel\":5,\"padding\":1},"
     "{\"type\":\"conv\",\"filters\":16,\"kernel\":5,\"padding\":6}," END},
    {"residual, gradients add up", IMAGE(1, 7, 7), 4, 3,
     "[{\"type\":\"conv\",\"filters\":16,\"kernel\":3},{\"type\":\"residual\",\"activation\":"
     "\"relu\",\"layers\":[{\"type\":\"conv\",\"filters\":16,\"kernel\":3,\"bias\":false},{"
     "\"type\":\"batchnorm\",\"activation\":\"relu\"},{\"type\":\"conv\",\"filters\":16,"
     "\"kernel\":5}]}," END},
    {"kernels larger than the image", IMAGE(1, 2, 1), 4, 3,
     "[{\"type\":\"conv\",\"filters\":16,\"kernel\":3},{\"type\":\"conv\",\"filters\":16,"
     "\"kernel\":5}," END},
};
#endif

#define LANES 3
/* Names one batch; lane k has a trial of its own. */
static const struct pass_lane lanes[LANES] = {
    {.seed = 3, .trial = 5, .epoch = 2, .batch = 9},
    {.seed = 3, .trial = 6, .epoch = 2, .batch = 9},
    {.seed = 4, .trial = 5, .epoch = 1, .batch = 2},
};
static const struct pass training_pass = {.training = true, .lanes = lanes};

struct bed {
    const struct backend_ops *ops;
    struct backend *backend;
    struct net *net;
};

static struct bed bed_open(const struct backend_ops *ops, const struct op_case *c, bool keeps)
{
    struct bed b = {.ops = ops};
    struct backend_options o = {
        .threads = 1, .precision = ops == &backend_ref ? PRECISION_FLOAT32 : TEST_PRECISION};
    struct mag_err err = {0};
    struct model m = model_of(c->layers, c->input);
    cr_assert_eq(ops->open(&o, &b.backend, &err), MAG_OK, "%s", err.text);
    const struct net_options options = {.rows = c->rows, .learns = true, .keeps = keeps};
    cr_assert_eq(net_create(ops, b.backend, &m, &options, &b.net, &err), MAG_OK, "%s: %s", c->name,
                 err.text);
    net_init_weights(b.net, 0, 11, 1);
    return b;
}

static void bed_close(struct bed *b)
{
    struct mag_err err = {0};
    cr_assert_eq(b->ops->check(b->backend, &err), MAG_OK, "%s", err.text);
    net_destroy(b->net);
    b->ops->close(b->backend);
}

static void run_forward(struct bed *b, const float *x, int n)
{
    b->ops->put(b->net->input, 0, false, n, x);
    for (int i = 0; i < b->net->n; i++) {
        b->ops->forward(b->net->layers[i], n, &training_pass);
    }
}

static void run_backward(struct bed *b, const float *dy, int n)
{
    b->ops->put(b->net->layers[b->net->n - 1], 0, true, n, dy);
    net_backward(b->net, n, &training_pass, NULL, NULL);
}

/* sum(out * dy): a loss whose gradient at the outputs is dy. */
static double loss_of(struct bed *b, const float *x, const float *dy, int n)
{
    struct op *last = b->net->layers[b->net->n - 1];
    size_t size = (size_t)shape_size(&last->layer.out) * (size_t)n;
    float *out = xcalloc(size, sizeof(float));
    double sum = 0;
    run_forward(b, x, n);
    b->ops->read(last, 0, false, n, out);
    for (size_t i = 0; i < size; i++) {
        sum += (double)out[i] * (double)dy[i];
    }
    free(out);
    return sum;
}

/* Compares `grad` with differences of the loss; entries next to a kink (relu, a maximum that
 * changes) are left out: there the two one-sided differences disagree. Returns how many were
 * compared. */
static size_t compare_differences(struct bed *b, const char *name, const float *x, const float *dy,
                                  int n, float *values, const float *grad, size_t size,
                                  struct op *op, enum op_param p)
{
    const float step = 1e-3f;
    size_t compared = 0;
    for (size_t i = 0; i < size; i += size / 25 + 1) {
        float old = values[i];
        double loss[3];
        for (int k = 0; k < 3; k++) {
            values[i] = old + (float)(k - 1) * step;
            if (op != NULL) {
                b->ops->set(op, 0, p, SLOT_VALUE, values);
            }
            loss[k] = loss_of(b, x, dy, n);
        }
        values[i] = old;
        double left = (loss[1] - loss[0]) / (double)step;
        double right = (loss[2] - loss[1]) / (double)step;
        if (fabs(left - right) > 2e-3 * (1 + fabs(left))) {
            continue;
        }
        compared++;
        double want = (left + right) / 2;
        cr_expect(fabs(want - (double)grad[i]) < 3e-3 * (1 + fabs(want)),
                  "%s: %s %zu: gradient %g, difference %g", name,
                  op == NULL        ? "input"
                  : p == OP_WEIGHTS ? "weight"
                                    : "bias",
                  i, (double)grad[i], want);
    }
    if (op != NULL && size > 0) {
        b->ops->set(op, 0, p, SLOT_VALUE, values);
    }
    return compared;
}

static void check_differences(const struct op_case *c)
{
    struct bed b = bed_open(&backend_ref, c, true);
    struct pcg64 g;
    pcg_stream(&g, 1, c->name, 0);
    size_t nx = (size_t)shape_size(&c->input) * (size_t)c->n;
    float *x = xcalloc(nx, sizeof(float));
    float *dx = xcalloc(nx, sizeof(float));
    float dy[64];
    size_t compared = 0;
    fill_random(&g, x, nx);
    fill_random(&g, dy, 64);
    run_forward(&b, x, c->n);
    run_backward(&b, dy, c->n);
    b.ops->read(b.net->input, 0, true, c->n, dx);
    struct arrays {
        float *values, *grad;
        size_t n;
    } arrays[MODEL_LAYERS_MAX][OP_PARAMS] = {{{0}}};
    for (int i = 0; i < b.net->n; i++) {
        for (int p = 0; p < OP_PARAMS; p++) {
            struct op *op = b.net->layers[i];
            struct arrays *a = &arrays[i][p];
            a->n = op_param_trained((enum op_param)p)
                       ? (size_t)op_param_floats(&op->layer, (enum op_param)p)
                       : 0;
            a->values = xcalloc(a->n + 1, sizeof(float));
            a->grad = xcalloc(a->n + 1, sizeof(float));
            if (a->n > 0) {
                b.ops->get(op, 0, p, SLOT_VALUE, a->values);
                b.ops->get(op, 0, p, SLOT_GRAD, a->grad);
            }
        }
    }
    compared += compare_differences(&b, c->name, x, dy, c->n, x, dx, nx, NULL, 0);
    for (int i = 0; i < b.net->n; i++) {
        for (int p = 0; p < OP_PARAMS; p++) {
            struct arrays *a = &arrays[i][p];
            compared += compare_differences(&b, c->name, x, dy, c->n, a->values, a->grad, a->n,
                                            b.net->layers[i], p);
            free(a->values);
            free(a->grad);
        }
    }
    cr_expect_gt(compared, 20, "%s: only %zu gradients could be compared", c->name, compared);
    free(x);
    free(dx);
    bed_close(&b);
}

Test(ops, reference_gradients_equal_finite_differences)
{
    for (size_t i = 0; i < N_CASES; i++) {
        check_differences(&cases[i]);
    }
}

/* Equal up to rounding, relative to the array's size. */
static void expect_near(const char *name, const char *what, int layer, const float *a,
                        const float *b, size_t n)
{
    double scale = 0;
    double square = 0;
    double off = 0;
    for (size_t i = 0; i < n; i++) {
        scale = fmax(scale, fabs((double)a[i]));
        square += (double)a[i] * (double)a[i];
        off += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    }
    if (TEST_BY_NORM) { /* rounding may move a value over a kink; single ones may be far off */
        cr_expect(sqrt(off) <= TEST_TOLERANCE * sqrt(square) + 2e-2,
                  "%s: layer %d: %s: off by %g of %g", name, layer, what, sqrt(off), sqrt(square));
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (fabs((double)a[i] - (double)b[i]) > TEST_TOLERANCE * (scale + 0.1)) {
            cr_expect(false, "%s: layer %d: %s %zu: reference %g, cpu %g", name, layer, what, i,
                      (double)a[i], (double)b[i]);
            return;
        }
    }
}

static void compare_activations(struct bed *r, struct bed *f, const struct op_case *c, bool grad)
{
    for (int i = 0; i < r->net->n; i++) {
        size_t n = (size_t)shape_size(&r->net->layers[i]->layer.out) * (size_t)c->n;
        float *a = xcalloc(n, sizeof(float));
        float *b = xcalloc(n, sizeof(float));
        r->ops->read(r->net->layers[i], 0, grad, c->n, a);
        /* Before the first layer with weights the fast backend leaves gradients out, and a norm
         * does not store what its activation lets through. */
        const struct layer *l = &r->net->layers[i]->layer;
        bool norm = l->kind == LAYER_BATCHNORM || l->kind == LAYER_LAYERNORM;
        bool fused = norm && l->act != ACT_NONE;
        bool needed = !grad || (layer_learns(l) && !fused);
        if (needed) {
            f->ops->read(f->net->layers[i], 0, grad, c->n, b);
            expect_near(c->name, grad ? "output gradient" : "output", i, a, b, n);
        }
        free(a);
        free(b);
    }
}

static void compare_params(struct bed *r, struct bed *f, const struct op_case *c, enum op_slot slot,
                           const char *what)
{
    for (int i = 0; i < r->net->n; i++) {
        for (int p = 0; p < OP_PARAMS; p++) {
            const struct layer *l = &r->net->layers[i]->layer;
            size_t n = slot == SLOT_VALUE || op_param_trained((enum op_param)p)
                           ? (size_t)op_param_floats(l, (enum op_param)p)
                           : 0;
            float *a = xcalloc(n + 1, sizeof(float));
            float *b = xcalloc(n + 1, sizeof(float));
            if (n > 0) {
                r->ops->get(r->net->layers[i], 0, p, slot, a);
                f->ops->get(f->net->layers[i], 0, p, slot, b);
            }
            expect_near(c->name, what, i, a, b, n);
            free(a);
            free(b);
        }
    }
}

/* `keeps`: all outputs and gradients are compared too; without, they may take turns in memory. */
static void check_backend(const struct backend_ops *ops, const struct op_case *c, bool keeps)
{
    struct bed r = bed_open(&backend_ref, c, keeps);
    struct bed f = bed_open(ops, c, keeps);
    struct pcg64 g;
    pcg_stream(&g, 2, c->name, 0);
    size_t nx = (size_t)shape_size(&c->input) * (size_t)c->rows;
    float *x = xcalloc(nx, sizeof(float));
    float dy[64];
    /* A full batch first, so that rows past n hold what a smaller batch must not see. */
    const int batches[] = {c->rows, c->n};
    for (int k = 0; k < 2; k++) {
        struct op_case at = *c;
        at.n = batches[k];
        fill_random(&g, x, nx);
        fill_random(&g, dy, 64);
        struct bed *beds[] = {&r, &f};
        for (int i = 0; i < 2; i++) {
            run_forward(beds[i], x, at.n);
        }
        if (keeps) {
            compare_activations(&r, &f, &at, false);
        }
        for (int i = 0; i < 2; i++) {
            run_backward(beds[i], dy, at.n);
        }
        if (keeps) {
            compare_activations(&r, &f, &at, true);
        }
        compare_params(&r, &f, &at, SLOT_GRAD, "parameter gradient");
    }
    free(x);
    bed_close(&r);
    bed_close(&f);
}

Test(ops, every_backend_agrees_with_the_reference)
{
    for (int k = 0; backend_registry[k] != NULL; k++) {
        for (size_t i = 0; backend_registry[k] != &backend_ref && i < N_CASES; i++) {
            check_backend(backend_registry[k], &cases[i], true);
            check_backend(backend_registry[k], &cases[i], false);
        }
    }
}

#ifndef backend_cpu /* builds for other backends have no such convolutions */
Test(ops, wide_convolutions_agree_with_the_reference)
{
    for (size_t i = 0; i < sizeof(wide_cases) / sizeof(wide_cases[0]); i++) {
        check_backend(&backend_cpu, &wide_cases[i], true);
    }
}
#endif

Test(ops, parameters_come_back_as_they_were_set)
{
    for (size_t i = 0; i < N_CASES; i++) {
        struct bed r = bed_open(&backend_ref, &cases[i], false);
        struct bed f = bed_open(&backend_cpu, &cases[i], false);
        compare_params(&r, &f, &cases[i], SLOT_VALUE, "initial weight");
        bed_close(&r);
        bed_close(&f);
    }
}

Test(ops, updates_agree_with_the_reference)
{
    const struct update updates[] = {
        {.kind = OPTIMIZER_SGD, .lr = 0.1f},
        {.kind = OPTIMIZER_SGD, .lr = 0.05f, .momentum = 0.9f},
        {.kind = OPTIMIZER_SGD, .lr = 0.05f, .momentum = 0.5f, .weight_decay = 0.1f},
        {.kind = OPTIMIZER_ADAM, .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f},
        {.kind = OPTIMIZER_ADAM,
         .lr = 0.01f,
         .beta1 = 0.8f,
         .beta2 = 0.99f,
         .epsilon = 1e-6f,
         .weight_decay = 0.2f},
        {.kind = OPTIMIZER_SGD,
         .lr = 0.05f,
         .momentum = 0.9f,
         .nesterov = true,
         .weight_decay = 0.1f},
        {.kind = OPTIMIZER_SGD, .lr = 0.05f, .momentum = 0.9f, .scale = 0.25f},
        {.kind = OPTIMIZER_ADAM,
         .lr = 0.01f,
         .beta1 = 0.9f,
         .beta2 = 0.999f,
         .epsilon = 1e-8f,
         .scale = 0.5f},
        {.kind = OPTIMIZER_RMSPROP,
         .lr = 0.01f,
         .beta2 = 0.9f,
         .epsilon = 1e-6f,
         .momentum = 0.5f,
         .weight_decay = 0.1f},
        {.kind = OPTIMIZER_ADAGRAD, .lr = 0.1f, .epsilon = 1e-8f},
        {.kind = OPTIMIZER_LAMB,
         .lr = 0.02f,
         .beta1 = 0.9f,
         .beta2 = 0.99f,
         .epsilon = 1e-6f,
         .weight_decay = 0.1f},
    };
    const struct op_case *c = &cases[N_CASES - 1];
    for (size_t k = 0; k < sizeof(updates) / sizeof(updates[0]); k++) {
        struct bed beds[] = {bed_open(&backend_ref, c, false), bed_open(&backend_cpu, c, false)};
        for (int i = 0; i < 2; i++) {
            struct pcg64 g;
            float dy[64];
            float x[144 * 5];
            pcg_stream(&g, 4, "update", 0);
            for (int64_t count = 1; count <= 3; count++) {
                struct update u = updates[k];
                u.count = count;
                fill_random(&g, x, 144 * 5);
                fill_random(&g, dy, 64);
                run_forward(&beds[i], x, c->rows);
                run_backward(&beds[i], dy, c->rows);
                net_update(beds[i].net, &u);
            }
        }
        struct op_case named = *c;
        char name[32];
        (void)snprintf(name, sizeof(name), "update %zu", k);
        named.name = name;
        compare_params(&beds[0], &beds[1], &named, SLOT_VALUE, "weight");
        compare_params(&beds[0], &beds[1], &named, SLOT_FIRST, "first moment");
        compare_params(&beds[0], &beds[1], &named, SLOT_SECOND, "second moment");
        bed_close(&beds[0]);
        bed_close(&beds[1]);
    }
}

/* With a limit on the gradients' norm the step is that of gradients scaled down to it. */
Test(ops, clipping_bounds_the_step_by_the_norm_of_all_gradients)
{
    const struct backend_ops *const backends[] = {&backend_ref, &backend_cpu};
    struct dataset *d = toy_dataset((struct shape){.c = 6, .h = 1, .w = 1, .flat = true}, 3, 40);
    struct model m = model_of(
        "[{\"type\": \"dense\", \"units\": 40, \"activation\": \"tanh\"}, {\"type\": \"dense\", "
        "\"units\": 3}]",
        d->shape);
    for (int b = 0; b < 2; b++) {
        const struct backend_options o = {.threads = 1};
        struct backend *backend = NULL;
        cr_assert_eq(backends[b]->open(&o, &backend, NULL), MAG_OK);
        double moved[3];
        for (int k = 0; k < 3; k++) {
            const float clip[] = {0, 0.05f, 1e6f};
            struct net *net = NULL;
            struct score s = {0};
            const struct update u = {.kind = OPTIMIZER_SGD, .lr = 1, .clip = clip[k], .count = 1};
            const struct pass_lane lane = {.seed = 1, .trial = 1, .epoch = 1};
            const struct pass pass = {.training = true, .lanes = &lane};
            const struct net_options options = {.rows = 16, .learns = true};
            const struct batch batch = {.d = d, .rows = d->train, .n = 16};
            double square = 0;
            cr_assert_eq(net_create(backends[b], backend, &m, &options, &net, NULL), MAG_OK);
            net_init_weights(net, 0, 1, 1);
            const size_t sizes[2][2] = {{240, 40}, {120, 3}};
            float *old[2][2];
            for (int l = 0; l < 2; l++) {
                for (int p = 0; p < 2; p++) {
                    old[l][p] = xcalloc(sizes[l][p], sizeof(float));
                    backends[b]->get(net->layers[l], 0, (enum op_param)p, SLOT_VALUE, old[l][p]);
                }
            }
            net_train(net, &batch, (struct loss){LOSS_CROSS_ENTROPY, 0}, &pass, &u, &s);
            for (int l = 0; l < 2; l++) {
                for (int p = 0; p < 2; p++) {
                    float *now = xcalloc(sizes[l][p], sizeof(float));
                    backends[b]->get(net->layers[l], 0, (enum op_param)p, SLOT_VALUE, now);
                    for (size_t i = 0; i < sizes[l][p]; i++) {
                        double off = (double)now[i] - (double)old[l][p][i];
                        square += off * off;
                    }
                    free(now);
                    free(old[l][p]);
                }
            }
            moved[k] = sqrt(square);
            net_destroy(net);
        }
        cr_expect_gt(moved[0], 0.1);
        cr_expect_float_eq(moved[1], 0.05, 1e-4, "%s: %g", backends[b]->name, moved[1]);
        cr_expect_float_eq(moved[2], moved[0], 1e-5);
        backends[b]->close(backend);
    }
    dataset_destroy(d);
}

/* Known values: scikit-learn gives the same for these rows. */
Test(ops, tallies_give_top_five_f1_and_the_area_under_the_curve)
{
    int32_t labels[] = {0, 0, 1, 1, 1};
    const uint32_t rows[] = {0, 1, 2, 3, 4};
    const float z[] = {2, 1, 0, 1, 0, 2, 1, 1.5f, 3, 0}; /* margins -1, 1, 2, .5, -3 */
    struct dataset d = {.n_classes = 2, .labels = labels};
    struct tally *t = tally_create(2, 5);
    struct score s = {.tally = t};
    backend_score(z, NULL, 2, (size_t)(2), &(struct batch){&d, rows, 3},
                  (struct loss){LOSS_CROSS_ENTROPY, 0}, &s);
    backend_score(z + 6, NULL, 2, (size_t)(2), &(struct batch){&d, rows + 3, 2},
                  (struct loss){LOSS_CROSS_ENTROPY, 0}, &s);
    cr_expect_eq(s.correct, 3);
    cr_expect_eq(t->top5, 5);
    cr_expect_float_eq(tally_f1(t, 2), (0.5 + 2.0 / 3) / 2, 1e-12);
    cr_expect_float_eq(tally_auc(t, 5), 3.0 / 6, 1e-12);
    for (int i = 0; i < 5; i++) {
        t->margin[i] = i < 3 ? 0 : (float)i; /* ties count half */
    }
    cr_expect_float_eq(tally_auc(t, 5), (2 * 0.5 + 2 + 2) / 6, 1e-12);
    t->margin[2] = NAN;
    cr_expect(isnan(tally_auc(t, 5)));
    tally_destroy(t);
    int32_t six[] = {5, 0};
    const float z6[] = {6, 5, 4, 3, 2, 1, 1, 2, 3, 4, 5, 0};
    struct dataset d6 = {.n_classes = 6, .labels = six};
    t = tally_create(6, 2);
    s = (struct score){.tally = t};
    backend_score(z6, NULL, 6, (size_t)(6), &(struct batch){&d6, rows, 2},
                  (struct loss){LOSS_CROSS_ENTROPY, 0}, &s);
    cr_expect_eq(t->top5, 1);
    tally_destroy(t);
}

/* Loss functions against differences of themselves. */
Test(ops, loss_gradients_equal_finite_differences)
{
    int32_t labels[] = {2, 0, 1};
    int32_t binary[] = {1, 0, 1};
    float targets[] = {0.5f, -1.0f, 2.0f};
    const uint32_t rows[] = {2, 0, 1};
    struct dataset two = {.n_classes = 2, .labels = binary};
    struct dataset classes = {.n_classes = 3, .labels = labels};
    struct dataset numbers = {.targets = targets};
    const struct {
        const struct dataset *d;
        struct loss loss;
        int width;
    } table[] = {{&classes, {LOSS_CROSS_ENTROPY, 0}, 3}, {&classes, {LOSS_CROSS_ENTROPY, 0.2f}, 3},
                 {&classes, {LOSS_MSE, 0}, 3},           {&numbers, {LOSS_MSE, 0}, 1},
                 {&two, {LOSS_LOGISTIC, 0}, 1},          {&two, {LOSS_LOGISTIC, 0.2f}, 1}};
    for (size_t t = 0; t < sizeof(table) / sizeof(table[0]); t++) {
        float z[9];
        float grad[9];
        struct pcg64 g;
        struct score s = {0};
        pcg_stream(&g, 5, "loss", t);
        fill_random(&g, z, 9);
        backend_score(z, grad, table[t].width, (size_t)(table[t].width),
                      &(struct batch){table[t].d, rows, 3}, table[t].loss, &s);
        cr_expect_eq(s.rows, 3);
        for (int i = 0; i < 3 * table[t].width; i++) {
            struct score up = {0};
            struct score down = {0};
            float old = z[i];
            z[i] = old + 1e-2f;
            backend_score(z, NULL, table[t].width, (size_t)(table[t].width),
                          &(struct batch){table[t].d, rows, 3}, table[t].loss, &up);
            z[i] = old - 1e-2f;
            backend_score(z, NULL, table[t].width, (size_t)(table[t].width),
                          &(struct batch){table[t].d, rows, 3}, table[t].loss, &down);
            z[i] = old;
            double want = (up.loss - down.loss) / 3 / 2e-2; /* gradient of the mean over rows */
            cr_expect_float_eq(want, (double)grad[i], 1e-3, "loss %zu, output %d: %g, %g", t, i,
                               want, (double)grad[i]);
        }
    }
}

/* One output z is two outputs 0 and z. */
Test(ops, the_logistic_loss_is_the_cross_entropy_of_two_outputs)
{
    int32_t labels[] = {1, 0, 0, 1, 1, 0};
    const uint32_t rows[] = {0, 1, 2, 3, 4, 5};
    const float one[] = {2, -1, 0.5f, -3, 1e4f, 1e4f};
    float both[12] = {0};
    float grad[12];
    float grad_both[12];
    struct dataset d = {.n_classes = 2, .labels = labels};
    struct score a = {.tally = tally_create(2, 6)};
    struct score b = {.tally = tally_create(2, 6)};
    const struct batch batch = {&d, rows, 6};
    for (int i = 0; i < 6; i++) {
        both[2 * i + 1] = one[i];
    }
    backend_score(one, grad, 1, 1, &batch, (struct loss){LOSS_LOGISTIC, 0.1f}, &a);
    backend_score(both, grad_both, 2, 2, &batch, (struct loss){LOSS_CROSS_ENTROPY, 0.1f}, &b);
    cr_expect(isfinite(a.loss));
    cr_expect_float_eq(a.loss, b.loss, 1e-3 * b.loss);
    cr_expect_eq(a.correct, b.correct);
    cr_expect_eq(a.correct, 3);
    for (int i = 0; i < 6; i++) {
        cr_expect_float_eq(grad[i], grad_both[2 * i + 1], 1e-6f, "row %d", i);
    }
    cr_expect_float_eq(tally_f1(a.tally, 2), tally_f1(b.tally, 2), 0);
    cr_expect_float_eq(tally_auc(a.tally, 6), tally_auc(b.tally, 6), 0);
    const double p[] = {0.8807971, 0.2689414, 0.6224593, 0.0474259, 1, 1};
    double brier = 0;
    for (int i = 0; i < 6; i++) {
        brier += (p[i] - labels[i]) * (p[i] - labels[i]);
    }
    cr_expect_float_eq(a.tally->brier, brier, 1e-6);
    cr_expect_float_eq(b.tally->brier, brier, 1e-6);
    tally_destroy(a.tally);
    tally_destroy(b.tally);
}

Test(ops, score_counts_hits_and_survives_huge_outputs)
{
    int32_t labels[] = {1, 0};
    const uint32_t rows[] = {0, 1};
    struct dataset d = {.n_classes = 2, .labels = labels};
    const float z[] = {-1e30f, 1e30f, 50.0f, 3.0f};
    float grad[4];
    struct score s = {0};
    backend_score(z, grad, 2, (size_t)(2), &(struct batch){&d, rows, 2},
                  (struct loss){LOSS_CROSS_ENTROPY, 0}, &s);
    cr_expect_eq(s.correct, 2);
    cr_expect(isfinite(s.loss) && s.loss >= 0);
    for (int i = 0; i < 4; i++) {
        cr_expect(isfinite(grad[i]));
    }
}

Test(ops, dropout_keeps_the_mean_and_depends_on_the_batch_alone)
{
    enum { N = 20001 };
    float *a = xcalloc(N, sizeof(float));
    float *b = xcalloc(N, sizeof(float));
    const struct pass_lane p = lanes[0];
    backend_dropout_mask(&p, 1, 0.25f, 1, a, N);
    backend_dropout_mask(&p, 1, 0.25f, 1, b, N);
    cr_expect_arr_eq(a, b, N * sizeof(float));
    double sum = 0;
    for (int i = 0; i < N; i++) {
        sum += (double)a[i];
        cr_assert(a[i] == 0.0f || fabsf(a[i] - 1 / 0.75f) < 1e-6f);
    }
    cr_expect_float_eq(sum / N, 1.0, 0.02);
    const struct pass_lane others[] = {{.seed = 4, .trial = 5, .epoch = 2, .batch = 9},
                                       {.seed = 3, .trial = 6, .epoch = 2, .batch = 9},
                                       {.seed = 3, .trial = 5, .epoch = 3, .batch = 9},
                                       {.seed = 3, .trial = 5, .epoch = 2, .batch = 8}};
    for (int i = 0; i < 4; i++) {
        backend_dropout_mask(&others[i], 1, 0.25f, 1, b, N);
        cr_expect(memcmp(a, b, N * sizeof(float)) != 0, "stream %d", i);
    }
    backend_dropout_mask(&p, 2, 0.25f, 1, b, N);
    cr_expect(memcmp(a, b, N * sizeof(float)) != 0, "another layer");
    for (int row = 0; row < N / 7; row += 113) { /* rows of a batch that others have the rest of */
        struct pass_lane later = p;
        later.first_row = row;
        int rest = N - row * 7;
        backend_dropout_mask(&later, 1, 0.25f, 7, b, rest);
        cr_expect_arr_eq(a + row * 7, b, (size_t)rest * sizeof(float));
    }
    free(a);
    free(b);
}
