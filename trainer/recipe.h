/* SPDX-License-Identifier: Apache-2.0
 *
 * The recipe of a built-in trial: the experiment's "trial" object with this trial's hyperparameters
 * put in. A value written "${name}" is the parameter of that name, whole. Where the parameter is
 * inactive, a key that has a default takes it, a layer inside a nested list is left out with its
 * list, and anything else is an error. Everything wrong is reported at once, with JSON pointers.
 *
 *   {"program": "builtin", "dataset": "idx:FOLDER", "preprocessing": [{"type": "standardize"}, …],
 *    "model": {"input": [1, 28, 28],
 *              "layers": [{"type": "dense", "units": 10, "activation": "relu", "repeat": 1}, …]},
 *    "training": {"optimizer": "sgd", "lr": 0.01, "momentum": 0, "batch_size": 64, …}}
 *
 * docs/TRAINER.md lists every key with its range and default; the tables in recipe*.c are the
 * source.
 */
#ifndef MAG_TRAINER_RECIPE_H
#define MAG_TRAINER_RECIPE_H

#include "base/json.h"
#include "trainer/augment.h"
#include "trainer/backend.h"
#include "trainer/dataset.h"
#include "trainer/model.h"
#include "trainer/schedule.h"

/* Whose order of examples an epoch has: the trial's own, or the same for all of an experiment. */
enum data_order { ORDER_OF_TRIAL = 0, ORDER_OF_EXPERIMENT = 1 };

struct training {
    struct update update; /* kind and its numbers; lr is the base rate, count 0 */
    struct loss loss;
    bool loss_given;
    int batch_size;
    int epochs;        /* where the experiment has no resource, so that no budget is given */
    double validation; /* part of the training examples kept for validation */
    int threads;
    int prefetch; /* batches made ready ahead (feed.h); -1 = as the backend is served best */
    enum precision precision;
    float ema; /* how much of the weights' moving average each step keeps; 0 = there is none */
    enum data_order order;
    struct augmentation augmentation; /* of the training batches alone */
    struct schedule schedule;
    const struct backend_ops *backend;
};

struct recipe {
    struct dataset_source source;
    struct model model; /* shapes not worked out: recipe_fit does */
    bool input_given;
    bool family;   /* the last layer's units come from the data set */
    bool logistic; /* of the family of that name: the loss is */
    struct training training;
};

/* What a key of a recipe takes, as the parser asks for it. */
struct recipe_key {
    const char *pointer; /* of the object that it may stand in */
    const char *key;
    enum { KEY_WHOLE = 0, KEY_NUMBER = 1, KEY_FLAG = 2, KEY_CHOICE = 3 } kind;
    bool required;
    double lo, hi;            /* of numbers */
    const char *const *names; /* of a choice, NULL-terminated */
};

/* Where values come from. `params` may be NULL (none). `declared`, where not NULL, is the
 * experiment's searchspace: a "${name}" that it lacks is an error that names the nearest. */
struct recipe_context {
    const json_t *params;
    const json_t *declared;
    bool described; /* the layers are a description's (describe.h), not a person's */
    /* Called for each key that the parser looks for, there or not; NULL = nobody wants to know. The
     * published JSON Schema is made of it (tools/gen-recipe-schema). */
    void (*looks)(void *ctx, const struct recipe_key *key);
    void *looks_ctx;
};

/* Parses the trial object that stands at `pointer`. False exactly when issues were added; then
 * there is nothing to free. */
bool recipe_parse(const json_t *trial, const char *pointer, const struct recipe_context *ctx,
                  struct mjson_issues *is, struct recipe *ret);
void recipe_fini(struct recipe *r);

/* Makes `u` that of the next step: counts it. The average starts as a copy of the first step's
 * weights. */
void training_next(const struct training *t, struct update *u);
/* How many batches are made ready ahead of the one that trains. */
int training_ahead(const struct training *t, const struct dataset *d, struct backend *b);

/* Fits the recipe to an opened (or probed) data set: input shape, loss, shapes of all layers. */
bool recipe_fit(struct recipe *r, const struct dataset *d, const char *pointer,
                struct mjson_issues *is);

#endif
