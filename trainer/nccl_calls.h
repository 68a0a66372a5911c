/* SPDX-License-Identifier: Apache-2.0
 *
 * NCCL as collective_nccl.c calls it: by its own names, from a library that is opened when it is
 * first wanted. A trial of one rank does without those 200 MB, and so do machines that have none.
 */
#ifndef MAG_TRAINER_NCCL_CALLS_H
#define MAG_TRAINER_NCCL_CALLS_H

#include <nccl.h>
#include <stdbool.h>

/* NCCL's header declares these two without parameters. */
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);

/* Before any call of NCCL's; false where there is no libnccl.so.2, or one that lacks a call. */
bool nccl_load(void);

#endif
