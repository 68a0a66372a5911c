/* SPDX-License-Identifier: Apache-2.0
 *
 * Formats of data sets: what their readers make of small files written here, and the one clear
 * message for each broken one. tests/trainer/formats_test.py reads what other libraries wrote.
 */
#include "support.h"

#include "base/alloc.h"
#include "base/crc32c.h"
#include "base/tfrecord.h"
#include "trainer/format.h"
#include "trainer/zip.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

/* Opens `query` with %s replaced by a folder that holds `file`. */
static enum mag_status open_as(const char *source, const char *file, const void *bytes, size_t n,
                               struct dataset **d, struct mag_err *err)
{
    char *dir = temp_folder();
    char *path = xasprintf("%s/%s", dir, file);
    struct buf text = {0};
    for (const char *p = source; *p != '\0'; p++) {
        if (*p == '@') {
            buf_adds(&text, dir);
        } else {
            buf_addc(&text, *p);
        }
    }
    write_file(path, bytes, n);
    struct mjson_issues *is = xcalloc(1, sizeof(*is));
    struct dataset_source s;
    json_t *v = json_string(text.data);
    cr_assert(dataset_source_parse(v, "/dataset", is, &s), "%s: %s", source,
              is->n > 0 ? is->items[0].text : "");
    enum mag_status st = dataset_open(&s, d, err);
    dataset_source_fini(&s);
    json_decref(v);
    mjson_issues_fini(is);
    free(is);
    buf_fini(&text);
    remove_tree(dir);
    free(dir);
    free(path);
    return st;
}

Test(formats, every_format_is_found_by_its_name_and_its_suffixes)
{
    for (int i = 0; dataset_formats[i] != NULL; i++) {
        const struct dataset_format *f = dataset_formats[i];
        cr_expect_eq(dataset_format_named(f->name, strlen(f->name)), f);
        cr_expect_eq(strncmp(f->example, f->name, strlen(f->name)), 0, "%s", f->example);
        for (int k = 0; f->suffixes != NULL && f->suffixes[k] != NULL; k++) {
            char *path = xasprintf("folder/a%s", f->suffixes[k]);
            cr_expect_eq(dataset_format_of(path), f, "%s", path);
            free(path);
        }
    }
    cr_expect_eq(dataset_format_of("a.csv.gz"), &dataset_csv);
    cr_expect_null(dataset_format_of("folder"));
    cr_expect_null(dataset_format_named("parquet", 7));
}

/* ---- .npy ---- */

/* A file with this dictionary and n bytes of values. */
static struct buf npy(const char *dictionary, int version, size_t n)
{
    struct buf b = {0};
    size_t len = strlen(dictionary);
    buf_add(&b, "\x93NUMPY", 6);
    buf_addc(&b, (char)version);
    buf_addc(&b, 0);
    buf_addc(&b, (char)(len & 255));
    buf_addc(&b, (char)(len >> 8));
    if (version > 1) {
        buf_add(&b, "\0\0", 2);
    }
    buf_adds(&b, dictionary);
    for (size_t i = 0; i < n; i++) {
        buf_addc(&b, 0);
    }
    return b;
}

