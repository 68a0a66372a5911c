/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP as the driver's REST needs it: one call is one request on its way to one reply. A handler
 * gets a call whose guards have passed and whose path and body are parsed; it writes the answer
 * into `out` and ends with http_reply (released when everything applied so far is durable), or
 * keeps the call (long poll, reader job, event stream) and ends it later. Loop thread only.
 */
#ifndef MAG_DRIVER_HTTP_H
#define MAG_DRIVER_HTTP_H

#include "base/buf.h"
#include "base/json.h"
#include "driver/driver.h"

#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdbool.h>
#include <stdint.h>

#define HTTP_BODY_MAX (4 << 20) /* bytes of a request's body */
#define HTTP_HEADERS_MAX 32768  /* bytes of its first line and headers */
#define HTTP_PATH_MAX 1024      /* bytes of its path */
#define HTTP_CONNECTIONS_MAX 8192
#define HTTP_TIMEOUT_S                                                                             \
    60 /* for a request to arrive, a reply to leave, a kept connection to speak */
#define HTTP_WAIT_MAX_MS 600000 /* longest poll */
#define HTTP_ARGS_MAX 2         /* variable parts of a path */

enum http_method { HTTP_GET = 1, HTTP_POST = 2, HTTP_DELETE = 4, HTTP_PATCH = 8 };

enum http_flag {
    HTTP_F_PUBLIC = 1,     /* no token asked: health, the board's files */
    HTTP_F_AT_ONCE = 2,    /* shows no study: need not wait for the commit */
    HTTP_F_EXPERIMENT = 4, /* the first variable part names an experiment, which is looked up */
    HTTP_F_TRIAL = 8,      /* the second is a trial of it */
    HTTP_F_BODY = 16,      /* has a JSON body */
    HTTP_F_NAN = 32,       /* whose numbers may be NaN or Infinity */
    HTTP_F_HOLDS = 64,     /* waits by itself while a suggestion is computed */
};

struct http_call;
typedef void (*http_handler)(struct http_call *c);

/* One row of the table that drives dispatch, /openapi.json and 405. A variable part is {name}; a
 * path may end in ":verb". */
struct http_route {
    enum http_method method;
    const char *path;
    http_handler handler;
    unsigned flags;
    const char *id;      /* operationId */
    const char *summary; /* for /openapi.json */
};

struct http_conn;

struct http_call {
    struct driver *d;
    struct evhttp_request *req; /* NULL: the connection has gone */
    struct http_conn *conn;
    const struct http_route *route;
    char path[HTTP_PATH_MAX]; /* decoded, cut up: args point into it */
    const char *args[HTTP_ARGS_MAX];
    struct experiment *x; /* HTTP_F_EXPERIMENT; gone after the handler returned */
    int64_t trial;        /* HTTP_F_TRIAL */
    struct evkeyvalq query;
    json_t *body;    /* HTTP_F_BODY */
    const char *raw; /* the body's bytes, until the handler returns */
    size_t raw_len;

    int status;
    const char *content_type;
    struct buf out;
    struct deferred df;

    /* for whoever keeps the call */
    struct parked parked;
    struct list_node held;
    void (*gone)(struct http_call *c); /* called once when the peer has gone or the server ends */
    struct event *timer, *closed;
    void *state;
    void (*free_state)(void *state);
};

struct http;
enum mag_status http_start(struct http **ret, struct driver *d, struct mag_err *err) MAG_MUSTCHECK;
/* No new connections. */
void http_drain(struct http *h);
/* Answers every long poll now and ends every event stream. */
void http_end_waits(struct http *h);
void http_stop(struct http *h);
const char *http_url(const struct http *h);

struct http_stats {
    uint64_t requests, connections, open, refused;
    uint64_t by_class[6]; /* replies by the first digit of their status */
};
const struct http_stats *http_stats(const struct http *h);

/* ---- answering ---- */

/* Sends `out` with c->status (200 unless set) once everything applied so far is durable; 503 when
 * its commit fails. Ends the call. */
void http_reply(struct http_call *c);
/* The same for a JSON value, which is taken. */
void http_reply_json_take(struct http_call *c, int status, json_t *value);
/* application/problem+json; ends the call. `detail` may be NULL. */
void http_problem(struct http_call *c, int status, const char *fmt, ...) MAG_PRINTF(3, 4);
/* With the list of faults, which is freed. */
void http_problem_issues(struct http_call *c, int status, const char *detail,
                         struct mjson_issues *is);
/* The problem that a status of ours is. */
void http_problem_status(struct http_call *c, enum mag_status st, const struct mag_err *err);
int http_status_of(enum mag_status st);
const char *http_reason(int status);
/* {"type":"about:blank","title":…,"status":…,"detail":…  without the closing brace. */
void http_problem_open(struct buf *out, int status, const char *detail);

/* ---- keeping a call ---- */

/* `gone` is called when the peer goes. */
void http_keep(struct http_call *c, void (*gone)(struct http_call *c));
/* Frees a call that `gone` was called for, or that was answered by other means. */
void http_call_free(struct http_call *c);

/* ---- reading a request ---- */
const char *http_query(const struct http_call *c, const char *key); /* NULL = absent */
/* A whole number in [lo, hi] from the query; adds an issue and returns `def` when it is wrong. */
int64_t http_query_int(const struct http_call *c, const char *key, int64_t lo, int64_t hi,
                       int64_t def, struct mjson_issues *is);
const char *http_header(const struct http_call *c, const char *name);
void http_add_header(struct http_call *c, const char *name, const char *value);

#endif
