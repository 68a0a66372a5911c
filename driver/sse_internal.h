/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to driver/sse*.c.
 */
#ifndef MAG_DRIVER_SSE_INTERNAL_H
#define MAG_DRIVER_SSE_INTERNAL_H

#include "base/buf.h"
#include "driver/http.h"
#include "driver/sse.h"

enum change {
    CHANGE_NONE = 0,
    CHANGE_EXPERIMENT = 1,
    CHANGE_TRIAL = 2,
    CHANGE_POINTS = 3, /* a trial got metric points and nothing else */
    CHANGE_DELETED = 4,
    CHANGE_ALL = 5, /* too much to tell */
};

struct sse_entry {
    int64_t seq, experiment, trial;
    enum change kind;
    bool last; /* scratch of a drawing: no later entry is about the same thing */
};

/* Metric points of one experiment since the last flush. */
struct sse_points {
    int64_t experiment, seq;
    struct buf text;
};

struct sse {
    struct driver *d;
    struct sse_entry *ring;
    uint64_t added;      /* entries ever; entry i is ring[i % SSE_RING_MAX] */
    int64_t known_after; /* changes after this one are in the ring */
    uint64_t flushed;    /* entries told to the viewers (or handed over to be) */
    bool armed;          /* the flush timer runs */
    struct event *flush, *comment;
    struct sse_points *points;
    size_t n_points;
    struct list_node viewers; /* struct viewer */
    struct list_node flights; /* struct flight: drawn, waiting for their commit */
    int n_viewers;
};

/* ---- sse.c ---- */
/* Draws entries [from, to) as events; `only` != 0: of that experiment. */
void sse_draw(struct sse *s, struct buf *out, uint64_t from, uint64_t to, int64_t only, bool live);
void sse_points_clear(struct sse *s);
/* The newest change that no viewer is still to be told. */
int64_t sse_told(const struct sse *s);
uint64_t sse_place(const struct sse *s, int64_t seq);

#endif