Test(formats, each_broken_npy_file_has_one_clear_message)
{
    static const struct {
        const char *dictionary;
        int version;
        size_t n;
        const char *says;
        enum mag_status status;
    } table[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", 1, 15, "torn", MAG_CORRUPT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", 4, 16, "no .npy file",
         MAG_CORRUPT},
        {"{'descr': '<c8', 'fortran_order': False, 'shape': (2, 2), }", 1, 32, "type <c8",
         MAG_UNSUPPORTED},
        {"{'descr': '<U3', 'fortran_order': False, 'shape': (2,), }", 1, 24, "type <U3",
         MAG_UNSUPPORTED},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", 1, 8,
         "no single number", MAG_UNSUPPORTED},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", 1, 8, "type |O",
         MAG_UNSUPPORTED},
        {"{'descr': '<f4', 'shape': (2, 2), }", 1, 16, "order", MAG_CORRUPT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, x), }", 1, 16, "shape", MAG_INVALID},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1), }", 1, 4,
         "over 4 dimensions", MAG_INVALID},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 1, 4, "0 dimensions",
         MAG_INVALID},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4), }", 1, 0, "dimension 1 is 0",
         MAG_LIMIT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 4), }", 1, 0,
         "dimension 1", MAG_LIMIT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 65537), }", 1, 65537 * 4,
         "1 to 65536", MAG_LIMIT},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct buf b = npy(table[i].dictionary, table[i].version, table[i].n);
        struct dataset *d = NULL;
        struct mag_err err = {0};
        enum mag_status st = open_as("npy:@/x.npy?label=@/x.npy", "x.npy", b.data, b.len, &d, &err);
        cr_expect_eq(st, table[i].status, "row %zu: %d %s", i, (int)st, err.text);
        cr_expect_not_null(strstr(err.text, table[i].says), "row %zu: %s", i, err.text);
        buf_fini(&b);
    }
}

Test(formats, npy_widths_are_read_up_to_their_limit)
{
    struct buf b =
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 65536), }", 2, 65536 * 4);
    struct dataset *d = NULL;
    struct mag_err err = {0};
    cr_expect_eq(open_as("npy:@/x.npy?label=@/x.npy", "x.npy", b.data, b.len, &d, &err), MAG_INVALID);
    cr_expect_not_null(strstr(err.text, "labels are one number an example"), "%s", err.text);
    buf_fini(&b);
}

Test(formats, an_npy_file_cut_anywhere_is_refused)
{
    struct buf b = npy("{'descr': '<i8', 'fortran_order': True, 'shape': (3,), }", 1, 24);
    for (size_t n = 0; n < b.len; n += n < 12 ? 1 : 5) {
        struct dataset *d = NULL;
        struct mag_err err = {0};
        cr_expect_neq(open_as("npy:@/x.npy?label=@/x.npy", "x.npy", b.data, n, &d, &err), MAG_OK);
        cr_expect_not_null(strstr(err.text, "x.npy"), "%s", err.text);
    }
    struct dataset *d = NULL;
    struct mag_err err = {0};
    cr_expect_eq(open_as("npy:@/x.npy?label=@/x.npy", "x.npy", b.data, b.len, &d, &err), MAG_OK,
                 "%s", err.text);
    dataset_destroy(d);
    buf_fini(&b);
}

Test(formats, nan_and_labels_that_are_no_classes_are_named)
{
    struct buf b = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1), }", 1, 0);
    const float good[3] = {0, 1, 2};
    const float nan[3] = {0, 1, __builtin_nanf("")};
    const float half[3] = {0, 1, 0.5f};
    const struct {
        const float *v;
        const char *says;
    } table[] = {{good, NULL}, {nan, "example 3 holds NaN"}, {half, "task=regression"}};
    for (size_t i = 0; i < 3; i++) {
        struct buf whole = {0};
        struct dataset *d = NULL;
        struct mag_err err = {0};
        buf_add(&whole, b.data, b.len);
        buf_add(&whole, table[i].v, 12);
        enum mag_status st =
            open_as("npy:@/x.npy?label=@/x.npy", "x.npy", whole.data, whole.len, &d, &err);
        cr_expect_eq(st, table[i].says == NULL ? MAG_OK : MAG_INVALID, "%s", err.text);
        cr_expect(table[i].says == NULL || strstr(err.text, table[i].says) != NULL, "%s", err.text);
        dataset_destroy(d);
        buf_fini(&whole);
    }
    buf_fini(&b);
}

/* ---- zip ---- */

static void add_number(struct buf *b, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) {
        buf_addc(b, (char)(v >> (8 * i)));
    }
}

