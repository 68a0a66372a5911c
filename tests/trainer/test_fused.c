/* SPDX-License-Identifier: Apache-2.0
 *
 * Trials side by side in one net: each gives what it gives alone, and what becomes of one is no
 * matter to the others.
 */
#include "support.h"

#include "base/alloc.h"
#include "trainer/checkpoint.h"
#include "trainer/fused.h"
#include "trainer/session.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LANES 4
#define EPOCHS 4

#define MLP                                                                                        \
    "[{'type':'dense','units':20,'activation':'relu'},{'type':'dropout','rate':RATE},"             \
    "{'type':'dense','units':3}]"
#define CNN                                                                                        \
    "[{'type':'conv','filters':8,'kernel':3,'activation':'relu'},{'type':'maxpool'},"              \
    "{'type':'flatten'},{'type':'dropout','rate':RATE},{'type':'dense','units':3}]"

/* One trial of a group: its recipe, and what it said. */
struct one {
    struct recipe recipe;
    struct trial_job job;
    struct trial_hooks hooks;
    struct trial_result result;
    char *dir;
    double losses[EPOCHS + 1], accuracies[EPOCHS + 1]; /* of validation, by step */
    int reports, polls, stop_at, fail_at, declined;    /* stop_at: polls after the first report */
    bool ended;
    enum mag_status end_status;
};

struct lab {
    struct dataset *d;
    struct backend *backend;
    const struct backend_ops *ops;
    struct one ones[LANES];
    struct trial_lane lanes[LANES];
};

static enum trial_order on_poll(void *ctx)
{
    struct one *o = ctx;
    cr_assert(!o->ended, "it is asked after its end");
    o->polls += o->reports > 0;
    return o->polls > 0 && o->polls == o->stop_at ? ORDER_STOP : ORDER_NONE;
}

static enum mag_status on_report(void *ctx, int64_t step, const struct metrics *m,
                                 struct mag_err *err)
{
    struct one *o = ctx;
    cr_assert(!o->ended && step >= 1 && step <= EPOCHS);
    o->losses[step] = metrics_get(m, "val_loss");
    o->accuracies[step] = metrics_get(m, "val_accuracy");
    return ++o->reports == o->fail_at ? mag_fail(err, MAG_CLOSED, "nobody listens") : MAG_OK;
}

static void on_end(void *ctx, const struct trial_lane *lane)
{
    struct one *o = ctx;
    cr_assert(!o->ended, "its end is told once");
    cr_assert_eq(lane->result, &o->result);
    cr_assert(lane->status == MAG_OK || lane->err.text[0] != '\0');
    o->ended = true;
    o->end_status = lane->status;
}

static void on_decline(void *ctx, int lanes)
{
    struct one *o = ctx;
    o->declined = lanes;
}

/* Lane i of a search: numbers of its own, everything else the same. */
static char *trial_text(const char *layers, const char *training, int i)
{
    const char *rate = strstr(layers, "RATE");
    char *text = xasprintf("{'program':'builtin','dataset':'idx:/x','fuse':8,"
                           "'model':{'layers':%.*s%g%s},"
                           "'training':{'lr':%g,'momentum':%g,'batch_size':24,'weight_decay':%g,"
                           "'label_smoothing':%g,'ema':%g%s}}",
                           (int)(rate - layers), layers, 0.1 * i, rate + 4, 0.02 * (i + 1),
                           0.3 * (i % 3), 0.01 * i, 0.1 * (i % 2), i >= 2 ? 0.9 : 0, training);
    for (char *p = text; *p != '\0'; p++) {
        *p = *p == '\'' ? '"' : *p;
    }
    return text;
}

