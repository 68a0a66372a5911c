/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole trials: they learn, they resume bit for bit, they obey orders, and no checkpoint file can
 * crash them.
 */
#include "support.h"

#include "base/alloc.h"
#include "trainer/checkpoint.h"
#include "trainer/saved.h"
#include "trainer/session.h"
#include "trainer/trial.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TRIAL(layers, training)                                                                    \
    "{\"program\":\"builtin\",\"dataset\":\"idx:/x\",\"model\":{\"layers\":" layers                \
    "},\"training\":" training "}"
#define MLP                                                                                        \
    "[{\"type\":\"dense\",\"units\":24,\"activation\":\"relu\"},{\"type\":\"dropout\",\"rate\":0." \
    "2},"                                                                                          \
    "{\"type\":\"dense\",\"units\":3}]"
#define CNN                                                                                        \
    "[{\"type\":\"conv\",\"filters\":8,\"kernel\":3,\"activation\":\"relu\"},{\"type\":"           \
    "\"maxpool\"},"                                                                                \
    "{\"type\":\"conv\",\"filters\":16,\"kernel\":3,\"activation\":\"relu\"},{\"type\":"           \
    "\"flatten\"},"                                                                                \
    "{\"type\":\"dropout\",\"rate\":0.1},{\"type\":\"dense\",\"units\":3}]"

static const struct shape image = {1, 8, 8, false};

struct lab {
    struct recipe recipe;
    struct dataset *d;
    struct backend *backend;
};

static struct lab lab_open(const char *trial)
{
    struct lab l = {.recipe = recipe_of(trial), .d = toy_dataset(image, 3, 203)};
    struct mjson_issues *is = xcalloc(1, sizeof(*is));
    struct backend_options o = {.threads = 1};
    struct mag_err err = {0};
    cr_assert(recipe_fit(&l.recipe, l.d, "", is), "%s", is->n > 0 ? is->items[0].text : "");
    cr_assert_eq(l.recipe.training.backend->open(&o, &l.backend, &err), MAG_OK, "%s", err.text);
    mjson_issues_fini(is);
    free(is);
    return l;
}

static void lab_close(struct lab *l)
{
    l->recipe.training.backend->close(l->backend);
    dataset_destroy(l->d);
    recipe_fini(&l->recipe);
}

static struct trial_result run(struct lab *l, const struct trial_job *job,
                               const struct trial_hooks *hooks)
{
    static const struct trial_hooks none;
    struct trial_result r;
    struct mag_err err = {0};
    cr_assert_eq(
        trial_run(job, &l->recipe, l->d, l->backend, hooks != NULL ? hooks : &none, &r, &err),
        MAG_OK, "%s", err.text);
    return r;
}

Test(trial, learns_a_toy_problem_with_every_optimizer_and_backend)
{
    const char *const trials[] = {
        TRIAL(MLP, "{\"lr\":0.05,\"momentum\":0.9,\"batch_size\":16}"),
        TRIAL(MLP, "{\"optimizer\":\"adam\",\"lr\":0.01,\"batch_size\":32,\"weight_decay\":0.01}"),
        TRIAL(MLP, "{\"lr\":0.05,\"momentum\":0.9,\"batch_size\":16,\"loss\":\"mse\"}"),
        TRIAL(CNN, "{\"lr\":0.05,\"momentum\":0.9,\"batch_size\":16}"),
        TRIAL(MLP, "{\"lr\":0.05,\"momentum\":0.9,\"batch_size\":16,\"backend\":\"ref\"}"),
        TRIAL(MLP,
              "{\"lr\":0.1,\"batch_size\":16384,\"schedule\":{\"type\":\"step\",\"every\":30}}"),
        TRIAL(MLP, "{\"optimizer\":\"rmsprop\",\"lr\":0.005,\"batch_size\":16,\"clip_norm\":1}"),
        TRIAL(MLP, "{\"optimizer\":\"adagrad\",\"lr\":0.05,\"batch_size\":16}"),
        TRIAL(MLP,
              "{\"optimizer\":\"lamb\",\"lr\":0.02,\"batch_size\":16,\"label_smoothing\":0.1}"),
        TRIAL(CNN, "{\"lr\":0.05,\"momentum\":0.9,\"nesterov\":true,\"batch_size\":16,\"schedule\":"
                   "{\"type\":\"onecycle\",\"epochs\":8}}"),
        TRIAL(MLP, "{\"optimizer\":\"adamw\",\"lr\":0.01,\"batch_size\":16,\"backend\":\"ref\","
                   "\"clip_norm\":"
                   "0.5,\"schedule\":{\"type\":\"linear\",\"epochs\":12}}"),
    };
    for (size_t i = 0; i < sizeof(trials) / sizeof(trials[0]); i++) {
        struct lab l = lab_open(trials[i]);
        struct trial_job job = {.trial = 1, .seed = 5, .budget = i == 5 ? 60 : 8};
        struct trial_result r = run(&l, &job, NULL);
        cr_expect_eq(r.end, TRIAL_COMPLETED);
        cr_expect_gt(metrics_get(&r.metrics, "val_accuracy"), 0.95, "trial %zu: %g", i,
                     metrics_get(&r.metrics, "val_accuracy"));
        cr_expect_gt(metrics_get(&r.metrics, "test_accuracy"), 0.95, "trial %zu", i);
        lab_close(&l);
    }
}

