/* SPDX-License-Identifier: Apache-2.0
 *
 * What a trial's program writes: one stream of bytes, secrets masked, in segments that lie as files
 * in scratch until they are in storage (loglist.h moves them there). Of a stream longer than its
 * limit the start and the end stay; segments between are dropped, and offsets never change. Also
 * knows the last lines, for reports and for the reason of a failure.
 */
#ifndef MAG_WORKER_OUTLOG_H
#define MAG_WORKER_OUTLOG_H

#include "base/buf.h"
#include "base/err.h"
#include "worker/mask.h"

#include <stdint.h>

#define OUTLOG_LIMIT (16 << 20)     /* bytes kept of an attempt where nothing else is said */
#define OUTLOG_LIMIT_MIN (64 << 10) /* the smallest limit */
#define OUTLOG_LIMIT_MAX (INT64_C(1) << 30) /* the largest */
#define OUTLOG_SEGMENT_MIN (16 << 10)       /* a segment is limit / 64, within these */
#define OUTLOG_SEGMENT_MAX (4 << 20)
#define OUTLOG_TAIL_MAX (8 << 10) /* bytes of the end kept in memory, at most twice */
#define OUTLOG_SHOWN_MAX 4096     /* bytes of the last lines in a report */

struct outlog_segment {
    int64_t start, len;
    int64_t stored; /* bytes of it in storage, -1 = none */
    bool dropped;   /* no more wanted: goes from storage too, and then from this list */
};

struct outlog {
    char *dir; /* ours; NULL = closed */
    const struct masks *masks;
    struct mask_stream in;
    int64_t limit, segment;
    int fd;        /* of the last segment's file, -1 = not open */
    int64_t raw;   /* bytes written by the program */
    int64_t total; /* bytes of the stream */
    int64_t lost;  /* of them neither in a file nor in storage: dropped, or scratch was full */
    struct outlog_segment *segments;
    int n_segments;
    struct buf tail;    /* the last bytes, at most 2 * OUTLOG_TAIL_MAX */
    struct buf scratch; /* masked bytes on their way; empty between calls */
};

/* Segments will be files in `dir`, which is made when the first bytes come. `masks` is borrowed,
 * NULL = nothing is masked. `limit` 0 = OUTLOG_LIMIT. */
void outlog_open(struct outlog *o, const char *dir, const struct masks *masks, int64_t limit);
/* Bytes as the program writes them; they become part of the stream with their line's end. */
void outlog_add(struct outlog *o, const char *bytes, size_t n);
/* The program has ended: an unfinished line is part of the stream. */
void outlog_flush(struct outlog *o);
/* Writes a line of our own. */
void outlog_note(struct outlog *o, const char *fmt, ...) MAG_PRINTF(2, 3);
/* The last lines (whole ones where possible, at most `max` bytes), malloc'ed. *ret_end is the
 * offset just behind them, 0 where the text is not exactly the stream's bytes (not UTF-8). */
char *outlog_shown(const struct outlog *o, size_t max, int64_t *ret_end);
/* The last line that is not blank, malloc'ed; NULL = none. */
char *outlog_last_line(const struct outlog *o);
/* Does storage lack anything? */
bool outlog_has_news(const struct outlog *o);
/* The file of a segment, malloc'ed. */
char *outlog_file(const char *dir, int64_t start);
/* Storage has `len` bytes of the segment (-1: it was dropped there). */
void outlog_stored(struct outlog *o, int64_t start, int64_t len);
/* Files go with the run's folder. A zeroed or closed log is allowed. */
void outlog_close(struct outlog *o);

#endif
