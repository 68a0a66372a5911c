/* SPDX-License-Identifier: Apache-2.0
 *
 * The output of a trial's program: what is in storage (read on the archive thread), and behind it
 * the last lines that came with a heartbeat, where they follow on. Offsets count the bytes of one
 * attempt's whole output and never change.
 */
#include "driver/rest.h"

#include "base/alloc.h"
#include "base/json.h"
#include "driver/archive.h"
#include "driver/driver_internal.h"
#include "driver/reader.h"
#include "storage/logs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_DEFAULT 65536
#define LOG_MAX (1 << 20)
#define RECORD_MAX (4 << 20)

struct log_job {
    struct reader_job job;
    struct driver *driver;
    struct http_call *call; /* NULL: its peer has gone */
    char *trial;            /* key in storage */
    int64_t attempt;
    int64_t offset; /* asked for, -1 = the end; then where `log.bytes` begin */
    size_t length;
    char *tail; /* last lines of a running attempt, NULL = none */
    int64_t tail_end;
    struct storage_log log;
    bool complete; /* nothing more will come */
    int status;
    char *fault;
};

static void job_free(struct log_job *j)
{
    buf_fini(&j->log.bytes);
    free(j->trial);
    free(j->tail);
    free(j->fault);
    free(j);
}

/* Output of an attempt that a worker of an older version ran: one object, written at its end. */
static enum mag_status read_whole(struct log_job *j, struct storage *s, struct mag_err *err)
{
    struct storage_part part = {0};
    char *key = xasprintf("%s/attempts/%lld/output.log", j->trial, (long long)j->attempt);
    enum mag_status st = storage_read(s, key, j->offset, j->length, &part, err);
    if (st == MAG_OK) {
        buf_add(&j->log.bytes, part.bytes, part.len);
        j->log.offset = part.offset;
        j->log.end = part.size;
        free(part.bytes);
    }
    free(key);
    return st;
}

/* trial.json is the last thing that a worker writes about an attempt. */
static bool is_complete(const struct log_job *j, struct storage *s)
{
    char *key = xasprintf("%s/trial.json", j->trial);
    char *text = NULL;
    size_t len = 0;
    json_t *doc = NULL;
    struct mag_err err = {0};
    bool over = storage_get(s, key, RECORD_MAX, &text, &len, &err) == MAG_OK &&
                mjson_parse(text, len, &doc, &err) == MAG_OK &&
                json_integer_value(json_object_get(doc, "attempt")) >= j->attempt;
    json_decref(doc);
    free(text);
    free(key);
    return over;
}

/* What the heartbeat brought and storage has not yet. */
static void add_tail(struct log_job *j)
{
    int64_t len = j->tail != NULL ? (int64_t)strlen(j->tail) : 0;
    int64_t begin = j->tail_end - len;
    struct storage_log *l = &j->log;
    int64_t pos = l->offset + (int64_t)l->bytes.len;
    if (len == 0 || j->tail_end <= l->end) {
        return;
    }
    if (j->offset < 0 && begin > l->end) {
        buf_reset(&l->bytes); /* storage is behind: the last lines alone */
        l->offset = pos = begin;
    }
    if (begin <= pos && pos >= l->end && pos <= j->tail_end) {
        buf_adds(&l->bytes, j->tail + (pos - begin));
        l->end = j->tail_end;
    }
    if (l->bytes.len > j->length && j->offset < 0) {
        size_t cut = l->bytes.len - j->length;
        buf_shift(&l->bytes, cut);
        l->offset += (int64_t)cut;
    } else if (l->bytes.len > j->length) {
        l->bytes.len = j->length;
    }
}

