/* SPDX-License-Identifier: Apache-2.0
 *
 * A process that is one rank of a trial, started by ranks.h: meets the others and serves.
 */
#ifndef MAG_TRAINER_RANK_H
#define MAG_TRAINER_RANK_H

#include "trainer/collective.h"

/* The process's exit status. */
int rank_run(const struct collective_ops *ops);

#endif
