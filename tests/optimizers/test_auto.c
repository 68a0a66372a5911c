/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules of "auto": a case for each, at its bounds and one beyond.
 */
#include "harness.h"

#include "base/alloc.h"
#include "optimizers/auto.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

TestSuite(automatic, .timeout = 100);

struct pick {
    const char *space;
    int64_t max; /* of the resource, 0 = none */
    int64_t trials;
    int objectives;
    const char *name, *why;
};

/* A space of n DOUBLE parameters, malloc'ed. */
static char *doubles(int n)
{
    struct buf b = {0};
    buf_addc(&b, '{');
    for (int i = 0; i < n; i++) {
        buf_addf(&b, "%s\"x%d\": [\"DOUBLE\", [0, 1]]", i > 0 ? ", " : "", i);
    }
    buf_addc(&b, '}');
    return buf_take(&b);
}

static void expect_pick(const struct pick *p)
{
    struct space *s = space_of(p->space);
    struct opt_setup setup = {.space = s,
                              .seed = 1,
                              .resource = {p->max > 0, 1, p->max},
                              .trials = p->trials,
                              .objectives = p->objectives};
    struct mjson_issues is = {0};
    char *why = NULL;
    struct optimizer *o = optimizer_create(NULL, "", &setup, &is, &why);
    cr_assert_not_null(o, "%s: %s", p->name, is.n > 0 ? is.items[0].text : "");
    cr_expect_str_eq(optimizer_ops_of(o)->name, p->name, "%lld trials: %s", (long long)p->trials,
                     why);
    cr_expect(strncmp(why, p->name, strlen(p->name)) == 0, "begins with its choice: %s", why);
    cr_expect_not_null(strstr(why, p->why), "%s", why);
    free(why);
    optimizer_destroy(o);
    space_destroy(s);
}

Test(automatic, each_rule_holds_at_its_bounds_and_not_beyond)
{
    char *most = doubles(AUTO_GP_PARAMS);
    char *more = doubles(AUTO_GP_PARAMS + 1);
    const struct pick cases[] = {
        {MIXED_SPACE, 27, 27, 1, "hyperband", "a resource (1 to 27) and 27 trials are few"},
        {MIXED_SPACE, 27, 26, 1, "asha", "a resource (1 to 27)"}, /* no room for a bracket */
        {MIXED_SPACE, 27, AUTO_GP_TRIALS, 1, "hyperband", "tpe proposes"},
        {MIXED_SPACE, 27, AUTO_GP_TRIALS + 1, 1, "asha", "tpe proposes"},
        {MIXED_SPACE, 1000000, 1000, 1, "asha", "a resource (1 to 1000000)"},
        {more, 27, 100, 1, "hyperband", "de proposes them, which holds out with 41 parameters"},
        {more, 27, 0, 1, "asha", "de proposes them, which holds out with 41 parameters"},
        {most, 27, 100, 1, "hyperband", "tpe proposes"},
        {MIXED_SPACE, 27, 0, 1, "asha", "a resource"},
        {FINITE_SPACE, 27, 100, 1, "hyperband", "a resource"},
        {FINITE_SPACE, 0, 33, 1, "grid", "all 33 points"},
        {FINITE_SPACE, 0, 32, 1, "gp", "32 trials"},
        {FINITE_SPACE, 0, 0, 1, "grid", "all 33 points"},
        {FINITE_SPACE, 1, 100, 1, "grid", "all 33 points"}, /* a resource without room for rungs */
        {MIXED_SPACE, 0, 1, 1, "gp", "1 trials of 7 parameters"},
        {MIXED_SPACE, 0, AUTO_GP_TRIALS, 1, "gp", "few enough"},
        {MIXED_SPACE, 0, AUTO_GP_TRIALS + 1, 1, "tpe", "1001 trials"},
        {MIXED_SPACE, 0, 0, 1, "tpe", "limits.trials is not given"},
        {most, 0, 200, 1, "portfolio", "all 40 parameters are numbers and 200 trials are few"},
        {most, 0, AUTO_GP_TRIALS, 1, "portfolio", "few enough"},
        {most, 0, AUTO_GP_TRIALS + 1, 1, "cmaes", "1001 trials are many"},
        {more, 0, 200, 1, "cmaes", "all 41 parameters are numbers and 200 trials are many"},
        {more, 0, 0, 1, "cmaes", "limits.trials is not given"},
        {most, 1, 200, 1, "portfolio", "few"}, /* a resource without room for rungs */
        {MIXED_SPACE, 0, AUTO_FRONT_TRIALS, 2, "gp", "2 objectives"},
        {MIXED_SPACE, 27, AUTO_FRONT_TRIALS, 2, "gp", "2 objectives"},
        {MIXED_SPACE, 0, AUTO_FRONT_TRIALS + 1, 3, "nsga2", "3 objectives"},
        {MIXED_SPACE, 27, 0, 2, "nsga2", "2 objectives"},
        {FINITE_SPACE, 0, 33, 2, "gp", "2 objectives"},
        {more, 0, 100, 2, "nsga2", "2 objectives"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        expect_pick(&cases[i]);
    }
    free(most);
    free(more);
}

Test(automatic, what_was_picked_is_written_out_and_can_be_given_back)
{
    struct space *s = space_of(MIXED_SPACE);
    struct opt_setup setup = {.space = s, .seed = 1, .resource = {true, 1, 27}, .trials = 100};
    struct mjson_issues is = {0};
    json_t *automatic = json_pack("{s:s}", "algorithm", "auto");
    char *why = NULL;
    struct optimizer *o = optimizer_create(automatic, "", &setup, &is, &why);
    cr_assert_not_null(o);
    json_t *resolved = optimizer_resolved(o);
    cr_expect_str_eq(json_string_value(json_object_get(resolved, "sampler")), "tpe");
    struct optimizer *again = optimizer_create(resolved, "", &setup, &is, NULL);
    cr_assert_not_null(again);
    json_t *same = optimizer_resolved(again);
    cr_expect(json_equal(resolved, same));
    json_decref(same);
    json_decref(resolved);
    json_decref(automatic);
    optimizer_destroy(again);
    optimizer_destroy(o);
    free(why);
    space_destroy(s);
}

Test(automatic, it_takes_no_options)
{
    struct space *s = space_of(MIXED_SPACE);
    struct opt_setup setup = {.space = s, .seed = 1, .trials = 100};
    struct mjson_issues is = {0};
    json_t *object = json_pack("{s:s, s:i}", "algorithm", "auto", "startup", 5);
    cr_expect_null(optimizer_create(object, "/optimizer", &setup, &is, NULL));
    cr_assert_eq(is.total, 1);
    cr_expect_not_null(strstr(is.items[0].text, "takes no options"));
    mjson_issues_fini(&is);
    json_decref(object);
    space_destroy(s);
}
