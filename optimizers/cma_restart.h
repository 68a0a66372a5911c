/* SPDX-License-Identifier: Apache-2.0
 *
 * When a run of CMA-ES has done its work, and how the next one begins: IPOP (Auger and Hansen, CEC
 * 2005) doubles the population; BIPOP (Hansen, BBOB 2009) spends as much on small populations with
 * small steps as on doubled ones.
 */
#ifndef MAG_OPTIMIZERS_CMA_RESTART_H
#define MAG_OPTIMIZERS_CMA_RESTART_H

#include "optimizers/cma.h"

enum cma_restarts { CMA_RESTARTS_NONE = 0, CMA_RESTARTS_IPOP = 1, CMA_RESTARTS_BIPOP = 2 };

struct cma_restart {
    enum cma_restarts kind;
    int lambda_start; /* of the first run */
    double sigma_start;
    uint64_t seed;
    /* the run that goes on */
    int64_t run; /* 0 = the first */
    int lambda;
    double sigma;
    bool small;
    int doublings;
    int64_t spent[2]; /* trials of runs with large and with small populations */
    /* its best and median values, the newest last; `history` of them at most */
    double *best, *median;
    int64_t n;
    int length, room;
    double spread; /* of the values of its first generation */
};

void cma_restart_init(struct cma_restart *r, enum cma_restarts kind, int lambda, double sigma,
                      uint64_t seed);
void cma_restart_fini(struct cma_restart *r);
/* A generation ended; `values`: rising, count of them, finite. Returns why the run is to end, a
 * constant name, or NULL. Always NULL without restarts. */
const char *cma_restart_judge(struct cma_restart *r, const struct cma *c, const double *values,
                              int count, int64_t trials);
/* Sets run, lambda and sigma of the next run. */
void cma_restart_next(struct cma_restart *r);

#endif
