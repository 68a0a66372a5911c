/* SPDX-License-Identifier: Apache-2.0
 *
 * Recipes: parameters put in, defaults, conditional layers, and every mistake reported at its
 * place.
 */
#include "support.h"

#include "base/alloc.h"
#include "trainer/check.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "{\"program\":\"builtin\",\"dataset\":\"idx:/x\","
#define DENSE10 "{\"type\":\"dense\",\"units\":10}"

struct parsed {
    struct recipe recipe;
    struct mjson_issues *issues;
    bool good;
};

static struct parsed parse(const char *trial, const char *params, const char *declared)
{
    struct parsed p = {.issues = xcalloc(1, sizeof(struct mjson_issues))};
    json_t *t = json_loads(trial, 0, NULL);
    cr_assert_not_null(t, "%s", trial);
    struct recipe_context ctx = {.params = json_loads(params, 0, NULL),
                                 .declared =
                                     declared != NULL ? json_loads(declared, 0, NULL) : NULL};
    p.good = recipe_parse(t, "/trial", &ctx, p.issues, &p.recipe);
    json_decref(t);
    json_decref((json_t *)(uintptr_t)ctx.params);
    json_decref((json_t *)(uintptr_t)ctx.declared);
    return p;
}

static void done(struct parsed *p)
{
    recipe_fini(&p->recipe);
    mjson_issues_fini(p->issues);
    free(p->issues);
}

Test(recipe, parameters_stand_for_values)
{
    struct parsed p = parse(
        HEAD
        "\"model\":{\"layers\":[{\"type\":\"dense\",\"units\":\"${u}\",\"activation\":\"${a}\"},"
        "{\"type\":\"dropout\",\"rate\":\"${d}\"}," DENSE10 "]},"
        "\"training\":{\"optimizer\":\"${o}\",\"lr\":\"${lr}\",\"batch_size\":\"${b}\"}}",
        "{\"u\":48,\"a\":\"tanh\",\"d\":0.25,\"o\":\"adam\",\"lr\":0.003,\"b\":128.0}", NULL);
    cr_assert(p.good, "%s", p.issues->n > 0 ? p.issues->items[0].text : "");
    cr_expect_eq(p.recipe.model.layers[0].filters, 48);
    cr_expect_eq(p.recipe.model.layers[0].act, ACT_TANH);
    cr_expect_float_eq((double)p.recipe.model.layers[1].rate, 0.25, 0);
    cr_expect_eq(p.recipe.training.update.kind, OPTIMIZER_ADAM);
    cr_expect_float_eq((double)p.recipe.training.update.lr, 0.003, 1e-9);
    cr_expect_eq(p.recipe.training.batch_size, 128, "a whole number written as a real is whole");
    done(&p);
}

Test(recipe, defaults_are_the_documented_ones)
{
    struct parsed p =
        parse(HEAD "\"model\":{\"layers\":[{\"type\":\"conv\",\"filters\":4,\"kernel\":3},"
                   "{\"type\":\"maxpool\"}," DENSE10 "]}}",
              "{}", NULL);
    cr_assert(p.good);
    const struct training *t = &p.recipe.training;
    const struct layer *conv = &p.recipe.model.layers[0];
    const struct layer *pool = &p.recipe.model.layers[1];
    cr_expect(conv->stride == 1 && conv->pad_same && conv->act == ACT_NONE);
    cr_expect(pool->kernel == 2 && pool->stride == 2);
    cr_expect(t->update.kind == OPTIMIZER_SGD && t->update.momentum == 0 &&
              t->update.weight_decay == 0);
    cr_expect_float_eq((double)t->update.lr, 0.01, 1e-8);
    cr_expect(t->batch_size == 64 && t->threads == 1 && t->epochs == 10);
    cr_expect_float_eq(t->validation, 0.1, 0);
    cr_expect_eq(t->schedule.kind, SCHEDULE_CONSTANT);
    done(&p);
    p = parse(HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":{\"optimizer\":\"adam\"}}",
              "{}", NULL);
    cr_expect_float_eq((double)p.recipe.training.update.lr, 0.001, 1e-9);
    cr_expect_float_eq((double)p.recipe.training.update.beta2, 0.999, 1e-7);
    done(&p);
}

