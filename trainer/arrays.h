/* SPDX-License-Identifier: Apache-2.0
 *
 * Data sets that are arrays: one of examples, one of labels, and the same for the test part where
 * it is given. What NumPy's and safetensors files have in common.
 */
#ifndef MAG_TRAINER_ARRAYS_H
#define MAG_TRAINER_ARRAYS_H

#include "trainer/dtype.h"
#include "trainer/format.h"

#define ARRAY_DIMS_MAX 4

struct array {
    char *what; /* for messages: "x.npy", "d.npz: x_train" */
    enum dtype type;
    bool swap;    /* big-endian */
    bool fortran; /* the first index runs fastest */
    int n_dims;   /* 0: a single number */
    uint64_t dims[ARRAY_DIMS_MAX];
    /* Reads the next n bytes of the values. */
    enum mag_status (*read)(void *ctx, void *to, size_t n, struct mag_err *err);
    void *ctx;
};

/* What is absent is NULL. */
struct array_set {
    struct array *x, *y, *test_x, *test_y;
};

/* Reads them into `d`; each array's values are read once, from the beginning on. Bytes stay bytes
 * and count as 0 to 1; everything else becomes floats. */
enum mag_status arrays_read(const struct array_set *set, const struct dataset_source *s,
                            enum dataset_how how, struct dataset *d,
                            struct mag_err *err) MAG_MUSTCHECK;

/* Number of values; 0 when there are over DATASET_VALUES_MAX. */
uint64_t array_values(const struct array *a);

#endif
