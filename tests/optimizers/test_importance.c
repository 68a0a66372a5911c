/* SPDX-License-Identifier: Apache-2.0
 *
 * Importance by PED-ANOVA; tests/e2e/bridges_test.py compares its figures with Optuna's.
 */
#include "optimizers/importance.h"

#include "base/json.h"
#include "base/pcg.h"

#include <criterion/criterion.h>
#include <math.h>

TestSuite(importance, .timeout = 60);

#define N 400

static double points[N * 4];
static double losses[N];

static struct space *make_space(void)
{
    struct mjson_issues is = {0};
    struct mag_err err = {0};
    json_t *doc = NULL;
    static const char text[] =
        "{\"a\": [\"DOUBLE\", [0, 1]], \"b\": [\"DOUBLE\", [0, 1]], \"c\": [\"CATEGORICAL\", "
        "[\"x\", \"y\"]], \"d\": {\"type\": \"DOUBLE\", \"range\": [1, 1]}}";
    cr_assert_eq(mjson_parse(text, sizeof(text) - 1, &doc, &err), MAG_OK, "%s", err.text);
    struct space *s = space_parse(doc, "", &is);
    cr_assert_not_null(s);
    json_decref(doc);
    return s;
}

static struct importance_data draw(const struct space *s, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        space_sample(s, 7, "test", (uint64_t)i + 1, points + i * s->n);
    }
    return (struct importance_data){.space = s, .n = n, .points = points, .losses = losses};
}

Test(importance, what_the_objective_depends_on_counts_and_nothing_else)
{
    struct space *s = make_space();
    struct importance_data d = draw(s, N);
    double got[4];
    for (int i = 0; i < N; i++) {
        losses[i] = fabs(points[i * s->n] - 0.3);
    }
    cr_expect_eq(importance_compute(&d, 0.1, got), N / 10);
    cr_expect_gt(got[0], 10 * got[1]);
    cr_expect_gt(got[0], 10 * got[2]);
    cr_expect_eq(got[3], 0, "a value that never changes");
    double before = got[2];
    for (int i = 0; i < N; i++) {
        losses[i] = points[i * s->n + 2] + 0.001 * points[i * s->n + 1];
    }
    (void)importance_compute(&d, 0.1, got);
    cr_expect_gt(got[2], 10 * before, "the label alone decides now");
    space_destroy(s);
}

Test(importance, few_or_equal_trials_tell_nothing)
{
    struct space *s = make_space();
    double got[4] = {1, 1, 1, 1};
    struct importance_data d = draw(s, N);
    for (int i = 0; i < N; i++) {
        losses[i] = 5;
    }
    d.n = 0;
    cr_expect_eq(importance_compute(&d, 0.1, got), 0);
    d.n = 1;
    cr_expect_eq(importance_compute(&d, 0.1, got), 0);
    cr_expect_eq(got[0], 0);
    d.n = N;
    cr_expect_eq(importance_compute(&d, 0.1, got), N, "ties are all among the best");
    for (int k = 0; k < 4; k++) {
        cr_expect_lt(got[k], 1e-9);
    }
    d.n = 2;
    losses[1] = 4;
    cr_expect_eq(importance_compute(&d, 0.1, got), 1);
    for (int k = 0; k < 4; k++) {
        cr_expect(isfinite(got[k]) && got[k] >= 0);
    }
    space_destroy(s);
}

Test(importance, far_values_on_a_wide_log_scale_stay_finite)
{
    struct mjson_issues is = {0};
    json_t *doc = json_pack("{s:{s:s, s:[f,f], s:s}, s:{s:s, s:[f,f], s:s}}", "lr", "type",
                            "DOUBLE", "range", 1e-300, 1.0, "scale", "log", "m", "type", "DOUBLE",
                            "range", 0.0, 0.999999, "scale", "reverse-log");
    struct space *s = space_parse(doc, "", &is);
    cr_assert_not_null(s);
    struct importance_data d = draw(s, N);
    double got[2];
    for (int i = 0; i < N; i++) {
        losses[i] = i < 5 ? -1 : (double)i;
    }
    cr_expect_eq(importance_compute(&d, 0.01, got), 5);
    cr_expect(isfinite(got[0]) && isfinite(got[1]));
    json_decref(doc);
    space_destroy(s);
}