Test(trial, the_backends_learn_alike)
{
    struct trial_result r[2];
    const char *const trials[] = {
        TRIAL(CNN, "{\"lr\":0.05,\"momentum\":0.9,\"batch_size\":20}"),
        TRIAL(CNN, "{\"lr\":0.05,\"momentum\":0.9,\"batch_size\":20,\"backend\":\"ref\"}")};
    for (int i = 0; i < 2; i++) {
        struct lab l = lab_open(trials[i]);
        struct trial_job job = {.trial = 3, .seed = 8, .budget = 2};
        r[i] = run(&l, &job, NULL);
        lab_close(&l);
    }
    cr_expect_float_eq(metrics_get(&r[0].metrics, "train_loss"),
                       metrics_get(&r[1].metrics, "train_loss"), 1e-3);
    cr_expect_float_eq(metrics_get(&r[0].metrics, "val_loss"),
                       metrics_get(&r[1].metrics, "val_loss"), 1e-3);
}

/* ---- resuming ---- */

static void expect_same_file(const char *a_dir, const char *b_dir, int step, const char *what)
{
    char *a = xasprintf("%s/%d/%s", a_dir, step, CHECKPOINT_FILE);
    char *b = xasprintf("%s/%d/%s", b_dir, step, CHECKPOINT_FILE);
    size_t na = 0;
    size_t nb = 0;
    char *x = read_file(a, &na);
    char *y = read_file(b, &nb);
    cr_expect(na == nb && memcmp(x, y, na) == 0, "%s: step %d differs", what, step);
    free(a);
    free(b);
    free(x);
    free(y);
}

Test(trial, resuming_gives_the_very_bytes_of_an_uninterrupted_run)
{
    const char *const trials[] = {
        TRIAL(MLP, "{\"lr\":0.05,\"momentum\":0.9,\"batch_size\":16,\"weight_decay\":0.01}"),
        TRIAL(CNN, "{\"optimizer\":\"adam\",\"lr\":0.01,\"batch_size\":24,\"schedule\":{\"type\":"
                   "\"cosine\",\"epochs\":5}}"),
        TRIAL(CNN, "{\"lr\":0.05,\"momentum\":0.5,\"batch_size\":50,\"backend\":\"ref\"}"),
        TRIAL(MLP, "{\"optimizer\":\"lamb\",\"lr\":0.01,\"batch_size\":24,\"clip_norm\":0.3}"),
        TRIAL(CNN, "{\"optimizer\":\"rmsprop\",\"lr\":0.001,\"momentum\":0.5,\"batch_size\":24}"),
        TRIAL(MLP, "{\"lr\":0.05,\"momentum\":0.9,\"batch_size\":16,\"ema\":0.9}"),
        TRIAL(CNN, "{\"optimizer\":\"adam\",\"lr\":0.01,\"batch_size\":24,\"ema\":0.99}"),
        TRIAL(CNN, "{\"lr\":0.05,\"batch_size\":24,\"augmentation\":{\"crop\":2,\"flip\":true,"
                   "\"cutout\":3}}"),
        TRIAL(MLP,
              "{\"lr\":0.05,\"batch_size\":24,\"schedule\":{\"type\":\"plateau\",\"patience\":0,"
              "\"threshold\":0.5,\"cooldown\":1}}"),
    };
    for (size_t i = 0; i < sizeof(trials) / sizeof(trials[0]); i++) {
        char *whole = temp_folder();
        char *parts = temp_folder();
        struct lab l = lab_open(trials[i]);
        struct trial_job job = {
            .trial = 4, .seed = 21, .budget = 5, .checkpoint_dir = whole, .checkpoint_every = 1};
        struct trial_result straight = run(&l, &job, NULL);
        lab_close(&l);
        for (int step = 0; step < 5; step++) {
            char *from = step > 0 ? xasprintf("%s/%d", parts, step) : NULL;
            struct lab again = lab_open(trials[i]); /* as another process would */
            struct trial_job part = {.trial = 4,
                                     .seed = 21,
                                     .budget = step + 1,
                                     .checkpoint_dir = parts,
                                     .resume_path = from};
            struct trial_result r = run(&again, &part, NULL);
            expect_same_file(whole, parts, step + 1, trials[i]);
            if (step == 4) {
                cr_expect_eq(r.metrics.n, straight.metrics.n);
                for (int k = 0; k < r.metrics.n; k++) {
                    cr_expect(r.metrics.items[k].value == straight.metrics.items[k].value, "%s",
                              r.metrics.items[k].name);
                }
            }
            lab_close(&again);
            free(from);
        }
        remove_tree(whole);
        remove_tree(parts);
        free(whole);
        free(parts);
    }
}

