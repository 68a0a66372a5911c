/* SPDX-License-Identifier: Apache-2.0
 *
 * Measures the models that bench/trainer compares with PyTorch, trained or applied: an MLP
 * 784-256-256-10, a CNN of two 5x5 convolutions, and residual nets of 8 and of 18 layers with
 * weights in a row. SGD, momentum 0.9, no validation part; whole trials have one of a tenth.
 */
#ifndef MAG_TRAINER_BENCH_H
#define MAG_TRAINER_BENCH_H

#include <stdbool.h>
#include <stdint.h>

struct bench {
    const char *model;     /* "mlp", "cnn", "resnet8" or "resnet18" */
    const char *data;      /* folder of IDX files */
    const char *backend;   /* NULL = the best */
    const char *precision; /* NULL = float32 */
    int batch, epochs, threads;
    int batches; /* time only so many batches; 0 = whole epochs */
    int trials;  /* measure so many whole trials instead, `lanes` at a time; 0 = training alone */
    int lanes;   /* trials side by side, which see the same batches; their images count together */
    bool infer;  /* apply the model to the test images instead of training it */
    uint64_t seed;
};

/* Prints one JSON line an epoch; exit status. */
int bench_run(const struct bench *b);

#endif
