/* SPDX-License-Identifier: Apache-2.0
 *
 * Viewers of the event stream: connections that only ever receive. What is drawn waits for the
 * commit of what it shows; a viewer that does not read is dropped before anybody waits for it.
 */
#include "driver/sse_internal.h"

#include "base/alloc.h"
#include "base/log.h"
#include "driver/driver_internal.h"
#include "driver/rest.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdlib.h>
#include <string.h>

struct viewer {
    struct list_node node;
    struct http_call *call;
    struct sse *sse;
    int64_t only;  /* experiment, 0 = all */
    uint64_t from; /* entries before this one are known to it */
};

/* Texts on their way to viewers: one for all of them, or a viewer's own. */
struct flight {
    struct deferred df;
    struct list_node node;
    struct sse *sse;
    struct viewer *viewer; /* NULL = see `only` */
    int64_t only;
    uint64_t from;
    struct buf text;
};

/* ---- sending ---- */

static void viewer_free(void *arg)
{
    struct viewer *v = arg;
    struct sse *s = v->sse;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &s->flights)
    {
        struct flight *f = container_of(n, struct flight, node);
        if (f->viewer == v) {
            driver_forget(s->d, &f->df);
            list_remove(&f->node);
            buf_fini(&f->text);
            free(f);
        }
    }
    list_remove(&v->node);
    s->n_viewers--;
    free(v);
}

/* Ends the connection; frees call and viewer. */
static void drop(struct http_call *c)
{
    struct evhttp_connection *evcon = c->req != NULL ? evhttp_request_get_connection(c->req) : NULL;
    c->gone = NULL;
    http_call_free(c);
    if (evcon != NULL) {
        evhttp_connection_free(evcon);
    }
}

static void send_text(struct viewer *v, const char *text, size_t len)
{
    struct http_call *c = v->call;
    struct evhttp_connection *evcon = evhttp_request_get_connection(c->req);
    struct bufferevent *bev = evhttp_connection_get_bufferevent(evcon);
    if (evbuffer_get_length(bufferevent_get_output(bev)) > SSE_UNSENT_MAX) {
        log_warn("sse", "viewer-dropped", "unsent=%zu",
                 evbuffer_get_length(bufferevent_get_output(bev)));
        drop(c);
        return;
    }
    struct evbuffer *chunk = evbuffer_new();
    if (chunk != NULL && evbuffer_add(chunk, text, len) == 0) {
        evhttp_send_reply_chunk(c->req, chunk);
    }
    if (chunk != NULL) {
        evbuffer_free(chunk);
    }
}

static void send_to_all(struct sse *s, int64_t only, uint64_t from, const char *text, size_t len)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &s->viewers)
    {
        struct viewer *v = container_of(n, struct viewer, node);
        if (v->only == only && v->from <= from) {
            send_text(v, text, len);
        }
    }
}

static const char reset_text[] = "event: reset\ndata: {}\n\n";

static void on_durable(struct deferred *df, bool ok)
{
    struct flight *f = container_of(df, struct flight, df);
    list_remove(&f->node);
    if (!ok) {
        /* sse_reset tells the viewers. */
    } else if (f->viewer != NULL) {
        send_text(f->viewer, f->text.data, f->text.len);
    } else {
        send_to_all(f->sse, f->only, f->from, f->text.data, f->text.len);
    }
    buf_fini(&f->text);
    free(f);
}

static void launch(struct sse *s, struct viewer *v, int64_t only, uint64_t from,
                   struct buf *text_take)
{
    struct flight *f = xcalloc(1, sizeof(*f));
    f->sse = s;
    f->viewer = v;
    f->only = only;
    f->from = from;
    f->text = *text_take;
    *text_take = (struct buf){0};
    f->df.fn = on_durable;
    list_append(&s->flights, &f->node);
    driver_after_commit(s->d, &f->df);
}

/* ---- the flush ---- */

/* Draws the new entries once for each filter in use. */
static void flush_for(struct sse *s, int64_t only, uint64_t from, uint64_t to)
{
    struct buf text = {0};
    if (to - from > SSE_RING_MAX) {
        buf_adds(&text, reset_text);
    } else {
        sse_draw(s, &text, from, to, only, true);
    }
    if (text.len > 0) {
        launch(s, NULL, only, from, &text);
    }
    buf_fini(&text);
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
    struct sse *s = arg;
    uint64_t from = s->flushed;
    uint64_t to = s->added;
    s->armed = false;
    s->flushed = to;
    int64_t done[SSE_VIEWERS_MAX];
    int n = 0;
    struct list_node *node, *tmp;
    /* The filters first: launching may drop viewers at once. */
    list_foreach(node, tmp, &s->viewers)
    {
        int64_t only = container_of(node, struct viewer, node)->only;
        bool known = false;
        for (int k = 0; k < n && !known; k++) {
            known = done[k] == only;
        }
        if (!known && n < SSE_VIEWERS_MAX) {
            done[n++] = only;
        }
    }
    for (int k = 0; k < n && to > from; k++) {
        flush_for(s, done[k], from, to);
    }
    sse_points_clear(s);
}

