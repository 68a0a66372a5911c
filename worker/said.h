/* SPDX-License-Identifier: Apache-2.0
 *
 * One line that a trial program wrote to its channel, read strictly. Pure: bytes in, a message out.
 */
#ifndef MAG_WORKER_SAID_H
#define MAG_WORKER_SAID_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum said_kind {
    SAID_READY = 0,
    SAID_REPORT = 1,
    SAID_CHECKPOINT = 2,
    SAID_RESULT = 3,
    SAID_ERROR = 4,
    SAID_DECLINED = 5, /* one of a group has no room beside the others */
    SAID_NEEDS = 6,    /* before it begins on a GPU: what the trial needs */
    SAID_MEMORY = 7,   /* it has begun there: what is free now */
    SAID_UNUSABLE = 8, /* passed over: `reason` says why; a newer program may know more than we */
};

struct said {
    enum said_kind kind;
    int64_t trial; /* 0 = none: the one that runs */
    int64_t step;  /* report, checkpoint */
    char *path;    /* checkpoint */
    char *reason;  /* error, unusable */
    const char *status; /* result: completed, stopped or paused */
    const char *cause;  /* error: configuration, out-of-memory or program */
    bool retry;         /* error: it may pass */
    bool final;         /* error: it said outright that it cannot */
    int64_t need_mb; /* needs; error for lack of memory: how much the trial needs; 0 = not told */
    bool admits;     /* ready: it asks before it begins on a GPU */
    int64_t data_mb; /* needs: of the data set, which it can do without there */
    int64_t free_mb, total_mb; /* needs, memory: of the GPU */
    int lanes;          /* ready, declined: trials that it takes at once, 1 to WIRE_LANES_MAX */
    json_t *metrics;    /* report, result (NULL = none): as the program wrote them */
    json_t *versions;   /* ready; NULL = none */
};

/* INVALID: the line breaks the protocol, and what the program says next cannot be trusted; `err`
 * tells how. Free with said_fini after OK only. */
enum mag_status said_parse(const char *text, size_t len, struct said *ret,
                           struct mag_err *err) MAG_MUSTCHECK;
void said_fini(struct said *s);

#endif
