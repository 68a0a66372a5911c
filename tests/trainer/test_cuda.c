/* SPDX-License-Identifier: Apache-2.0
 *
 * The CUDA backend on a device in host memory: what the tests of the CPU backend do not ask. Memory
 * that is short, data sets that do not fit or change, and the single values of the kernels.
 */
#include "cuda_host.h"
#include "support.h"

#include "base/alloc.h"
#include "trainer/cuda/cuda.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LAYERS                                                                                     \
    "[{\"type\":\"conv\",\"filters\":4,\"kernel\":3,\"activation\":\"relu\"},{\"type\":"           \
    "\"maxpool\"},{\"type\":\"dense\",\"units\":3}]"
#define ROWS 8
#define MB ((int64_t)1 << 20)
#define SPARE ((int64_t)1 << 30) /* that a data set leaves free */

static const struct shape small = {1, 8, 8, false};

static struct backend *open_backend(void)
{
    const struct backend_options o = {.threads = 1};
    struct backend *b = NULL;
    cr_assert_eq(backend_cuda.open(&o, &b, NULL), MAG_OK);
    return b;
}

static enum mag_status make(struct backend *b, int rows, struct net **ret, struct mag_err *err)
{
    struct model m = model_of(LAYERS, small);
    const struct net_options options = {.rows = rows, .learns = true};
    return net_create(&backend_cuda, b, &m, &options, ret, err);
}

/* One step on the first rows; the loss of it. */
static double step(struct net *net, const struct dataset *d)
{
    const struct pass_lane lane = {.trial = 1};
    const struct pass pass = {.training = true, .lanes = &lane};
    const struct update u = {.lr = 0.1f, .count = 1};
    const struct batch batch = {.d = d, .rows = d->train, .n = ROWS};
    struct score s = {0};
    struct mag_err err = {0};
    net_init_weights(net, 0, 1, 1);
    net_train(net, &batch, (struct loss){0}, &pass, &u, &s);
    cr_assert_eq(backend_cuda.check(net->backend, &err), MAG_OK, "%s", err.text);
    cr_assert_eq(s.rows, ROWS);
    return s.loss;
}

Test(cuda, a_net_that_does_not_fit_is_refused_with_the_sizes_and_the_next_one_works)
{
    struct backend *b = open_backend();
    struct net *net = NULL;
    struct mag_err err = {0};
    cuda_host_memory = 60 * MB;
    cr_assert_eq(make(b, 16384, &net, &err), MAG_NOMEM);
    cr_expect_not_null(strstr(err.text, "3 layers in 1 lane of 16384 rows"), "%s", err.text);
    cr_expect_not_null(strstr(err.text, "outputs and gradients"), "%s", err.text);
    cr_expect_not_null(strstr(err.text, "MB are needed"), "%s", err.text);
    cr_expect_not_null(strstr(err.text, "MB of its 60 MB are free"), "%s", err.text);
    cr_assert_eq(backend_cuda.check(b, NULL), MAG_OK, "the failure is that net's alone");
    struct dataset *d = toy_dataset(small, 3, 60);
    cr_assert_eq(make(b, ROWS, &net, NULL), MAG_OK);
    cr_expect(isfinite(step(net, d)));
    net_destroy(net);
    backend_cuda.close(b);
    dataset_destroy(d);
}

Test(cuda, a_data_set_that_does_not_fit_is_gathered_by_the_host_with_the_same_result)
{
    double loss[2];
    for (int k = 0; k < 2; k++) {
        cuda_host_memory = k == 0 ? 4 * SPARE : SPARE; /* the second leaves no spare */
        struct backend *b = open_backend();
        struct dataset *d = toy_dataset(small, 3, 60);
        struct net *net = NULL;
        cr_assert_eq(make(b, ROWS, &net, NULL), MAG_OK);
        loss[k] = step(net, d);
        cr_expect_eq(b->sets[0].values == NULL && b->sets[1].values == NULL &&
                         b->sets[2].values == NULL && b->sets[3].values == NULL,
                     k == 1);
        net_destroy(net);
        backend_cuda.close(b);
        dataset_destroy(d);
    }
    cr_expect_eq(loss[0], loss[1]);
}

