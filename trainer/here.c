/* SPDX-License-Identifier: Apache-2.0
 *
 * What ranks meet by in programs that have nothing better; cuda/registry.c is its counterpart.
 */
#include "trainer/collective.h"

const struct collective_ops *const collective_here = &collective_shm;
