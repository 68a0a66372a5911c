/* SPDX-License-Identifier: Apache-2.0
 *
 * The CPU backend's Winograd convolutions against plain sums in double precision: every pass, for
 * both layouts of images, and the same bits wherever the arrays lie.
 */
#include "support.h"

#include "base/alloc.h"
#include "trainer/cpu.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of a value, relative to the array's largest; docs/TRAINER.md tells it. */
#define TOLERANCE 2e-5

struct conv_case {
    int channels, h, w, filters, kernel, pad, rows, n, block;
    bool relu, bias;
};

static const struct conv_case cases[] = {
    {16, 8, 8, 16, 3, 1, 3, 3, 8, true, true},    {16, 8, 8, 16, 5, 2, 3, 2, 8, false, true},
    {32, 14, 14, 64, 5, 2, 6, 5, 8, true, true},  {64, 7, 7, 64, 3, 1, 3, 3, 8, false, false},
    {16, 5, 9, 24, 3, 0, 4, 3, 8, false, true},   {24, 9, 7, 40, 5, 0, 4, 4, 8, false, true},
    {40, 6, 6, 16, 5, 4, 2, 1, 8, true, true},    {48, 4, 4, 32, 3, 2, 5, 5, 8, false, true},
    {16, 13, 11, 16, 3, 1, 1, 1, 8, true, false}, {8, 11, 10, 8, 3, 1, 2, 2, 8, false, true},
    {16, 12, 8, 32, 5, 2, 2, 2, 16, true, true},  {32, 12, 7, 16, 5, 2, 3, 2, 16, false, true},
    {48, 12, 6, 48, 5, 1, 3, 2, 16, true, true},
};
#define N_CASES (sizeof(cases) / sizeof(cases[0]))

struct arrays {
    size_t nx, ny, nw;
    float *x, *y, *w, *b, *dy, *dx, *dw, *db; /* images plain */
};

static int out_side(int side, const struct conv_case *c)
{
    return side + 2 * c->pad - c->kernel + 1;
}

static struct layer layer_of(const struct conv_case *c)
{
    return (struct layer){.kind = LAYER_CONV,
                          .filters = c->filters,
                          .kernel = c->kernel,
                          .stride = 1,
                          .pad = c->pad,
                          .groups = 1,
                          .no_bias = !c->bias,
                          .in = {.c = c->channels, .h = c->h, .w = c->w},
                          .out = {.c = c->filters, .h = out_side(c->h, c), .w = out_side(c->w, c)}};
}

static void arrays_init(struct arrays *a, const struct conv_case *c, uint64_t seed)
{
    struct layer l = layer_of(c);
    struct pcg64 g;
    pcg_stream(&g, seed, "winograd", 0);
    a->nx = (size_t)(shape_size(&l.in) * c->rows);
    a->ny = (size_t)(shape_size(&l.out) * c->rows);
    a->nw = (size_t)(c->filters * c->channels * c->kernel * c->kernel);
    float **all[] = {&a->x, &a->y, &a->w, &a->b, &a->dy, &a->dx, &a->dw, &a->db};
    const size_t sizes[] = {a->nx, a->ny, a->nw, (size_t)c->filters,
                            a->ny, a->nx, a->nw, (size_t)c->filters};
    for (int i = 0; i < 8; i++) {
        *all[i] = xcalloc(sizes[i], sizeof(float));
        fill_random(&g, *all[i], sizes[i]);
    }
}

static void arrays_fini(struct arrays *a)
{
    float *all[] = {a->x, a->y, a->w, a->b, a->dy, a->dx, a->dw, a->db};
    for (int i = 0; i < 8; i++) {
        free(all[i]);
    }
}

/* What every sum below goes over: a weight with the input and the output that it connects. */
typedef void (*connection)(struct arrays *a, double *sums, size_t x, size_t w, size_t y);

static void add_y(struct arrays *a, double *y, size_t x, size_t w, size_t at)
{
    y[at] += (double)a->x[x] * (double)a->w[w];
}

static void add_dx(struct arrays *a, double *dx, size_t x, size_t w, size_t at)
{
    dx[x] += (double)a->dy[at] * (double)a->w[w];
}

static void add_dw(struct arrays *a, double *dw, size_t x, size_t w, size_t at)
{
    dw[w] += (double)a->dy[at] * (double)a->x[x];
}