Test(cuda, what_was_gathered_ahead_is_taken_where_the_host_gathers_and_only_there)
{
    float *values = xcalloc(ROWS, 64 * sizeof(float));
    double loss[2];
    for (int k = 0; k < 2; k++) {
        cuda_host_memory = k == 0 ? 4 * SPARE : SPARE;
        struct backend *b = open_backend();
        struct dataset *d = toy_dataset(small, 3, 60);
        struct net *net = NULL;
        const struct pass_lane lane = {.trial = 1};
        const struct pass pass = {.training = true, .lanes = &lane};
        const struct update u = {.lr = 0.1f, .count = 1};
        struct score s = {0};
        cr_assert_eq(make(b, ROWS, &net, NULL), MAG_OK);
        cr_expect_eq(backend_cuda.waits(b, d, false), k == 1);
        cr_expect_eq(backend_cuda.waits(b, d, true), k == 1, "images change on the device");
        loss[k] = step(net, d);
        dataset_gather(d, d->train, ROWS, values);
        memset(d->values, 0, (size_t)d->n_rows * 64 * sizeof(float)); /* nobody looks at them */
        d->serial = 0;
        net_init_weights(net, 0, 1, 1);
        net_train(net, &(struct batch){.d = d, .rows = d->train, .n = ROWS, .values = values},
                  (struct loss){0}, &pass, &u, &s);
        cr_assert_eq(backend_cuda.check(b, NULL), MAG_OK);
        cr_expect_eq(s.loss, loss[k]);
        net_destroy(net);
        backend_cuda.close(b);
        dataset_destroy(d);
    }
    cr_expect_eq(loss[0], loss[1]);
    free(values);
}

Test(cuda, a_data_set_that_changed_is_copied_anew)
{
    struct backend *b = open_backend();
    struct dataset *d = toy_dataset(small, 3, 60);
    struct net *net = NULL;
    cr_assert_eq(make(b, ROWS, &net, NULL), MAG_OK);
    double before = step(net, d);
    cr_expect_eq(step(net, d), before);
    for (size_t i = 0; i < (size_t)d->n_rows * 64; i++) {
        d->values[i] *= 0.5f;
    }
    dataset_stamp(d);
    double after = step(net, d);
    cr_expect_neq(after, before);
    d->serial = 0; /* unknown: never taken from what lies there */
    cr_expect_eq(step(net, d), after);
    net_destroy(net);
    backend_cuda.close(b);
    dataset_destroy(d);
}

/* Three steps of the lane `trial` = 2, whose rows change from step to step; with two lanes of one
 * input the first, trial 1, ends after one step. Its weights are left in `out`. */
static void three_steps(struct dataset *d, int lanes, float *out)
{
    struct backend *b = open_backend();
    struct model m = model_of(LAYERS, small);
    const struct net_options options = {
        .rows = ROWS, .lanes = lanes, .shared = lanes > 1, .learns = true};
    struct net *net = NULL;
    cr_assert_eq(net_create(&backend_cuda, b, &m, &options, &net, NULL), MAG_OK);
    for (int lane = 0; lane < lanes; lane++) {
        net_init_weights(net, lane, 1, 2);
    }
    struct score scores[2] = {{0}, {0}};
    for (int step = 0; step < 3; step++) {
        const struct batch batch = {.d = d, .rows = d->train + step * ROWS, .n = ROWS};
        const struct batch batches[] = {batch, batch};
        struct pass_lane pass_lanes[] = {{.trial = 2}, {.trial = 2}};
        struct update updates[] = {{.lr = 0.1f, .count = step + 1},
                                   {.lr = 0.1f, .count = step + 1}};
        pass_lanes[0].idle = updates[0].idle = lanes > 1 && step > 0;
        const struct pass pass = {.training = true, .lanes = pass_lanes};
        net_train(net, batches, (struct loss){0}, &pass, updates, scores);
    }
    cr_assert_eq(backend_cuda.check(b, NULL), MAG_OK);
    backend_cuda.get(net->layers[0], lanes - 1, OP_WEIGHTS, SLOT_VALUE, out);
    net_destroy(net);
    backend_cuda.close(b);
}

Test(cuda, lanes_of_one_input_go_on_with_new_rows_when_the_first_has_ended)
{
    struct dataset *d = toy_dataset(small, 3, 60);
    float alone[4 * 9];
    float beside[4 * 9];
    three_steps(d, 1, alone);
    three_steps(d, 2, beside);
    for (int i = 0; i < 4 * 9; i++) {
        cr_expect_float_eq(alone[i], beside[i], 1e-6f, "weight %d: %g, %g", i, (double)alone[i],
                           (double)beside[i]);
    }
    dataset_destroy(d);
}

