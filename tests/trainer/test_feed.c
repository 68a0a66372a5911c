/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches made ready ahead: they are the very ones that load would have made, and the thread that
 * makes them ends with the trial, however that ends.
 */
#include "support.h"

#include "base/alloc.h"
#include "trainer/checkpoint.h"
#include "trainer/feed.h"
#include "trainer/fused.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct shape image = {1, 8, 8, false};
static const struct augmentation changes = {.crop = 2, .flip = true, .cutout = 3};
static const struct augmentation no_changes;

/* Threads of feeds in this process. */
static int count_threads(void)
{
    DIR *d = opendir("/proc/self/task");
    int n = 0;
    cr_assert_not_null(d);
    for (const struct dirent *e = NULL; (e = readdir(d)) != NULL;) {
        char *path = xasprintf("/proc/self/task/%s/comm", e->d_name);
        FILE *f = fopen(path, "re");
        char name[32] = "";
        n +=
            f != NULL && fgets(name, sizeof(name), f) != NULL && strcmp(name, "magpie-feed\n") == 0;
        if (f != NULL) {
            (void)fclose(f);
        }
        free(path);
    }
    cr_assert_eq(closedir(d), 0);
    return n;
}

/* ---- batches ---- */

/* What load makes of a batch that nobody gathered. */
static void load(const struct batch *b, float *to)
{
    dataset_gather(b->d, b->rows, b->n, to);
    if (b->augment != NULL) {
        augment_images(b->augment, &image, to, b->n);
    }
}

/* An epoch of two feeds, of which `ahead` gathers ahead; up to `most` batches. */
static void compare_epoch(struct feed *inlined, struct feed *ahead, const struct feed_lane *lanes,
                          int n, uint32_t n_rows, int most)
{
    float want[32 * 64];
    struct batch a[2];
    struct batch b[2];
    int first_a = 0;
    int first_b = 0;
    int batches = 0;
    uint32_t rows = 0;
    feed_begin(inlined, lanes, n, n_rows);
    feed_begin(ahead, lanes, n, n_rows);
    for (int got = 0; batches < most && (got = feed_next(inlined, a, &first_a)) > 0; batches++) {
        cr_assert_eq(feed_next(ahead, b, &first_b), got);
        cr_assert_eq(first_a, first_b);
        rows += (uint32_t)got;
        for (int lane = 0; lane < n; lane++) {
            cr_assert_null(a[lane].values);
            cr_assert_eq(a[lane].n, b[lane].n);
            cr_assert_eq(a[lane].rows, b[lane].rows);
            cr_assert_eq(a[lane].rows, lanes[lane].rows + rows - (uint32_t)got + (uint32_t)first_a);
            load(&a[lane], want);
            cr_assert(memcmp(want, b[lane].values, (size_t)a[lane].n * 64 * sizeof(float)) == 0,
                      "batch %d of lane %d", batches, lane);
        }
    }
    if (batches < most) {
        cr_expect_eq(rows, n_rows);
        cr_expect_eq(feed_next(ahead, b, &first_b), 0);
    }
}

Test(feed, ahead_gives_what_load_would_make)
{
    struct dataset *d = toy_dataset(image, 3, 203);
    struct dataset as_bytes = *d;
    as_bytes.bytes = xcalloc(203, 64);
    as_bytes.values = NULL;
    as_bytes.scale = 1.0f / 255;
    for (int i = 0; i < 203 * 64; i++) {
        as_bytes.bytes[i] = (uint8_t)(i * 7 % 251);
    }
    for (int k = 0; k < 12; k++) {
        const struct augmentation *a = k % 2 == 0 ? &changes : &no_changes;
        const struct feed_lane lanes[2] = {
            {.rows = d->train, .augmentation = a, .stream = {.seed = 1, .owner = 1, .epoch = 3}},
            {.rows = d->train + 5,
             .augmentation = a,
             .stream = {.seed = 1, .owner = 2, .epoch = 3}}};
        struct feed_options o = {
            .d = k < 6 ? d : &as_bytes, .shape = image, .batch_size = 32, .lanes = 2};
        struct feed *inlined = feed_create(&o);
        o.ahead = 1 + k % 3;
        struct feed *ahead = feed_create(&o);
        compare_epoch(inlined, ahead, lanes, 2, d->n_train - 5, 1000);
        compare_epoch(inlined, ahead, lanes, 1, 70, 2); /* left half-way */
        compare_epoch(inlined, ahead, lanes, 2, 17, 1000);
        cr_expect_eq(count_threads(), 1);
        feed_destroy(inlined);
        feed_destroy(ahead);
    }
    free(as_bytes.bytes);
    dataset_destroy(d);
}