/* One output position, from its channel on. */
static void connect_at(const struct conv_case *c, struct arrays *a, connection add, double *sums,
                       int image, int f, int p, int q)
{
    const struct layer l = layer_of(c);
    const size_t y = (size_t)(((image * c->filters + f) * l.out.h + p) * l.out.w + q);
    for (int t = 0; t < c->channels * c->kernel * c->kernel; t++) {
        const int channel = t / (c->kernel * c->kernel);
        const int row = p - c->pad + t / c->kernel % c->kernel;
        const int column = q - c->pad + t % c->kernel;
        if (row >= 0 && row < c->h && column >= 0 && column < c->w) {
            add(a, sums, (size_t)(((image * c->channels + channel) * c->h + row) * c->w + column),
                (size_t)(f * c->channels * c->kernel * c->kernel + t), y);
        }
    }
}

static double *connect(const struct conv_case *c, struct arrays *a, connection add, size_t n)
{
    const struct layer l = layer_of(c);
    double *sums = xcalloc(n, sizeof(double));
    for (int image = 0; image < c->n; image++) {
        for (int f = 0; f < c->filters; f++) {
            for (int p = 0; p < l.out.h * l.out.w; p++) {
                connect_at(c, a, add, sums, image, f, p / l.out.w, p % l.out.w);
            }
        }
    }
    return sums;
}

/* All images of an array from plain to blocked, or back; `off` floats from a cache line. */
static float *relaid(const float *from, const struct shape *s, int rows, int block, bool back,
                     int off)
{
    const size_t size = (size_t)shape_size(s);
    float *to = cpu_alloc(size * (size_t)rows + (size_t)off);
    for (int i = 0; i < rows; i++) {
        const float *image = from + (size_t)i * size;
        float *at = to + off + (size_t)i * size;
        if (back) {
            cpu_to_plain(image, s->c, s->h * s->w, block, at);
        } else {
            cpu_to_blocked(image, s->c, s->h * s->w, block, at);
        }
    }
    return to;
}

/* Both passes, of arrays that lie `off` floats behind a cache line; false where there are none. */
static bool run(const struct conv_case *c, struct arrays *a, int off)
{
    const struct layer l = layer_of(c);
    struct backend b = {.threads = 1, .winograd = true};
    struct winograd *g = NULL;
    struct mag_err err = {0};
    cr_assert_eq(winograd_create(&b, &l, c->rows, c->block, true, &g, &err), MAG_OK, "%s",
                 err.text);
    if (g == NULL) {
        return false;
    }
    float *x = relaid(a->x, &l.in, c->rows, c->block, false, off);
    float *y = relaid(a->y, &l.out, c->rows, c->block, false, off);
    float *dy = relaid(a->dy, &l.out, c->rows, c->block, false, off);
    float *dx = relaid(a->dx, &l.in, c->rows, c->block, false, off);
    winograd_forward(g, x + off, a->w, c->bias ? a->b : NULL, c->relu, c->n, y + off);
    winograd_backward(g, x + off, dy + off, a->w, c->n, a->dw, c->bias ? a->db : NULL, dx + off);
    float *plain_y = relaid(y + off, &l.out, c->rows, c->block, true, 0);
    float *plain_dx = relaid(dx + off, &l.in, c->rows, c->block, true, 0);
    memcpy(a->y, plain_y, a->ny * sizeof(float));
    memcpy(a->dx, plain_dx, a->nx * sizeof(float));
    /* without a gradient of the inputs the others are the same */
    float *dw = xcalloc(a->nw, sizeof(float));
    winograd_backward(g, x + off, dy + off, a->w, c->n, dw, NULL, NULL);
    cr_expect_eq(memcmp(dw, a->dw, a->nw * sizeof(float)), 0);
    float *const rooms[] = {x, y, dy, dx, plain_y, plain_dx, dw, b.tiles};
    for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
        free(rooms[i]);
    }
    winograd_destroy(g);
    return true;
}

static void expect_near(size_t k, const char *what, const float *got, const double *want, size_t n)
{
    double scale = 0;
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        scale = fmax(scale, fabs(want[i]));
    }
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)got[i] - want[i]));
    }
    cr_expect_leq(worst, TOLERANCE * scale, "case %zu: %s: off by %g of %g", k, what, worst, scale);
}

static void check_forward(size_t k, const struct conv_case *c, struct arrays *a)
{
    const struct layer l = layer_of(c);
    const size_t area = (size_t)(l.out.h * l.out.w);
    double *y = connect(c, a, add_y, a->ny);
    for (size_t i = 0; i < area * (size_t)(c->filters * c->n); i++) {
        y[i] += c->bias ? (double)a->b[i / area % (size_t)c->filters] : 0;
        y[i] = c->relu && y[i] < 0 ? 0 : y[i];
    }
    expect_near(k, "outputs", a->y, y, area * (size_t)(c->filters * c->n));
    free(y);
}

