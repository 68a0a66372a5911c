/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/web.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#define CONNECT_MS 10000
#define WAIT_FIRST_MS 200
#define WAIT_MOST_MS 10000
#define DOWN_MS 3000
#define LOOK_MS 100 /* how soon a cancellation is seen */
#define SKEW_S 300  /* clocks further apart than this break signatures */

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void start_curl(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

enum mag_status web_init(struct web *h, const struct web_scheme *scheme, void *self,
                         const struct settings *settings, struct mag_err *err)
{
    static const char *const bundles[] = {"MAGPIE_CA_BUNDLE", "AWS_CA_BUNDLE", "OS_CACERT", NULL};
    (void)pthread_once(&curl_once, start_curl);
    h->scheme = scheme;
    h->self = self;
    h->curl = curl_easy_init();
    if (h->curl == NULL) {
        return mag_fail(err, MAG_NOMEM, "libcurl cannot be started");
    }
    const char *ca = settings_first(settings, bundles);
    h->ca = ca != NULL ? xstrdup(ca) : NULL;
    enum mag_status st =
        settings_duration(settings, "MAGPIE_STORAGE_PATIENCE", 120000, &h->usual_patience_ms, err);
    web_set_patience(h, 0);
    if (st == MAG_OK) {
        st = settings_duration(settings, "MAGPIE_STORAGE_STALL", 30000, &h->stall_ms, err);
    }
    return st;
}

void web_set_patience(struct web *h, int64_t ms)
{
    h->patience_ms = ms > 0 ? ms : h->usual_patience_ms;
}

void web_cancel(struct web *h)
{
    __atomic_store_n(&h->cancelled, true, __ATOMIC_RELEASE);
}

static bool is_cancelled(const struct web *h)
{
    return __atomic_load_n(&h->cancelled, __ATOMIC_ACQUIRE);
}

static void wipe(char *secret)
{
    if (secret != NULL) {
        explicit_bzero(secret, strlen(secret));
    }
    free(secret);
}

void web_fini(struct web *h)
{
    curl_easy_cleanup(h->curl);
    free(h->ca);
    free(h->sigv4);
    wipe(h->user);
    wipe(h->password);
}

void web_reply_fini(struct web_reply *r)
{
    buf_fini(&r->headers);
    buf_fini(&r->body);
    free(r->at);
    r->at = NULL;
}

char *web_header(const struct web_reply *r, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = r->headers.data; p != NULL && *p != '\0';) {
        const char *end = strchrnul(p, '\n');
        if (strncasecmp(p, name, n) == 0 && p[n] == ':') {
            const char *value = p + n + 1;
            while (*value == ' ' || *value == '\t') {
                value++;
            }
            const char *stop = end;
            while (stop > value && (stop[-1] == '\r' || stop[-1] == ' ')) {
                stop--;
            }
            return xstrndup(value, (size_t)(stop - value));
        }
        p = *end == '\n' ? end + 1 : end;
    }
    return NULL;
}

/* ---- one exchange ---- */

struct exchange {
    struct web *h;
    const struct web_call *call;
    struct web_reply *r;
    int64_t sent; /* of a body from a file */
    bool refused; /* the sink could not take it, or the answer is too long */
    int read_errno;
};

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    struct exchange *x = arg;
    size_t len = size * n;
    if (len > 5 && memcmp(data, "HTTP/", 5) == 0) {
        buf_reset(&x->r->headers); /* of the answer after "100 Continue", or a redirection */
        buf_reset(&x->r->body);
    }
    if (x->r->headers.len + len > WEB_HEADERS_MAX) {
        x->refused = true;
        return 0;
    }
    buf_add(&x->r->headers, data, len);
    return len;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct exchange *x = arg;
    size_t len = size * n;
    long status = 0;
    (void)curl_easy_getinfo(x->h->curl, CURLINFO_RESPONSE_CODE, &status);
    if (x->call->ranged && status >= 200 && status < 300 && status != 206) {
        x->r->whole = true;
        return 0;
    }
    if (x->call->sink != NULL && status >= 200 && status < 300) {
        x->refused = !x->call->sink(x->call->sink_arg, data, len);
        return x->refused ? 0 : len;
    }
    bool object = x->call->max != 0 && status >= 200 && status < 300; /* refusals are documents */
    size_t max = object ? x->call->max : WEB_REPLY_MAX;
    if (x->r->body.len + len > max) {
        x->refused = true;
        return 0;
    }
    buf_add(&x->r->body, data, len);
    return len;
}

