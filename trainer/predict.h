/* SPDX-License-Identifier: Apache-2.0
 *
 * Applying a trained model to data, and writing it out for others: what `magpie predict` and
 * `magpie model` run.
 */
#ifndef MAG_TRAINER_PREDICT_H
#define MAG_TRAINER_PREDICT_H

#include <stdbool.h>

struct predict {
    const char *model;  /* a checkpoint's folder, its model.ckpt, or a .safetensors file */
    const char *data;   /* a CSV file, or for models of images a folder or a file of IDX images */
    const char *output; /* NULL = standard output */
    bool probabilities; /* a column for each class */
    bool json;          /* JSON lines instead of CSV */
};

/* One line an example; where the data has labels, the accuracy (or mean squared error) goes to
 * standard error. Exit status: 0, 1 failed, 2 the model and the data do not fit. */
int predict_run(const struct predict *p);

/* Writes the model in the format that the suffix of `output` names: .onnx or .safetensors. */
int export_run(const char *model, const char *output);

#endif