static void open_lab(struct lab *l, const char *layers, const char *training)
{
    static const struct shape image = {1, 8, 8, false};
    struct mjson_issues *is = xcalloc(1, sizeof(*is));
    struct backend_options o = {.threads = 1};
    struct mag_err err = {0};
    *l = (struct lab){.d = toy_dataset(image, 3, 203)};
    for (int i = 0; i < LANES; i++) {
        char *text = trial_text(layers, training, i);
        struct one *one = &l->ones[i];
        *one = (struct one){.recipe = recipe_of(text), .dir = temp_folder()};
        cr_assert(recipe_fit(&one->recipe, l->d, "", is), "%s", is->n > 0 ? is->items[0].text : "");
        one->job = (struct trial_job){.trial = i + 1,
                                      .seed = 7,
                                      .budget = EPOCHS,
                                      .checkpoint_dir = one->dir,
                                      .checkpoint_every = 1};
        one->hooks = (struct trial_hooks){.ctx = one, .poll = on_poll, .report = on_report};
        l->lanes[i] = (struct trial_lane){.job = &one->job,
                                          .recipe = &one->recipe,
                                          .hooks = &one->hooks,
                                          .end = on_end,
                                          .decline = on_decline,
                                          .result = &one->result};
        free(text);
    }
    l->ops = l->ones[0].recipe.training.backend;
    cr_assert_eq(l->ops->open(&o, &l->backend, &err), MAG_OK, "%s", err.text);
    mjson_issues_fini(is);
    free(is);
}

static void close_lab(struct lab *l)
{
    for (int i = 0; i < LANES; i++) {
        recipe_fini(&l->ones[i].recipe);
        remove_tree(l->ones[i].dir);
        free(l->ones[i].dir);
    }
    l->ops->close(l->backend);
    dataset_destroy(l->d);
}

static void run_fused(struct lab *l, int n)
{
    fused_run(l->lanes, n, l->d, l->backend);
}

static void run_alone(struct lab *l)
{
    for (int i = 0; i < LANES; i++) {
        struct one *o = &l->ones[i];
        struct mag_err err = {0};
        cr_assert_eq(trial_run(&o->job, &o->recipe, l->d, l->backend, &o->hooks, &o->result, &err),
                     MAG_OK, "%s", err.text);
    }
}

static void expect_same_checkpoint(const struct one *a, const struct one *b, int64_t step,
                                   const char *what)
{
    size_t na = 0;
    size_t nb = 0;
    char *pa = xasprintf("%s/%lld/%s", a->dir, (long long)step, CHECKPOINT_FILE);
    char *pb = xasprintf("%s/%lld/%s", b->dir, (long long)step, CHECKPOINT_FILE);
    char *x = read_file(pa, &na);
    char *y = read_file(pb, &nb);
    cr_expect(na == nb && memcmp(x, y, na) == 0, "%s: trial %lld, step %lld differs", what,
              (long long)a->job.trial, (long long)step);
    free(pa);
    free(pb);
    free(x);
    free(y);
}

static const char *const recipes[][2] = {
    {MLP, ",'schedule':{'type':'plateau','patience':0,'threshold':0.5}"},
    {MLP, ",'order':'experiment'"},
    {CNN, ",'order':'experiment','schedule':{'type':'cosine','epochs':4},"
          "'augmentation':{'crop':1,'flip':true,'cutout':2}"},
    {CNN, ",'optimizer':'adam','clip_norm':0.5,'augmentation':{'crop':1,'flip':true,'cutout':2}"},
    {MLP, ",'optimizer':'lamb','order':'experiment'"},
    {MLP, ",'optimizer':'rmsprop','schedule':{'type':'onecycle','epochs':4}"},
};
#define RECIPES (sizeof(recipes) / sizeof(recipes[0]))

/* What two runs of the same trials must have in common; tolerance 0: the very bits. */
static void expect_alike(const struct lab *fused, const struct lab *alone, double tolerance,
                         const char *what)
{
    for (int i = 0; i < LANES; i++) {
        const struct one *f = &fused->ones[i];
        const struct one *a = &alone->ones[i];
        cr_assert_eq(f->reports, a->reports, "%s: trial %d", what, i + 1);
        for (int step = 1; step <= EPOCHS; step++) {
            cr_expect(fabs(f->losses[step] - a->losses[step]) <= tolerance,
                      "%s: trial %d, step %d: %.9g fused, %.9g alone", what, i + 1, step,
                      f->losses[step], a->losses[step]);
        }
        cr_expect_eq(f->result.metrics.n, a->result.metrics.n);
        cr_expect(fabs(metrics_get(&f->result.metrics, "test_loss") -
                       metrics_get(&a->result.metrics, "test_loss")) <= tolerance);
    }
}

