/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/hangup.h"

#include <nng/nng.h>
#include <pthread.h>
#include <time.h>

static void *close_main(void *arg)
{
    nng_socket s = {.id = (uint32_t)(uintptr_t)arg};
    (void)nng_close(s);
    return NULL;
}

bool hangup(uint32_t socket_id, int timeout_ms)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, close_main, (void *)(uintptr_t)socket_id) != 0) {
        return false;
    }
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    long ns = until.tv_nsec + timeout_ms % 1000 * 1000000L;
    until.tv_sec += timeout_ms / 1000 + ns / 1000000000L;
    until.tv_nsec = ns % 1000000000L;
    if (pthread_timedjoin_np(thread, NULL, &until) == 0) {
        return true;
    }
    (void)pthread_detach(thread);
    return false;
}
