/* SPDX-License-Identifier: Apache-2.0
 *
 * Collectives over MPI. Before a call's data move, all ranks compare what they call over a
 * communicator of its own, so that wrong sizes never reach the library, where they would be silent
 * or hang. Every wait tests and sleeps; none is MPI's own, which would spin and know no deadline.
 */
#include "trainer/collective.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLOTS COLLECTIVE_OPEN_MAX
#define YIELD_NS 3000000LL /* of a wait, in which each look only gives the processor away */
#define NAP_PART 16        /* naps then are this part of what was waited */
#define NAP_MAX_NS 2000000LL
#define FIELDS 3 /* kind, root, bytes */

enum kind { KIND_FLOATS = 0, KIND_DOUBLES = 1, KIND_BROADCAST = 2, KIND_SHARE = 3 };
enum state { FREE = 0, COMPARING = 1, MOVING = 2 };

struct mine {
    enum state state;
    uint64_t seq;
    void *data;
    int64_t call[FIELDS];
    int64_t most[2 * FIELDS]; /* the largest of each field and of its negative */
    MPI_Request request;
};

struct mpi {
    struct collective head;
    MPI_Comm compare, move;
    MPI_Win window; /* of share */
    bool shared;
    uint64_t seq;
    struct mine mine[SLOTS];
};

static enum mag_status translate(int code, struct mag_err *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    if (code == MPI_SUCCESS) {
        return MAG_OK;
    }
    (void)MPI_Error_string(code, text, &n);
    return mag_fail(err, MAG_CLOSED, "MPI: %.300s", text);
}

/* ---- the steps of a call ---- */

static enum mag_status check_call(const struct mpi *s, const struct mine *m, struct mag_err *err)
{
    for (int i = 0; i < FIELDS; i++) {
        if (m->most[2 * i] != -m->most[2 * i + 1]) {
            return mag_fail(err, MAG_CONFLICT,
                            "the ranks do not agree: rank %d calls kind %lld, root %lld, %lld "
                            "bytes; others call kind %lld to %lld, %lld to %lld bytes",
                            s->head.rank, (long long)m->call[0], (long long)m->call[1],
                            (long long)m->call[2], (long long)-m->most[1], (long long)m->most[0],
                            (long long)-m->most[5], (long long)m->most[4]);
        }
    }
    return MAG_OK;
}

static int move(struct mpi *s, struct mine *m)
{
    int bytes = (int)m->call[2];
    switch ((enum kind)m->call[0]) {
    case KIND_FLOATS:
        return MPI_Iallreduce(MPI_IN_PLACE, m->data, bytes / (int)sizeof(float), MPI_FLOAT, MPI_SUM,
                              s->move, &m->request);
    case KIND_DOUBLES:
        return MPI_Iallreduce(MPI_IN_PLACE, m->data, bytes / (int)sizeof(double), MPI_DOUBLE,
                              MPI_SUM, s->move, &m->request);
    case KIND_BROADCAST:
        return MPI_Ibcast(m->data, bytes, MPI_BYTE, (int)m->call[1], s->move, &m->request);
    case KIND_SHARE:
    default:
        m->request = MPI_REQUEST_NULL;
        return MPI_SUCCESS;
    }
}

static enum mag_status step(struct mpi *s, struct mine *m, struct mag_err *err)
{
    int done = 0;
    enum mag_status st = translate(MPI_Test(&m->request, &done, MPI_STATUS_IGNORE), err);
    if (st != MAG_OK || !done) {
        return st;
    }
    if (m->state == COMPARING) {
        st = check_call(s, m, err);
        if (st == MAG_OK && m->call[2] > 0) {
            m->state = MOVING;
            return translate(move(s, m), err);
        }
    }
    m->state = FREE;
    return st;
}

/* Oldest first, and data in the order of the calls on every rank, as MPI asks: none moves while an
 * older call is still compared. */
