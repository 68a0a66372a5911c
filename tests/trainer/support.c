/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct recipe recipe_of(const char *trial_json)
{
    struct mjson_issues *is = xcalloc(1, sizeof(*is));
    struct recipe_context ctx = {0};
    struct recipe r = {0};
    json_t *trial = json_loads(trial_json, 0, NULL);
    cr_assert_not_null(trial, "%s", trial_json);
    bool good = recipe_parse(trial, "", &ctx, is, &r);
    cr_assert(good, "%s: %s", is->n > 0 ? is->items[0].pointer : "",
              is->n > 0 ? is->items[0].text : "");
    json_decref(trial);
    mjson_issues_fini(is);
    free(is);
    return r;
}

struct model model_of(const char *layers_json, struct shape input)
{
    char *trial = xasprintf(
        "{\"program\":\"builtin\",\"dataset\":\"idx:/nowhere\",\"model\":{\"layers\":%s}}",
        layers_json);
    struct recipe r = recipe_of(trial);
    struct mjson_issues *is = xcalloc(1, sizeof(*is));
    r.model.input = input;
    cr_assert(model_shapes(&r.model, 0, "", is), "%s: %s", layers_json,
              is->n > 0 ? is->items[0].text : "");
    struct model m = r.model;
    mjson_issues_fini(is);
    free(is);
    recipe_fini(&r);
    free(trial);
    return m;
}

void fill_random(struct pcg64 *g, float *to, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = (float)(pcg64_double(g) * 2 - 1);
    }
}

struct dataset *toy_dataset(struct shape shape, int classes, uint32_t rows)
{
    size_t width = (size_t)shape_size(&shape);
    struct dataset *d = xcalloc(1, sizeof(*d));
    struct pcg64 g;
    pcg_stream(&g, 7, "toy", 0);
    float *centres = xcalloc((size_t)classes * width, sizeof(float));
    fill_random(&g, centres, (size_t)classes * width);
    d->shape = shape;
    d->n_classes = classes;
    d->n_rows = rows;
    d->values = xcalloc(rows * width, sizeof(float));
    d->labels = xcalloc(rows, sizeof(*d->labels));
    fill_random(&g, d->values, rows * width);
    for (uint32_t i = 0; i < rows; i++) {
        d->labels[i] = (int32_t)(i % (uint32_t)classes);
        for (size_t k = 0; k < width; k++) {
            d->values[i * width + k] += 1.5f * centres[(size_t)d->labels[i] * width + k];
        }
    }
    free(centres);
    d->n_given_test = rows / 5;
    dataset_stamp(d);
    struct dataset_source s = {.path = (char *)(uintptr_t) "toy"};
    cr_assert_eq(dataset_split(d, &s, 1, 0.2, NULL), MAG_OK);
    return d;
}

char *temp_folder(void)
{
    char *path = xstrdup("/tmp/magpie-trainer-test-XXXXXX");
    cr_assert_not_null(mkdtemp(path));
    return path;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
    (void)st;
    (void)type;
    (void)f;
    return remove(path);
}

void remove_tree(const char *path)
{
    cr_assert_eq(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

void write_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wbe");
    cr_assert_not_null(f, "%s", path);
    cr_assert_eq(fwrite(data, 1, n, f), n);
    cr_assert_eq(fclose(f), 0);
}

char *read_file(const char *path, size_t *ret_len)
{
    char *text = NULL;
    struct mag_err err = {0};
    cr_assert_eq(mjson_read_file(path, 1 << 28, &text, ret_len, &err), MAG_OK, "%s", err.text);
    return text;
}