/* A zip file with one stored entry "x.npy". */
static struct buf zip_of(const struct buf *content, int method, uint32_t crc, uint16_t flags)
{
    struct buf b = {0};
    for (int central = 0; central < 2; central++) {
        buf_add(&b, central ? "PK\1\2\24\0\24\0" : "PK\3\4\24\0", central ? 8 : 6);
        add_number(&b, flags, 2);
        add_number(&b, (uint64_t)method, 2);
        add_number(&b, 0, 4);
        add_number(&b, crc, 4);
        add_number(&b, content->len, 4);
        add_number(&b, content->len, 4);
        add_number(&b, 5, 2);
        add_number(&b, 0, 2);
        if (central) {
            add_number(&b, 0, 6);
            add_number(&b, 0, 8);
        }
        buf_adds(&b, "x.npy");
        if (!central) {
            buf_add(&b, content->data, content->len);
        }
    }
    size_t at = 30 + 5 + content->len;
    size_t size = b.len - at;
    buf_add(&b, "PK\5\6\0\0\0\0", 8);
    add_number(&b, 1, 2);
    add_number(&b, 1, 2);
    add_number(&b, size, 4);
    add_number(&b, at, 4);
    add_number(&b, 0, 2);
    return b;
}

Test(formats, each_broken_zip_file_has_one_clear_message)
{
    struct buf x = npy("{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }", 1, 24);
    uint32_t crc = (uint32_t)crc32(0, (const unsigned char *)x.data, (unsigned)x.len);
    const struct {
        int method;
        uint32_t crc;
        uint16_t flags;
        const char *says;
    } table[] = {{0, crc, 0, NULL},
                 {0, crc + 1, 0, "check sum"},
                 {8, crc, 0, "damaged"},
                 {9, crc, 0, "packed in another way"},
                 {0, crc, 1, "encrypted"}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct buf b = zip_of(&x, table[i].method, table[i].crc, table[i].flags);
        struct dataset *d = NULL;
        struct mag_err err = {0};
        enum mag_status st =
            open_as("npz:@/d.npz?input=x&label=x", "d.npz", b.data, b.len, &d, &err);
        cr_expect_eq(st == MAG_OK, table[i].says == NULL, "row %zu: %s", i, err.text);
        cr_expect(table[i].says == NULL || strstr(err.text, table[i].says) != NULL, "row %zu: %s", i,
                  err.text);
        dataset_destroy(d);
        for (size_t n = 0; i == 0 && n < b.len; n += 3) {
            struct mag_err torn = {0};
            cr_expect_neq(open_as("npz:@/d.npz?input=x&label=x", "d.npz", b.data, n, &d, &torn),
                          MAG_OK, "cut at %zu", n);
            cr_expect_not_null(strstr(torn.text, "d.npz"), "cut at %zu: %s", n, torn.text);
        }
        buf_fini(&b);
    }
    buf_fini(&x);
}

/* ---- safetensors ---- */

Test(formats, each_broken_safetensors_file_has_one_clear_message)
{
    static const struct {
        const char *head;
        const char *says;
    } table[] = {
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", NULL},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,4]}}", "torn, or its head"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[1,5]}}", "torn, or its head"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}", "torn, or its head"},
        {"{\"x\":{\"dtype\":\"C64\",\"shape\":[4],\"data_offsets\":[0,4]}}", "type C64"},
        {"{\"x\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", "no shape"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[1,1,1,2,2],\"data_offsets\":[0,4]}}", "dimensions"},
        {"{\"x\":7}", "type ?"},
        {"{\"q\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", "it holds q"},
        {"[]", "no JSON object"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct buf b = {0};
        struct dataset *d = NULL;
        struct mag_err err = {0};
        add_number(&b, strlen(table[i].head), 8);
        buf_adds(&b, table[i].head);
        buf_add(&b, "\0\1\2\3", 4);
        enum mag_status st = open_as("safetensors:@/d.safetensors?input=x&label=x", "d.safetensors",
                                     b.data, b.len, &d, &err);
        cr_expect_eq(st == MAG_OK, table[i].says == NULL, "row %zu: %s", i, err.text);
        cr_expect(table[i].says == NULL || strstr(err.text, table[i].says) != NULL, "row %zu: %s", i,
                  err.text);
        dataset_destroy(d);
        buf_fini(&b);
    }
}