Test(feed, one_that_nobody_takes_from_ends)
{
    struct dataset *d = toy_dataset(image, 3, 203);
    const struct feed_lane lane = {.rows = d->train, .augmentation = &changes};
    for (int i = 0; i < 200; i++) { /* wherever its thread is just then */
        const struct feed_options o = {
            .d = d, .shape = image, .batch_size = 1 + i % 40, .lanes = 1, .ahead = 1 + i % 3};
        struct feed *f = feed_create(&o);
        struct batch b;
        int first = 0;
        if (i % 4 > 0) {
            feed_begin(f, &lane, 1, d->n_train);
        }
        for (int k = 1; k < i % 4; k++) {
            cr_assert_gt(feed_next(f, &b, &first), 0);
        }
        feed_destroy(f);
    }
    cr_expect_eq(count_threads(), 0);
    dataset_destroy(d);
}

/* ---- trials ---- */

#define MLP                                                                                        \
    "[{\"type\":\"dense\",\"units\":24,\"activation\":\"relu\"},{\"type\":\"dropout\"},"           \
    "{\"type\":\"dense\",\"units\":3}]"
#define CNN                                                                                        \
    "[{\"type\":\"conv\",\"filters\":4,\"kernel\":3},{\"type\":\"maxpool\"},"                      \
    "{\"type\":\"dense\",\"units\":3}]"

struct lab {
    struct recipe recipe;
    struct dataset *d;
    struct backend *backend;
};

static struct lab open_lab(const char *layers, const char *training, int prefetch)
{
    char *text =
        xasprintf("{\"program\":\"builtin\",\"dataset\":\"idx:/x\",\"model\":{\"layers\":%s},"
                  "\"training\":{\"batch_size\":16,\"prefetch\":%d%s}}",
                  layers, prefetch, training);
    struct lab l = {.recipe = recipe_of(text), .d = toy_dataset(image, 3, 203)};
    struct mjson_issues *is = xcalloc(1, sizeof(*is));
    const struct backend_options o = {.threads = 1};
    cr_assert(recipe_fit(&l.recipe, l.d, "", is));
    cr_assert_eq(l.recipe.training.backend->open(&o, &l.backend, NULL), MAG_OK);
    mjson_issues_fini(is);
    free(is);
    free(text);
    return l;
}

static void close_lab(struct lab *l)
{
    l->recipe.training.backend->close(l->backend);
    dataset_destroy(l->d);
    recipe_fini(&l->recipe);
}

/* The checkpoint after three epochs of two trials, alone or side by side. */
static char *train(const char *layers, const char *training, int prefetch, bool fused, size_t *len)
{
    static const struct trial_hooks none;
    struct lab l = open_lab(layers, training, prefetch);
    char *dir = temp_folder();
    struct trial_job jobs[2];
    struct trial_result results[2];
    struct trial_lane lanes[2];
    for (int i = 0; i < 2; i++) {
        jobs[i] = (struct trial_job){
            .trial = i + 1, .seed = 5, .budget = 3, .checkpoint_dir = i == 0 ? dir : NULL};
        lanes[i] = (struct trial_lane){
            .job = &jobs[i], .recipe = &l.recipe, .hooks = &none, .result = &results[i]};
    }
    if (fused) {
        fused_run(lanes, 2, l.d, l.backend);
    } else {
        lanes[0].status =
            trial_run(&jobs[0], &l.recipe, l.d, l.backend, &none, &results[0], &lanes[0].err);
    }
    cr_assert_eq(lanes[0].status, MAG_OK, "%s", lanes[0].err.text);
    cr_expect_eq(count_threads(), 0, "its thread has ended");
    char *path = xasprintf("%s/3/%s", dir, CHECKPOINT_FILE);
    char *text = read_file(path, len);
    free(path);
    remove_tree(dir);
    free(dir);
    close_lab(&l);
    return text;
}