Test(fused, on_the_reference_each_gives_the_very_bits_that_it_gives_alone)
{
    for (size_t k = 0; k < RECIPES; k++) {
        struct lab fused;
        struct lab alone;
        char *training = xasprintf("%s,'backend':'ref'", recipes[k][1]);
        open_lab(&fused, recipes[k][0], training);
        open_lab(&alone, recipes[k][0], training);
        run_fused(&fused, LANES);
        run_alone(&alone);
        expect_alike(&fused, &alone, 0, training);
        for (int i = 0; i < LANES; i++) {
            cr_expect(fused.ones[i].ended && fused.lanes[i].status == MAG_OK);
            for (int step = 1; step <= EPOCHS; step++) {
                expect_same_checkpoint(&fused.ones[i], &alone.ones[i], step, training);
            }
        }
        close_lab(&fused);
        close_lab(&alone);
        free(training);
    }
}

/* There lanes take turns, several batches on end, and what is zero in a batch of all is passed
 * over: that adds nothing to any sum. */
Test(fused, on_the_cpu_too_each_gives_the_very_bits_that_it_gives_alone)
{
    for (size_t k = 0; k < RECIPES; k++) {
        struct lab fused;
        struct lab alone;
        open_lab(&fused, recipes[k][0], recipes[k][1]);
        open_lab(&alone, recipes[k][0], recipes[k][1]);
        run_fused(&fused, LANES);
        run_alone(&alone);
        expect_alike(&fused, &alone, 0, recipes[k][1]);
        for (int i = 0; i < LANES; i++) {
            for (int step = 1; step <= EPOCHS; step++) {
                expect_same_checkpoint(&fused.ones[i], &alone.ones[i], step, recipes[k][1]);
            }
        }
        close_lab(&fused);
        close_lab(&alone);
    }
}

/* Whole columns, some rows and much else of the data is zero. */
static void hollow(struct dataset *d)
{
    const uint32_t width = (uint32_t)shape_size(&d->shape);
    for (uint32_t i = 0; i < d->n_rows; i++) {
        for (uint32_t k = 0; k < width; k++) {
            bool empty = k < 9 || i % 11 == 0 || (i * 7 + k * k / 3) % 5 < 3;
            d->values[i * width + k] = empty ? 0 : d->values[i * width + k];
        }
    }
}

Test(fused, zeros_that_are_passed_over_change_no_bit)
{
    static const char *const models[] = {
        MLP, "[{'type':'concat','branches':[[{'type':'flatten'},{'type':'dense','units':17}],"
             "[{'type':'flatten'}]]},{'type':'dropout','rate':RATE},{'type':'dense','units':3}]"};
    for (size_t k = 0; k < 4; k++) {
        const char *training = k / 2 == 0 ? ",'order':'experiment'"
                                          : ",'order':'experiment','optimizer':'adam','ema':0.5,"
                                            "'batch_size':7";
        struct lab fused;
        struct lab alone;
        open_lab(&fused, models[k % 2], training);
        open_lab(&alone, models[k % 2], training);
        hollow(fused.d);
        hollow(alone.d);
        run_fused(&fused, LANES);
        run_alone(&alone);
        expect_alike(&fused, &alone, 0, training);
        for (int i = 0; i < LANES; i++) {
            expect_same_checkpoint(&fused.ones[i], &alone.ones[i], EPOCHS, training);
        }
        close_lab(&fused);
        close_lab(&alone);
    }
}

