/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/format.h"

#include "base/buf.h"

#include <string.h>

const struct dataset_format *const dataset_formats[] = {
    &dataset_idx,         &dataset_csv,    &dataset_npy, &dataset_npz,
    &dataset_safetensors, &dataset_libsvm, &dataset_images, &dataset_text,
    &dataset_tfrecord,    NULL};

const struct dataset_format *dataset_format_named(const char *name, size_t n)
{
    for (int i = 0; dataset_formats[i] != NULL; i++) {
        if (strlen(dataset_formats[i]->name) == n && memcmp(dataset_formats[i]->name, name, n) == 0) {
            return dataset_formats[i];
        }
    }
    return NULL;
}

static bool ends_in(const char *text, size_t n, const char *end)
{
    size_t k = strlen(end);
    return n > k && memcmp(text + n - k, end, k) == 0;
}

const struct dataset_format *dataset_format_of(const char *path)
{
    size_t n = strlen(path);
    n -= ends_in(path, n, ".gz") ? 3 : 0;
    for (int i = 0; dataset_formats[i] != NULL; i++) {
        const char *const *s = dataset_formats[i]->suffixes;
        for (int k = 0; s != NULL && s[k] != NULL; k++) {
            if (ends_in(path, n, s[k])) {
                return dataset_formats[i];
            }
        }
    }
    return NULL;
}

char *dataset_format_names(void)
{
    struct buf b = {0};
    for (int i = 0; dataset_formats[i] != NULL; i++) {
        const char *before = i == 0 ? "" : dataset_formats[i + 1] == NULL ? " and " : ", ";
        buf_addf(&b, "%s\"%s\"", before, dataset_formats[i]->name);
    }
    return buf_take(&b);
}

enum mag_status dataset_check_size(const char *path, uint64_t rows, uint64_t width,
                                   struct mag_err *err)
{
    if (rows > DATASET_ROWS_MAX) {
        return mag_fail(err, MAG_LIMIT, "%s: over %d examples; use a smaller data set", path,
                        DATASET_ROWS_MAX);
    }
    if (width > 0 && rows > (uint64_t)DATASET_VALUES_MAX / width) {
        return mag_fail(err, MAG_LIMIT, "%s: over %lld values; use a smaller data set", path,
                        (long long)DATASET_VALUES_MAX);
    }
    return MAG_OK;
}
