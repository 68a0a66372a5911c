/* SPDX-License-Identifier: Apache-2.0
 *
 * Training one trial by hand, without driver and worker: JSON lines of its metrics on standard
 * output.
 */
#ifndef MAG_TRAINER_STANDALONE_H
#define MAG_TRAINER_STANDALONE_H

#include <jansson.h>
#include <stdint.h>

struct standalone {
    const char *params; /* JSON text, NULL = {} */
    int64_t epochs, trial;
    int64_t seed; /* -1 = the document's, 0 without one */
    const char *checkpoints; /* folder, NULL = none */
    const char *resume;      /* checkpoint folder, NULL = from the start */
    int ranks;               /* 0 = as the document's "distribution" says */
    /* Of the document's "validation": the part that is held out, 0 = none, the refit. -1: it is not
     * looked at, training.validation counts. */
    int fold;
};

/* `doc` (an experiment or a trial object) was read from `text`, the file `path`. Exit status. */
int standalone_run(const json_t *doc, const char *path, const char *text, size_t len,
                   const struct standalone *o);

#endif
