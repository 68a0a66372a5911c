/* SPDX-License-Identifier: Apache-2.0
 *
 * The worker's own folder for trials' files: private, locked while the worker lives, and removed by
 * the next worker when its owner was killed, after what storage lacks of it went there (salvage.h).
 */
#ifndef MAG_WORKER_SCRATCH_H
#define MAG_WORKER_SCRATCH_H

#include "base/err.h"

#define SCRATCH_STORAGE ".storage" /* in the folder: the storage that its worker works with */

/* A folder that a killed worker left, locked by us. */
struct scratch_dead {
    char *dir;
    int lock;
};
void scratch_dead_fini(struct scratch_dead *d); /* somebody else may have it */

/* Makes <base>/<id> (base NULL: $TMPDIR/magpie-<uid>). What dead workers left beside it is removed,
 * or comes in *ret_dead (malloc'ed, *ret_n_dead of them) where it may hold what storage lacks.
 * *ret_path is malloc'ed, *ret_lock a descriptor to keep open. */
enum mag_status scratch_open(const char *base, const char *id, char **ret_path, int *ret_lock,
                             struct scratch_dead **ret_dead, int *ret_n_dead,
                             struct mag_err *err) MAG_MUSTCHECK;
/* Removes it. */
void scratch_close(char *path_take, int lock);

#endif
