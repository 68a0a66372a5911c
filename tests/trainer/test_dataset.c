/* SPDX-License-Identifier: Apache-2.0
 *
 * Data sets: what is read from good files, and the one clear message for each broken one.
 */
#include "support.h"

#include "base/alloc.h"
#include "trainer/format.h"
#include "trainer/frame.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

/* ---- IDX ---- */

struct idx {
    unsigned char bytes[4096];
    size_t n;
};

static struct idx idx_of(int type, int n_dims, const uint32_t *dims, size_t values)
{
    struct idx x = {.bytes = {0, 0, (unsigned char)type, (unsigned char)n_dims}, .n = 4};
    for (int i = 0; i < n_dims; i++) {
        uint32_t be = htonl(dims[i]);
        memcpy(x.bytes + x.n, &be, 4);
        x.n += 4;
    }
    for (size_t i = 0; i < values; i++) {
        x.bytes[x.n++] = (unsigned char)(i % 251);
    }
    return x;
}

static void put(const char *dir, const char *name, const struct idx *x)
{
    char *path = xasprintf("%s/%s", dir, name);
    write_file(path, x->bytes, x->n);
    free(path);
}

static void put_gz(const char *dir, const char *name, const struct idx *x)
{
    char *path = xasprintf("%s/%s", dir, name);
    gzFile f = gzopen(path, "wb");
    cr_assert_not_null(f);
    cr_assert_eq(gzwrite(f, x->bytes, (unsigned)x->n), (int)x->n);
    cr_assert_eq(gzclose(f), Z_OK);
    free(path);
}

/* 20 training and 5 test images of 3x4, classes 0 to 3 (a label is its index % 4). */
static struct idx images(uint32_t n)
{
    return idx_of(8, 3, (const uint32_t[]){n, 3, 4}, n * 12);
}

static struct idx labels(uint32_t n)
{
    struct idx x = idx_of(8, 1, &n, n);
    for (uint32_t i = 0; i < n; i++) {
        x.bytes[8 + i] = (unsigned char)(i % 4);
    }
    return x;
}

static void put_all(const char *dir)
{
    struct idx x = images(20);
    put_gz(dir, "train-images-idx3-ubyte.gz", &x);
    x = labels(20);
    put(dir, "train-labels-idx1-ubyte", &x);
    x = images(5);
    put(dir, "t10k-images-idx3-ubyte", &x);
    x = labels(5);
    put_gz(dir, "t10k-labels-idx1-ubyte.gz", &x);
}

static struct dataset_source idx_source(const char *dir)
{
    return (struct dataset_source){
        .format = &dataset_idx, .path = (char *)(uintptr_t)dir, .test = 0.2};
}

Test(dataset, idx_is_read_plain_and_compressed)
{
    char *dir = temp_folder();
    put_all(dir);
    struct dataset_source s = idx_source(dir);
    struct dataset *d = NULL;
    struct mag_err err = {0};
    cr_assert_eq(dataset_open(&s, &d, &err), MAG_OK, "%s", err.text);
    cr_expect_eq(d->n_rows, 25);
    cr_expect_eq(d->n_given_test, 5);
    cr_expect_eq(d->n_classes, 4);
    cr_expect_eq(d->shape.c, 1);
    cr_expect_eq(d->shape.h, 3);
    cr_expect_eq(d->shape.w, 4);
    cr_expect_eq(d->bytes[13], 13);
    cr_expect_eq(d->bytes[20 * 12 + 7], 7, "test images follow");
    cr_expect_eq(d->labels[22], 2);
    dataset_destroy(d);
    cr_assert_eq(dataset_probe(&s, &d, &err), MAG_OK, "%s", err.text);
    cr_expect_eq(d->n_classes, 4);
    cr_expect_null(d->bytes);
    dataset_destroy(d);
    remove_tree(dir);
    free(dir);
}

