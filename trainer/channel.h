/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON lines over the stream socket to the worker (PROTOCOL.md, section 3). Reading never blocks
 * unless asked; lines of over CHANNEL_LINE_MAX bytes are thrown away and logged, never stored.
 */
#ifndef MAG_TRAINER_CHANNEL_H
#define MAG_TRAINER_CHANNEL_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

#define CHANNEL_LINE_MAX (1 << 20)

struct channel {
    int fd;
    struct buf in;
    size_t taken;    /* bytes of `in` that were handed out */
    size_t searched; /* bytes of `in` known to hold no line end */
    bool skipping;   /* inside a line that is too long */
    bool ended;      /* the other side has closed */
};

void channel_init(struct channel *c, int fd);
void channel_fini(struct channel *c);

/* The next line (NUL-terminated, without its end, valid until the next call), or NULL: none yet, or
 * the other side has gone (`ended`). With `wait` it blocks until one of the two. */
char *channel_next(struct channel *c, bool wait, size_t *ret_len);

/* Writes one line whole; CLOSED when the other side has gone. */
enum mag_status channel_write(struct channel *c, const char *line, size_t len) MAG_MUSTCHECK;

#endif