static void check_backward(size_t k, const struct conv_case *c, struct arrays *a)
{
    const struct layer l = layer_of(c);
    const size_t area = (size_t)(l.out.h * l.out.w);
    double *dx = connect(c, a, add_dx, a->nx);
    double *dw = connect(c, a, add_dw, a->nw);
    double *db = xcalloc((size_t)c->filters, sizeof(double));
    for (size_t i = 0; i < area * (size_t)(c->filters * c->n); i++) {
        db[i / area % (size_t)c->filters] += (double)a->dy[i];
    }
    expect_near(k, "inputs' gradient", a->dx, dx, a->nx); /* that of rows past n is zero */
    expect_near(k, "weights' gradient", a->dw, dw, a->nw);
    if (c->bias) {
        expect_near(k, "biases' gradient", a->db, db, (size_t)c->filters);
    }
    free(dx);
    free(dw);
    free(db);
}

Test(winograd, every_pass_gives_what_plain_sums_give)
{
    for (size_t k = 0; k < N_CASES; k++) {
        struct arrays a;
        arrays_init(&a, &cases[k], k);
        if (!run(&cases[k], &a, 0)) {
            cr_assert_not(__builtin_cpu_supports("avx2"), "case %zu is not taken", k);
            cr_skip_test("this processor has no AVX2");
        }
        check_forward(k, &cases[k], &a);
        check_backward(k, &cases[k], &a);
        arrays_fini(&a);
    }
}

Test(winograd, results_are_the_same_wherever_the_arrays_lie)
{
    for (size_t k = 0; k < N_CASES; k++) {
        struct arrays a;
        struct arrays b;
        arrays_init(&a, &cases[k], k);
        arrays_init(&b, &cases[k], k);
        if (!run(&cases[k], &a, 0) || !run(&cases[k], &b, 5)) {
            cr_skip_test("this processor has no AVX2");
        }
        cr_expect_eq(memcmp(a.y, b.y, a.ny * sizeof(float)), 0, "case %zu: outputs", k);
        cr_expect_eq(memcmp(a.dx, b.dx, a.nx * sizeof(float)), 0, "case %zu: dx", k);
        cr_expect_eq(memcmp(a.dw, b.dw, a.nw * sizeof(float)), 0, "case %zu: dw", k);
        cr_expect_eq(memcmp(a.db, b.db, (size_t)cases[k].filters * sizeof(float)), 0);
        arrays_fini(&a);
        arrays_fini(&b);
    }
}

/* Layers that direct sums do better, or that minimal filtering cannot do. */
Test(winograd, other_layers_are_left_to_direct_sums)
{
    struct backend b = {.threads = 1, .winograd = true};
    struct layer layers[11];
    int blocks[11];
    int rows[11];
    for (int i = 0; i < 11; i++) {
        layers[i] = layer_of(&cases[0]);
        blocks[i] = 8;
        rows[i] = 4;
    }
    layers[0].stride = 2;
    layers[1].groups = 2;
    layers[2].kernel = 4;
    layers[3].in.c = 12;
    layers[4].filters = 12;
    layers[5].in.h = 2; /* a row of weights that meets nothing has no gradient at all */
    layers[6].pad = 3;
    blocks[7] = 1;
    rows[8] = 1;                          /* four tiles only */
    layers[9].in.h = layers[9].out.h = 5; /* most of the lower tiles lies outside */
    layers[9].in.w = layers[9].out.w = 5;
    blocks[10] = 16; /* kernels of AVX-512 */
    for (int i = 0; i < 11; i++) {
        struct winograd *g = NULL;
        cr_expect_eq(winograd_create(&b, &layers[i], rows[i], blocks[i], true, &g, NULL), MAG_OK);
        cr_expect_null(g, "layer %d", i);
    }
    struct layer l = layer_of(&cases[0]);
    for (int i = 0; i < 2; i++) {
        struct winograd *g = NULL;
        struct backend other = {.threads = i == 0 ? 1 : 3, .winograd = i > 0};
        cr_expect_eq(winograd_create(&other, &l, 4, 8, true, &g, NULL), MAG_OK);
        cr_expect_null(g, "%s",
                       i == 0 ? "it was switched off" : "three threads do direct sums faster");
    }
}

/* The variable that the manual names. */
Test(winograd, the_environment_switches_it_off)
{
    const char *const values[] = {NULL, "1", "0"};
    for (int i = 0; i < 3; i++) {
        struct backend *b = NULL;
        const struct backend_options o = {.threads = 1};
        if (values[i] != NULL) {
            cr_assert_eq(setenv("MAGPIE_WINOGRAD", values[i], 1), 0);
        }
        cr_assert_eq(backend_cpu.open(&o, &b, NULL), MAG_OK);
        cr_expect_eq(b->winograd, i < 2);
        backend_cpu.close(b);
    }
}
