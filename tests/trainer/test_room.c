/* SPDX-License-Identifier: Apache-2.0
 *
 * The estimate of what a trial takes is what it takes, on every backend; and what has no room is
 * told so before anything is placed, with its sizes.
 */
#include "support.h"

#include "base/alloc.h"
#include "trainer/room.h"
#include "trainer/session.h"

#include <criterion/criterion.h>
#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MB ((int64_t)1 << 20)
#ifndef ROWS
#define ROWS 96
#endif
#define END "{\"type\":\"dense\",\"units\":10}"

/* What the estimate of a device counts and this build of it does not have. The host has the data
 * before. */
#ifdef TEST_DEVICE
#include "trainer/cuda/device.h"
#define TEST_UNUSED DEVICE_WORKSPACE
#else
#define TEST_UNUSED 0
#endif

extern const struct backend_ops backend_cpu;

static const struct {
    const char *name, *layers, *training;
    struct shape shape;
} cases[] = {
    {"mlp",
     "{\"type\":\"dense\",\"units\":1024,\"activation\":\"relu\",\"repeat\":2}," END,
     "{}",
     {784, 1, 1, true}},
    {"mlp with averages, gelu and dropout",
     "{\"type\":\"dense\",\"units\":900,\"activation\":\"gelu\"},{\"type\":\"dropout\",\"rate\":0."
     "2},"
     "{\"type\":\"layernorm\"}," END,
     "{\"ema\":0.99,\"optimizer\":\"adam\"}",
     {1000, 1, 1, true}},
    {"cnn",
     "{\"type\":\"conv\",\"filters\":32,\"kernel\":5,\"activation\":\"relu\"},{\"type\":"
     "\"maxpool\"},"
     "{\"type\":\"conv\",\"filters\":64,\"kernel\":5,\"activation\":\"relu\"},{\"type\":"
     "\"maxpool\"},"
     "{\"type\":\"dense\",\"units\":128,\"activation\":\"relu\"}," END,
     "{}",
     {1, 28, 28, false}},
    {"residual",
     "{\"type\":\"conv\",\"filters\":16,\"kernel\":3,\"bias\":false},{\"type\":\"batchnorm\","
     "\"activation\":\"relu\"},{\"type\":\"residual\",\"activation\":\"relu\",\"layers\":[{"
     "\"type\":"
     "\"conv\",\"filters\":32,\"kernel\":3,\"stride\":2},{\"type\":\"batchnorm\"}]},{\"type\":"
     "\"globalpool\"}," END,
     "{}",
     {3, 32, 32, false}},
    {"bf16",
     "{\"type\":\"dense\",\"units\":2000,\"activation\":\"relu\"}," END,
     "{\"precision\":\"bf16\"}",
     {784, 1, 1, true}},
};

/* Bytes that malloc has given out. */
static int64_t allocated(void)
{
    struct mallinfo2 m = mallinfo2();
    return (int64_t)(m.uordblks + m.hblkhd);
}

static struct recipe fitted(const char *layers, const char *training, const struct dataset *d)
{
    char *text = xasprintf("{\"program\":\"builtin\",\"dataset\":\"idx:/nowhere\",\"model\":{"
                           "\"layers\":[%s]},\"training\":%s}",
                           layers, training);
    struct mjson_issues *is = xcalloc(1, sizeof(*is));
    struct recipe r = recipe_of(text);
    cr_assert(recipe_fit(&r, d, "", is), "%s", is->n > 0 ? is->items[0].text : "");
    r.training.backend = &backend_cpu;
    mjson_issues_fini(is);
    free(is);
    free(text);
    return r;
}