Test(dataset, idx_without_test_files_keeps_a_part)
{
    char *dir = temp_folder();
    struct idx x = images(20);
    put(dir, "train-images-idx3-ubyte", &x);
    x = labels(20);
    put(dir, "train-labels-idx1-ubyte", &x);
    struct dataset_source s = idx_source(dir);
    struct dataset *d = NULL;
    struct mag_err err = {0};
    cr_assert_eq(dataset_open(&s, &d, &err), MAG_OK, "%s", err.text);
    cr_assert_eq(dataset_split(d, &s, 1, 0.25, &err), MAG_OK, "%s", err.text);
    cr_expect_eq(d->n_test, 4);
    cr_expect_eq(d->n_val, 4);
    cr_expect_eq(d->n_train, 12);
    dataset_destroy(d);
    remove_tree(dir);
    free(dir);
}

Test(dataset, idx_floats_and_colour_images_are_read)
{
    char *dir = temp_folder();
    struct idx x = idx_of(0x0d, 4, (const uint32_t[]){2, 2, 1, 2}, 0);
    for (int i = 0; i < 8; i++) {
        float v = (float)i * 0.5f;
        uint32_t be = 0;
        memcpy(&be, &v, 4);
        be = htonl(be);
        memcpy(x.bytes + x.n, &be, 4);
        x.n += 4;
    }
    put(dir, "train-images-idx3-ubyte", &x);
    x = labels(2);
    put(dir, "train-labels-idx1-ubyte", &x);
    struct dataset_source s = idx_source(dir);
    struct dataset *d = NULL;
    struct mag_err err = {0};
    cr_assert_eq(dataset_open(&s, &d, &err), MAG_OK, "%s", err.text);
    cr_expect_eq(d->shape.c, 2);
    cr_expect_eq(d->shape.w, 2);
    cr_expect_float_eq((double)d->values[7], 3.5, 0);
    dataset_destroy(d);
    remove_tree(dir);
    free(dir);
}

