/* SPDX-License-Identifier: Apache-2.0
 *
 * Named fault points. MAGPIE_FAULTS="store.commit:3=kill,worker.publish=fail" makes the third pass
 * through "store.commit" kill the process with SIGKILL and the first pass through
 * "worker.publish" report failure. Without the variable a point costs one load. Actions: kill
 * (SIGKILL to self), abort, fail (fault_hit returns true), stop (SIGSTOP to self), exit (status 3),
 * sleepN (N milliseconds).
 * A point fires once, on the countdown (default 1); with a star ("fail*") it fires on that
 * pass and all later ones.
 */
#ifndef MAG_BASE_FAULT_H
#define MAG_BASE_FAULT_H

#include <stdbool.h>

#ifdef MAG_FAULTS
/* True when the point should fail now; may not return. */
bool fault_hit(const char *name);
#else
static inline bool fault_hit(const char *name)
{
    (void)name;
    return false;
}
#endif

#endif
