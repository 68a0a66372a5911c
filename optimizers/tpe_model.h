/* SPDX-License-Identifier: Apache-2.0
 *
 * The two densities of TPE, kept up with a history: l of the good points, g of the poor ones, the
 * failed ones and those that still run. l comes in two widths:
 *
 *   close  one width for all kernels, the step, turned and stretched like the cloud of the better
 *          quarter (shape.h). The step follows success as in evolution strategies (Rechenberg's
 *          rule): a result among the very best widens it, any other narrows it, so that success
 *          stays at SUCCESS. With many trials pending it moves less at a time.
 *   wide   a width for each kernel and parameter: the distance to the neighbours (Bergstra et al.),
 *          no less than a share of the range.
 */
#ifndef MAG_OPTIMIZERS_TPE_MODEL_H
#define MAG_OPTIMIZERS_TPE_MODEL_H

#include "optimizers/parzen.h"
#include "optimizers/tpe_history.h"

struct tpe_model {
    const struct sampler_config *cfg;
    bool liar;                     /* pending points are poor */
    const struct tpe_level *level; /* that the model is of; NULL = there is none yet */
    double step;
    struct parzen close, wide, poor;
    struct tpe_point **of; /* the points of the kernels in `poor` */
    int cap_of;
    double poor_width; /* of its kernels */
    double *widths;    /* room for one kernel */
    const struct tpe_point *good[TPE_TOP_MAX];
    int n_good;
    int64_t n_seen; /* results of the level when `close` was made */
};

void model_init(struct tpe_model *m, const struct sampler_config *cfg, bool liar);
void model_fini(struct tpe_model *m);
/* Before a point goes; NULL is none. */
void model_forget(struct tpe_model *m, struct tpe_point *s);
/* Makes the densities those of `level`, NULL = none. */
void model_follow(struct tpe_model *m, const struct tpe_history *h, const struct tpe_level *level);
/* A new result took its place among those of the model's level: the step learns. */
void model_learn(struct tpe_model *m, const struct tpe_history *h, const struct tpe_point *s);

#endif
