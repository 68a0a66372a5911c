/* SPDX-License-Identifier: Apache-2.0
 *
 * The worker's own folder for trials' files: private, locked while the worker lives, and removed by
 * the next worker when its owner was killed.
 */
#ifndef MAG_WORKER_SCRATCH_H
#define MAG_WORKER_SCRATCH_H

#include "base/err.h"

/* Makes <base>/<id> (base NULL: $TMPDIR/magpie-<uid>) and removes what dead workers left beside it.
 * *ret_path is malloc'ed, *ret_lock a descriptor to keep open. */
enum mag_status scratch_open(const char *base, const char *id, char **ret_path, int *ret_lock,
                             struct mag_err *err) MAG_MUSTCHECK;
/* Removes it. */
void scratch_close(char *path_take, int lock);

#endif
