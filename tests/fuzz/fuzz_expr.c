/* SPDX-License-Identifier: Apache-2.0
 *
 * Conditions between parameters: whatever the bytes, expr_parse answers with a condition or with
 * one fault; a condition and its negation are never broken by the same point; a space constrained
 * by it gives feasible points alone, or says that there are none.
 */
#include "space/constraint.h"
#include "space/expr.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

#define SPACE                                                                                      \
    "{\"a\": [\"DOUBLE\", [-10, 10]], \"b\": [\"DOUBLE\", [0, 1]], \"n\": [\"INTEGER\", [0, 9]],"  \
    " \"k\": [\"DISCRETE\", [7, 3, 5]], \"opt\": [\"CATEGORICAL\", [\"sgd\", \"adam\"]],"          \
    " \"size\": {\"type\": \"CATEGORICAL\", \"values\": [\"s\", \"m\", \"l\"], \"ordered\": "      \
    "true}, \"mom\": {\"type\": \"DOUBLE\", \"range\": [0, 1], \"when\": {\"opt\": [\"sgd\"]}}}"
#define POINTS 8

static struct space *make_space(void)
{
    struct mjson_issues is = {0};
    json_t *v = NULL;
    MAG_ASSERT(mjson_parse(SPACE, strlen(SPACE), &v, NULL) == MAG_OK);
    struct space *s = space_parse(v, "", &is);
    MAG_ASSERT(s != NULL, "%s", is.items[0].text);
    json_decref(v);
    return s;
}

static void check_points(const struct space *s, const struct expr *e, const struct expr *opposite)
{
    double point[16];
    for (uint64_t id = 1; id <= POINTS; id++) {
        space_sample(s, 1, "fuzz", id, point);
        double broken = expr_violation(e, s, point);
        MAG_ASSERT(broken >= 0, "%g", broken);
        MAG_ASSERT(opposite == NULL || broken <= 0 || expr_violation(opposite, s, point) <= 0,
                   "true and false");
    }
}

static void check_space(struct space *s, const char *text)
{
    struct mjson_issues is = {0};
    double point[16];
    json_t *list = json_pack("[s]", text);
    if (list != NULL && space_constrain(s, list, "", &is)) {
        for (uint64_t id = 1; id <= POINTS; id++) {
            space_sample(s, 2, "fuzz", id, point);
            MAG_ASSERT(space_is_feasible(s, point), "a draw");
            MAG_ASSERT(space_normalize(s, point), "a draw");
        }
    }
    mjson_issues_fini(&is);
    json_decref(list);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct mjson_issues is = {0};
    char *text = xstrndup((const char *)data, size);
    char *negation = xasprintf("not (%s)", text);
    struct space *s = make_space();
    struct expr *e = expr_parse(s, text, "", &is);
    MAG_ASSERT((e == NULL) == (is.total == 1), "%d issues", is.total);
    struct expr *opposite =
        e != NULL ? expr_parse(s, negation, "", &is) : NULL; /* may be too deep */
    if (e != NULL) {
        check_points(s, e, opposite);
        check_space(s, text);
    }
    expr_destroy(e);
    expr_destroy(opposite);
    space_destroy(s);
    mjson_issues_fini(&is);
    free(negation);
    free(text);
    return 0;
}