static enum mag_status step_all(struct mpi *s, struct mag_err *err)
{
    for (uint64_t q = s->seq >= SLOTS ? s->seq - SLOTS + 1 : 1; q <= s->seq; q++) {
        struct mine *m = &s->mine[q % SLOTS];
        if (m->state == FREE || m->seq != q) {
            continue;
        }
        enum mag_status st = step(s, m, err);
        if (st != MAG_OK) {
            return st;
        }
        if (m->state == COMPARING) {
            break;
        }
    }
    return MAG_OK;
}

/* ---- waiting ---- */

/* Gives the processor away at first, which costs nobody anything: large messages go piece by piece,
 * each of which asks for a look. Whoever waits long naps, the longer the more. */
static void rest(int64_t waited_ns)
{
    if (waited_ns < YIELD_NS) {
        (void)sched_yield();
        return;
    }
    const int64_t ns = waited_ns / NAP_PART;
    const struct timespec ts = {.tv_nsec = ns < NAP_MAX_NS ? ns : NAP_MAX_NS};
    (void)nanosleep(&ts, NULL);
}

/* Until no call `seq` is under way. */
static enum mag_status wait_for(struct mpi *s, uint64_t seq, int64_t timeout_ms,
                                struct mag_err *err)
{
    const int64_t start = clock_mono_ns();
    for (;;) {
        const int64_t waited_ns = clock_mono_ns() - start;
        const struct mine *m = &s->mine[seq % SLOTS];
        enum mag_status st = step_all(s, err);
        if (st != MAG_OK) {
            return st;
        }
        if (m->state == FREE || m->seq != seq) {
            return MAG_OK;
        }
        if (timeout_ms != COLLECTIVE_FOREVER && waited_ns > timeout_ms * MAG_NS_PER_MS) {
            return mag_fail(err, MAG_TIMEOUT, "a rank did not answer within %g s",
                            (double)timeout_ms / 1000);
        }
        rest(waited_ns);
    }
}

static enum mag_status begin(struct mpi *s, enum kind kind, int root, void *data, size_t bytes,
                             uint64_t *ret_seq, struct mag_err *err)
{
    const uint64_t seq = s->seq + 1;
    if (seq > SLOTS) {
        enum mag_status st = wait_for(s, seq - SLOTS, s->head.timeout_ms, err);
        if (st != MAG_OK) {
            return st;
        }
    }
    struct mine *m = &s->mine[seq % SLOTS];
    *m = (struct mine){.state = COMPARING,
                       .seq = seq,
                       .data = data,
                       .call = {(int64_t)kind, root, (int64_t)bytes}};
    for (int i = 0; i < FIELDS; i++) {
        m->most[2 * i] = m->call[i];
        m->most[2 * i + 1] = -m->call[i];
    }
    s->seq = seq;
    *ret_seq = seq;
    return translate(MPI_Iallreduce(MPI_IN_PLACE, m->most, 2 * FIELDS, MPI_INT64_T, MPI_MAX,
                                    s->compare, &m->request),
                     err);
}

/* ---- the table ---- */

static enum mag_status mpi_sum_start(struct collective *c, struct collective_sum *sum,
                                     struct mag_err *err)
{
    bool floats = sum->type == COLLECTIVE_FLOAT;
    return begin((struct mpi *)c, floats ? KIND_FLOATS : KIND_DOUBLES, 0, sum->data,
                 sum->n * (floats ? sizeof(float) : sizeof(double)), &sum->seq, err);
}

static enum mag_status mpi_sum_wait(struct collective *c, struct collective_sum *sum,
                                    struct mag_err *err)
{
    return wait_for((struct mpi *)c, sum->seq, c->timeout_ms, err);
}

static enum mag_status mpi_poke(struct collective *c, struct mag_err *err)
{
    enum mag_status st = step_all((struct mpi *)c, err);
    if (st != MAG_OK) {
        collective_abort(c, err->text);
    }
    return st;
}