/* One step of a whole net: what is held after it. */
static int64_t really(const struct recipe *r, const struct dataset *d, int rows)
{
    const struct backend_options o = {.threads = 1, .precision = r->training.precision};
    const struct net_options options = {
        .rows = rows, .average = r->training.ema > 0, .learns = true};
    const struct pass_lane lane = {.trial = 1};
    const struct pass pass = {.training = true, .lanes = &lane};
    const struct batch batch = {.d = d, .rows = d->train, .n = rows};
    struct update u = r->training.update;
    struct backend *b = NULL;
    struct net *net = NULL;
    struct score s = {0};
    struct mag_err err = {0};
    cr_assert_eq(backend_cpu.open(&o, &b, &err), MAG_OK, "%s", err.text);
    int64_t before = allocated();
    cr_assert_eq(net_create(&backend_cpu, b, &r->model, &options, &net, &err), MAG_OK, "%s",
                 err.text);
    net_init_weights(net, 0, 1, 1);
    u.count = 1;
    net_train(net, &batch, r->training.loss, &pass, &u, &s);
    cr_assert_eq(backend_cpu.check(b, &err), MAG_OK, "%s", err.text);
    int64_t after = allocated();
    net_destroy(net);
    backend_cpu.close(b);
    return after - before;
}

Test(room, the_estimate_is_what_is_allocated)
{
    if (allocated() == 0) {
        cr_log_warn("skipped: a sanitizer's malloc tells no figures");
        return;
    }
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct dataset *d = toy_dataset(cases[i].shape, 10, 200);
        struct recipe r = fitted(cases[i].layers, cases[i].training, d);
        r.training.batch_size = ROWS;
        const struct room_ask ask = {.recipe = &r, .dataset = d};
        struct room room;
        room_of(&ask, &room);
        int64_t said = room_sum(&room) - (TEST_UNUSED > 0 ? TEST_UNUSED : room.data);
        int64_t held = really(&r, d, room_rows(&ask));
        cr_expect(said >= held - held / 20 && said <= held + held * 3 / 10,
                  "%s: %.2f MB were said, %.2f MB are held", cases[i].name,
                  (double)said / (double)MB, (double)held / (double)MB);
        recipe_fini(&r);
        dataset_destroy(d);
    }
}

Test(room, lanes_are_bounded_by_what_is_free)
{
    struct dataset *d = toy_dataset((struct shape){784, 1, 1, true}, 10, 200);
    struct recipe small = fitted(END, "{}", d);
    struct recipe large = fitted("{\"type\":\"dense\",\"units\":12000,\"repeat\":2}," END, "{}", d);
    const struct backend_options o = {.threads = 1};
    struct backend *b = NULL;
    cr_assert_eq(backend_cpu.open(&o, &b, NULL), MAG_OK);
    struct room one;
    struct room two;
    cr_expect_eq(room_lanes(&(struct room_ask){.recipe = &small, .dataset = d, .lanes = 8}, b), 8,
                 "eight small nets fit anywhere");
    int many = room_lanes(&(struct room_ask){.recipe = &large, .dataset = d, .lanes = 64}, b);
    cr_expect(many >= 1 && many < 64, "64 of 2.3 GB each: %d", many);
    cr_expect_eq(room_lanes(&(struct room_ask){.recipe = &large, .dataset = d, .lanes = 1}, b), 1);
    room_of(&(struct room_ask){.recipe = &small, .dataset = d, .lanes = 1}, &one);
    room_of(&(struct room_ask){.recipe = &small, .dataset = d, .lanes = 2}, &two);
    cr_expect_eq(two.weights, 2 * one.weights);
    cr_expect_eq(two.data, one.data, "the data are there once");
    backend_cpu.close(b);
    recipe_fini(&small);
    recipe_fini(&large);
    dataset_destroy(d);
}

Test(room, ranks_have_a_part_of_the_batch_and_all_of_the_weights)
{
    struct dataset *d = toy_dataset((struct shape){784, 1, 1, true}, 10, 2000);
    struct recipe r = fitted("{\"type\":\"dense\",\"units\":512}," END, "{\"batch_size\":256}", d);
    struct room alone;
    struct room rank;
    const struct room_ask four = {.recipe = &r, .dataset = d, .processes = 4};
    room_of(&(struct room_ask){.recipe = &r, .dataset = d}, &alone);
    room_of(&four, &rank);
    cr_expect_eq(room_rows(&four), 64);
    cr_expect_eq(rank.weights, alone.weights);
    cr_expect_leq(rank.values, alone.values / 2);
    recipe_fini(&r);
    dataset_destroy(d);
}
