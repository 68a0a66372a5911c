/* SPDX-License-Identifier: Apache-2.0
 *
 * A trial's output in storage: segments of one stream of bytes, each an object of its own, named by
 * where it begins and compressed (gzip; `zcat` of all of them in order is the output). A segment
 * that grows is put again. Segments that were dropped leave a gap; offsets never change.
 */
#ifndef MAG_STORAGE_LOGS_H
#define MAG_STORAGE_LOGS_H

#include "base/buf.h"
#include "storage/storage.h"

#define STORAGE_SEGMENT_MAX (4 << 20) /* bytes of a segment, uncompressed */

/* "<trial>/attempts/<n>/log", malloc'ed: the folder of the segments. `trial` is the trial's key. */
char *storage_log_key(const char *trial, int64_t attempt);
/* The segment that begins at `start`: all of it known so far, at most STORAGE_SEGMENT_MAX bytes. */
enum mag_status storage_log_put(struct storage *s, const char *log, int64_t start,
                                const char *bytes, size_t len, struct mag_err *err) MAG_MUSTCHECK;
enum mag_status storage_log_drop(struct storage *s, const char *log, int64_t start,
                                 struct mag_err *err) MAG_MUSTCHECK;

/* What was read. The bytes begin at `offset`, which is beyond the one asked for where that lies in
 * a gap; they end at the next gap. */
struct storage_log {
    struct buf bytes;
    int64_t offset;
    int64_t end; /* of all that is stored */
};
/* At most `max` bytes from `offset` on; the last `max` when it is negative. NOTFOUND: no segment is
 * there. */
enum mag_status storage_log_read(struct storage *s, const char *log, int64_t offset, size_t max,
                                 struct storage_log *ret, struct mag_err *err) MAG_MUSTCHECK;

#endif