static enum mag_status mpi_broadcast(struct collective *c, void *data, size_t bytes, int root,
                                     int64_t timeout_ms, struct mag_err *err)
{
    struct mpi *s = (struct mpi *)c;
    uint64_t seq = 0;
    enum mag_status st = begin(s, KIND_BROADCAST, root, data, bytes, &seq, err);
    return st == MAG_OK ? wait_for(s, seq, timeout_ms, err) : st;
}

static void mpi_abort(struct collective *c, const char *why)
{
    struct mpi *s = (struct mpi *)c;
    (void)fprintf(stderr, "magpie-trainer-mpi: rank %d: %s\n", c->rank, why);
    (void)MPI_Abort(s->move, 1);
}

/* A window of rank 0's, where all ranks run on one host. */
static enum mag_status mpi_share(struct collective *c, size_t bytes, void **ret,
                                 struct mag_err *err)
{
    struct mpi *s = (struct mpi *)c;
    MPI_Comm host;
    int near = 0;
    enum mag_status st = translate(
        MPI_Comm_split_type(s->move, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &host), err);
    if (st != MAG_OK) {
        return st;
    }
    (void)MPI_Comm_size(host, &near);
    if (near != c->size) {
        (void)MPI_Comm_free(&host);
        return mag_fail(err, MAG_UNSUPPORTED,
                        "the ranks run on several hosts and have no memory in common");
    }
    if (s->shared) {
        (void)MPI_Win_free(&s->window);
    }
    MPI_Aint n = 0;
    int unit = 0;
    void *own = NULL;
    st = translate(MPI_Win_allocate_shared(c->rank == 0 ? (MPI_Aint)bytes : 0, 1, MPI_INFO_NULL,
                                           host, &own, &s->window),
                   err);
    (void)MPI_Comm_free(&host);
    if (st != MAG_OK) {
        return st;
    }
    s->shared = true;
    st = translate(MPI_Win_shared_query(s->window, 0, &n, &unit, ret), err);
    if (st == MAG_OK && c->rank == 0) {
        memset(*ret, 0, bytes);
    }
    return st == MAG_OK ? collective_barrier(c, err) : st;
}

static enum mag_status mpi_open(const struct collective_place *p, struct collective **ret,
                                struct mag_err *err)
{
    int given = 0;
    int rank = 0;
    int size = 0;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &given) != MPI_SUCCESS) {
        return mag_fail(err, MAG_IO, "MPI cannot start");
    }
    (void)MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    (void)MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (size > COLLECTIVE_RANKS_MAX) {
        return mag_fail(err, MAG_LIMIT, "%d ranks: at most %d", size, COLLECTIVE_RANKS_MAX);
    }
    struct mpi *s = xcalloc(1, sizeof(*s));
    s->head = (struct collective){
        .ops = &collective_mpi, .rank = rank, .size = size, .timeout_ms = p->timeout_ms};
    enum mag_status st = translate(MPI_Comm_dup(MPI_COMM_WORLD, &s->compare), err);
    if (st == MAG_OK) {
        st = translate(MPI_Comm_dup(MPI_COMM_WORLD, &s->move), err);
    }
    if (st != MAG_OK) {
        free(s);
        return st;
    }
    *ret = &s->head;
    return MAG_OK;
}

/* MPI_Finalize waits for all ranks: after an error they may never come. */
static void mpi_close(struct collective *c)
{
    struct mpi *s = (struct mpi *)c;
    if (c->broken) {
        (void)MPI_Abort(s->move, 1);
    }
    if (s->shared) {
        (void)MPI_Win_free(&s->window);
    }
    (void)MPI_Comm_free(&s->compare);
    (void)MPI_Comm_free(&s->move);
    (void)MPI_Finalize();
    free(s);
}

const struct collective_ops collective_mpi = {
    .name = "mpi",
    .open = mpi_open,
    .close = mpi_close,
    .sum_start = mpi_sum_start,
    .sum_wait = mpi_sum_wait,
    .poke = mpi_poke,
    .broadcast = mpi_broadcast,
    .abort = mpi_abort,
    .share = mpi_share,
};
