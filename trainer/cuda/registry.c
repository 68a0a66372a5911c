/* SPDX-License-Identifier: Apache-2.0
 *
 * The backends of magpie-trainer-cuda.
 */
#include "trainer/cuda/cuda.h"

const struct backend_ops *const backend_registry[] = {&backend_cuda, &backend_cpu, &backend_ref,
                                                      NULL};
