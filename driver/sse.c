/* SPDX-License-Identifier: Apache-2.0
 *
 * The ring of changes and the flush that tells them. Viewers are in sse_view.c.
 */
#include "driver/sse_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "driver/driver_internal.h"
#include "driver/rest.h"

#include <stdlib.h>
#include <string.h>

#define TOUCHED_MAX 5000 /* trials changed by one event before viewers load afresh instead */

/* ---- the ring ---- */

static void ring_add(struct sse *s, enum change kind, int64_t experiment, int64_t trial,
                     int64_t seq)
{
    s->ring[s->added++ % SSE_RING_MAX] =
        (struct sse_entry){.kind = kind, .experiment = experiment, .trial = trial, .seq = seq};
    if (s->added > SSE_RING_MAX) {
        /* All of the change that the oldest entry belonged to counts as forgotten. */
        s->known_after = s->ring[s->added % SSE_RING_MAX].seq;
    }
    if (s->n_viewers > 0 && !s->armed) {
        s->armed = true;
        (void)event_add(s->flush, &(struct timeval){.tv_usec = SSE_FLUSH_MS * 1000});
    }
}

static struct sse_points *points_of(struct sse *s, int64_t experiment)
{
    for (size_t i = 0; i < s->n_points; i++) {
        if (s->points[i].experiment == experiment) {
            return &s->points[i];
        }
    }
    s->points = xreallocarray(s->points, s->n_points + 1, sizeof(*s->points));
    s->points[s->n_points] = (struct sse_points){.experiment = experiment};
    return &s->points[s->n_points++];
}

static void add_values(struct buf *out, const struct event_point *p, const char *metric)
{
    for (int i = 0; i < p->n_values; i++) {
        buf_adds(out, i > 0 ? "," : "");
        buf_add_json_string(out, p->values[i].name != NULL ? p->values[i].name : metric);
        buf_addc(out, ':');
        buf_add_json_number(out, p->values[i].value);
    }
}

/* Metric points are drawn now, since only the event has them. */
static void note_points(struct sse *s, const struct experiment *x, const struct event *ev,
                        int64_t seq)
{
    struct sse_points *to = points_of(s, x->id);
    const char *metric = study_spec(x->study)->metric;
    for (int i = 0; i < ev->n_points; i++) {
        const struct event_point *p = &ev->points[i];
        buf_adds(&to->text, to->text.len > 0 ? ",{\"trial\":" : "{\"trial\":");
        buf_add_int(&to->text, ev->trial);
        buf_adds(&to->text, ",\"attempt\":");
        buf_add_int(&to->text, ev->attempt);
        buf_adds(&to->text, ",\"step\":");
        buf_add_int(&to->text, p->step);
        buf_adds(&to->text, ",\"values\":{");
        add_values(&to->text, p, metric);
        buf_adds(&to->text, "}}");
    }
    to->seq = seq;
}

void sse_note(struct sse *s, const struct experiment *x, const struct event *ev, int64_t seq)
{
    if (s == NULL) {
        return;
    }
    if (ev != NULL && ev->n_points > 0 && s->n_viewers > 0) {
        note_points(s, x, ev, seq);
    }
    if (ev != NULL && ev->kind == EV_REPORT && !ev->changed && !ev->late) {
        ring_add(s, CHANGE_POINTS, x->id, ev->trial, seq);
        return;
    }
    int n = 0;
    const int64_t *touched = ev != NULL ? study_touched(x->study, &n) : NULL;
    if (n > TOUCHED_MAX) {
        ring_add(s, CHANGE_ALL, x->id, -1, seq);
        return;
    }
    for (int i = 0; i < n; i++) {
        ring_add(s, CHANGE_TRIAL, x->id, touched[i], seq);
    }
    if (n == 0 || ev->trial == 0 || ev->moves != NULL) {
        ring_add(s, CHANGE_EXPERIMENT, x->id, 0, seq);
    }
}

void sse_note_deleted(struct sse *s, int64_t experiment, int64_t seq)
{
    if (s != NULL) {
        ring_add(s, CHANGE_DELETED, experiment, 0, seq);
    }
}

/* ---- drawing ---- */

static uint64_t slot_of(int64_t experiment, int64_t trial, size_t n)
{
    uint64_t h =
        ((uint64_t)experiment * 0x9e3779b97f4a7c15ULL) ^ ((uint64_t)trial * 0xc2b2ae3d27d4eb4fULL);
    return (h ^ h >> 29) & (n - 1);
}

/* Marks the last entry of each (experiment, trial) in [from, to): only that one is told. */
static void mark_last(struct sse *s, uint64_t from, uint64_t to)
{
    size_t n = 64;
    while (n < 2 * (to - from)) {
        n *= 2;
    }
    uint64_t *slots = xcalloc(n, sizeof(*slots)); /* index + 1 */
    for (uint64_t i = to; i-- > from;) {
        struct sse_entry *e = &s->ring[i % SSE_RING_MAX];
        uint64_t at = slot_of(e->experiment, e->trial, n);
        e->last = true;
        for (; slots[at] != 0; at = (at + 1) & (n - 1)) {
            const struct sse_entry *o = &s->ring[(slots[at] - 1) % SSE_RING_MAX];
            if (o->experiment == e->experiment && o->trial == e->trial) {
                e->last = o->kind == CHANGE_POINTS && e->kind == CHANGE_TRIAL;
                break;
            }
        }
        if (slots[at] == 0 || e->last) {
            slots[at] = i + 1;
        }
    }
    free(slots);
}