Test(recipe, an_inactive_parameter_takes_the_default_or_its_list_away)
{
    static const char *const trial =
        HEAD "\"model\":{\"layers\":[{\"type\":\"dense\",\"units\":8},"
             "[{\"type\":\"dense\",\"units\":\"${u2}\"},{\"type\":\"dropout\"}]," DENSE10 "]},"
             "\"training\":{\"momentum\":\"${m}\"}}";
    struct parsed p = parse(trial, "{}", NULL);
    cr_assert(p.good, "%s", p.issues->n > 0 ? p.issues->items[0].text : "");
    cr_expect_eq(p.recipe.model.n, 2);
    cr_expect(p.recipe.training.update.momentum == 0);
    done(&p);
    p = parse(trial, "{\"u2\":16,\"m\":0.5}", NULL);
    cr_assert(p.good);
    cr_expect_eq(p.recipe.model.n, 4);
    cr_expect_eq(p.recipe.model.layers[1].filters, 16);
    cr_expect_float_eq((double)p.recipe.training.update.momentum, 0.5, 1e-7);
    done(&p);
}

Test(recipe, repeat_copies_a_layer_and_zero_takes_it_out)
{
    static const char *const trial =
        HEAD "\"model\":{\"layers\":[{\"type\":\"dense\",\"units\":8,\"repeat\":\"${n}\"}," DENSE10
             "]}}";
    const struct {
        const char *params;
        int layers;
    } table[] = {{"{\"n\":3}", 4}, {"{\"n\":0}", 1}, {"{}", 2}};
    for (size_t i = 0; i < 3; i++) {
        struct parsed p = parse(trial, table[i].params, NULL);
        cr_assert(p.good);
        cr_expect_eq(p.recipe.model.n, table[i].layers, "row %zu", i);
        done(&p);
    }
}

static const struct {
    const char *trial, *pointer, *says;
} mistakes[] = {
    {"{\"program\":\"built-in\",\"dataset\":\"idx:/x\",\"model\":{\"layers\":[" DENSE10 "]}}",
     "/trial/program", "must be \"builtin\""},
    {"{\"program\":\"builtin\",\"model\":{\"layers\":[" DENSE10 "]}}", "/trial",
     "\"dataset\" is missing"},
    {HEAD "\"modell\":{},\"model\":{\"layers\":[" DENSE10 "]}}", "/trial/modell",
     "did you mean \"model\""},
    {HEAD "\"model\":[]}", "/trial/model", "must be {\"layers\""},
    {HEAD "\"model\":{}}", "/trial/model/layers", "must be a list"},
    {HEAD "\"model\":{\"layers\":[]}}", "/trial/model/layers", "an empty one"},
    {HEAD "\"model\":{\"layers\":[\"dense\"]}}", "/trial/model/layers/0", "must be an object"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"lstm\"}]}}", "/trial/model/layers/0/type",
     "not \"lstm\""},
    {HEAD "\"model\":{\"layers\":[{\"units\":3}]}}", "/trial/model/layers/0",
     "\"type\" is missing"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"dense\",\"unit\":3}]}}", "/trial/model/layers/0/unit",
     "did you mean \"units\""},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"dense\"}]}}", "/trial/model/layers/0",
     "\"units\" is missing"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"dense\",\"units\":0}]}}",
     "/trial/model/layers/0/units", "between 1 and 65536"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"dense\",\"units\":2.5}]}}",
     "/trial/model/layers/0/units", "a fraction"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"dense\",\"units\":\"8\"}]}}",
     "/trial/model/layers/0/units", "not a string"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"dense\",\"units\":\"${u}\"}]}}",
     "/trial/model/layers/0/units", "needs the parameter ${u}"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"dense\",\"units\":\"a${u}\"}]}}",
     "/trial/model/layers/0/units", "a whole value"},
    {HEAD "\"model\":{\"layers\":[[{\"type\":\"dense\",\"units\":-1}]]}}",
     "/trial/model/layers/0/0/units", "between"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"dense\",\"units\":3,\"repeat\":0}]}}",
     "/trial/model/layers", "no layer is left"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"dense\",\"units\":3,\"repeat\":512}," DENSE10 "]}}",
     "/trial/model/layers/1", "over 512 layers"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"conv\",\"filters\":3,\"kernel\":3,\"padding\":"
          "\"full\"}]}}",
     "/trial/model/layers/0/padding", "\"same\" or \"valid\""},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"activation\"}," DENSE10 "]}}",
     "/trial/model/layers/0", "\"activation\" is missing"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"conv\",\"kernel\":3,\"depthwise\":true,"
          "\"groups\":2}," DENSE10 "]}}",
     "/trial/model/layers/0/groups", "one group a channel"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"residual\"}," DENSE10 "]}}",
     "/trial/model/layers/0/layers", "must be a list"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"residual\",\"layers\":[{\"type\":\"dense\","
          "\"units\":0}],\"repeat\":3}," DENSE10 "]}}",
     "/trial/model/layers/0/layers/0/units", "between 1"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"residual\",\"shortcut\":\"none\",\"layers\":["
          "{\"type\":\"flatten\"}]}," DENSE10 "]}}",
     "/trial/model/layers/0/shortcut", "\"identity\" or \"projection\""},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"concat\",\"branches\":[{\"type\":\"flatten\"}]}"
          "," DENSE10 "]}}",
     "/trial/model/layers/0/branches/0", "a list of layers"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"concat\",\"branches\":[[],[],[],[],[],[],[],[],[]]"
          "}," DENSE10 "]}}",
     "/trial/model/layers/0/branches", "over 8 branches"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"residual\",\"repeat\":300,\"layers\":[{\"type\":"
          "\"dense\",\"units\":3}]}," DENSE10 "]}}",
     "/trial/model/layers/0", "over 512 layers"},
    {HEAD "\"model\":{\"layers\":[{\"type\":\"add\"}," DENSE10 "]}}", "/trial/model/layers/0/type",
     "not \"add\""},
    {HEAD "\"model\":{\"input\":[1,2],\"layers\":[" DENSE10 "]}}", "/trial/model/input",
     "[channels, height"},
    {HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":{\"lr\":-1}}", "/trial/training/lr",
     "between 0"},
    {HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":{\"optimiser\":\"sgd\"}}",
     "/trial/training/optimiser", "did you mean \"optimizer\""},
    {HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":{\"optimizer\":\"lion\"}}",
     "/trial/training/optimizer", "\"lamb\" or \"adamw\", not \"lion\""},
    {HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":{\"nesterov\":\"yes\"}}",
     "/trial/training/nesterov", "true or false"},
    {HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":{\"augmentation\":true}}",
     "/trial/training/augmentation", "such as"},
    {HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":{\"augmentation\":{\"flips\":1}}}",
     "/trial/training/augmentation/flips", "did you mean \"flip\""},
    {HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":{\"augmentation\":{\"crop\":-1}}}",
     "/trial/training/augmentation/crop", "0"},
    {HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":{\"schedule\":{\"type\":\"plateau\","
          "\"metric\":\"val_los\"}}}",
     "/trial/training/schedule/metric", "val_loss"},
    {HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":{\"validation\":0,\"schedule\":"
          "\"plateau\"}}",
     "/trial/training/schedule", "needs a validation part"},
    {HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":{\"ema\":1}}", "/trial/training/ema",
     "0.99999"},
    {HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":{\"label_smoothing\":0.95}}",
     "/trial/training/label_smoothing", "0.9"},
    {HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":{\"batch_size\":16385}}",
     "/trial/training/batch_size", "16384"},
    {HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":{\"schedule\":\"cosine\"}}",
     "/trial/training/schedule", "\"epochs\" is missing"},
    {HEAD "\"model\":{\"layers\":[" DENSE10
          "]},\"training\":{\"schedule\":{\"type\":\"step\",\"evry\":2}}}",
     "/trial/training/schedule/evry", "did you mean \"every\""},
    {HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":{\"backend\":\"tpu\"}}",
     "/trial/training/backend", "\"cpu\""},
    {HEAD "\"model\":{\"layers\":[" DENSE10
          "]},\"training\":{\"backend\":\"cpu\",\"precision\":\"tf32\"}}",
     "/trial/training/precision", "has no tf32"},
    {"[]", "/trial", "must be an object"},
};

