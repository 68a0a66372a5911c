/* SPDX-License-Identifier: Apache-2.0
 *
 * What the ranks of a trainer on devices in host memory meet by; cuda_host.c has its backends.
 */
#include "trainer/collective.h"

const struct collective_ops *const collective_here = &collective_nccl;