static void open_event(struct buf *out, const char *name)
{
    buf_adds(out, "event: ");
    buf_adds(out, name);
    buf_adds(out, "\ndata: ");
}

static void close_event(struct buf *out, int64_t id)
{
    if (id > 0) {
        buf_adds(out, "\nid: ");
        buf_add_int(out, id);
    }
    buf_adds(out, "\n\n");
}

static void draw(struct sse *s, struct buf *out, const struct sse_entry *e, bool live, int64_t id)
{
    struct experiment *x = record_by_id(s->d, e->experiment);
    const struct trial *t =
        x != NULL && x->study != NULL && e->trial > 0 ? study_trial(x->study, e->trial) : NULL;
    if (e->kind == CHANGE_DELETED) {
        open_event(out, "deleted");
        buf_addf(out, "{\"id\":%lld}", (long long)e->experiment);
        close_event(out, id);
    } else if (e->kind == CHANGE_ALL) {
        open_event(out, "reset");
        buf_adds(out, "{}");
        close_event(out, id);
    } else if (t != NULL && !(live && e->kind == CHANGE_POINTS)) {
        open_event(out, "trial");
        rest_add_trial(out, s->d, x, t);
        close_event(out, id);
    } else if (x != NULL && e->kind == CHANGE_EXPERIMENT) {
        open_event(out, "experiment");
        rest_add_experiment(out, s->d, x, false);
        close_event(out, id);
    } else if (id > 0) {
        /* Told otherwise, or gone: the viewer still learns how far it is. */
        buf_adds(out, "id: ");
        buf_add_int(out, id);
        buf_adds(out, "\n\n");
    }
}

/* Counts and best of every experiment with a change, where no entry of its own says it. */
static void draw_experiments(struct sse *s, struct buf *out, uint64_t from, uint64_t to,
                             int64_t only)
{
    int64_t done[64];
    int n = 0;
    for (uint64_t i = to; i-- > from && n < 64;) {
        const struct sse_entry *e = &s->ring[i % SSE_RING_MAX];
        bool known = only != 0 && e->experiment != only;
        for (int k = 0; k < n && !known; k++) {
            known = done[k] == e->experiment;
        }
        struct experiment *x = known ? NULL : record_by_id(s->d, e->experiment);
        if (x != NULL) {
            done[n++] = e->experiment;
            open_event(out, "experiment");
            rest_add_experiment(out, s->d, x, false);
            close_event(out, 0);
        }
    }
}

void sse_draw(struct sse *s, struct buf *out, uint64_t from, uint64_t to, int64_t only, bool live)
{
    mark_last(s, from, to);
    draw_experiments(s, out, from, to, only);
    for (size_t i = 0; live && i < s->n_points; i++) {
        struct sse_points *p = &s->points[i];
        if (p->text.len > 0 && (only == 0 || only == p->experiment)) {
            open_event(out, "metrics");
            buf_addf(out, "{\"experiment\":%lld,\"points\":[", (long long)p->experiment);
            buf_add(out, p->text.data, p->text.len);
            buf_adds(out, "]}");
            close_event(out, 0);
        }
    }
    for (uint64_t i = from; i < to; i++) {
        const struct sse_entry *e = &s->ring[i % SSE_RING_MAX];
        const struct sse_entry *next = &s->ring[(i + 1) % SSE_RING_MAX];
        bool mine = only == 0 || e->experiment == only;
        /* The id stands on the last event of its change: what a viewer has, it has whole. */
        bool ends = i + 1 == to || next->seq != e->seq;
        if (mine && e->last && e->kind != CHANGE_EXPERIMENT) {
            draw(s, out, e, live, ends ? e->seq : 0);
        } else if (i + 1 == to) {
            draw(s, out, &(struct sse_entry){0}, live, e->seq);
        }
    }
}

void sse_points_clear(struct sse *s)
{
    for (size_t i = 0; i < s->n_points; i++) {
        buf_fini(&s->points[i].text);
    }
    s->n_points = 0;
}

int64_t sse_told(const struct sse *s)
{
    return s->flushed == s->added ? s->d->commit_seq : s->ring[s->flushed % SSE_RING_MAX].seq - 1;
}

/* The place of the first entry after change `seq`. */
uint64_t sse_place(const struct sse *s, int64_t seq)
{
    uint64_t oldest = s->added > SSE_RING_MAX ? s->added - SSE_RING_MAX : 0;
    uint64_t lo = oldest;
    uint64_t hi = s->added;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (s->ring[mid % SSE_RING_MAX].seq > seq) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return lo;
}