/* Each row breaks one file of a good set. */
Test(dataset, each_broken_idx_file_has_one_clear_message)
{
    const uint32_t rows = 20;
    struct idx wrong_count = labels(19);
    struct idx torn = images(20);
    torn.n -= 5;
    struct idx torn_head = images(20);
    torn_head.n = 9;
    struct idx empty = {.n = 0};
    struct idx text = {.n = 12};
    memcpy(text.bytes, "hello, world", 12);
    struct idx shorts = idx_of(0x0b, 1, &rows, 40);
    struct idx zero_rows = idx_of(8, 3, (const uint32_t[]){0, 3, 4}, 0);
    struct idx huge = idx_of(8, 3, (const uint32_t[]){0xffffffff, 0xffffffff, 4}, 0);
    struct idx five_dims = idx_of(8, 5, (const uint32_t[]){20, 1, 1, 3, 4}, 240);
    struct idx other_shape = idx_of(8, 3, (const uint32_t[]){5, 4, 4}, 80);
    struct idx label_image = images(20);
    const struct {
        const char *file;
        const struct idx *with;
        enum mag_status status;
        const char *says;
    } table[] = {
        {"train-labels-idx1-ubyte", &wrong_count, MAG_CORRUPT, "holds 20 examples, but"},
        {"train-images-idx3-ubyte", &torn, MAG_CORRUPT, "ends after 235 of 240 bytes"},
        {"train-images-idx3-ubyte", &torn_head, MAG_CORRUPT, "header"},
        {"train-images-idx3-ubyte", &empty, MAG_CORRUPT, "header"},
        {"train-images-idx3-ubyte", &text, MAG_CORRUPT, "not an IDX file"},
        {"train-labels-idx1-ubyte", &shorts, MAG_UNSUPPORTED, "type 0x0b"},
        {"train-images-idx3-ubyte", &zero_rows, MAG_CORRUPT, "dimension 1 is 0"},
        {"train-images-idx3-ubyte", &huge, MAG_CORRUPT, "dimension 1 is 4294967295"},
        {"train-images-idx3-ubyte", &five_dims, MAG_CORRUPT, "not an IDX file"},
        {"t10k-images-idx3-ubyte", &other_shape, MAG_CORRUPT, "another shape"},
        {"train-labels-idx1-ubyte", &label_image, MAG_CORRUPT, "labels must be"},
        {"t10k-labels-idx1-ubyte.gz", &text, MAG_CORRUPT, "not an IDX file"},
        {"train-labels-idx1-ubyte", NULL, MAG_NOTFOUND, "no file"},
        {"t10k-labels-idx1-ubyte.gz", NULL, MAG_NOTFOUND, "t10k-labels"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char *dir = temp_folder();
        put_all(dir);
        char *gz = xasprintf("%s/train-images-idx3-ubyte.gz", dir);
        if (strncmp(table[i].file, "train-images", 12) == 0) {
            cr_assert_eq(unlink(gz), 0);
        }
        free(gz);
        if (table[i].with != NULL) {
            put(dir, table[i].file, table[i].with);
        } else {
            char *path = xasprintf("%s/%s", dir, table[i].file);
            cr_assert_eq(unlink(path), 0);
            free(path);
        }
        struct dataset_source s = idx_source(dir);
        struct dataset *d = NULL;
        struct mag_err err = {0};
        enum mag_status st = dataset_open(&s, &d, &err);
        cr_expect_eq(st, table[i].status, "row %zu: %d %s", i, (int)st, err.text);
        cr_expect_not_null(strstr(err.text, table[i].says), "row %zu: %s", i, err.text);
        cr_expect_not_null(strstr(err.text, dir), "row %zu names no file: %s", i, err.text);
        cr_expect_null(d);
        remove_tree(dir);
        free(dir);
    }
}

Test(dataset, a_torn_gz_file_is_an_error_at_every_length)
{
    char *dir = temp_folder();
    put_all(dir);
    char *path = xasprintf("%s/train-images-idx3-ubyte.gz", dir);
    size_t n = 0;
    char *whole = read_file(path, &n);
    struct dataset_source s = idx_source(dir);
    for (size_t cut = 0; cut + 8 < n; cut += 1 + n / 40) {
        struct dataset *d = NULL;
        struct mag_err err = {0};
        write_file(path, whole, cut);
        cr_expect_eq(dataset_open(&s, &d, &err), MAG_CORRUPT, "cut at %zu of %zu: %s", cut, n,
                     err.text);
        dataset_destroy(d);
    }
    free(whole);
    free(path);
    remove_tree(dir);
    free(dir);
}

Test(dataset, a_missing_folder_is_named)
{
    struct dataset_source s = idx_source("/tmp/magpie-no-such-folder");
    struct dataset *d = NULL;
    struct mag_err err = {0};
    cr_expect_eq(dataset_open(&s, &d, &err), MAG_NOTFOUND);
    cr_expect_not_null(strstr(err.text, "no folder /tmp/magpie-no-such-folder"), "%s", err.text);
}

/* ---- the split ---- */

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

Test(dataset, the_split_is_a_partition_that_the_seed_alone_decides)
{
    struct dataset *d = toy_dataset((struct shape){3, 1, 1, true}, 3, 100);
    struct dataset_source s = {.path = (char *)(uintptr_t) "toy"};
    uint32_t first[100];
    cr_assert_eq(dataset_split(d, &s, 9, 0.1, NULL), MAG_OK);
    cr_expect_eq(d->n_test, 20);
    cr_expect_eq(d->n_val, 8);
    cr_expect_eq(d->n_train, 72);
    memcpy(first, d->order, sizeof(first));
    cr_assert_eq(dataset_split(d, &s, 10, 0.1, NULL), MAG_OK);
    cr_expect(memcmp(first, d->order, sizeof(first)) != 0);
    cr_assert_eq(dataset_split(d, &s, 9, 0.1, NULL), MAG_OK);
    cr_expect_arr_eq(first, d->order, sizeof(first));
    for (uint32_t i = 0; i < d->n_test; i++) {
        cr_expect_geq(d->test[i], 80, "given test rows stay the test part");
    }
    qsort(first, 100, sizeof(first[0]), by_number);
    for (uint32_t i = 0; i < 100; i++) {
        cr_assert_eq(first[i], i);
    }
    s.limit = 30;
    cr_assert_eq(dataset_split(d, &s, 9, 0.1, NULL), MAG_OK);
    cr_expect_eq(d->n_train, 27);
    cr_expect_eq(d->n_val, 3);
    struct mag_err err = {0};
    s.limit = 5;
    cr_expect_eq(dataset_split(d, &s, 9, 0.1, &err), MAG_INVALID);
    cr_expect_not_null(strstr(err.text, "too few"), "%s", err.text);
    dataset_destroy(d);
}

/* ---- folds ---- */

static void split_fold(struct dataset *d, const struct dataset_source *s, struct dataset_part *p,
                       int fold)
{
    struct mag_err err = {0};
    p->fold = fold;
    cr_assert_eq(dataset_split_part(d, s, 9, p, &err), MAG_OK, "%s", err.text);
}

static int most_of_a_class(const struct dataset *d)
{
    int n[16] = {0};
    int most = 0;
    for (uint32_t i = 0; i < d->n_val; i++) {
        int k = ++n[d->labels[d->val[i]]];
        most = k > most ? k : most;
    }
    return most;
}

Test(dataset, folds_are_disjoint_and_together_all_rows_but_the_test_part)
{
    struct dataset *d = toy_dataset((struct shape){3, 1, 1, true}, 3, 100);
    struct dataset_source s = {.path = (char *)(uintptr_t) "toy"};
    for (int stratified = 0; stratified <= 1; stratified++) {
        struct dataset_part p = {.folds = 7, .seed = 4, .stratified = stratified != 0};
        int held[100] = {0};
        for (int fold = 1; fold <= 7; fold++) {
            int seen[100] = {0};
            split_fold(d, &s, &p, fold);
            cr_expect_eq(d->n_train + d->n_val, 80);
            cr_expect(d->n_val == 11 || d->n_val == 12, "%u", d->n_val);
            for (uint32_t i = 0; i < 80; i++) {
                seen[d->order[i]]++;
            }
            for (uint32_t i = 0; i < d->n_val; i++) {
                held[d->val[i]]++;
            }
            for (int i = 0; i < 80; i++) {
                cr_assert_eq(seen[i], 1, "row %d in fold %d", i, fold);
            }
            cr_expect_eq(d->n_test, 20);
            cr_expect_geq(d->test[0], 80);
        }
        for (int i = 0; i < 80; i++) {
            cr_assert_eq(held[i], 1, "row %d is held out %d times", i, held[i]);
        }
    }
    dataset_destroy(d);
}

Test(dataset, the_seed_of_the_split_alone_decides_the_folds)
{
    struct dataset *d = toy_dataset((struct shape){3, 1, 1, true}, 3, 100);
    struct dataset_source s = {.path = (char *)(uintptr_t) "toy"};
    struct dataset_part p = {.folds = 4, .seed = 4};
    uint32_t first[20];
    split_fold(d, &s, &p, 2);
    cr_assert_eq(d->n_val, 20);
    memcpy(first, d->val, sizeof(first));
    split_fold(d, &s, &p, 3);
    cr_expect(memcmp(first, d->val, sizeof(first)) != 0);
    p.seed = 5;
    split_fold(d, &s, &p, 2);
    cr_expect(memcmp(first, d->val, sizeof(first)) != 0);
    cr_assert_eq(dataset_split(d, &s, 9, 0.1, NULL), MAG_OK);
    cr_expect_eq(d->n_val, 8);
    p.seed = 4;
    split_fold(d, &s, &p, 2);
    cr_expect_arr_eq(first, d->val, sizeof(first));
    dataset_destroy(d);
}

Test(dataset, the_refit_trains_on_everything_but_the_test_part)
{
    struct dataset *d = toy_dataset((struct shape){3, 1, 1, true}, 3, 100);
    struct dataset_source s = {.path = (char *)(uintptr_t) "toy"};
    struct dataset_part p = {.folds = 4, .seed = 4};
    split_fold(d, &s, &p, 0);
    cr_expect_eq(d->n_train, 80);
    cr_expect_eq(d->n_val, 0);
    cr_expect_eq(d->n_test, 20);
    dataset_destroy(d);
}

Test(dataset, a_ratio_and_strata_keep_their_shares)
{
    struct dataset *d = toy_dataset((struct shape){3, 1, 1, true}, 2, 100);
    struct dataset_source s = {.path = (char *)(uintptr_t) "toy"};
    struct dataset_part p = {.folds = 1, .seed = 4, .train_ratio = 0.75, .stratified = true};
    for (int i = 0; i < 80; i++) {
        d->labels[i] = i < 20; /* one in four */
    }
    split_fold(d, &s, &p, 1);
    cr_expect_eq(d->n_train, 60);
    cr_expect_eq(d->n_val, 20);
    cr_expect_eq(most_of_a_class(d), 15);
    p = (struct dataset_part){.folds = 4, .seed = 4, .stratified = true};
    for (int fold = 1; fold <= 4; fold++) {
        split_fold(d, &s, &p, fold);
        cr_expect_eq(most_of_a_class(d), 15, "fold %d", fold);
    }
    dataset_destroy(d);
}

Test(dataset, too_few_rows_for_the_folds_are_refused)
{
    struct dataset *d = toy_dataset((struct shape){3, 1, 1, true}, 3, 24);
    struct dataset_source s = {.path = (char *)(uintptr_t) "toy", .limit = 3};
    struct dataset_part p = {.folds = 5, .fold = 5};
    struct mag_err err = {0};
    cr_expect_eq(dataset_split_part(d, &s, 9, &p, &err), MAG_INVALID);
    cr_expect_not_null(strstr(err.text, "fold 5 of 5 has 0"), "%s", err.text);
    dataset_destroy(d);
}

/* ---- CSV ---- */

static enum mag_status open_csv(const char *text, size_t n, const char *query, struct dataset **d,
                                struct mag_err *err)
{
    char *dir = temp_folder();
    char *path = xasprintf("%s/data.csv", dir);
    char *source = xasprintf("csv:%s?%s", path, query);
    struct mjson_issues *is = xcalloc(1, sizeof(*is));
    struct dataset_source s;
    json_t *v = json_string(source);
    write_file(path, text, n);
    cr_assert(dataset_source_parse(v, "/dataset", is, &s), "%s: %s", query,
              is->n > 0 ? is->items[0].text : "");
    enum mag_status st = dataset_open(&s, d, err);
    if (st == MAG_OK) {
        st = dataset_split(*d, &s, 1, 0.25, err);
    }
    dataset_source_fini(&s);
    json_decref(v);
    mjson_issues_fini(is);
    free(is);
    remove_tree(dir);
    free(dir);
    free(path);
    free(source);
    return st;
}

Test(dataset, a_list_of_one_number_is_a_list_of_texts)
{
    static const char text[] = "1,-1,y\n2,-1,a\n3,-1,b\n4,5,a\n5,-1,b\n";
    struct dataset *d = NULL;
    struct mag_err err = {0};
    cr_assert_eq(open_csv(text, sizeof(text) - 1, "label=y&ignore=1&missing=-1&columns=-1:category&test=0",
                          &d, &err),
                 MAG_OK, "%s", err.text);
    cr_expect_eq(d->shape.c, 1, "of the one column that is left only 5 is a category: %d", d->shape.c);
    dataset_destroy(d);
}

Test(dataset, csv_is_read_with_quotes_blank_lines_and_named_classes)
{
    static const char text[] = "\xef\xbb\xbf\"a, b\",id,c,species\r\n"
                               "1,x,2.5,setosa\r\n\r\n"
                               " 2 ,y,\"3.5\",\"with \"\"quotes\"\"\"\n"
                               "3,z,-1e3,setosa\n"
                               "4,w,.5,b\n";
    struct dataset *d = NULL;
    struct mag_err err = {0};
    cr_assert_eq(open_csv(text, sizeof(text) - 1,
                          "label=species&ignore=id&standardize=false&test=0", &d, &err),
                 MAG_OK, "%s", err.text);
    cr_expect_eq(d->n_rows, 4);
    cr_expect_eq(d->shape.c, 2);
    cr_expect_eq(d->n_classes, 3);
    cr_expect_float_eq((double)d->values[3], 3.5, 1e-6);
    cr_expect_float_eq((double)d->values[5], -1000, 1e-3);
    cr_expect_eq(d->labels[0], 1, "classes are numbered in sorted order: b, setosa, with");
    cr_expect_eq(d->labels[1], 2);
    cr_expect_eq(d->labels[3], 0);
    cr_expect_eq(d->n_test, 0);
    cr_expect_eq(d->n_val, 1);
    dataset_destroy(d);
}

Test(dataset, csv_numeric_classes_sort_as_numbers)
{
    static const char text[] = "x,y\n1,10\n2,9\n3,2\n4,10\n";
    struct dataset *d = NULL;
    struct mag_err err = {0};
    cr_assert_eq(open_csv(text, sizeof(text) - 1, "label=y&test=0", &d, &err), MAG_OK, "%s",
                 err.text);
    cr_expect_eq(d->labels[0], 2);
    cr_expect_eq(d->labels[2], 0);
    cr_expect_eq(d->n_test, 0);
    dataset_destroy(d);
}

Test(dataset, csv_features_are_standardised_by_the_training_part)
{
    struct buf b = {0};
    buf_adds(&b, "x;constant;y\n");
    for (int i = 0; i < 40; i++) {
        buf_addf(&b, "%d;7;%d.5\n", 100 + i * i, i);
    }
    struct dataset *d = NULL;
    struct mag_err err = {0};
    cr_assert_eq(open_csv(b.data, b.len, "label=y&task=regression&separator=;", &d, &err), MAG_OK,
                 "%s", err.text);
    double sum = 0;
    double squares = 0;
    for (uint32_t i = 0; i < d->n_train; i++) {
        double v = (double)d->values[d->train[i] * 2];
        sum += v;
        squares += v * v;
        cr_expect_float_eq((double)d->values[d->train[i] * 2 + 1], 0, 0);
    }
    cr_expect_float_eq(sum / d->n_train, 0, 1e-5);
    cr_expect_float_eq(squares / d->n_train, 1, 1e-4);
    cr_expect_eq(d->n_classes, 0);
    cr_expect_float_eq((double)d->targets[3], 3.5, 0);
    dataset_destroy(d);
    buf_fini(&b);
}

Test(dataset, each_broken_csv_file_has_one_clear_message)
{
    const struct {
        const char *text, *query, *says;
        enum mag_status status;
    } table[] = {
        {"", "label=y", "empty", MAG_INVALID},
        {"x,y\n", "label=y", "no rows", MAG_INVALID},
        {"x,y\n1,2\n", "label=z", "no column \"z\"", MAG_INVALID},
        {"x,species\n1,2\n", "label=specis", "did you mean \"species\"", MAG_INVALID},
        {"x,y\n1,2\n", "label=y&ignore=q", "no column \"q\"", MAG_INVALID},
        {"y\n1\n", "label=y", "no column beside the label", MAG_INVALID},
        {"x,y\n1,a\n2\n", "label=y", ":3: 1 fields, but the header names 2", MAG_INVALID},
        {"x,y\n1,a\n1,2,3\n", "label=y", ":3: 3 fields", MAG_INVALID},
        {"x,y\n1,a\n,b\n1,a\n1,a\n1,a\n", "label=y&test=0",
         "column \"x\" lacks 1 value, first in example 2; put {\"type\": \"impute\"}", MAG_INVALID},
        {"x,y\n1,a\n2,b\nred,a\n", "label=y", ":4: column \"x\" holds \"red\", which is no number",
         MAG_INVALID},
        {"x,y\nred,a\n", "label=y&columns=x:number", "\"red\", which is no number", MAG_INVALID},
        {"x,y\nred,a\n", "label=y&columns=x:boolean", "neither true nor false", MAG_INVALID},
        {"x,y\n1,a\n", "label=y&columns=z:number", "no column \"z\"", MAG_INVALID},
        {"x,x,y\n1,2,a\n", "label=y", "\"x\" stands in its header twice", MAG_INVALID},
        {"x\xff,y\n1,a\n", "label=y", "column 1 is no UTF-8", MAG_INVALID},
        {"x,y\n1e99,a\n", "label=y", "no number", MAG_INVALID},
        {"x,y\n1,a\n", "label=y&task=regression", "no number", MAG_INVALID},
        {"x,y\n1,\"a\n", "label=y", "quote", MAG_INVALID},
        {"x,y\n1,\"a\"b\n", "label=y", "quote", MAG_INVALID},
        {"x,y\n1,a\n2,a\n", "label=y", "every row has the same", MAG_INVALID},
        {"x,y\n1,a\n2,b\n", "label=y", "too few", MAG_INVALID},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct dataset *d = NULL;
        struct mag_err err = {0};
        enum mag_status st =
            open_csv(table[i].text, strlen(table[i].text), table[i].query, &d, &err);
        cr_expect_eq(st, table[i].status, "row %zu: %d %s", i, (int)st, err.text);
        cr_expect_not_null(strstr(err.text, table[i].says), "row %zu: %s", i, err.text);
        dataset_destroy(d);
    }
}

Test(dataset, csv_lines_are_limited)
{
    struct dataset *d = NULL;
    struct mag_err err = {0};
    size_t n = DATASET_LINE_MAX + 100;
    char *text = xmalloc(n + 8);
    memset(text, '1', n + 8);
    memcpy(text, "x,y\n", 4);
    text[n] = '\n';
    cr_expect_eq(open_csv(text, n + 1, "label=y", &d, &err), MAG_LIMIT, "%s", err.text);
    free(text);
}

/* ---- sources ---- */

Test(dataset, each_broken_source_has_a_message)
{
    const struct {
        const char *json, *says;
    } table[] = {
        {"\"fashion-mnist\"", "is no data set"},
        {"\"parquet:/x\"", "unknown data set format \"parquet\""},
        {"\"csv:/x\"", "needs a label"},
        {"\"csv:/x?label\"", "not of the form name=value"},
        {"\"csv:/x?label=y&tset=0.1\"", "did you mean \"test\""},
        {"\"csv:/x?label=y&test=0.95\"", "0 to 0.9"},
        {"\"csv:/x?label=y&test=a\"", "0 to 0.9"},
        {"\"csv:/x?label=y&task=ranking\"", "not \"ranking\""},
        {"\"csv:/x?label=y&separator=ab\"", "separator"},
        {"\"csv:/x?label=y&limit=0\"", "limit"},
        {"\"csv:/x?label=y&columns=a:float\"", "the column \"a\" is number, category"},
        {"{\"format\":\"csv\",\"path\":\"/x\",\"label\":\"y\",\"columns\":7}", "must say what columns hold"},
        {"\"idx:\"", "\"path\" must be a text"},
        {"{\"format\":\"idx\"}", "needs a \"path\""},
        {"{\"path\":\"/x\"}", "unknown data set format"},
        {"{\"format\":\"csv\",\"path\":\"/x\",\"label\":3}", "must be a text"},
        {"{\"format\":\"csv\",\"path\":\"/x\",\"label\":\"y\",\"ignore\":[1]}", "must be a list of texts"},
        {"{\"format\":\"csv\",\"path\":\"/x\",\"label\":\"y\",\"missing\":3}", "must be a list of texts"},
        {"7", "not a whole number"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct mjson_issues *is = xcalloc(1, sizeof(*is));
        struct dataset_source s;
        json_t *v = json_loads(table[i].json, JSON_DECODE_ANY, NULL);
        cr_expect_not(dataset_source_parse(v, "/trial/dataset", is, &s), "%s", table[i].json);
        cr_expect(is->n > 0 && strstr(is->items[0].text, table[i].says) != NULL, "%s: %s",
                  table[i].json, is->n > 0 ? is->items[0].text : "no issue");
        json_decref(v);
        mjson_issues_fini(is);
        free(is);
    }
}

/* ---- a column of folds ---- */

static enum mag_status open_folds(const char *text, struct dataset **d, struct dataset_source *s,
                                  struct mag_err *err)
{
    char *dir = temp_folder();
    *s = (struct dataset_source){.format = &dataset_csv,
                                 .path = xasprintf("%s/data.csv", dir),
                                 .label = xstrdup("y"),
                                 .separator = ',',
                                 .standardize = true,
                                 .fold_column = xstrdup("part")};
    write_file(s->path, text, strlen(text));
    enum mag_status st = dataset_open(s, d, err);
    remove_tree(dir);
    free(dir);
    return st;
}

Test(dataset, a_column_says_the_fold_and_is_no_feature)
{
    static const char text[] = "a,part,y\n1,0,u\n2,1,v\n3,0,u\n4,1,v\n5,2,u\n6,2,v\n";
    struct dataset_source s;
    struct dataset *d = NULL;
    struct mag_err err = {0};
    cr_assert_eq(open_folds(text, &d, &s, &err), MAG_OK, "%s", err.text);
    cr_expect_eq(d->shape.c, 1);
    cr_expect_str_eq(d->raw->columns.columns[0].name, "a");
    struct dataset_part p = {.folds = 3, .column = s.fold_column};
    for (int fold = 1; fold <= 3; fold++) {
        split_fold(d, &s, &p, fold);
        cr_assert_eq(d->n_val, 2);
        for (uint32_t i = 0; i < 2; i++) {
            cr_expect_eq(d->fold_of[d->val[i]], fold - 1);
        }
    }
    p.folds = p.fold = 2;
    cr_expect_eq(dataset_split_part(d, &s, 9, &p, &err), MAG_INVALID);
    cr_expect_not_null(strstr(err.text, "holds the fold 2; with 2 folds they are 0 to 1"), "%s",
                       err.text);
    dataset_destroy(d);
    dataset_source_fini(&s);
}

Test(dataset, faults_of_a_column_of_folds_name_it)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"a,prt,y\n1,0,u\n2,1,v\n", "no column \"part\"; did you mean \"prt\"?"},
        {"a,part,y\n1,0,u\n2,0.5,v\n", ":3: column \"part\" holds \"0.5\"; folds are 0, 1"},
        {"a,part,y\n1,-1,u\n2,1,v\n", ":2: column \"part\" holds \"-1\""},
        {"a,part,y\n1,one,u\n2,1,v\n", ":2: column \"part\" holds \"one\", which is no number"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct dataset_source s;
        struct dataset *d = NULL;
        struct mag_err err = {0};
        cr_expect_eq(open_folds(cases[i].text, &d, &s, &err), MAG_INVALID);
        cr_expect_not_null(strstr(err.text, cases[i].want), "%s", err.text);
        dataset_source_fini(&s);
    }
}
