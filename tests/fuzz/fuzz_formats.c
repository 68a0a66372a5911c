/* SPDX-License-Identifier: Apache-2.0
 *
 * Data sets of every format but those of fuzz_trainer: the first byte of the input chooses the
 * format by its letter in the table below, the rest is the file. After an f the rest is what a
 * model says of its stages, applied to a small table; after an i a picture.
 */
#include "base/alloc.h"
#include "trainer/format.h"
#include "trainer/picture.h"
#include "trainer/prep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char folder[64];

static const struct {
    char letter;
    const char *file;
    const char *source; /* @ is the folder */
} formats[] = {
    {'n', "d.npy", "npy:@/d.npy?label=@/d.npy&test=0"},
    {'z', "d.npz", "npz:@/d.npz?input=x&label=x"},
    {'t', "d.safetensors", "safetensors:@/d.safetensors?input=x&label=y&layout=nhwc"},
    {'p', "d.txt", "text:@/d.txt?test=0"},
    {'r', "d.tfrecord", "tfrecord:@/d.tfrecord?label=y&columns=t:text"},
    {'g', "g.tfrecord", "images:@/g.tfrecord?size=3&fit=pad"},
    {'s', "d.svm", "libsvm:@/d.svm?test=0.3"},
    {'c', "d.csv", "csv:@/d.csv?label=y&columns=t:text,k:category&missing=?"},
};
#define FORMATS (sizeof(formats) / sizeof(formats[0]))

static char *in_folder(const char *text)
{
    struct buf b = {0};
    for (const char *p = text; *p != '\0'; p++) {
        buf_add(&b, *p == '@' ? folder : p, *p == '@' ? strlen(folder) : 1);
    }
    return buf_take(&b);
}

static void remove_folder(void)
{
    for (size_t i = 0; i < FORMATS; i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/%s", folder, formats[i].file);
        (void)unlink(path);
    }
    (void)rmdir(folder);
}

static void write_input(const char *name, const uint8_t *data, size_t n)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "wbe");
    if (f == NULL || fwrite(data, 1, n, f) != n || fclose(f) != 0) {
        abort();
    }
}

/* A picture; every claim of size is looked at before memory is taken for it. */
static void try_picture(const uint8_t *data, size_t n)
{
    struct picture p = {0};
    struct mag_err err = {0};
    uint8_t room[3 * 5 * 4];
    bool small = n < 24 || data[0] != 0x89 || (data[16] == 0 && data[17] == 0 && data[20] == 0 && data[21] == 0);
    if (small && picture_decode(data, n, 3, "d.png", &p, &err) == MAG_OK) {
        if ((int64_t)p.width * p.height < 1 << 20) {
            for (int fit = FIT_NONE; fit <= FIT_PAD; fit++) {
                picture_fit(&p, (enum picture_fit)fit, 5, 4, room);
            }
        }
        picture_fini(&p);
    } else if (small && err.text[0] == '\0') {
        abort();
    }
}

/* What was read can be split, and gathered then. */
static void use(struct dataset *d, const struct dataset_source *s)
{
    struct mag_err err = {0};
    enum mag_status st = dataset_split(d, s, 1, 0.1, &err);
    if (st != MAG_OK && err.text[0] == '\0') {
        abort();
    }
    float *row = xcalloc((size_t)shape_size(&d->shape), sizeof(float));
    for (uint32_t i = 0; st == MAG_OK && i < d->n_rows && i < 4; i++) {
        dataset_gather(d, &i, 1, row);
    }
    free(row);
}

static void try_source(const char *text)
{
    struct mjson_issues is = {0};
    struct dataset_source s;
    struct dataset *d = NULL;
    struct mag_err err = {0};
    json_t *v = json_string(text);
    if (!dataset_source_parse(v, "", &is, &s)) {
        abort();
    }
    for (int how = DATASET_WHOLE; how <= DATASET_EXAMPLES; how++) {
        err = (struct mag_err){0};
        enum mag_status st = how == DATASET_WHOLE   ? dataset_open(&s, &d, &err)
                             : how == DATASET_PROBE ? dataset_probe(&s, &d, &err)
                                                    : dataset_open_examples(&s, &d, &err);
        if (st == MAG_OK && how == DATASET_WHOLE) {
            use(d, &s);
        }
        if (st == MAG_OK) {
            dataset_destroy(d);
        } else if (err.text[0] == '\0') {
            abort();
        }
    }
    dataset_source_fini(&s);
    json_decref(v);
}

/* A list of fitted stages, as a model file may hold it. */
static void try_fitted(const uint8_t *data, size_t n)
{
    static const char table[] = "a,c,t\n1,u,some words\n,v,\n3,NA,other words\n";
    static const struct typed_column types[] = {{(char *)(uintptr_t) "a", TYPE_NUMBER},
                                                {(char *)(uintptr_t) "c", TYPE_CATEGORY},
                                                {(char *)(uintptr_t) "t", TYPE_TEXT}};
    static char *const only[] = {(char *)(uintptr_t) "a", (char *)(uintptr_t) "c",
                                 (char *)(uintptr_t) "t"};
    char path[128];
    struct dataset *d = NULL;
    struct mag_err err = {0};
    json_t *list = NULL;
    (void)snprintf(path, sizeof(path), "%s/d.csv", folder);
    const struct dataset_source s = {.format = &dataset_csv,
                                     .path = path,
                                     .separator = ',',
                                     .only = only,
                                     .n_only = 3,
                                     .types = (struct typed_column *)(uintptr_t)types,
                                     .n_types = 3};
    if (mjson_parse((const char *)data, n, &list, NULL) != MAG_OK) {
        return;
    }
    write_input("d.csv", (const uint8_t *)table, sizeof(table) - 1);
    if (dataset_open_examples(&s, &d, &err) != MAG_OK ||
        (prep_apply(d, list, "d.csv", &err) != MAG_OK && err.text[0] == '\0')) {
        abort();
    }
    dataset_destroy(d);
    json_decref(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (folder[0] == '\0') {
        (void)snprintf(folder, sizeof(folder), "/tmp/magpie-fuzz-formats-XXXXXX");
        if (mkdtemp(folder) == NULL || atexit(remove_folder) != 0) {
            abort();
        }
    }
    if (n > 0 && data[0] == 'f') {
        try_fitted(data + 1, n - 1);
    }
    if (n > 0 && data[0] == 'i') {
        try_picture(data + 1, n - 1);
    }
    for (size_t i = 0; n > 0 && i < FORMATS; i++) {
        if (data[0] == (uint8_t)formats[i].letter) {
            char *source = in_folder(formats[i].source);
            write_input(formats[i].file, data + 1, n - 1);
            try_source(source);
            free(source);
        }
    }
    return 0;
}
