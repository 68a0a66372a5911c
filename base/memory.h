/* SPDX-License-Identifier: Apache-2.0
 *
 * How much memory there is for this process: the machine's, within what its control groups (version
 * 2 and 1, each level of them) allow. Cached files count as free, since the kernel gives them up.
 */
#ifndef MAG_BASE_MEMORY_H
#define MAG_BASE_MEMORY_H

#include <stdint.h>

struct memory {
    int64_t free, total; /* bytes; -1 = not known */
    /* What bounds `total`, for messages: "this machine", "its control group". Static text. */
    const char *total_of;
};

/* `root` stands before /proc and /sys ("" but for tests). */
void memory_look(const char *root, struct memory *ret);
/* Bytes that this process has resident; 0 = not known. */
int64_t memory_held(void);

#endif
