/* SPDX-License-Identifier: Apache-2.0
 *
 * What a trained model is, in words that outlive its experiment: the layers with every number put
 * in, how raw values become its inputs, and what its outputs mean. Checkpoints and safetensors
 * files carry it as JSON, so that a model file needs nothing beside it:
 *
 *   {"format": 1, "loss": "cross_entropy", "input": [1, 28, 28],
 *    "layers": [{"type": "dense", "units": 10, "activation": "none"}, …],
 *    "data": {"format": "csv", "label": "species", "columns": ["a", …], "mean": […], "factor": […],
 *             "classes": ["setosa", …], "separator": ","}}
 *
 * A layer has "inputs", indices of earlier layers (-1: the model's input), where it is not fed by
 * the one before alone.
 *
 * An input is (raw - mean) * factor where these are given, else raw * scale. Where other stages
 * make the inputs, "preprocessing" lists them, fitted (trainer/prep.h), and "types" says what the
 * columns hold.
 */
#ifndef MAG_TRAINER_DESCRIBE_H
#define MAG_TRAINER_DESCRIBE_H

#include "base/json.h"
#include "trainer/recipe.h"

#define DESCRIBE_FORMAT 1

struct description {
    struct model model; /* shapes worked out */
    enum loss_kind loss;
    struct dataset_source source; /* format, label, separator, types, missing, only, n_only; owned */
    json_t *fitted;               /* stages that make the inputs, or NULL */
    char **columns;               /* csv: one a feature; source.only */
    int n_columns;
    char **classes;        /* texts of the classes, NULL = their numbers */
    int n_classes;         /* 0: a number is predicted */
    double *mean, *factor; /* one a feature, or NULL */
    double scale;          /* where there is no mean: 1 or 1/255 */
};

/* Of a fitted recipe and its split data set; new reference. */
json_t *description_make(const struct recipe *r, const struct dataset *d);
/* INVALID: not a description that this build understands; `what` names the file in the text. */
enum mag_status description_read(const json_t *object, const char *what, struct description *ret,
                                 struct mag_err *err) MAG_MUSTCHECK;
void description_fini(struct description *d);

#endif
