/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is at the other end of a local connection: loopback is no protection from another user of the
 * host, so the worker endpoint asks the kernel whose socket it is.
 */
#ifndef MAG_DRIVER_PEER_H
#define MAG_DRIVER_PEER_H

#include "driver/bridge.h"

/* Names and numbers of the loopback interface. */
bool peer_host_is_loopback(const char *host);

/* Fills what is known of the nng pipe; false when it has gone. */
bool peer_lookup(uint32_t pipe, struct bridge_peer *ret);

#endif