Test(feed, a_trial_gives_the_very_bits_that_it_gives_without)
{
    static const char *const recipes[][2] = {
        {MLP, ",\"optimizer\":\"adam\",\"ema\":0.9"},
        {CNN, ",\"augmentation\":{\"crop\":1,\"flip\":true}"},
        {CNN, ",\"backend\":\"ref\",\"augmentation\":{\"cutout\":3}"},
        {MLP, ",\"order\":\"experiment\",\"augmentation\":{\"crop\":2}"}};
    for (size_t i = 0; i < sizeof(recipes) / sizeof(recipes[0]); i++) {
        for (int fused = 0; fused < 2; fused++) {
            size_t want_len = 0;
            char *want = train(recipes[i][0], recipes[i][1], 0, fused == 1, &want_len);
            for (int prefetch = 1; prefetch < 4; prefetch += 2) {
                size_t len = 0;
                char *got = train(recipes[i][0], recipes[i][1], prefetch, fused == 1, &len);
                cr_expect(len == want_len && memcmp(got, want, len) == 0,
                          "recipe %zu, %d ahead, fused %d", i, prefetch, fused);
                free(got);
            }
            free(want);
        }
    }
}

struct end {
    int polls, at;
    enum trial_order order;
    bool fails;
};

static enum trial_order on_poll(void *ctx)
{
    struct end *e = ctx;
    return ++e->polls == e->at ? e->order : ORDER_NONE;
}

static enum mag_status on_report(void *ctx, int64_t step, const struct metrics *m,
                                 struct mag_err *err)
{
    const struct end *e = ctx;
    (void)step;
    (void)m;
    return e->fails ? mag_fail(err, MAG_CLOSED, "nobody listens") : MAG_OK;
}

Test(feed, its_thread_ends_with_the_trial_in_every_way)
{
    static const struct {
        const char *training;
        struct end end;
        enum mag_status status;
    } ways[] = {{"", {.at = 3, .order = ORDER_STOP}, MAG_OK},
                {"", {.at = 1, .order = ORDER_EXIT}, MAG_OK},
                {"", {.at = 3, .order = ORDER_PAUSE}, MAG_OK},
                {"", {.fails = true}, MAG_CLOSED},
                {",\"lr\":1000,\"momentum\":0.9", {.at = 0}, MAG_CONFLICT}};
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct lab l = open_lab(MLP, ways[i].training, 2);
        struct end e = ways[i].end;
        const struct trial_hooks hooks = {.ctx = &e, .poll = on_poll, .report = on_report};
        const struct trial_job job = {.trial = 1, .seed = 1, .budget = 400};
        struct trial_result r;
        struct mag_err err = {0};
        cr_expect_eq(trial_run(&job, &l.recipe, l.d, l.backend, &hooks, &r, &err), ways[i].status,
                     "way %zu: %s", i, err.text);
        cr_expect_eq(count_threads(), 0, "way %zu", i);
        struct end all[2] = {e, e};
        struct trial_hooks of[2] = {hooks, hooks};
        struct trial_lane lanes[2];
        for (int k = 0; k < 2; k++) {
            all[k].polls = 0;
            of[k].ctx = &all[k];
            lanes[k] = (struct trial_lane){
                .job = &job, .recipe = &l.recipe, .hooks = &of[k], .result = &r};
        }
        fused_run(lanes, 2, l.d, l.backend);
        cr_expect_eq(lanes[1].status, ways[i].status, "way %zu", i);
        cr_expect_eq(count_threads(), 0, "way %zu, fused", i);
        close_lab(&l);
    }
}
