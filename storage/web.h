/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to storage/: HTTP for the schemes, over libcurl. One connection a storage. A request is
 * tried again while its failure may pass (network, stall, 408, 429, 5xx, what the scheme adds),
 * with growing waits, until `patience_ms` have gone since its first failure. Bodies come from
 * memory or from a part of a file, answers go to memory (bounded) or to a sink; nothing is held
 * whole.
 */
#ifndef MAG_STORAGE_WEB_H
#define MAG_STORAGE_WEB_H

#include "base/buf.h"
#include "storage/settings.h"

#include <curl/curl.h>
#include <stdint.h>

#define WEB_REPLY_MAX (8 << 20) /* bytes of an answer that is a document */
#define WEB_HEADERS_MAX (64 << 10)

struct web_reply {
    long status;
    struct buf headers; /* raw lines */
    struct buf body;    /* what no sink took */
    char *at;           /* the address of the last try, as people may see it */
    int tries;          /* that it took */
    bool passing;       /* the failure, or what the answer says, may pass */
    bool whole;         /* a part was asked for, and the server would send all */
};
void web_reply_fini(struct web_reply *r);
/* The value of a header of the last answer, malloc'ed, or NULL. */
char *web_header(const struct web_reply *r, const char *name);

/* Takes the bytes of a 2xx answer's body; false = cannot (ends the transfer for good). */
typedef bool (*web_sink_fn)(void *arg, const char *bytes, size_t n);

struct web_call {
    const char *method;
    const char *path;       /* below the scheme's endpoint, encoded, with its query */
    const char *url;        /* instead of `path`: an address that the server named */
    const char *headers[8]; /* "Name: value", borrowed; NULL-terminated */
    const void *bytes;      /* body; NULL with fd < 0 = none */
    size_t len;
    int fd; /* body = [offset, offset+size) of this file; -1 = none */
    int64_t offset, size;
    web_sink_fn sink;
    void *sink_arg;
    size_t max;  /* bytes of the body kept; 0 = WEB_REPLY_MAX */
    bool once;   /* the caller repeats it by himself */
    bool follow; /* redirections, of a GET */
    bool ranged; /* only 206 will do: another 2xx ends the transfer, `whole` is set */
};
#define WEB_CALL(...) ((struct web_call){.fd = -1, __VA_ARGS__})
#define WEB_CALL_FROM(file, ...) ((struct web_call){.fd = (file), __VA_ARGS__})

enum web_verdict {
    WEB_TAKE = 0,  /* an answer */
    WEB_AGAIN = 1, /* may pass: try again after a wait */
    WEB_NOW = 2,   /* try again at once, e.g. with a new token; at most twice in a row */
};

/* What a scheme knows about its server. `self` is the scheme's state. */
struct web_scheme {
    /* Fills *ret_url (malloc'ed) for call->path and appends headers that prove who we are. Called
     * before every try. */
    enum mag_status (*prepare)(void *self, const struct web_call *call, char **ret_url,
                               struct curl_slist **headers, struct mag_err *err);
    enum web_verdict (*judge)(void *self, const struct web_call *call, const struct web_reply *r);
    /* No answer came: another server may be asked next time. NULL = there is only one. */
    void (*unreachable)(void *self);
    /* "code: message" of a refusal and what to do about it, either may stay empty. */
    void (*explain)(void *self, const struct web_reply *r, struct buf *detail, struct buf *remedy);
};

struct web {
    const struct web_scheme *scheme;
    void *self;
    CURL *curl;
    char *ca;    /* PEM bundle, NULL = the system's */
    char *sigv4; /* "aws:amz:REGION:s3", NULL = none */
    char *user, *password;
    int64_t patience_ms, stall_ms;
    int64_t usual_patience_ms; /* as configured */
    bool down;                 /* waited for in vain; no answer since */
    bool cancelled;            /* atomic */
};

enum mag_status web_init(struct web *h, const struct web_scheme *scheme, void *self,
                         const struct settings *settings, struct mag_err *err) MAG_MUSTCHECK;
void web_fini(struct web *h);
/* From any thread: the call that runs and all later ones fail soon. */
void web_cancel(struct web *h);
/* 0 = as configured. */
void web_set_patience(struct web *h, int64_t ms);

/* Runs the call; MAG_OK: an answer with any status that is not worth another try lies in *r, which
 * is emptied first. Otherwise *err names address, cause and remedy. */
enum mag_status web_run(struct web *h, const struct web_call *call, struct web_reply *r,
                        struct mag_err *err) MAG_MUSTCHECK;
/* As web_run, and anything but 2xx is a failure, translated: 404 NOTFOUND, 409 and 412 CONFLICT,
 * 413 and 507 LIMIT, other 4xx INVALID, the rest IO. */
enum mag_status web_expect(struct web *h, const struct web_call *call, struct web_reply *r,
                           struct mag_err *err) MAG_MUSTCHECK;
/* The failure that an answer stands for. */
/* DELETE of `path`: OK too when there is nothing. */
enum mag_status web_delete(struct web *h, const char *path, struct mag_err *err) MAG_MUSTCHECK;
enum mag_status web_refused(struct web *h, const struct web_call *call, const struct web_reply *r,
                            struct mag_err *err);

/* Is it an answer, and a good one? */
bool web_is_fine(const struct web_reply *r);

/* GET of a whole object of at most `max` bytes into a malloc'ed, NUL-terminated *ret. `r` is the
 * caller's to look into and to end. */
enum mag_status web_get_whole(struct web *h, const char *path, size_t max, struct web_reply *r,
                              char **ret, size_t *ret_len, struct mag_err *err) MAG_MUSTCHECK;
/* HEAD: size, ETag and MD5 of an object. */
struct storage_stat;
enum mag_status web_stat(struct web *h, const char *path, struct storage_stat *ret,
                         struct mag_err *err) MAG_MUSTCHECK;
/* GET of a part, by Range; see storage_read. */
struct storage_part;
enum mag_status web_read_part(struct web *h, const char *path, int64_t offset, size_t max,
                              struct web_reply *r, struct storage_part *ret,
                              struct mag_err *err) MAG_MUSTCHECK;
/* "Range: bytes=N-" for a download that goes on at `offset`; for aim functions. */
struct web_range {
    const char *path;
    char line[48];
};
void web_aim_range(void *range, int64_t offset, struct web_call *call);

/* Waits of somebody who repeats calls by himself. False: the patience is used up. */
struct web_wait {
    int64_t since_ns; /* 0 = nothing failed yet */
    int tries;
};
bool web_wait(struct web *h, struct web_wait *w);

/* ---- texts ---- */
/* Percent-encodes all but unreserved characters (RFC 3986); '/' stays when `slashes`. */
void web_encode(struct buf *b, const char *text, bool slashes);
/* "bytes 0-9/1234" -> 1234; -1 when it says none. Also "bytes * /1234". */
int64_t web_total(const struct web_reply *r);
/* Content-Length, -1 when there is none. */
int64_t web_length(const struct web_reply *r);

#endif