static size_t on_read(char *to, size_t size, size_t n, void *arg)
{
    struct exchange *x = arg;
    const struct web_call *c = x->call;
    int64_t left = (c->fd >= 0 ? c->size : (int64_t)c->len) - x->sent;
    size_t want = (int64_t)(size * n) < left ? size * n : (size_t)left;
    if (c->fd < 0) {
        memcpy(to, (const char *)c->bytes + x->sent, want);
    }
    while (c->fd >= 0 && want > 0) {
        ssize_t got = pread(c->fd, to, want, c->offset + x->sent);
        if (got > 0) {
            want = (size_t)got;
            break;
        }
        if (got == 0 || errno != EINTR) {
            x->read_errno = got < 0 ? errno : EIO; /* the file became shorter */
            return CURL_READFUNC_ABORT;
        }
    }
    x->sent += (int64_t)want;
    return want;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const struct exchange *x = arg;
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    return is_cancelled(x->h) ? 1 : 0;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct exchange *x = arg;
    x->sent = origin == SEEK_SET ? offset : x->sent;
    return origin == SEEK_SET ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_CANTSEEK;
}

static void set_body(struct exchange *x)
{
    CURL *e = x->h->curl;
    const struct web_call *c = x->call;
    bool body =
        c->fd >= 0 || c->bytes != NULL || c->method[0] == 'P'; /* PUT, POST: perhaps empty */
    if (strcmp(c->method, "HEAD") == 0) {
        (void)curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
    } else if (body) {
        (void)curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
        (void)curl_easy_setopt(e, CURLOPT_READFUNCTION, on_read);
        (void)curl_easy_setopt(e, CURLOPT_READDATA, x);
        (void)curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
        (void)curl_easy_setopt(e, CURLOPT_SEEKDATA, x);
        (void)curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE,
                               (curl_off_t)(c->fd >= 0 ? c->size : (int64_t)c->len));
        (void)curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, c->method);
    } else {
        (void)curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, c->method);
    }
}

/* Who has little patience does not wait long for one answer either. */
static int64_t least(int64_t ms, const struct web *h)
{
    int64_t most = h->patience_ms > 1000 ? h->patience_ms : 1000;
    return ms < most ? ms : most;
}

static void set_options(struct exchange *x, const char *url, struct curl_slist *headers)
{
    struct web *h = x->h;
    CURL *e = h->curl;
    curl_easy_reset(e);
    (void)curl_easy_setopt(e, CURLOPT_URL, url);
    (void)curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(e, CURLOPT_USERAGENT, "magpie");
    (void)curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)curl_easy_setopt(e, CURLOPT_XFERINFODATA, x);
    (void)curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)least(CONNECT_MS, h));
    (void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
    (void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)((least(h->stall_ms, h) + 999) / 1000));
    (void)curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, 512L * 1024);
    (void)curl_easy_setopt(e, CURLOPT_BUFFERSIZE, 256L * 1024);
    (void)curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(e, CURLOPT_HEADERDATA, x);
    (void)curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(e, CURLOPT_WRITEDATA, x);
    if (x->call->follow) {
        (void)curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 1L);
        (void)curl_easy_setopt(e, CURLOPT_MAXREDIRS, 3L);
        (void)curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    }
    if (h->ca != NULL) {
        (void)curl_easy_setopt(e, CURLOPT_CAINFO, h->ca);
    }
    if (h->sigv4 != NULL) {
        (void)curl_easy_setopt(e, CURLOPT_AWS_SIGV4, h->sigv4);
        (void)curl_easy_setopt(e, CURLOPT_USERNAME, h->user);
        (void)curl_easy_setopt(e, CURLOPT_PASSWORD, h->password);
    }
    set_body(x);
}

/* The address without query and user, which may be secrets. */
static char *shown(const char *url)
{
    return xstrndup(url, strcspn(url, "?"));
}

static const char *network_remedy(CURLcode rc)
{
    switch ((int)rc) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return "; is the host's name right?";
    case CURLE_COULDNT_CONNECT:
        return "; is the server up, are address and port right?";
    case CURLE_UNSUPPORTED_PROTOCOL: /* the address was looked at before */
        return "; what answers there is no HTTP: is it the right port? (of HDFS, the namenode's "
               "HTTP "
               "port, 9870)";
    case CURLE_PEER_FAILED_VERIFICATION:
        return "; if it has a certificate of your own authority, name it in MAGPIE_CA_BUNDLE";
    case CURLE_OPERATION_TIMEDOUT:
        return "; it stood still";
    default:
        return "";
    }
}