/* ---- libsvm ---- */

static enum mag_status open_svm(const char *text, const char *query, struct dataset **d,
                                struct mag_err *err)
{
    char *source = xasprintf("libsvm:@/d.svm%s", query);
    enum mag_status st = open_as(source, "d.svm", text, strlen(text), d, err);
    free(source);
    return st;
}

Test(formats, libsvm_rows_stay_sparse_while_few_values_are_there)
{
    struct dataset *d = NULL;
    struct mag_err err = {0};
    cr_assert_eq(open_svm("+1 1:0.5 9:2 # remark\n\n-1 qid:3 20:-1e2\n1\n# all\n-1 3:0 4:7\n", "", &d,
                          &err),
                 MAG_OK, "%s", err.text);
    float rows[4][20];
    cr_assert_eq(d->n_rows, 4);
    cr_assert_eq(d->shape.c, 20);
    cr_assert_not_null(d->sparse);
    dataset_gather(d, (const uint32_t[]){0, 1, 2, 3}, 4, rows[0]);
    cr_expect(rows[0][0] == 0.5f && rows[0][8] == 2 && rows[1][19] == -100 && rows[3][3] == 7);
    double sum = 0;
    for (int i = 0; i < 80; i++) {
        sum += (double)rows[i / 20][i % 20];
    }
    cr_expect_float_eq(sum, 0.5 + 2 - 100 + 7, 1e-6);
    cr_expect_eq(d->n_classes, 2);
    cr_expect_str_eq(d->class_names[0], "-1");
    cr_expect(d->labels[0] == 1 && d->labels[1] == 0 && d->labels[2] == 1);
    dataset_destroy(d);
    cr_assert_eq(open_svm("1 0:1 1:2\n2 0:3\n", "?zero_based=true&task=regression", &d, &err), MAG_OK,
                 "%s", err.text);
    cr_expect_null(d->sparse);
    cr_expect(d->values[0] == 1 && d->values[1] == 2 && d->values[2] == 3 && d->targets[1] == 2);
    dataset_destroy(d);
}

Test(formats, each_broken_libsvm_file_has_one_clear_message)
{
    static const struct {
        const char *text, *query, *says;
        enum mag_status status;
    } table[] = {
        {"", "", "no examples", MAG_INVALID},
        {"1\n-1\n", "", "no examples with values", MAG_INVALID},
        {"a 1:2\n", "", ":1: a label must be one number: \"a\"", MAG_INVALID},
        {"1,3 1:2\n", "", "one number: \"1,3\"", MAG_INVALID},
        {"1 1:2\n-1 2\n", "", ":2: no index:value: \"2\"", MAG_INVALID},
        {"1 1:x\n", "", "no number: \"1:x\"", MAG_INVALID},
        {"1 1:inf\n", "", "no number", MAG_INVALID},
        {"1 2:1 1:1\n", "", "must rise", MAG_INVALID},
        {"1 1:1 1:1\n", "", "must rise", MAG_INVALID},
        {"1 0:1\n", "", "zero_based=true", MAG_INVALID},
        {"1 1:1\n1 1:2\n", "", "the same label", MAG_INVALID},
        {"1 5:1\n-1 1:1\n", "?features=4", "index 5; they run from 1 to 4", MAG_LIMIT},
        {"1 1048577:1\n-1 1:1\n", "", "from 1 to 1048576", MAG_LIMIT},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct dataset *d = NULL;
        struct mag_err err = {0};
        enum mag_status st = open_svm(table[i].text, table[i].query, &d, &err);
        cr_expect_eq(st, table[i].status, "row %zu: %d %s", i, (int)st, err.text);
        cr_expect_not_null(strstr(err.text, table[i].says), "row %zu: %s", i, err.text);
    }
    struct dataset *d = NULL;
    struct mag_err err = {0};
    cr_expect_eq(open_svm("1 1048576:1\n-1 1:1\n", "", &d, &err), MAG_OK, "%s", err.text);
    dataset_destroy(d);
}