Test(cuda, a_net_takes_the_place_of_data_sets_that_lie_there_for_later)
{
    struct backend *b = open_backend();
    struct dataset *d = toy_dataset(small, 3, 60);
    struct net *net = NULL;
    int64_t total = 0;
    cr_assert_eq(make(b, ROWS, &net, NULL), MAG_OK);
    const double loss = step(net, d);
    const int64_t with_data = device_memory_free(b->device, &total);
    cr_expect_not_null(b->sets[0].labels);
    net_destroy(net);
    cuda_host_memory -= with_data; /* the net fits once more, without the data alone */
    cuda_host_memory -= 64;
    struct dataset *other = toy_dataset(small, 3, 90);
    cr_assert_eq(make(b, ROWS, &net, NULL), MAG_OK);
    cuda_host_memory = 4 * SPARE;
    cr_expect_eq(step(net, d), loss, "the data come back");
    net_destroy(net);
    backend_cuda.close(b);
    dataset_destroy(other);
    dataset_destroy(d);
}

/* Weights of all layers after three steps on a backend. */
struct variant {
    const char *name, *layers;
    int classes;
    struct loss loss;
    bool changes; /* of images */
};

static size_t train_variant(const struct backend_ops *ops, const struct variant *v,
                            struct dataset *d, double *ret_loss, float *out)
{
    struct backend *b = NULL;
    struct net *net = NULL;
    struct model m = model_of(v->layers, small);
    const struct net_options options = {.rows = ROWS, .learns = true};
    struct score s = {0};
    size_t n = 0;
    cr_assert_eq(ops->open(&(struct backend_options){.threads = 1}, &b, NULL), MAG_OK);
    cr_assert_eq(net_create(ops, b, &m, &options, &net, NULL), MAG_OK);
    net_init_weights(net, 0, 1, 1);
    for (int step = 0; step < 3; step++) {
        struct augment_row changes[ROWS];
        const struct augmentation a = {.crop = 2, .flip = true, .cutout = 3};
        const struct augment_stream stream = {.seed = 5, .batch = step};
        augment_draw(&a, &stream, &small, changes, ROWS);
        const struct batch batch = {.d = d,
                                    .rows = d->train + step * ROWS,
                                    .n = ROWS,
                                    .augment = v->changes ? changes : NULL};
        const struct pass_lane lane = {.trial = 1};
        const struct update u = {.lr = 0.1f, .count = step + 1};
        net_train(net, &batch, v->loss, &(struct pass){true, &lane}, &u, &s);
    }
    cr_assert_eq(ops->check(b, NULL), MAG_OK);
    for (int i = 0; i < net->n; i++) {
        for (int p = 0; p < OP_PARAMS; p++) {
            const size_t floats = (size_t)op_param_floats(&net->layers[i]->layer, p);
            if (floats > 0) {
                ops->get(net->layers[i], 0, (enum op_param)p, SLOT_VALUE, out + n);
                n += floats;
            }
        }
    }
    *ret_loss = s.loss;
    net_destroy(net);
    ops->close(b);
    return n;
}

Test(cuda, whole_steps_agree_with_the_reference_for_every_loss_and_with_changed_images)
{
    static const struct variant variants[] = {
        {"cross-entropy", LAYERS, 3, {LOSS_CROSS_ENTROPY, 0.1f}, false},
        {"changed images", LAYERS, 3, {LOSS_CROSS_ENTROPY, 0}, true},
        {"squares", LAYERS, 3, {LOSS_MSE, 0}, false},
        {"logistic", "[{\"type\":\"dense\",\"units\":1}]", 2, {LOSS_LOGISTIC, 0}, false},
        {"logistic, smoothed, changed images",
         "[{\"type\":\"dense\",\"units\":1}]",
         2,
         {LOSS_LOGISTIC, 0.2f},
         true},
    };
    cuda_host_memory = 4 * SPARE;
    for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
        struct dataset *d = toy_dataset(small, variants[i].classes, 60);
        float mine[1024];
        float theirs[1024];
        double loss[2];
        const size_t n = train_variant(&backend_cuda, &variants[i], d, &loss[0], mine);
        cr_assert_eq(train_variant(&backend_ref, &variants[i], d, &loss[1], theirs), n);
        cr_expect_float_eq(loss[0], loss[1], 1e-4, "%s: %g, %g", variants[i].name, loss[0],
                           loss[1]);
        for (size_t k = 0; k < n; k++) {
            cr_expect_float_eq(mine[k], theirs[k], 1e-5f, "%s: weight %zu", variants[i].name, k);
        }
        dataset_destroy(d);
    }
}