Test(fused, trials_of_an_experiment_with_its_order_see_the_same_batches)
{
    /* Two with the same numbers and seeds of weights that differ: alike only in their batches. */
    struct lab a;
    struct lab b;
    open_lab(&a, MLP, ",'backend':'ref','order':'experiment'");
    open_lab(&b, MLP, ",'backend':'ref'");
    a.ones[1].job.trial = a.ones[0].job.trial; /* the same weights, too: then all is the same */
    b.ones[1].job.trial = b.ones[0].job.trial;
    a.ones[1].recipe.training = a.ones[0].recipe.training;
    a.ones[1].recipe.model = a.ones[0].recipe.model;
    run_fused(&a, LANES);
    cr_expect_eq(a.ones[0].losses[EPOCHS], a.ones[1].losses[EPOCHS]);
    run_fused(&b, LANES);
    cr_expect_neq(a.ones[0].losses[1], b.ones[0].losses[1], "the trial's own order is another");
    close_lab(&a);
    close_lab(&b);
}

Test(fused, one_that_ends_early_leaves_its_lane_and_the_others_give_the_same_bits)
{
    static const char *const orders[] = {
        ",'backend':'ref'", ",'backend':'ref','order':'experiment'", "", ",'order':'experiment'"};
    for (int k = 0; k < 4; k++) {
        struct lab fused;
        struct lab alone;
        open_lab(&fused, CNN, orders[k]);
        open_lab(&alone, CNN, orders[k]);
        for (struct lab *l = &fused;; l = &alone) {
            l->ones[0].job.budget = 1; /* completes */
            l->ones[1].stop_at = 3;    /* is stopped in the middle of an epoch */
            l->ones[3].job.budget = 3; /* the last one is alone in the net */
            if (l == &alone) {
                break;
            }
        }
        run_fused(&fused, LANES);
        run_alone(&alone);
        static const enum trial_end ends[] = {TRIAL_COMPLETED, TRIAL_STOPPED, TRIAL_COMPLETED,
                                              TRIAL_COMPLETED};
        for (int i = 0; i < LANES; i++) {
            const struct one *f = &fused.ones[i];
            cr_expect_eq(f->result.end, ends[i], "trial %d ends as %d", i + 1, f->result.end);
            cr_expect_eq(f->reports, alone.ones[i].reports);
            for (int step = 1; step <= f->reports; step++) {
                expect_same_checkpoint(f, &alone.ones[i], step, orders[k]);
            }
        }
        cr_expect_eq(fused.ones[1].polls, 3);
        cr_expect_eq(fused.ones[1].reports, 1);
        close_lab(&fused);
        close_lab(&alone);
    }
}

static void check_divergence(const char *training)
{
    struct lab fused;
    struct lab alone;
    struct mag_err err = {0};
    open_lab(&fused, MLP, training);
    open_lab(&alone, MLP, training);
    fused.ones[2].recipe.training.update.lr = 1e30f;
    run_fused(&fused, LANES);
    cr_expect_eq(fused.ones[2].end_status, MAG_CONFLICT);
    cr_expect_eq(fused.ones[2].reports, 0);
    cr_expect_not_null(strstr(fused.lanes[2].err.text, "no finite number"), "%s",
                       fused.lanes[2].err.text);
    run_alone(&alone);
    for (int i = 0; i < LANES; i++) {
        if (i != 2) {
            cr_expect(isfinite(fused.ones[i].losses[EPOCHS]));
            expect_same_checkpoint(&fused.ones[i], &alone.ones[i], EPOCHS, "beside NaN");
        }
    }
    struct one *o = &alone.ones[2];
    o->recipe.training.update.lr = 1e30f;
    cr_expect_eq(
        trial_run(&o->job, &o->recipe, alone.d, alone.backend, &o->hooks, &o->result, &err),
        MAG_CONFLICT);
    cr_expect_str_eq(fused.lanes[2].err.text, err.text);
    close_lab(&fused);
    close_lab(&alone);
}

Test(fused, a_lane_that_diverges_costs_the_others_nothing)
{
    check_divergence(",'backend':'ref','order':'experiment'");
    check_divergence(",'order':'experiment'");
}