Test(trial, seed_and_trial_number_change_the_run)
{
    double loss[3];
    const struct trial_job jobs[] = {{.trial = 1, .seed = 1, .budget = 1},
                                     {.trial = 2, .seed = 1, .budget = 1},
                                     {.trial = 1, .seed = 2, .budget = 1}};
    for (int i = 0; i < 3; i++) {
        struct lab l = lab_open(TRIAL(MLP, "{}"));
        struct trial_result r = run(&l, &jobs[i], NULL);
        loss[i] = metrics_get(&r.metrics, "train_loss");
        lab_close(&l);
    }
    cr_expect(loss[0] != loss[1] && loss[0] != loss[2] && loss[1] != loss[2]);
}

/* ---- orders ---- */

struct orders {
    int polls, at;
    enum trial_order order;
    int reports, checkpoints;
    int64_t last_checkpoint;
};

static enum trial_order give(void *ctx)
{
    struct orders *o = ctx;
    return ++o->polls == o->at ? o->order : ORDER_NONE;
}

static enum mag_status count_report(void *ctx, int64_t step, const struct metrics *m,
                                    struct mag_err *err)
{
    struct orders *o = ctx;
    (void)err;
    o->reports++;
    cr_expect_eq(step, o->reports);
    cr_expect(isfinite(metrics_get(m, "val_loss")));
    return MAG_OK;
}

static enum mag_status count_checkpoint(void *ctx, int64_t step, const char *path,
                                        struct mag_err *err)
{
    struct orders *o = ctx;
    struct stat st;
    (void)err;
    o->checkpoints++;
    o->last_checkpoint = step;
    cr_expect_eq(stat(path, &st), 0);
    return MAG_OK;
}

Test(trial, obeys_orders_between_batches)
{
    /* 130 training rows in batches of 10: 13 batches, 4 of validation; the second epoch's third. */
    const struct {
        enum trial_order order;
        enum trial_end end;
        int reports, checkpoints;
        int64_t checkpoint;
    } table[] = {{ORDER_STOP, TRIAL_STOPPED, 1, 0, 0},
                 {ORDER_EXIT, TRIAL_EXITED, 1, 0, 0},
                 {ORDER_PAUSE, TRIAL_PAUSED, 2, 1, 2},
                 {ORDER_NONE, TRIAL_COMPLETED, 5, 2, 5}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char *dir = temp_folder();
        struct orders o = {.at = 20, .order = table[i].order};
        const struct trial_hooks hooks = {
            .ctx = &o, .poll = give, .report = count_report, .checkpoint = count_checkpoint};
        struct lab l = lab_open(TRIAL(MLP, "{\"batch_size\":10}"));
        struct trial_job job = {
            .trial = 1, .seed = 1, .budget = 5, .checkpoint_dir = dir, .checkpoint_every = 3};
        struct trial_result r = run(&l, &job, &hooks);
        cr_expect_eq(r.end, table[i].end, "row %zu", i);
        cr_expect_eq(o.reports, table[i].reports, "row %zu: %d", i, o.reports);
        cr_expect_eq(o.checkpoints, table[i].checkpoints, "row %zu: %d", i, o.checkpoints);
        cr_expect_eq(o.last_checkpoint, table[i].checkpoint, "row %zu", i);
        if (table[i].end == TRIAL_STOPPED) {
            cr_expect_eq(o.polls, 20, "it ends at once");
        }
        lab_close(&l);
        remove_tree(dir);
        free(dir);
    }
}

Test(trial, without_budget_it_runs_the_recipes_epochs)
{
    struct orders o = {0};
    const struct trial_hooks hooks = {.ctx = &o, .report = count_report};
    struct lab l = lab_open(TRIAL(MLP, "{\"epochs\":3}"));
    struct trial_job job = {.trial = 1, .seed = 1};
    struct trial_result r = run(&l, &job, &hooks);
    cr_expect_eq(r.step, 3);
    cr_expect_eq(o.reports, 3);
    lab_close(&l);
}