Test(cuda, the_plan_is_what_a_net_takes_and_values_take_turns_in_it)
{
    const char *deep =
        "[{\"type\":\"conv\",\"filters\":16,\"kernel\":3,\"activation\":\"relu\"},"
        "{\"type\":\"residual\",\"repeat\":8,\"layers\":[{\"type\":\"conv\",\"filters\":16,"
        "\"kernel\":3,\"bias\":false},{\"type\":\"batchnorm\"}]},{\"type\":\"globalpool\"},"
        "{\"type\":\"dense\",\"units\":3}]";
    struct model m = model_of(deep, small);
    int64_t activations[2];
    cuda_host_memory = 4 * SPARE;
    for (int keeps = 0; keeps < 2; keeps++) {
        const struct net_options options = {
            .rows = 64, .lanes = 2, .learns = true, .keeps = keeps != 0};
        struct backend *b = open_backend();
        struct net *net = NULL;
        struct plan p;
        int64_t total = 0;
        const int64_t before = device_memory_free(b->device, &total);
        cr_assert_eq(net_create(&backend_cuda, b, &m, &options, &net, NULL), MAG_OK);
        plan_net(net, PRECISION_FLOAT32, &p);
        cr_expect_eq(before - device_memory_free(b->device, &total), p.bytes);
        cr_expect_eq(p.gradients + p.weights + p.optimizer + p.average < p.state, true);
        activations[keeps] = p.activations;
        plan_fini(&p);
        net_destroy(net);
        backend_cuda.close(b);
    }
    /* Gradients live from one layer to the next; outputs until their backward pass. */
    cr_expect(activations[0] * 10 < activations[1] * 6, "%lld of %lld", (long long)activations[0],
              (long long)activations[1]);
}

/* Numbers that come often, so that their sums cross runs and blocks, and ones that never come. */
Test(cuda, gradients_of_embeddings_are_the_sums_over_all_places_of_a_number)
{
    enum { LANES = 2, TOKENS = 7000, WIDTH = 3, VOCABULARY = 700 };
    const struct extent e = {TOKENS / 7, 7, LANES, WIDTH};
    float *x = xcalloc(TOKENS * LANES, sizeof(*x));
    float *dy = xcalloc(TOKENS * LANES * WIDTH, sizeof(*dy));
    float *grad = xcalloc(LANES * VOCABULARY * WIDTH, sizeof(*grad));
    double *want = xcalloc(LANES * VOCABULARY * WIDTH, sizeof(*want));
    void *room = xmalloc((size_t)embed_room(e));
    struct pcg64 g;
    pcg_stream(&g, 1, "embedding", 0);
    for (int64_t row = 0; row < e.rows; row++) {
        for (int lane = 0; lane < LANES; lane++) {
            for (int p = 0; p < e.area; p++) {
                const uint64_t bits = pcg64_next(&g);
                const int id = bits % 3 == 0 ? 5 : (int)(bits / 3 % (VOCABULARY / 2)) * 2;
                const int64_t token = row * e.area + p;
                x[(row * LANES + lane) * e.area + p] = (float)id;
                for (int c = 0; c < WIDTH; c++) {
                    const float v = (float)(pcg64_next(&g) % 1000) / 1000;
                    dy[(token * LANES + lane) * WIDTH + c] = v;
                    want[((int64_t)lane * VOCABULARY + id) * WIDTH + c] += (double)v;
                }
            }
        }
    }
    k_embed_back((struct tensor){x, 0, LANES}, (struct tensor){dy, 0, LANES}, VOCABULARY, grad,
                 room, e, NULL);
    for (int i = 0; i < LANES * VOCABULARY * WIDTH; i++) {
        cr_assert_float_eq(grad[i], (float)want[i], 1e-6f * (float)(1 + want[i]), "%d: %g, %g", i,
                           (double)grad[i], want[i]);
    }
    free(x);
    free(dy);
    free(grad);
    free(want);
    free(room);
}

Test(cuda, bfloat16_rounds_to_nearest_and_ties_to_even)
{
    const struct {
        float from, to;
    } cases[] = {{0, 0},
                 {1, 1},
                 {1.00390625f, 1},         /* half way: 1 is even */
                 {1.01171875f, 1.015625f}, /* half way: up to the even one */
                 {1.004f, 1.0078125f},     /* beyond half way */
                 {-3.4e38f, -INFINITY} /* beyond the largest */};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_expect_eq(bf16_to_float(bf16_of(cases[i].from)), cases[i].to, "%g",
                     (double)cases[i].from);
    }
    cr_expect(isnan(bf16_to_float(bf16_of(NAN))));
}

Test(cuda, the_stream_of_dropout_jumps_to_where_it_would_have_come)
{
    struct pcg64 g;
    pcg_stream(&g, 5, "jump", 1);
    const cell_u128 inc = g.inc;
    const cell_u128 start = g.state;
    for (uint64_t n = 0; n < 300; n++) {
        cell_u128 state = cell_pcg_jump(start, inc, n);
        cr_assert(state == g.state, "after %llu draws", (unsigned long long)n);
        cr_assert_eq(cell_pcg_next(&state, inc), pcg64_next(&g));
    }
}