static void read_log(struct log_job *j, struct storage *s, struct mag_err *err)
{
    char *key = storage_log_key(j->trial, j->attempt);
    enum mag_status st = MAG_OK;
    j->complete = is_complete(j, s); /* asked before the output, so that no line is missed */
    st = storage_log_read(s, key, j->offset, j->length, &j->log, err);
    if (st == MAG_NOTFOUND) {
        st = read_whole(j, s, err);
    }
    free(key);
    if (st == MAG_NOTFOUND && j->tail != NULL && j->tail_end == 0) {
        j->tail_end = (int64_t)strlen(j->tail); /* of an older worker */
    }
    if (st == MAG_NOTFOUND && (j->tail != NULL || j->complete)) {
        st = MAG_OK; /* nothing yet, or nothing at all */
        j->log = (struct storage_log){.offset = j->offset > 0 ? j->offset : 0};
    }
    if (st == MAG_OK && !j->complete) {
        add_tail(j);
    }
    if (st != MAG_OK) {
        j->status = st == MAG_NOTFOUND ? 404 : 503;
        j->fault = st == MAG_NOTFOUND
                       ? xasprintf("no output is kept of attempt %lld", (long long)j->attempt)
                       : xasprintf("the output cannot be read: %s", err->text);
    }
}

static void run_log(struct reader_job *job, struct store_reader *store, const struct mag_err *why)
{
    struct log_job *j = container_of(job, struct log_job, job);
    struct mag_err err = {0};
    struct storage *s = archive_storage(j->driver, &err);
    if (s != NULL) {
        read_log(j, s, &err);
    } else {
        j->status = 503;
        j->fault = xasprintf("the output cannot be read: %s", err.text);
    }
}

static void add_number(struct http_call *c, const char *name, int64_t n)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "%lld", (long long)n);
    http_add_header(c, name, text);
}

static void done_log(struct reader_job *job)
{
    struct log_job *j = container_of(job, struct log_job, job);
    struct http_call *c = j->call;
    if (c != NULL) {
        c->state = NULL;
    }
    if (c != NULL && j->fault != NULL) {
        http_problem(c, j->status, "%s", j->fault);
    } else if (c != NULL) {
        add_number(c, "X-Log-Offset", j->log.offset);
        add_number(c, "X-Log-Size", j->log.end);
        add_number(c, "X-Log-Attempt", j->attempt);
        http_add_header(c, "X-Log-Complete", j->complete ? "true" : "false");
        struct buf had = c->out;
        c->out = j->log.bytes;
        j->log.bytes = had;
        c->content_type = "text/plain; charset=utf-8";
        http_reply(c);
    }
    job_free(j);
}

static void on_gone(struct http_call *c)
{
    struct log_job *j = c->state;
    if (c->req == NULL) {
        j->call = NULL;
        c->state = NULL;
        http_call_free(c);
    }
    /* Half closed: the job answers soon anyway. */
}

static void push(struct http_call *c, struct log_job *j)
{
    j->call = c;
    c->state = j;
    http_keep(c, on_gone);
    if (!reader_push(c->d->archive, &j->job)) {
        c->state = NULL;
        job_free(j);
        http_problem(c, 503, "too many reads are waiting; try again");
    }
}

void rest_trial_log(struct http_call *c)
{
    struct mjson_issues is = {0};
    const struct trial *t = study_trial(c->x->study, c->trial);
    bool tail = http_query(c, "offset") == NULL;
    int64_t newest = t->attempt > 0 ? t->attempt : 1;
    struct log_job *j = xcalloc(1, sizeof(*j));
    j->job = (struct reader_job){.run = run_log, .done = done_log};
    j->driver = c->d;
    j->attempt = http_query_int(c, "attempt", 1, INT64_MAX, newest, &is);
    j->offset = http_query_int(c, "offset", 0, INT64_MAX / 2, 0, &is);
    j->length = (size_t)http_query_int(c, tail ? "tail" : "limit", 1, LOG_MAX, LOG_DEFAULT, &is);
    if (is.total > 0) {
        job_free(j);
        http_problem_issues(c, 422, "the query is not valid", &is);
        return;
    }
    j->offset = tail ? -1 : j->offset;
    j->trial = xasprintf("experiments/%lld/trials/%lld", (long long)c->x->id, (long long)c->trial);
    const char *last = c->d->pool != NULL && j->attempt == t->attempt
                           ? pool_log_tail(c->d->pool, c->x->id, c->trial, &j->tail_end)
                           : NULL;
    j->tail = last != NULL ? xstrdup(last) : NULL;
    push(c, j);
}