Test(trial, a_diverging_run_fails_with_its_step_and_the_next_one_runs)
{
    static const struct trial_hooks none;
    const struct {
        const char *trial, *says;
    } table[] = {
        {TRIAL(MLP, "{\"lr\":1000,\"momentum\":0.9}"), "at step "},
        {TRIAL(MLP, "{\"lr\":1000,\"momentum\":0.9,\"backend\":\"ref\"}"), "in epoch "},
        {TRIAL(MLP, "{\"lr\":1000,\"batch_size\":16384,\"loss\":\"mse\"}"), "is no finite number"}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct lab l = lab_open(table[i].trial);
        struct trial_job job = {.trial = 1, .seed = 1, .budget = 400};
        struct trial_result r;
        struct mag_err err = {0};
        cr_expect_eq(trial_run(&job, &l.recipe, l.d, l.backend, &none, &r, &err), MAG_CONFLICT);
        cr_expect_not_null(strstr(err.text, table[i].says), "%s", err.text);
        l.recipe.training.update.lr = 0.01f;
        job.budget = 1;
        r = run(&l, &job, NULL);
        cr_expect(isfinite(metrics_get(&r.metrics, "val_loss")), "row %zu", i);
        lab_close(&l);
    }
}

/* ---- the average of the weights ---- */

/* The validation loss at epoch 2, gone on from a checkpoint of epoch 1 or from the start. */
static double val_loss(const char *training, int64_t budget, const char *from, const char *to)
{
    struct lab l = lab_open(training);
    struct trial_job job = {
        .trial = 1, .seed = 3, .budget = budget, .resume_path = from, .checkpoint_dir = to};
    struct trial_result r = run(&l, &job, NULL);
    lab_close(&l);
    return metrics_get(&r.metrics, "val_loss");
}

Test(trial, averages_are_what_is_measured_and_read_out)
{
    char *dir = temp_folder();
    char *one = xasprintf("%s/1", dir);
    const char *plain = TRIAL(MLP, "{\"lr\":0.05,\"batch_size\":16}");
    const char *slow = TRIAL(MLP, "{\"lr\":0.05,\"batch_size\":16,\"ema\":0.99}");
    double without = val_loss(plain, 1, NULL, NULL);
    double with = val_loss(slow, 1, NULL, dir);
    cr_expect_gt(with, 1.05 * without, "the average lags behind: %g, %g", with, without);
    cr_expect(val_loss(slow, 1, one, NULL) == with, "measured again, from the checkpoint");
    cr_expect(val_loss(plain, 1, one, NULL) == without, "the weights themselves are there too");

    struct saved *s = NULL;
    struct mag_err err = {0};
    struct lab l = lab_open(slow);
    cr_assert_eq(saved_open(one, 32, &s, &err), MAG_OK, "%s", err.text);
    struct score score = {0};
    for (uint32_t at = 0; at < l.d->n_val; at += 16) {
        uint32_t left = l.d->n_val - at;
        const struct batch b = {.d = l.d, .rows = l.d->val + at, .n = left < 16 ? (int)left : 16};
        net_score(s->net, &b, NULL, l.recipe.training.loss, &score);
    }
    cr_expect_float_eq(score.loss / (double)score.rows, with, 1e-5, "models out are the average");
    saved_close(s);
    lab_close(&l);
    remove_tree(dir);
    free(dir);
    free(one);
}

Test(trial, averages_begin_from_the_weights_of_a_checkpoint_without_any)
{
    char *dir = temp_folder();
    char *one = xasprintf("%s/1", dir);
    const char *plain = TRIAL(MLP, "{\"lr\":0.05,\"batch_size\":16}");
    double without = val_loss(plain, 1, NULL, dir);
    cr_expect(val_loss(TRIAL(MLP, "{\"lr\":0.05,\"batch_size\":16,\"ema\":0.99}"), 1, one, NULL) ==
              without);
    remove_tree(dir);
    free(dir);
    free(one);
}

/* ---- damaged checkpoints ---- */

static enum mag_status try_resume(struct lab *l, const char *path, struct mag_err *err)
{
    static const struct trial_hooks none;
    struct trial_job job = {.trial = 1, .seed = 1, .budget = 2, .resume_path = path};
    struct trial_result r;
    return trial_run(&job, &l->recipe, l->d, l->backend, &none, &r, err);
}