/* ---- texts, records, pictures: their limits ---- */

Test(formats, a_text_may_be_as_long_as_its_limit_and_no_longer)
{
    for (int over = 0; over < 2; over++) {
        char *dir = temp_folder();
        char *source = xasprintf("text:%s", dir);
        struct mjson_issues is = {0};
        struct dataset_source s;
        struct dataset *d = NULL;
        struct mag_err err = {0};
        for (int i = 0; i < 2; i++) {
            char *folder = xasprintf("%s/%c", dir, 'a' + i);
            char *path = xasprintf("%s/t", folder);
            size_t n = i == 0 ? (size_t)DATASET_LINE_MAX + (size_t)over : 3;
            char *text = xcalloc(n + 1, 1);
            memset(text, 'w', n);
            cr_assert_eq(mkdir(folder, 0700), 0);
            write_file(path, text, n);
            free(text);
            free(path);
            free(folder);
        }
        json_t *v = json_string(source);
        cr_assert(dataset_source_parse(v, "", &is, &s));
        enum mag_status st = dataset_open(&s, &d, &err);
        cr_expect_eq(st == MAG_OK, over == 0, "%d: %s", (int)st, err.text);
        cr_expect(over == 0 || strstr(err.text, "/a/t") != NULL, "%s", err.text);
        dataset_destroy(d);
        dataset_source_fini(&s);
        json_decref(v);
        free(source);
        remove_tree(dir);
        free(dir);
    }
}

/* The head of a record of that length, with its check sum, and nothing behind it. */
static void add_head(struct buf *b, uint64_t n)
{
    unsigned char head[8];
    for (int i = 0; i < 8; i++) {
        head[i] = (unsigned char)(n >> (8 * i));
    }
    uint32_t crc = crc32c(0, head, 8);
    buf_add(b, head, 8);
    add_number(b, (uint32_t)((crc >> 15 | crc << 17) + 0xa282ead8u), 4);
}

Test(formats, records_are_read_up_to_their_limit)
{
    static const struct {
        uint64_t n;
        const char *says;
        enum mag_status status;
    } table[] = {{256 << 20, "record 1 is torn", MAG_CORRUPT},
                 {(256 << 20) + 1, "over 268435456 bytes", MAG_LIMIT},
                 {UINT64_MAX, "over 268435456 bytes", MAG_LIMIT}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct buf b = {0};
        struct dataset *d = NULL;
        struct mag_err err = {0};
        add_head(&b, table[i].n);
        cr_expect_eq(open_as("tfrecord:@/d.tfrecord?label=y", "d.tfrecord", b.data, b.len, &d, &err),
                     table[i].status, "%s", err.text);
        cr_expect_not_null(strstr(err.text, table[i].says), "%s", err.text);
        buf_fini(&b);
    }
}

Test(formats, records_that_are_no_examples_are_refused)
{
    static const char *const records[] = {"", "\x0a", "\x0a\x05zz", "no message at all",
                                          "\x0a\x04\x0a\x02\x0a\x00"};
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        struct buf b = {0};
        struct dataset *d = NULL;
        struct mag_err err = {0};
        tfrecord_add(&b, records[i], strlen(records[i]));
        cr_expect_neq(open_as("tfrecord:@/d.tfrecord?label=y", "d.tfrecord", b.data, b.len, &d, &err),
                      MAG_OK, "record %zu", i);
        cr_expect_not_null(strstr(err.text, "d.tfrecord"), "%s", err.text);
        buf_fini(&b);
    }
}
