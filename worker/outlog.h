/* SPDX-License-Identifier: Apache-2.0
 *
 * A trial's output.log: everything up to a limit, then only the last lines, with a note of what was
 * left out between. Also knows the last lines, for reports and for the reason of a failure.
 */
#ifndef MAG_WORKER_OUTLOG_H
#define MAG_WORKER_OUTLOG_H

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

#define OUTLOG_HEAD_MAX (4 << 20)    /* bytes kept from the start */
#define OUTLOG_TAIL_MAX (64 << 10)   /* bytes kept from the end */
#define OUTLOG_SHOWN_MAX 4096        /* bytes of the last lines in a report */

struct outlog {
    int fd;          /* -1 = not opened yet */
    char *path;      /* ours */
    int64_t total;   /* bytes written by the program */
    int64_t head;    /* bytes in the file */
    struct buf tail; /* the last bytes, at most 2 * OUTLOG_TAIL_MAX */
};

/* The file is made when the first bytes come; when that fails, only the last lines are kept. */
void outlog_open(struct outlog *o, const char *path);
void outlog_add(struct outlog *o, const char *bytes, size_t n);
/* Writes a line of our own. */
void outlog_note(struct outlog *o, const char *fmt, ...) MAG_PRINTF(2, 3);
/* The last lines (whole ones where possible), malloc'ed. */
char *outlog_shown(const struct outlog *o);
/* The last line that is not blank, malloc'ed; NULL = none. */
char *outlog_last_line(const struct outlog *o);
/* Completes and closes the file. A zeroed or closed log is allowed. */
void outlog_close(struct outlog *o);

#endif
