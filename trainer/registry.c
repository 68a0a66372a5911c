/* SPDX-License-Identifier: Apache-2.0
 *
 * The backends of the programs that need no GPU; cuda/registry.c is its counterpart.
 */
#include "trainer/backend.h"

const struct backend_ops *const backend_registry[] = {&backend_cpu, &backend_ref, NULL};
