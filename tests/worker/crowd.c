/* SPDX-License-Identifier: Apache-2.0
 *
 * `crowd URL WORKERS DEAF`: so many workers ask one driver at the same time, each with a poll
 * of its own, and end what they are given at once, until nothing comes any more. Every DEAF-th
 * answer with grants is as if it had died with its worker (0: none). Prints what it saw as JSON.
 */
#include "base/alloc.h"
#include "wire/wire.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdio.h>
#include <stdlib.h>

#define MEMBERS                                                                                    \
    16 /* workers on one connection: replies to more at once would be dropped, and asked for again \
        */
#define POLL_MS 1000
#define IDLE_ROUNDS 4 /* without a grant: it is over */

struct member {
    nng_ctx ctx;
    nng_aio *aio;
    char *session;
    int64_t seq;
    bool gone;
    struct wire_grant *grants; /* held */
    size_t n_grants;
};

static struct {
    int64_t grants, groups, largest, open, most_open, mixed, dead;
} seen;

static void check(int rv, const char *what)
{
    if (rv != 0) {
        (void)fprintf(stderr, "crowd: %s: %s\n", what, nng_strerror(rv));
        exit(1);
    }
}

static void ask(struct member *m, struct wire_msg *msg)
{
    struct buf b = {0};
    nng_msg *out = NULL;
    msg->seq = ++m->seq;
    msg->acked = m->seq - 1;
    msg->session = m->session;
    wire_encode(msg, &b);
    msg->session = NULL;
    check(nng_msg_alloc(&out, 0), "msg");
    check(nng_msg_append(out, b.data, b.len), "msg");
    buf_fini(&b);
    nng_aio_set_msg(m->aio, out);
    nng_ctx_send(m->ctx, m->aio);
    nng_aio_wait(m->aio);
    check(nng_aio_result(m->aio), "send");
    nng_ctx_recv(m->ctx, m->aio);
}

static struct wire_msg hear(struct member *m)
{
    struct wire_msg msg = {0};
    struct mag_err err = {0};
    nng_aio_wait(m->aio);
    check(nng_aio_result(m->aio), "receive");
    nng_msg *in = nng_aio_get_msg(m->aio);
    if (wire_decode(nng_msg_body(in), nng_msg_len(in), &msg, &err) != MAG_OK) {
        (void)fprintf(stderr, "crowd: %s\n", err.text);
        exit(1);
    }
    nng_msg_free(in);
    return msg;
}

static void hello(struct member *m, int number)
{
    struct wire_msg msg = {.type = WIRE_HELLO};
    msg.hello = (struct wire_hello){.protocol = WIRE_PROTOCOL,
                                    .version = xstrdup("0"),
                                    .worker = xasprintf("crowd-%d", number),
                                    .name = xstrdup("crowd"),
                                    .host = xstrdup("h"),
                                    .pid = 1,
                                    .slots = 1,
                                    .fuse = 1};
    ask(m, &msg);
    wire_fini(&msg);
    msg = hear(m);
    if (msg.type != WIRE_WELCOME) {
        (void)fprintf(stderr, "crowd: %s\n", wire_type_name(msg.type));
        exit(1);
    }
    m->session = xstrdup(msg.session);
    wire_fini(&msg);
}

/* One answer may hold one group, and all of it belongs together. */
static void take(struct member *m, struct wire_work *work)
{
    for (size_t i = 0; i < work->n_grants; i++) {
        seen.mixed += work->grants[i].group != work->grants[0].group ||
                      work->grants[i].budget != work->grants[0].budget;
    }
    m->grants = work->grants;
    m->n_grants = work->n_grants;
    work->grants = NULL;
    work->n_grants = 0;
    seen.grants += (int64_t)m->n_grants;
    seen.groups++;
    seen.largest = (int64_t)m->n_grants > seen.largest ? (int64_t)m->n_grants : seen.largest;
    seen.open += (int64_t)m->n_grants;
    seen.most_open = seen.open > seen.most_open ? seen.open : seen.most_open;
}

static void finish(struct member *m)
{
    struct wire_msg msg = {.type = WIRE_DONE};
    for (size_t i = 0; i < m->n_grants; i++) {
        const struct wire_grant *g = &m->grants[i];
        *wire_result_add(&msg.talk.results, &msg.talk.n_results) =
            (struct wire_result){.experiment = g->experiment,
                                 .trial = g->trial,
                                 .attempt = g->attempt,
                                 .status = xstrdup("completed"),
                                 .metrics = json_pack("{s:f}", "value", (double)g->trial)};
    }
    seen.open -= (int64_t)m->n_grants;
    ask(m, &msg);
    wire_fini(&msg);
    for (size_t i = 0; i < m->n_grants; i++) {
        wire_grant_fini(&m->grants[i]);
    }
    free(m->grants);
    m->grants = NULL;
    m->n_grants = 0;
}

/* All ask; what is given is ended once all have an answer. True while something was given. */
static bool play_round(struct member *all, int n, int deaf)
{
    bool any = false;
    for (int i = 0; i < n; i++) {
        struct wire_msg msg = {.type = WIRE_NEXT, .next = {.wait_ms = POLL_MS}};
        if (!all[i].gone) {
            ask(&all[i], &msg);
        }
    }
    for (int i = 0; i < n; i++) {
        if (all[i].gone) {
            continue;
        }
        struct wire_msg msg = hear(&all[i]);
        if (msg.type == WIRE_WORK && msg.work.n_grants > 0) {
            any = true;
            take(&all[i], &msg.work);
        }
        wire_fini(&msg);
    }
    for (int i = 0; i < n; i++) {
        struct member *m = &all[i];
        if (m->n_grants > 0 && deaf > 0 && (seen.groups + i) % deaf == 0) {
            m->gone = true; /* its leases run out */
            seen.dead++;
            seen.open -= (int64_t)m->n_grants;
        } else if (m->n_grants > 0) {
            finish(m);
            struct wire_msg msg = hear(m);
            wire_fini(&msg);
        }
    }
    return any;
}

int main(int argc, char **argv)
{
    nng_socket s = NNG_SOCKET_INITIALIZER;
    if (argc != 4) {
        (void)fprintf(stderr, "usage: crowd URL WORKERS DEAF\n");
        return 2;
    }
    int n = (int)strtol(argv[2], NULL, 10);
    int deaf = (int)strtol(argv[3], NULL, 10);
    struct member *all = xcalloc((size_t)n, sizeof(*all));
    for (int i = 0; i < n; i++) {
        if (i % MEMBERS == 0) {
            check(nng_req0_open(&s), "open");
            check(nng_dial(s, argv[1], NULL, 0), argv[1]);
        }
        check(nng_ctx_open(&all[i].ctx, s), "context");
        check(nng_aio_alloc(&all[i].aio, NULL, NULL), "aio");
        check(nng_ctx_set_ms(all[i].ctx, NNG_OPT_REQ_RESENDTIME, 600000), "resend");
        hello(&all[i], i);
    }
    for (int idle = 0; idle < IDLE_ROUNDS;) {
        idle = play_round(all, n, deaf) ? 0 : idle + 1;
    }
    (void)printf(
        "{\"grants\":%lld,\"groups\":%lld,\"largest\":%lld,\"most_open\":%lld,\"mixed\":%lld,"
        "\"dead\":%lld}\n",
        (long long)seen.grants, (long long)seen.groups, (long long)seen.largest,
        (long long)seen.most_open, (long long)seen.mixed, (long long)seen.dead);
    return 0;
}
