/* SPDX-License-Identifier: Apache-2.0
 *
 * What "algorithm": "auto" takes: one table of rules over what the experiment says of itself.
 */
#ifndef MAG_OPTIMIZERS_AUTO_H
#define MAG_OPTIMIZERS_AUTO_H

#include "optimizers/optimizer.h"

#define AUTO_GRID_MAX 64      /* a larger grid is not tried whole unless limits.trials covers it */
#define AUTO_GP_TRIALS 1000   /* limits.trials up to which a Gaussian process is taken */
#define AUTO_GP_PARAMS 40     /* and parameters */
#define AUTO_TPE_PARAMS 40    /* parameters up to which trials in rungs come from tpe, beyond: de */
#define AUTO_FRONT_TRIALS 300 /* limits.trials up to which several objectives are modelled */

/* The "optimizer" object chosen, new reference; why, as one sentence that begins with the
 * algorithm's name, into *ret_why (malloc'ed). */
json_t *auto_pick(const struct opt_setup *setup, char **ret_why);

#endif