static bool may_pass(CURLcode rc)
{
    switch ((int)rc) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_OUT_OF_MEMORY:
    case CURLE_ABORTED_BY_CALLBACK: /* cancelled */
        return false;
    default:
        return true;
    }
}

struct attempt {
    enum mag_status status; /* of the exchange */
    bool passing;
    struct mag_err err;
    char *url;
};

static void name_failure(struct exchange *x, struct attempt *a, CURLcode rc)
{
    const char *method = x->call->method;
    const char *at = x->r->at;
    if (x->read_errno != 0) {
        a->status = mag_fail(&a->err, MAG_IO, "%s %s: the file cannot be read to its end: %s",
                             method, at, strerror(x->read_errno));
    } else if (x->refused && x->call->sink != NULL) {
        a->status = mag_fail(&a->err, MAG_IO, "%s %s: what came could not be kept", method, at);
    } else if (x->refused) {
        a->status =
            mag_fail(&a->err, MAG_LIMIT, "%s %s: the answer is longer than expected", method, at);
    } else {
        a->passing = may_pass(rc);
        a->status = mag_fail(&a->err, a->passing ? MAG_TIMEOUT : MAG_INVALID, "%s %s: %s%s", method,
                             at, curl_easy_strerror(rc), network_remedy(rc));
    }
}

static void try_once(struct web *h, const struct web_call *call, struct web_reply *r,
                     struct attempt *a)
{
    struct exchange x = {.h = h, .call = call, .r = r};
    struct curl_slist *headers = NULL;
    *a = (struct attempt){0};
    r->status = 0;
    r->passing = false;
    r->whole = false;
    buf_reset(&r->headers);
    buf_reset(&r->body);
    if (call->url != NULL) {
        a->url = xstrdup(call->url);
    } else {
        a->status = h->scheme->prepare(h->self, call, &a->url, &headers, &a->err);
    }
    for (int i = 0; call->headers[i] != NULL; i++) {
        headers = curl_slist_append(headers, call->headers[i]);
    }
    free(r->at);
    r->at = a->url != NULL ? shown(a->url) : NULL;
    if (a->status == MAG_OK) {
        set_options(&x, a->url, headers);
        CURLcode rc = curl_easy_perform(h->curl);
        (void)curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &r->status);
        /* A refusal may come before the body is sent; then the answer counts. */
        bool answered = rc == CURLE_OK || (rc == CURLE_SEND_ERROR && r->status >= 300);
        if (!answered) {
            name_failure(&x, a, rc);
        }
    }
    curl_slist_free_all(headers);
}

/* A server that was waited for in vain is not waited for as long again, until it has answered: what
 * queues behind would never end. */
static int64_t patience(const struct web *h)
{
    return h->down && h->patience_ms > DOWN_MS ? DOWN_MS : h->patience_ms;
}

bool web_wait(struct web *h, struct web_wait *w)
{
    int64_t now = clock_mono_ns();
    int64_t ms = WAIT_FIRST_MS;
    for (int i = 0; i < w->tries && ms < WAIT_MOST_MS; i++) {
        ms *= 2;
    }
    ms = ms < WAIT_MOST_MS ? ms : WAIT_MOST_MS;
    uint32_t chance = 0;
    if (getrandom(&chance, sizeof(chance), 0) != (ssize_t)sizeof(chance)) {
        chance = (uint32_t)now;
    }
    ms = ms / 2 + (int64_t)(chance % (uint32_t)(ms / 2 + 1)); /* many workers do not come at once */
    if (w->since_ns == 0) {
        w->since_ns = now;
    }
    w->tries++;
    if (now + ms * MAG_NS_PER_MS > w->since_ns + patience(h) * MAG_NS_PER_MS) {
        h->down = true;
        return false;
    }
    for (int64_t left = ms; left > 0 && !is_cancelled(h);) {
        (void)poll(NULL, 0, left < LOOK_MS ? (int)left : LOOK_MS);
        left = ms - (clock_mono_ns() - now) / MAG_NS_PER_MS;
    }
    return !is_cancelled(h);
}

