/* SPDX-License-Identifier: Apache-2.0
 *
 * Data sets of every format but those of fuzz_trainer: the first byte of the input chooses the
 * format by its place in the table below, the rest is the file.
 */
#include "base/alloc.h"
#include "trainer/format.h"

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
    {'s', "d.svm", "libsvm:@/d.svm?test=0.3"},
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

/* What was read can be gathered and split. */
static void use(struct dataset *d, const struct dataset_source *s)
{
    struct mag_err err = {0};
    size_t width = (size_t)shape_size(&d->shape);
    float *row = xcalloc(width, sizeof(float));
    for (uint32_t i = 0; i < d->n_rows && i < 4; i++) {
        dataset_gather(d, &i, 1, row);
    }
    if (dataset_split(d, s, 1, 0.1, &err) != MAG_OK && err.text[0] == '\0') {
        abort();
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (folder[0] == '\0') {
        (void)snprintf(folder, sizeof(folder), "/tmp/magpie-fuzz-formats-XXXXXX");
        if (mkdtemp(folder) == NULL || atexit(remove_folder) != 0) {
            abort();
        }
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