/* Files are checked anywhere; what a worker cannot run it says when it begins. */
Test(recipe, what_only_a_gpu_can_run_is_right_everywhere_and_refused_where_there_is_none)
{
    static const struct {
        const char *training, *said;
    } rows[] = {{"{\"precision\":\"tf32\"}", "no tf32"},
                {"{\"backend\":\"cuda\"}", "magpie-trainer-cuda"},
                {"{\"backend\":\"cuda\",\"precision\":\"tf32\"}", "magpie-trainer-cuda"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char trial[512];
        (void)snprintf(trial, sizeof(trial),
                       HEAD "\"model\":{\"layers\":[" DENSE10 "]},\"training\":%s}",
                       rows[i].training);
        struct recipe r = recipe_of(trial);
        const struct backend_options o = {.threads = 1, .precision = r.training.precision};
        struct backend *b = NULL;
        struct mag_err err = {0};
        cr_expect_eq(r.training.backend->open(&o, &b, &err), MAG_UNSUPPORTED);
        cr_expect_not_null(strstr(err.text, rows[i].said), "%s", err.text);
        cr_expect_not_null(strstr(err.text, "\"requires\": {\"gpus\": 1}"), "%s", err.text);
        recipe_fini(&r);
    }
}

Test(recipe, each_mistake_is_named_at_its_place)
{
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        struct parsed p = parse(mistakes[i].trial, "{}", NULL);
        cr_expect_not(p.good, "row %zu", i);
        cr_expect(p.issues->n > 0 && strcmp(p.issues->items[0].pointer, mistakes[i].pointer) == 0,
                  "row %zu: at %s", i, p.issues->n > 0 ? p.issues->items[0].pointer : "nothing");
        cr_expect(p.issues->n > 0 && strstr(p.issues->items[0].text, mistakes[i].says) != NULL,
                  "row %zu: %s", i, p.issues->n > 0 ? p.issues->items[0].text : "nothing");
        done(&p);
    }
}