static enum web_verdict judge(struct web *h, const struct web_call *call, const struct web_reply *r)
{
    enum web_verdict v = h->scheme->judge(h->self, call, r);
    bool server = r->status >= 500 && r->status != 501 && r->status != 505 && r->status != 507;
    return v != WEB_TAKE                                    ? v
           : r->status == 408 || r->status == 429 || server ? WEB_AGAIN
                                                            : WEB_TAKE;
}

enum mag_status web_run(struct web *h, const struct web_call *call, struct web_reply *r,
                        struct mag_err *err)
{
    struct web_wait wait = {0};
    int at_once = 0;
    for (;;) {
        struct attempt a;
        try_once(h, call, r, &a);
        free(a.url);
        enum web_verdict v = a.status == MAG_OK ? judge(h, call, r)
                             : a.passing        ? WEB_AGAIN
                                                : WEB_TAKE;
        h->down = h->down && v == WEB_AGAIN;
        if (a.passing && h->scheme->unreachable != NULL) {
            h->scheme->unreachable(h->self);
        }
        if (v == WEB_NOW && at_once++ < 2) {
            continue;
        }
        r->passing = v == WEB_AGAIN;
        r->tries = wait.tries + 1;
        if (v != WEB_AGAIN || call->once || !web_wait(h, &wait)) {
            if (a.status == MAG_OK) {
                return MAG_OK;
            }
            return wait.tries > 1
                       ? mag_fail(err, a.status, "%s (%d tries in %lld s)", a.err.text, wait.tries,
                                  (long long)((clock_mono_ns() - wait.since_ns) / MAG_NS_PER_S))
                       : mag_fail(err, a.status, "%s", a.err.text);
        }
    }
}

/* ---- refusals ---- */

static enum mag_status status_of(long code)
{
    switch (code) {
    case 404:
        return MAG_NOTFOUND;
    case 409:
    case 412:
        return MAG_CONFLICT;
    case 413:
    case 507:
        return MAG_LIMIT;
    default:
        return code >= 400 && code < 500 && code != 408 && code != 429 ? MAG_INVALID : MAG_IO;
    }
}

/* Seconds that the server's clock is ahead of ours. */
static int64_t skew(const struct web_reply *r)
{
    char *date = web_header(r, "Date");
    time_t there = date != NULL ? curl_getdate(date, NULL) : -1;
    free(date);
    return there > 0 ? (int64_t)there - clock_wall_ms() / 1000 : 0;
}

enum mag_status web_refused(struct web *h, const struct web_call *call, const struct web_reply *r,
                            struct mag_err *err)
{
    struct buf detail = {0};
    struct buf remedy = {0};
    h->scheme->explain(h->self, r, &detail, &remedy);
    int64_t ahead = skew(r);
    if ((r->status == 401 || r->status == 403) && (ahead > SKEW_S || ahead < -SKEW_S)) {
        buf_reset(&remedy);
        buf_addf(&remedy, "this host's clock is %lld s %s the server's: set it (NTP)",
                 (long long)(ahead < 0 ? -ahead : ahead), ahead < 0 ? "ahead of" : "behind");
    }
    if (r->tries > 1) {
        buf_addf(&remedy, "%s%d tries", remedy.len > 0 ? "; " : "", r->tries);
    }
    enum mag_status st =
        mag_fail(err, r->passing ? MAG_TIMEOUT : status_of(r->status),
                 "%s %.180s: answered %ld%s%.140s%s%s", call->method, r->at != NULL ? r->at : "",
                 r->status, detail.len > 0 ? " " : "", detail.len > 0 ? detail.data : "",
                 remedy.len > 0 ? "; " : "", remedy.len > 0 ? remedy.data : "");
    buf_fini(&detail);
    buf_fini(&remedy);
    return st;
}

enum mag_status web_delete(struct web *h, const char *path, struct mag_err *err)
{
    struct web_reply r = {0};
    const struct web_call call = WEB_CALL(.method = "DELETE", .path = path);
    enum mag_status st = web_run(h, &call, &r, err);
    if (st == MAG_OK && !web_is_fine(&r) && r.status != 404) {
        st = web_refused(h, &call, &r, err);
    }
    web_reply_fini(&r);
    return st;
}

enum mag_status web_expect(struct web *h, const struct web_call *call, struct web_reply *r,
                           struct mag_err *err)
{
    enum mag_status st = web_run(h, call, r, err);
    return st != MAG_OK || web_is_fine(r) ? st : web_refused(h, call, r, err);
}

bool web_is_fine(const struct web_reply *r)
{
    return r->status >= 200 && r->status < 300;
}