static void on_comment(evutil_socket_t fd, short what, void *arg)
{
    struct sse *s = arg;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &s->viewers)
    {
        send_text(container_of(n, struct viewer, node), ": still here\n\n", 14);
    }
}

void sse_reset(struct sse *s)
{
    if (s == NULL) {
        return;
    }
    s->known_after = s->d->commit_seq;
    s->flushed = s->added;
    sse_points_clear(s);
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &s->viewers)
    {
        send_text(container_of(n, struct viewer, node), reset_text, sizeof(reset_text) - 1);
    }
}

/* ---- joining ---- */

static void welcome(struct sse *s, struct viewer *v, const char *last_id)
{
    struct buf text = {0};
    char *end = NULL;
    errno = 0;
    long long id = last_id != NULL ? strtoll(last_id, &end, 10) : -1;
    bool sound = last_id != NULL && errno == 0 && *end == '\0' && end != last_id;
    int64_t now = sse_told(s);
    buf_adds(&text, "retry: 1000\n\n");
    if (last_id != NULL && last_id[0] != '\0' && (!sound || id < s->known_after || id > now)) {
        buf_addf(&text, "event: reset\ndata: {}\nid: %lld\n\n", (long long)now);
    } else if (sound) {
        uint64_t from = sse_place(s, id);
        if (from < v->from) {
            sse_draw(s, &text, from, v->from, v->only, false);
        } else {
            buf_addf(&text, "id: %lld\n\n", (long long)now);
        }
    } else {
        buf_addf(&text, "id: %lld\n\n", (long long)now);
    }
    launch(s, v, 0, 0, &text);
}

static bool find_filter(struct http_call *c, int64_t *ret)
{
    const char *key = http_query(c, "experiment");
    *ret = 0;
    if (key == NULL || key[0] == '\0') {
        return true;
    }
    const struct experiment *x = record_find(c->d, key);
    if (x == NULL) {
        http_problem(c, 404, "no experiment is called %s", key);
        return false;
    }
    *ret = x->id;
    return true;
}

void rest_events(struct http_call *c)
{
    struct sse *s = c->d->sse;
    int64_t only = 0;
    if (!find_filter(c, &only)) {
        return;
    }
    if (s->n_viewers >= SSE_VIEWERS_MAX || c->d->stopping) {
        http_problem(c, 503, "%d viewers are connected already", SSE_VIEWERS_MAX);
        return;
    }
    const char *last_id = http_header(c, "Last-Event-ID");
    last_id = last_id != NULL ? last_id : http_query(c, "lastEventId");
    if (s->n_viewers == 0) {
        /* Nobody listened: the entries up to here are told to nobody. */
        s->flushed = s->added;
    }
    struct viewer *v = xcalloc(1, sizeof(*v));
    v->call = c;
    v->sse = s;
    v->only = only;
    v->from = s->flushed;
    list_append(&s->viewers, &v->node);
    s->n_viewers++;
    c->state = v;
    c->free_state = viewer_free;
    http_keep(c, drop);
    http_add_header(c, "Content-Type", "text/event-stream");
    http_add_header(c, "Cache-Control", "no-store");
    http_add_header(c, "X-Content-Type-Options", "nosniff");
    http_add_header(c, "X-Accel-Buffering", "no");
    evhttp_send_reply_start(c->req, 200, "OK");
    welcome(s, v, last_id);
}

/* ---- start and end ---- */

int sse_viewers(const struct sse *s)
{
    return s->n_viewers;
}

enum mag_status sse_start(struct sse **ret, struct driver *d, struct mag_err *err)
{
    struct sse *s = xcalloc(1, sizeof(*s));
    s->d = d;
    s->ring = xcalloc(SSE_RING_MAX, sizeof(*s->ring));
    s->known_after = d->commit_seq;
    list_init(&s->viewers);
    list_init(&s->flights);
    s->flush = event_new(d->base, -1, 0, on_flush, s);
    s->comment = event_new(d->base, -1, EV_PERSIST, on_comment, s);
    if (s->flush == NULL || s->comment == NULL ||
        event_add(s->comment, &(struct timeval){.tv_sec = SSE_COMMENT_S}) != 0) {
        sse_stop(s);
        return mag_fail(err, MAG_NOMEM, "no timer");
    }
    *ret = s;
    return MAG_OK;
}

void sse_stop(struct sse *s)
{
    if (s == NULL) {
        return;
    }
    for (struct list_node *n; (n = list_first(&s->viewers)) != NULL;) {
        drop(container_of(n, struct viewer, node)->call);
    }
    for (struct list_node *n; (n = list_first(&s->flights)) != NULL;) {
        struct flight *f = container_of(n, struct flight, node);
        driver_forget(s->d, &f->df);
        list_remove(n);
        buf_fini(&f->text);
        free(f);
    }
    if (s->flush != NULL) {
        event_free(s->flush);
    }
    if (s->comment != NULL) {
        event_free(s->comment);
    }
    sse_points_clear(s);
    free(s->points);
    free(s->ring);
    free(s);
}
