/* SPDX-License-Identifier: Apache-2.0
 *
 * Closing an nng socket without being caught in it. In nng 1.5.2 nng_close now and then waits for ever
 * for a peer's pipe whose last reply is still under way; a process that ends must end all the same.
 */
#ifndef MAG_WIRE_HANGUP_H
#define MAG_WIRE_HANGUP_H

#include <stdbool.h>
#include <stdint.h>

/* nng_close(nng_socket with this id) on a thread of its own, waited for at most timeout_ms. False: it
 * still runs; then nothing that nng's callbacks use may be freed, and the process should end soon. */
bool hangup(uint32_t socket_id, int timeout_ms);

#endif
