/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MAG_DRIVER_DISPATCH_PARK_H
#define MAG_DRIVER_DISPATCH_PARK_H

#include "driver/pool_state.h"

/* True when the decoded message `m` has to wait: a copy of its text comes to dispatch_message again
 * when the experiment that it is about may be changed. */
bool dispatch_park(struct pool *p, const struct bridge_addr *from, const struct wire_msg *m,
                   const char *text, size_t len);

#endif