/* The first two epochs together, the others alone; and the other way round. */
Test(fused, checkpoints_go_from_one_form_to_the_other)
{
    for (int together_first = 0; together_first < 2; together_first++) {
        struct lab whole;
        struct lab first;
        struct lab then;
        open_lab(&whole, CNN, ",'backend':'ref','optimizer':'adam'");
        open_lab(&first, CNN, ",'backend':'ref','optimizer':'adam'");
        open_lab(&then, CNN, ",'backend':'ref','optimizer':'adam'");
        run_alone(&whole);
        char *from[LANES];
        for (int i = 0; i < LANES; i++) {
            first.ones[i].job.budget = 2;
            from[i] = xasprintf("%s/2", first.ones[i].dir);
            then.ones[i].job.resume_path = from[i];
            then.lanes[i].resume_step = 2;
        }
        if (together_first) {
            run_fused(&first, LANES);
            run_alone(&then);
        } else {
            run_alone(&first);
            run_fused(&then, LANES);
        }
        for (int i = 0; i < LANES; i++) {
            expect_same_checkpoint(&then.ones[i], &whole.ones[i], EPOCHS, "resumed");
            free(from[i]);
        }
        close_lab(&whole);
        close_lab(&first);
        close_lab(&then);
    }
}

Test(fused, one_whose_checkpoint_is_missing_fails_alone)
{
    struct lab l;
    open_lab(&l, MLP, ",'backend':'ref'");
    l.ones[1].job.resume_path = "/nowhere/2";
    l.lanes[1].resume_step = 2;
    run_fused(&l, LANES);
    cr_expect_eq(l.lanes[1].status, MAG_NOTFOUND);
    cr_expect_not_null(strstr(l.lanes[1].err.text, "/nowhere/2"));
    cr_expect_eq(l.ones[1].reports, 0);
    for (int i = 0; i < LANES; i++) {
        cr_expect(l.ones[i].ended);
        cr_expect(i == 1 || (l.lanes[i].status == MAG_OK && l.ones[i].reports == EPOCHS));
    }
    close_lab(&l);
}

Test(fused, one_whose_report_cannot_be_told_fails_alone)
{
    struct lab l;
    open_lab(&l, MLP, ",'backend':'ref'");
    l.ones[2].fail_at = 2;
    run_fused(&l, LANES);
    cr_expect_eq(l.ones[2].end_status, MAG_CLOSED);
    for (int i = 0; i < LANES; i++) {
        cr_expect_eq(l.ones[i].reports, i == 2 ? 2 : EPOCHS);
    }
    close_lab(&l);
}

Test(fused, one_that_resumes_where_it_ends_is_measured_while_others_go_on)
{
    struct lab first;
    struct lab then;
    open_lab(&first, MLP, ",'backend':'ref'");
    open_lab(&then, MLP, ",'backend':'ref'");
    run_alone(&first);
    char *from = xasprintf("%s/%d", first.ones[0].dir, EPOCHS);
    then.ones[0].job.resume_path = from;
    then.lanes[0].resume_step = EPOCHS;
    run_fused(&then, LANES);
    cr_expect_eq(then.ones[0].reports, 0);
    cr_expect_eq(then.ones[0].result.end, TRIAL_COMPLETED);
    cr_expect_eq(metrics_get(&then.ones[0].result.metrics, "test_loss"),
                 metrics_get(&first.ones[0].result.metrics, "test_loss"));
    cr_expect_eq(then.ones[1].reports, EPOCHS);
    expect_same_checkpoint(&then.ones[1], &first.ones[1], EPOCHS, "beside one at its end");
    free(from);
    close_lab(&first);
    close_lab(&then);
}

Test(fused, what_has_no_room_is_declined_and_the_others_run)
{
    struct lab l;
    cr_assert_eq(setenv("MAGPIE_FAULTS", "trainer.room=fail", 1), 0);
    open_lab(&l, MLP, ",'backend':'ref'");
    run_fused(&l, LANES);
    for (int i = 0; i < LANES; i++) {
        cr_expect_eq(l.ones[i].declined, i < 2 ? 0 : 2);
        cr_expect_eq(l.ones[i].reports, i < 2 ? EPOCHS : 0);
        cr_expect_eq(l.ones[i].ended, i < 2);
    }
    close_lab(&l);
}