Test(recipe, all_mistakes_are_reported_at_once)
{
    struct parsed p =
        parse(HEAD "\"x\":1,\"model\":{\"y\":1,\"layers\":[{\"type\":\"dense\",\"units\":0},"
                   "{\"type\":\"nope\"}]},\"training\":{\"lr\":\"big\",\"z\":2}}",
              "{}", NULL);
    cr_expect_eq(p.issues->total, 6);
    done(&p);
}

Test(recipe, an_undeclared_parameter_names_the_nearest)
{
    struct parsed p = parse(HEAD "\"model\":{\"layers\":[" DENSE10
                                 "]},\"training\":{\"lr\":\"${leaning_rate}\"}}",
                            "{\"learning_rate\":0.1}", "{\"learning_rate\":{}}");
    cr_assert_not(p.good);
    cr_expect_not_null(strstr(p.issues->items[0].text, "did you mean \"learning_rate\""), "%s",
                       p.issues->items[0].text);
    done(&p);
}

/* ---- shapes ---- */

static const struct {
    struct shape input;
    int outputs;
    const char *layers, *pointer, *says;
} misfits[] = {
    {{1, 28, 28, false},
     10,
     "[{\"type\":\"dense\",\"units\":9}]",
     "/layers/0",
     "has 9 units, but the data set has 10 classes"},
    {{4, 1, 1, true}, 1, "[{\"type\":\"dense\",\"units\":2}]", "/layers/0", "1 target"},
    {{784, 1, 1, true},
     10,
     "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3}," DENSE10 "]",
     "/layers/0",
     "needs an image"},
    {{1, 8, 8, false},
     10,
     "[{\"type\":\"flatten\"},{\"type\":\"maxpool\"}," DENSE10 "]",
     "/layers/1",
     "needs an image"},
    {{1, 6, 6, false},
     10,
     "[{\"type\":\"conv\",\"filters\":8,\"kernel\":7,\"padding\":\"valid\"}," DENSE10 "]",
     "/layers/0",
     "7x7 kernel does not fit into its input of 1x6x6"},
    {{1, 6, 6, false},
     10,
     "[{\"type\":\"conv\",\"filters\":8,\"kernel\":4}," DENSE10 "]",
     "/layers/0",
     "odd kernel"},
    {{1, 6, 6, false},
     10,
     "[{\"type\":\"maxpool\"},{\"type\":\"maxpool\"},{\"type\":\"maxpool\"}," DENSE10 "]",
     "/layers/2",
     "2x2 pooling window does not fit into its input of 1x1x1"},
    {{1, 6, 6, false},
     10,
     "[{\"type\":\"conv\",\"filters\":6,\"kernel\":3},{\"type\":\"conv\",\"filters\":8,"
     "\"kernel\":3,\"groups\":3}," DENSE10 "]",
     "/layers/1",
     "3 groups do not divide 6 channels and 8 filters"},
    {{1, 6, 6, false},
     10,
     "[{\"type\":\"residual\",\"shortcut\":\"identity\",\"layers\":[{\"type\":\"conv\","
     "\"filters\":8,\"kernel\":3}]}," DENSE10 "]",
     "/layers/0",
     "1x6x6 and 8x6x6), so that the shortcut cannot be the identity"},
    {{1, 6, 6, false},
     10,
     "[{\"type\":\"residual\",\"layers\":[{\"type\":\"flatten\"}]}," DENSE10 "]",
     "/layers/0",
     "no 1x1 convolution brings together"},
    {{1, 6, 6, false},
     10,
     "[{\"type\":\"residual\",\"layers\":[{\"type\":\"dropout\"},{\"type\":\"conv\","
     "\"filters\":8,\"kernel\":9,\"padding\":\"valid\"}]}," DENSE10 "]",
     "/layers/0/layers/1",
     "9x9 kernel does not fit"},
    {{1, 6, 6, false},
     10,
     "[{\"type\":\"concat\",\"branches\":[[{\"type\":\"maxpool\"}],[]]}," DENSE10 "]",
     "/layers/0",
     "equal in height and width"},
    {{4, 1, 1, true},
     10,
     "[{\"type\":\"dense\",\"units\":4},{\"type\":\"embedding\",\"vocabulary\":9,\"width\":3}"
     "," DENSE10 "]",
     "/layers/1",
     "must be the first layer"},
    {{4, 1, 1, true},
     10,
     "[{\"type\":\"globalpool\"}," DENSE10 "]",
     "/layers/0",
     "a globalpool layer needs an image"},
    {{1, 6, 6, false},
     10,
     "[" DENSE10 ",{\"type\":\"dropout\"}]",
     "/layers/1",
     "the last layer must be a dense one"},
    {{1, 4096, 4096, false},
     10,
     "[{\"type\":\"dense\",\"units\":65536}," DENSE10 "]",
     "/layers/0",
     "too large"},
    {{1, 4096, 4096, false},
     10,
     "[{\"type\":\"conv\",\"filters\":4096,\"kernel\":1}," DENSE10 "]",
     "/layers/0",
     "too large"},
};