Test(trial, a_damaged_checkpoint_is_an_error_and_never_a_crash)
{
    char *dir = temp_folder();
    char *one = xasprintf("%s/1", dir);
    char *file = xasprintf("%s/%s", one, CHECKPOINT_FILE);
    struct lab l = lab_open(TRIAL(MLP, "{}"));
    struct trial_job job = {.trial = 1, .seed = 1, .budget = 1, .checkpoint_dir = dir};
    struct mag_err err = {0};
    (void)run(&l, &job, NULL);
    size_t n = 0;
    char *good = read_file(file, &n);
    cr_expect_eq(try_resume(&l, one, &err), MAG_OK, "%s", err.text);
    for (size_t cut = 0; cut < n; cut += cut < 300 ? 7 : n / 30) {
        err = (struct mag_err){0};
        write_file(file, good, cut);
        cr_expect_eq(try_resume(&l, one, &err), MAG_CORRUPT, "cut at %zu: %s", cut, err.text);
    }
    for (size_t at = 0; at < n; at += at < 300 ? 3 : n / 60) {
        err = (struct mag_err){0};
        good[at] = (char)(good[at] ^ 0x10);
        write_file(file, good, n);
        enum mag_status st = try_resume(&l, one, &err);
        cr_expect(st == MAG_CORRUPT || st == MAG_UNSUPPORTED, "bit flipped at %zu: %d %s", at,
                  (int)st, err.text);
        cr_expect_not_null(strstr(err.text, CHECKPOINT_FILE), "%s", err.text);
        good[at] = (char)(good[at] ^ 0x10);
    }
    char *longer = xcalloc(n + 1, 1);
    memcpy(longer, good, n);
    write_file(file, longer, n + 1);
    cr_expect_eq(try_resume(&l, one, &err), MAG_CORRUPT);
    free(longer);
    write_file(file, good, n);
    cr_expect_eq(try_resume(&l, one, NULL), MAG_OK);
    free(good);
    free(file);
    free(one);
    lab_close(&l);
    remove_tree(dir);
    free(dir);
}

Test(trial, a_checkpoint_of_another_model_or_optimizer_is_refused)
{
    char *dir = temp_folder();
    char *one = xasprintf("%s/1", dir);
    struct lab l = lab_open(TRIAL(MLP, "{}"));
    struct trial_job job = {.trial = 1, .seed = 1, .budget = 1, .checkpoint_dir = dir};
    (void)run(&l, &job, NULL);
    lab_close(&l);
    const struct {
        const char *trial, *says;
    } table[] = {{TRIAL(CNN, "{}"), "another model"},
                 {TRIAL(MLP, "{\"optimizer\":\"adam\"}"), "state of sgd"}};
    for (int i = 0; i < 2; i++) {
        struct mag_err err = {0};
        struct lab other = lab_open(table[i].trial);
        cr_expect_eq(try_resume(&other, one, &err), MAG_CONFLICT);
        cr_expect_not_null(strstr(err.text, table[i].says), "%s", err.text);
        lab_close(&other);
    }
    struct mag_err err = {0};
    l = lab_open(TRIAL(MLP, "{}"));
    cr_expect_eq(try_resume(&l, "/tmp/magpie-no-such-checkpoint", &err), MAG_NOTFOUND);
    lab_close(&l);
    remove_tree(dir);
    free(one);
    free(dir);
}

Test(trial, a_checkpoint_folder_that_cannot_be_written_is_an_error)
{
    static const struct trial_hooks none;
    struct lab l = lab_open(TRIAL(MLP, "{}"));
    struct trial_job job = {
        .trial = 1, .seed = 1, .budget = 1, .checkpoint_dir = "/proc/magpie-none"};
    struct trial_result r;
    struct mag_err err = {0};
    cr_expect_eq(trial_run(&job, &l.recipe, l.d, l.backend, &none, &r, &err), MAG_IO);
    cr_expect_not_null(strstr(err.text, "cannot write the checkpoint /proc/magpie-none/1"), "%s",
                       err.text);
    lab_close(&l);
}

Test(trial, a_step_saved_twice_replaces_the_first)
{
    char *dir = temp_folder();
    struct lab l = lab_open(TRIAL(MLP, "{}"));
    struct trial_job job = {.trial = 1, .seed = 1, .budget = 1, .checkpoint_dir = dir};
    (void)run(&l, &job, NULL);
    (void)run(&l, &job, NULL);
    char *one = xasprintf("%s/1", dir);
    struct mag_err err = {0};
    cr_expect_eq(try_resume(&l, one, &err), MAG_OK, "%s", err.text);
    free(one);
    lab_close(&l);
    remove_tree(dir);
    free(dir);
}
