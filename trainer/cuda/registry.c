/* SPDX-License-Identifier: Apache-2.0
 *
 * The backends of magpie-trainer-cuda, and what its ranks meet by.
 */
#include "trainer/collective.h"
#include "trainer/cuda/cuda.h"

const struct backend_ops *const backend_registry[] = {&backend_cuda, &backend_cpu, &backend_ref,
                                                      NULL};
#ifdef MAG_NCCL
const struct collective_ops *const collective_here = &collective_nccl;
#else
const struct collective_ops *const collective_here = &collective_shm;
#endif
