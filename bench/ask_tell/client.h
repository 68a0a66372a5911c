/* SPDX-License-Identifier: Apache-2.0
 *
 * A crowd of ask/tell clients in one thread: each keeps one HTTP connection, asks for a batch of
 * trials, tells them at once, and asks again.
 */
#ifndef MAG_BENCH_CLIENT_H
#define MAG_BENCH_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

struct crowd {
    int port;
    long long experiment;
    int clients;
    int batch;      /* trials in one ask and one tell */
    int64_t trials; /* in all */
    bool requests;  /* every ask carries an idempotency key */

    /* measured */
    double seconds;
    double first_s, last_s; /* for the first and the last thousand trials */
    double median_us;       /* for one round (ask and tell), median */
    double p99_us;
};

/* Sends one request on a connection of its own and returns the body (malloc'ed) with its status. */
char *client_call(int port, const char *method, const char *path, const char *body,
                  int *ret_status);
/* False (and said on standard error) when an answer is not what it should be. */
bool crowd_run(struct crowd *c);

#endif