Test(recipe, a_model_that_does_not_fit_has_one_message_at_the_layer)
{
    for (size_t i = 0; i < sizeof(misfits) / sizeof(misfits[0]); i++) {
        char *trial = xasprintf(HEAD "\"model\":{\"layers\":%s}}", misfits[i].layers);
        struct recipe r = recipe_of(trial);
        struct mjson_issues *is = xcalloc(1, sizeof(*is));
        r.model.input = misfits[i].input;
        cr_expect_not(model_shapes(&r.model, misfits[i].outputs, "", is), "row %zu", i);
        cr_expect_eq(is->n, 1);
        cr_expect_str_eq(is->items[0].pointer, misfits[i].pointer, "row %zu", i);
        cr_expect_not_null(strstr(is->items[0].text, misfits[i].says), "row %zu: %s", i,
                           is->items[0].text);
        mjson_issues_fini(is);
        free(is);
        recipe_fini(&r);
        free(trial);
    }
}

Test(recipe, shapes_and_weights_of_the_known_cnn)
{
    struct model m =
        model_of("[{\"type\":\"conv\",\"filters\":32,\"kernel\":5},{\"type\":\"maxpool\"},"
                 "{\"type\":\"conv\",\"filters\":64,\"kernel\":5},{\"type\":\"maxpool\"},"
                 "{\"type\":\"flatten\"},{\"type\":\"dense\",\"units\":512}," DENSE10 "]",
                 (struct shape){1, 28, 28, false});
    cr_expect_eq(m.layers[3].out.c, 64);
    cr_expect_eq(m.layers[3].out.h, 7);
    cr_expect_eq(shape_size(&m.layers[4].out), 3136);
    cr_expect_eq(model_weights(&m),
                 32 * 25 + 32 + 64 * 32 * 25 + 64 + 3136 * 512 + 512 + 5120 + 10);
    const int64_t first = 784 * 32 * 25;
    const int64_t others = 196 * 64 * 32 * 25 + 3136 * 512 + 5120;
    cr_expect_eq(model_products(&m, false), first + others);
    cr_expect_eq(model_products(&m, true), 2 * first + 3 * others, "nothing asks for the input's");
}

Test(recipe, blocks_become_layers_that_name_their_inputs)
{
    struct model m = model_of(
        "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3},{\"type\":\"residual\",\"repeat\":2,"
        "\"layers\":[{\"type\":\"conv\",\"filters\":16,\"kernel\":3},{\"type\":\"batchnorm\"}]},"
        "{\"type\":\"concat\",\"branches\":[[],[{\"type\":\"conv\",\"filters\":4,\"kernel\":1}]]}"
        "," DENSE10 "]",
        (struct shape){1, 8, 8, false});
    const enum layer_kind kinds[] = {
        LAYER_CONV, LAYER_CONV, LAYER_BATCHNORM, LAYER_CONV,     LAYER_BATCHNORM,
        LAYER_ADD,  LAYER_CONV, LAYER_BATCHNORM, LAYER_IDENTITY, LAYER_IDENTITY,
        LAYER_ADD,  LAYER_CONV, LAYER_CONCAT,    LAYER_DENSE};
    cr_assert_eq(m.n, 14);
    for (int i = 0; i < m.n; i++) {
        cr_expect_eq(m.layers[i].kind, kinds[i], "layer %d", i);
    }
    cr_expect(m.layers[5].inputs[0] == 2 && m.layers[5].inputs[1] == 4, "sum of both ways");
    cr_expect_eq(m.layers[3].inputs[0], 0, "the shortcut begins where the block does");
    cr_expect(m.layers[3].kernel == 1 && m.layers[3].no_bias && m.layers[3].filters == 16);
    cr_expect(m.layers[10].inputs[0] == 7 && m.layers[10].inputs[1] == 9);
    cr_expect(m.layers[12].inputs[0] == 10 && m.layers[12].inputs[1] == 11);
    cr_expect_eq(m.layers[12].out.c, 20);
    cr_expect_str_eq(m.layers[6].at, "/layers/1/layers/0");
}

