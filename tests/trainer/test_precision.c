/* SPDX-License-Identifier: Apache-2.0
 *
 * bfloat16: rounding is to the nearest, ties to even, and a step in it is the same on every backend
 * that has it, up to the sums.
 */
#include "support.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 12
#define WEIGHTS_MAX 20000

static const char *const models[] = {
    "[{\"type\":\"dense\",\"units\":40,\"activation\":\"tanh\"},{\"type\":\"dense\",\"units\":3}]",
    "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3,\"activation\":\"tanh\"},{\"type\":\"conv\","
    "\"filters\":16,\"kernel\":3,\"bias\":false},{\"type\":\"batchnorm\"},{\"type\":\"conv\","
    "\"filters\":5,\"kernel\":3,\"groups\":1},{\"type\":\"globalpool\"},{\"type\":\"dense\","
    "\"units\":3}]",
};

struct kept {
    float values[WEIGHTS_MAX];
    size_t n;
};

static enum mag_status keep_array(void *ctx, struct net *net, const struct net_array *a)
{
    struct kept *k = ctx;
    cr_assert_leq(k->n + a->n, WEIGHTS_MAX);
    net->ops->get(a->op, 0, a->p, a->slot, k->values + k->n);
    k->n += a->n;
    return MAG_OK;
}

/* The weights after one step. */
static struct kept *step(const struct backend_ops *ops, enum precision precision,
                         const char *layers)
{
    const struct backend_options o = {.threads = 1, .precision = precision};
    const struct net_options options = {.rows = ROWS, .learns = true};
    struct dataset *d = toy_dataset((struct shape){1, 8, 8, false}, 3, 60);
    struct model m = model_of(layers, d->shape);
    struct backend *backend = NULL;
    struct net *net = NULL;
    struct mag_err err = {0};
    cr_assert_eq(ops->open(&o, &backend, &err), MAG_OK, "%s", err.text);
    cr_assert_eq(net_create(ops, backend, &m, &options, &net, &err), MAG_OK, "%s", err.text);
    net_init_weights(net, 0, 1, 1);
    const struct pass_lane lane = {.seed = 1};
    const struct pass pass = {.training = true, .lanes = &lane};
    const struct batch batch = {.d = d, .rows = d->train, .n = ROWS - 2};
    const struct update u = {.kind = OPTIMIZER_SGD, .lr = 1, .count = 1};
    struct score s = {0};
    net_train(net, &batch, (struct loss){LOSS_CROSS_ENTROPY, 0}, &pass, &u, &s);
    struct kept *k = xcalloc(1, sizeof(*k));
    cr_assert_eq(net_each_array(net, 0, SLOT_BIT(SLOT_VALUE), keep_array, k), MAG_OK);
    cr_assert_eq(ops->check(backend, &err), MAG_OK, "%s", err.text);
    net_destroy(net);
    ops->close(backend);
    dataset_destroy(d);
    return k;
}

static double apart(const struct kept *a, const struct kept *b)
{
    double most = 0;
    cr_assert_eq(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        most = fmax(most, fabs((double)a->values[i] - (double)b->values[i]));
    }
    return most;
}

Test(precision, a_step_in_bf16_is_the_references)
{
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        struct kept *ref = step(&backend_ref, PRECISION_BF16, models[i]);
        struct kept *cpu = step(&backend_cpu, PRECISION_BF16, models[i]);
        struct kept *full = step(&backend_ref, PRECISION_FLOAT32, models[i]);
        double rounding = apart(ref, full);
        double off = apart(ref, cpu);
        cr_expect_gt(rounding, 1e-4, "model %zu: bf16 changes the step, by %g", i, rounding);
        cr_expect_lt(rounding, 0.1, "model %zu: but little, by %g", i, rounding);
        cr_expect_lt(off, rounding / 3, "model %zu: cpu is off by %g, rounding by %g", i, off,
                     rounding);
        free(ref);
        free(cpu);
        free(full);
    }
}

Test(precision, rounding_is_to_the_nearest_and_ties_to_even)
{
    const struct {
        float from, to;
    } table[] = {
        {1, 1},
        {-0.0f, -0.0f},
        {0x1.01p0f, 0x1p0f},      /* a tie: down, to even */
        {0x1.03p0f, 0x1.04p0f},   /* a tie: up, to even */
        {0x1.0102p0f, 0x1.02p0f}, /* above a tie */
        {-0x1.00fep0f, -0x1p0f},  /* below it */
        {0x1.fffffep3f, 0x1p4f},  /* carries into the exponent */
        {INFINITY, INFINITY},
        {0x1.fffffep127f, INFINITY},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        float got = backend_bf16(table[i].from);
        cr_expect(got == table[i].to && signbit(got) == signbit(table[i].to), "row %zu: %a", i,
                  (double)got);
    }
    cr_expect(isnan(backend_bf16(NAN)));
}

Test(precision, tf32_is_refused_where_there_is_none)
{
    const struct backend_options o = {.threads = 1, .precision = PRECISION_TF32};
    const struct backend_ops *const backends[] = {&backend_ref, &backend_cpu};
    for (int i = 0; i < 2; i++) {
        struct backend *b = NULL;
        struct mag_err err = {0};
        cr_expect_eq(backends[i]->open(&o, &b, &err), MAG_UNSUPPORTED);
        cr_expect_not_null(strstr(err.text, "tf32"), "%s", err.text);
    }
}
