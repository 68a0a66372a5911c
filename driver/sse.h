/* SPDX-License-Identifier: Apache-2.0
 *
 * The event stream: what happens to experiments and trials, to any number of viewers, after it is
 * durable. A ring of references (not texts) holds the last SSE_RING_MAX changes; what a viewer gets
 * is drawn from the present state, so that many changes of a trial become one. Loop thread only.
 */
#ifndef MAG_DRIVER_SSE_H
#define MAG_DRIVER_SSE_H

#include "driver/driver.h"

#define SSE_RING_MAX 100000      /* changes that a viewer may have missed and resume after */
#define SSE_UNSENT_MAX (1 << 20) /* bytes that a viewer may be behind */
#define SSE_VIEWERS_MAX 256
#define SSE_FLUSH_MS 100 /* changes are gathered for so long */
#define SSE_COMMENT_S 15

struct sse;
enum mag_status sse_start(struct sse **ret, struct driver *d, struct mag_err *err) MAG_MUSTCHECK;
void sse_stop(struct sse *s);
/* An event was applied (NULL: the experiment was created) under this commit_seq. */
void sse_note(struct sse *s, const struct experiment *x, const struct event *ev, int64_t seq);
void sse_note_deleted(struct sse *s, int64_t experiment, int64_t seq);
/* What was shown may be wrong (a commit failed): every viewer loads afresh. */
void sse_reset(struct sse *s);
int sse_viewers(const struct sse *s);

#endif