/* ---- families ---- */

#define FAMILY(keys) HEAD "\"model\":{\"family\":" keys "}}"
static const struct shape picture = {1, 28, 28, false};
static const struct shape table_row = {9, 1, 1, true};

/* Fits it to data of so many classes; issues are the caller's to free. */
static bool fit_family(const char *trial, const char *params, struct shape shape, int classes,
                       struct recipe *r, struct mjson_issues *is)
{
    struct dataset d = {.n_classes = classes, .shape = shape};
    json_t *t = json_loads(trial, 0, NULL);
    cr_assert_not_null(t, "%s", trial);
    struct recipe_context ctx = {.params = json_loads(params, 0, NULL)};
    bool good = recipe_parse(t, "/trial", &ctx, is, r) && recipe_fit(r, &d, "/trial", is);
    json_decref(t);
    json_decref((json_t *)(uintptr_t)ctx.params);
    return good;
}

Test(recipe, families_are_the_layers_that_the_docs_say)
{
    const struct {
        const char *trial, *params;
        struct shape shape;
        int classes;
        const char *signature;
    } table[] = {
        {FAMILY("\"linear\""), "{}", {9, 1, 1, true}, 3, "9; dense 3 none"},
        {FAMILY("\"linear\""), "{}", {9, 1, 1, true}, 0, "9; dense 1 none"},
        {FAMILY("\"logistic\""), "{}", {9, 1, 1, true}, 2, "9; dense 1 none"},
        {FAMILY("\"mlp\""),
         "{}",
         {9, 1, 1, true},
         3,
         "9; dense 128 relu; dense 128 relu; dense 3 none"},
        {FAMILY("\"mlp\",\"layers\":\"${n}\",\"units\":\"${u}\",\"activation\":\"${a}\","
                "\"dropout\":\"${d}\""),
         "{\"n\":1,\"u\":8,\"a\":\"tanh\",\"d\":0.5}",
         {9, 1, 1, true},
         2,
         "9; dense 8 tanh; dropout; dense 2 none"},
        {FAMILY("\"${f}\",\"units\":8,\"filters\":\"${k}\""),
         "{\"f\":\"cnn\",\"k\":4}",
         {1, 28, 28, false},
         10,
         "1x28x28; conv 4 of 3x3 stride 1 pad 1 relu; maxpool 2 stride 2; conv 8 of 3x3 stride 1 "
         "pad 1 relu; "
         "maxpool 2 stride 2; dense 8 relu; dense 10 none"},
        {FAMILY("\"${f}\",\"units\":8,\"filters\":\"${k}\""),
         "{\"f\":\"linear\"}",
         {9, 1, 1, true},
         0,
         "9; dense 1 none"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct recipe r;
        struct mjson_issues *is = xcalloc(1, sizeof(*is));
        cr_assert(
            fit_family(table[i].trial, table[i].params, table[i].shape, table[i].classes, &r, is),
            "row %zu: %s %s", i, is->items[0].pointer, is->items[0].text);
        char *signature = model_signature(&r.model);
        cr_expect_str_eq(signature, table[i].signature, "row %zu: %s", i, signature);
        cr_expect_eq(r.training.loss.kind, i == 2                  ? LOSS_LOGISTIC
                                           : table[i].classes == 0 ? LOSS_MSE
                                                                   : LOSS_CROSS_ENTROPY);
        free(signature);
        recipe_fini(&r);
        mjson_issues_fini(is);
        free(is);
    }
}

Test(recipe, a_resnet_is_that_of_the_paper)
{
    struct recipe r;
    struct mjson_issues *is = xcalloc(1, sizeof(*is));
    cr_assert(fit_family(FAMILY("\"resnet\",\"depth\":3"), "{}", (struct shape){3, 32, 32, false},
                         10, &r, is),
              "%s %s", is->items[0].pointer, is->items[0].text);
    int convs = 0;
    int joins = 0;
    for (int i = 0; i < r.model.n; i++) {
        convs += r.model.layers[i].kind == LAYER_CONV && r.model.layers[i].kernel == 3;
        joins += r.model.layers[i].kind == LAYER_ADD;
    }
    cr_expect_eq(convs, 19, "ResNet-20: 19 convolutions and a dense layer");
    cr_expect_eq(joins, 9);
    cr_expect_eq(r.model.layers[r.model.n - 1].in.c, 64);
    /* 0.27 million (He et al. 2016, table 6), and the two projections */
    cr_expect(model_weights(&r.model) > 270000 && model_weights(&r.model) < 276000, "%lld",
              (long long)model_weights(&r.model));
    recipe_fini(&r);
    mjson_issues_fini(is);
    free(is);
}

Test(recipe, what_is_wrong_with_a_family_is_told_at_its_key)
{
    const struct {
        const char *trial;
        const struct shape *shape;
        int classes;
        const char *pointer, *says;
    } table[] = {
        {FAMILY("\"rnn\""), &picture, 10, "/trial/model/family", "\"logistic\", not \"rnn\""},
        {FAMILY("\"mlp\",\"unit\":3"), &picture, 10, "/trial/model/unit", "did you mean \"units\""},
        {FAMILY("\"mlp\",\"layers\":65"), &picture, 10, "/trial/model/layers", "64"},
        {FAMILY("\"mlp\",\"layers\":[{\"type\":\"flatten\"}]"), &picture, 10, "/trial/model/layers",
         "a whole number"},
        {FAMILY("\"mlp\",\"filters\":3"), &picture, 10, "/trial/model/filters", "unknown"},
        {FAMILY("\"cnn\",\"blocks\":5"), &picture, 10, "/trial/model/blocks", "does not fit"},
        {FAMILY("\"cnn\",\"kernel\":4"), &picture, 10, "/trial/model/kernel", "odd kernel"},
        {FAMILY("\"cnn\",\"filters\":4096"), &picture, 10, "/trial/model/filters",
         "doubled 1 times"},
        {FAMILY("\"cnn\""), &table_row, 2, "/trial/model/family", "needs an image"},
        {FAMILY("\"resnet\",\"depth\":13"), &picture, 10, "/trial/model/depth", "12"},
        {FAMILY("\"resnet\""), &table_row, 2, "/trial/model/family", "needs an image"},
        {FAMILY("\"logistic\""), &table_row, 3, "/trial/model/family", "two classes"},
        {HEAD "\"model\":{\"family\":\"logistic\"},\"training\":{\"loss\":\"mse\"}}", &table_row, 2,
         "/trial/model/family", "leave \"loss\" out"},
        {HEAD "\"model\":{\"family\":\"linear\"},\"training\":{\"loss\":\"logistic\"}}", &table_row,
         0, "/trial/training/loss", "needs two classes"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct recipe r = {0};
        struct mjson_issues *is = xcalloc(1, sizeof(*is));
        cr_expect_not(fit_family(table[i].trial, "{}", *table[i].shape, table[i].classes, &r, is),
                      "row %zu", i);
        cr_assert_gt(is->n, 0, "row %zu", i);
        cr_expect_str_eq(is->items[0].pointer, table[i].pointer, "row %zu: %s", i,
                         is->items[0].pointer);
        cr_expect_not_null(strstr(is->items[0].text, table[i].says), "row %zu: %s", i,
                           is->items[0].text);
        recipe_fini(&r);
        mjson_issues_fini(is);
        free(is);
    }
}

/* ---- schedules ---- */

Test(recipe, schedules_depend_on_the_epoch_alone)
{
    const struct {
        struct schedule s;
        int64_t epoch;
        double factor;
    } table[] = {
        {{.kind = SCHEDULE_CONSTANT}, 100, 1},
        {{.kind = SCHEDULE_STEP, .every = 10, .factor = 0.1}, 10, 1},
        {{.kind = SCHEDULE_STEP, .every = 10, .factor = 0.1}, 11, 0.1},
        {{.kind = SCHEDULE_EXPONENTIAL, .factor = 0.5}, 3, 0.25},
        {{.kind = SCHEDULE_COSINE, .epochs = 10, .floor = 0.1}, 1, 1},
        {{.kind = SCHEDULE_COSINE, .epochs = 10, .floor = 0.1}, 6, 0.55},
        {{.kind = SCHEDULE_COSINE, .epochs = 10, .floor = 0.1}, 11, 0.1},
        {{.kind = SCHEDULE_COSINE, .epochs = 10, .floor = 0.1}, 50, 0.1},
        {{.kind = SCHEDULE_LINEAR, .epochs = 10, .floor = 0.2}, 6, 0.6},
        {{.kind = SCHEDULE_LINEAR, .epochs = 10, .floor = 0.2}, 20, 0.2},
        {{.kind = SCHEDULE_ONE_CYCLE, .epochs = 11, .rise = 0.3}, 1, 0.04},
        {{.kind = SCHEDULE_ONE_CYCLE, .epochs = 10, .rise = 0.3}, 3, 1},
        {{.kind = SCHEDULE_ONE_CYCLE, .epochs = 11, .rise = 0.3}, 11, 4e-6},
        {{.kind = SCHEDULE_ONE_CYCLE, .epochs = 11, .rise = 0.3}, 30, 4e-6},
        {{.kind = SCHEDULE_CONSTANT, .warmup = 3}, 1, 0.25},
        {{.kind = SCHEDULE_CONSTANT, .warmup = 3}, 4, 1},
        {{.kind = SCHEDULE_STEP, .every = 2, .factor = 0.1, .warmup = 3}, 6, 0.1},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        cr_expect_float_eq(schedule_factor(&table[i].s, table[i].epoch), table[i].factor, 1e-12,
                           "row %zu", i);
    }
}

/* ---- --check ---- */

Test(recipe, check_tries_the_corners_of_the_searchspace)
{
    char *dir = temp_folder();
    char *path = xasprintf("%s/d.csv", dir);
    struct buf b = {0};
    buf_adds(&b, "a,b,c,d,y\n");
    for (int i = 0; i < 60; i++) {
        buf_addf(&b, "%d,%d,1,2,%d\n", i, i * i, i % 3);
    }
    write_file(path, b.data, b.len);
    const struct {
        const char *space, *layers, *metric, *says; /* NULL = good */
    } table[] = {
        {"{\"u\":[\"INTEGER\",[4,16]]}",
         "[{\"type\":\"dense\",\"units\":\"${u}\"},{\"type\":\"dense\",\"units\":3}]",
         "val_accuracy", NULL},
        {"{\"u\":{\"type\":\"INTEGER\",\"range\":[3,4]}}",
         "[{\"type\":\"dense\",\"units\":\"${u}\"}]", "val_loss",
         "has 4 units, but the data set has 3 classes; write \"units\": 3 (with {\"u\":4})"},
        {"{\"k\":{\"type\":\"DISCRETE\",\"values\":[1,2,3]}}",
         "[{\"type\":\"conv\",\"filters\":4,\"kernel\":\"${k}\",\"padding\":\"valid\"},{\"type\":"
         "\"dense\",\"units\":3}]",
         "val_loss", "3x3 kernel does not fit"},
        {"{\"u\":[\"INTEGER\",[0,16]]}",
         "[{\"type\":\"dense\",\"units\":\"${u}\"},{\"type\":\"dense\",\"units\":3}]",
         "val_accuracy", "is 0, but must lie between"},
        {"{\"o\":[\"CATEGORICAL\",[\"x\",\"y\"]],\"u\":{\"type\":\"INTEGER\",\"range\":[1,9],"
         "\"when\":{\"o\":[\"y\"]}}}",
         "[[{\"type\":\"dense\",\"units\":\"${u}\"}],{\"type\":\"dense\",\"units\":3}]", "val_loss",
         NULL},
        {"{\"o\":[\"CATEGORICAL\",[\"x\",\"y\"]],\"u\":{\"type\":\"INTEGER\",\"range\":[1,9],"
         "\"when\":{\"o\":[\"y\"]}}}",
         "[{\"type\":\"dense\",\"units\":\"${u}\"},{\"type\":\"dense\",\"units\":3}]", "val_loss",
         "put the layer into a list"},
        {"{\"v\":[\"INTEGER\",[4,16]]}",
         "[{\"type\":\"dense\",\"units\":\"${u}\"},{\"type\":\"dense\",\"units\":3}]",
         "val_accuracy", "no parameter \"u\" in the searchspace"},
        {"{}", "[{\"type\":\"dense\",\"units\":3}]", "accuracy", "did you mean \"val_accuracy\""},
        {"{}",
         "[{\"type\":\"embedding\",\"vocabulary\":9,\"width\":4},{\"type\":\"dense\",\"units\":3}]",
         "val_loss", "of an input of at most 4096 whole numbers in a row"},
        {"{\"x\":3}", "[{\"type\":\"dense\",\"units\":3}]", "val_loss", "no range"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct mjson_issues *is = xcalloc(1, sizeof(*is));
        struct check_summary sum;
        char *text = xasprintf(
            "{\"objective\":{\"metric\":\"%s\"},\"searchspace\":%s,\"trial\":{\"program\":"
            "\"builtin\","
            "\"dataset\":\"csv:%s?label=y\",\"model\":{\"input\":[1,2,2],\"layers\":%s}}}",
            table[i].metric, table[i].space, path, table[i].layers);
        json_t *doc = json_loads(text, 0, NULL);
        cr_assert_not_null(doc, "%s", text);
        bool good = check_document(doc, is, &sum);
        cr_expect_eq(good, table[i].says == NULL, "row %zu: %s", i,
                     is->n > 0 ? is->items[0].text : "");
        if (table[i].says != NULL) {
            cr_expect(is->n > 0 && strstr(is->items[0].text, table[i].says) != NULL, "row %zu: %s",
                      i, is->n > 0 ? is->items[0].text : "");
        }
        json_decref(doc);
        free(text);
        mjson_issues_fini(is);
        free(is);
    }
    buf_fini(&b);
    free(path);
    remove_tree(dir);
    free(dir);
}
