/* SPDX-License-Identifier: Apache-2.0
 *
 * Collectives of ranks with a GPU each. What lies in host memory, who has died and how they meet is
 * left to shared memory (collective_shm); sums in device memory are NCCL's, queued on a stream of
 * their own between two events.
 *
 * The communicator is non-blocking: its calls are polled, together with the other ranks' state, so
 * that none outlasts a dead rank. After a failure it is aborted, by a thread: ncclCommAbort waits
 * for the kernels to end and for the last graph that holds one of its calls to be destroyed, which
 * is what the caller does next.
 */
#include "trainer/collective.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "trainer/nccl_calls.h"
#include "trainer/ranks.h"

#include <cuda_runtime_api.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define YIELDS 200 /* polls that only give the processor away, before naps begin */
#define NAP_NS 50000L
#define ABORT_MS 5000
#define GPU_NAME 32 /* "0000:3b:00.0" */
#define NO_LIBRARY "-"

struct nccl {
    struct collective head;
    struct collective *base;
    ncclComm_t comm; /* NULL = none, or it is being aborted */
    cudaStream_t stream;
    cudaEvent_t ready, done;
    bool pending;     /* sums that nothing has joined */
    bool tried, able; /* device_open has been called; the ranks can */
    struct mag_err refusal, failure;
    pthread_t aborter;
    bool aborting;
};

static struct nccl *nccl_of(struct collective *c)
{
    return (struct nccl *)(void *)c;
}

/* ---- failures ---- */

static void *abort_comm(void *comm)
{
    (void)ncclCommAbort(comm);
    return NULL;
}

/* The sums under way end, wherever the other ranks are. */
static void end_sums(struct nccl *s)
{
    if (s->comm != NULL) {
        s->aborting = pthread_create(&s->aborter, NULL, abort_comm, s->comm) == 0;
        s->comm = NULL;
    }
}

/* A first failure: kept, told to the other ranks, and the sums end. */
static enum mag_status fail(struct nccl *s, struct mag_err *err)
{
    if (s->failure.code == MAG_OK) {
        s->failure = *err;
        if (!s->base->broken) {
            collective_abort(s->base, err->text);
        }
        end_sums(s);
    }
    return err->code;
}

/* What another rank, or whoever started us, has said. */
static enum mag_status look_at_ranks(struct nccl *s, struct mag_err *err)
{
    enum mag_status st = s->base->ops->poke(s->base, err);
    return st == MAG_OK ? MAG_OK : fail(s, err);
}

static enum mag_status too_long(struct nccl *s, struct mag_err *err)
{
    (void)mag_fail(err, MAG_TIMEOUT,
                   "the GPUs' sums took longer than %g s: a rank did not take part",
                   (double)s->head.timeout_ms / 1000);
    return fail(s, err);
}

static void rest(int64_t round)
{
    if (round < YIELDS) {
        (void)sched_yield();
        return;
    }
    const struct timespec ts = {.tv_nsec = NAP_NS};
    (void)nanosleep(&ts, NULL);
}

static ncclResult_t state_of(const struct nccl *s)
{
    ncclResult_t state = ncclInProgress;
    ncclResult_t asked = ncclCommGetAsyncError(s->comm, &state);
    return asked != ncclSuccess ? asked : state;
}

/* Until a call of a non-blocking communicator, which returned `r`, is through. */
static enum mag_status settle(struct nccl *s, ncclResult_t r, const char *what, struct mag_err *err)
{
    const int64_t start = clock_mono_ns();
    for (int64_t round = 0; r == ncclInProgress; round++) {
        r = state_of(s);
        if (r == ncclInProgress) {
            enum mag_status st = look_at_ranks(s, err);
            if (st == MAG_OK && clock_mono_ns() - start > s->head.timeout_ms * MAG_NS_PER_MS) {
                st = too_long(s, err);
            }
            if (st != MAG_OK) {
                return st;
            }
            rest(round);
        }
    }
    if (r != ncclSuccess) {
        (void)mag_fail(err, MAG_CLOSED, "NCCL: %s: %s: %.300s", what, ncclGetErrorString(r),
                       ncclGetLastError(s->comm));
        return fail(s, err);
    }
    return MAG_OK;
}

static enum mag_status cuda(struct nccl *s, cudaError_t e, const char *what, struct mag_err *err)
{
    if (e == cudaSuccess) {
        return MAG_OK;
    }
    (void)mag_fail(err, MAG_IO, "%s: %s", what, cudaGetErrorString(e));
    return fail(s, err);
}

/* ---- the communicator ---- */

/* Every rank's GPU; "" where it has none, NO_LIBRARY where it has no NCCL. */
static enum mag_status share_names(struct nccl *s, char (*names)[GPU_NAME], struct mag_err *err)
{
    int device = 0;
    char *own = names[s->head.rank];
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetPCIBusId(own, GPU_NAME, device) != cudaSuccess) {
        (void)cudaGetLastError();
        own[0] = '\0';
    } else if (!nccl_load()) {
        (void)snprintf(own, GPU_NAME, NO_LIBRARY);
    }
    enum mag_status st = MAG_OK;
    for (int r = 0; r < s->head.size && st == MAG_OK; r++) {
        st = collective_broadcast(s->base, names[r], GPU_NAME, r, s->head.timeout_ms, err);
    }
    return st;
}

/* NCCL takes no two ranks on one GPU. The same answer on all ranks. */
static enum mag_status look_at_gpus(struct nccl *s, struct mag_err *err)
{
    char names[COLLECTIVE_RANKS_MAX][GPU_NAME] = {{0}};
    enum mag_status st = share_names(s, names, err);
    for (int r = 0; r < s->head.size && st == MAG_OK; r++) {
        if (names[r][0] == '\0') {
            st = mag_fail(err, MAG_UNSUPPORTED, "rank %d has no GPU", r);
        } else if (strcmp(names[r], NO_LIBRARY) == 0) {
            st = mag_fail(err, MAG_UNSUPPORTED, "there is no libnccl.so.2 for rank %d", r);
        }
        for (int q = 0; q < r && st == MAG_OK; q++) {
            if (strcmp(names[q], names[r]) == 0) {
                st = mag_fail(err, MAG_UNSUPPORTED, "ranks %d and %d share the GPU %s", q, r,
                              names[r]);
            }
        }
    }
    return st;
}

/* Rank 0's name for the communicator, to all. */
static enum mag_status share_id(struct nccl *s, ncclUniqueId *id, struct mag_err *err)
{
    struct {
        ncclResult_t result;
        ncclUniqueId id;
    } told = {0};
    if (s->head.rank == 0) {
        told.result = ncclGetUniqueId(&told.id);
    }
    enum mag_status st =
        collective_broadcast(s->base, &told, sizeof(told), 0, s->head.timeout_ms, err);
    if (st == MAG_OK && told.result != ncclSuccess) {
        st = mag_fail(err, MAG_IO, "NCCL: no id: %s", ncclGetErrorString(told.result));
    }
    *id = told.id;
    return st;
}

/* All ranks are on this host: nothing of NCCL's listens beyond it. NVLink's own sums differ from
 * run to run in their last bits (NCCL's issue 1497). Whoever sets these otherwise is heard. */
static void set_environment(void)
{
    (void)setenv("NCCL_SOCKET_IFNAME", "lo", 0);
    (void)setenv("NCCL_NVLS_ENABLE", "0", 0);
}

static enum mag_status make_comm(struct nccl *s, struct mag_err *err)
{
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    set_environment();
    enum mag_status st = share_id(s, &id, err);
    if (st != MAG_OK) {
        return fail(s, err);
    }
    st = settle(s, ncclCommInitRankConfig(&s->comm, s->head.size, id, s->head.rank, &config),
                "ncclCommInitRankConfig", err);
    if (st == MAG_OK) {
        st = cuda(s, cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking), "a stream", err);
    }
    if (st == MAG_OK) {
        st = cuda(s, cudaEventCreateWithFlags(&s->ready, cudaEventDisableTiming), "an event", err);
    }
    if (st == MAG_OK) {
        st = cuda(s, cudaEventCreateWithFlags(&s->done, cudaEventDisableTiming), "an event", err);
    }
    return st;
}

static enum mag_status nccl_device_open(struct collective *c, struct mag_err *err)
{
    struct nccl *s = nccl_of(c);
    if (s->tried) {
        return s->able ? MAG_OK : mag_fail(err, MAG_UNSUPPORTED, "%s", s->refusal.text);
    }
    enum mag_status st = look_at_gpus(s, err);
    if (st == MAG_UNSUPPORTED) {
        s->tried = true;
        s->refusal = *err;
        return st;
    }
    if (st == MAG_OK) {
        st = make_comm(s, err);
    }
    s->tried = s->able = st == MAG_OK;
    if (st == MAG_OK && c->rank == 0) {
        int version = 0;
        (void)ncclGetVersion(&version);
        log_info("trainer", "ranks-nccl", "ranks=%d nccl=%d", c->size, version);
    }
    return st;
}

/* ---- sums ---- */

static enum mag_status nccl_device_sum(struct collective *c, const struct collective_span *spans,
                                       int n, void *stream, struct mag_err *err)
{
    struct nccl *s = nccl_of(c);
    enum mag_status st = cuda(s, cudaEventRecord(s->ready, stream), "cudaEventRecord", err);
    if (st == MAG_OK) {
        st = cuda(s, cudaStreamWaitEvent(s->stream, s->ready, 0), "cudaStreamWaitEvent", err);
    }
    if (st != MAG_OK) {
        return st;
    }
    ncclResult_t r = ncclGroupStart();
    for (int i = 0; i < n && (r == ncclSuccess || r == ncclInProgress); i++) {
        r = ncclAllReduce(spans[i].data, spans[i].data, spans[i].n, ncclFloat32, ncclSum, s->comm,
                          s->stream);
    }
    const ncclResult_t ended = ncclGroupEnd(); /* also after a failure: it closes the group */
    s->pending = true;
    return settle(s, r == ncclSuccess || r == ncclInProgress ? ended : r, "ncclAllReduce", err);
}

static enum mag_status nccl_device_join(struct collective *c, void *stream, struct mag_err *err)
{
    struct nccl *s = nccl_of(c);
    if (!s->pending) {
        return MAG_OK;
    }
    s->pending = false;
    enum mag_status st = cuda(s, cudaEventRecord(s->done, s->stream), "cudaEventRecord", err);
    return st == MAG_OK
               ? cuda(s, cudaStreamWaitEvent(stream, s->done, 0), "cudaStreamWaitEvent", err)
               : st;
}

static enum mag_status nccl_device_check(struct collective *c, int64_t waited_ms,
                                         struct mag_err *err)
{
    struct nccl *s = nccl_of(c);
    if (s->failure.code != MAG_OK) {
        return mag_fail(err, s->failure.code, "%s", s->failure.text);
    }
    if (s->comm == NULL) {
        return MAG_OK;
    }
    const ncclResult_t r = state_of(s);
    if (r != ncclSuccess && r != ncclInProgress) {
        return settle(s, r, "a sum under way", err);
    }
    enum mag_status st = look_at_ranks(s, err);
    return st == MAG_OK && waited_ms > s->head.timeout_ms ? too_long(s, err) : st;
}

/* ---- host memory ---- */

static enum mag_status nccl_sum_start(struct collective *c, struct collective_sum *sum,
                                      struct mag_err *err)
{
    struct collective *base = nccl_of(c)->base;
    return base->ops->sum_start(base, sum, err);
}

static enum mag_status nccl_sum_wait(struct collective *c, struct collective_sum *sum,
                                     struct mag_err *err)
{
    struct collective *base = nccl_of(c)->base;
    return base->ops->sum_wait(base, sum, err);
}

static enum mag_status nccl_poke(struct collective *c, struct mag_err *err)
{
    struct collective *base = nccl_of(c)->base;
    return base->ops->poke(base, err);
}

static enum mag_status nccl_broadcast(struct collective *c, void *data, size_t bytes, int root,
                                      int64_t timeout_ms, struct mag_err *err)
{
    struct collective *base = nccl_of(c)->base;
    return base->ops->broadcast(base, data, bytes, root, timeout_ms, err);
}

static enum mag_status nccl_share(struct collective *c, size_t bytes, void **ret,
                                  struct mag_err *err)
{
    struct collective *base = nccl_of(c)->base;
    return base->ops->share(base, bytes, ret, err);
}

static void nccl_abort(struct collective *c, const char *why)
{
    struct nccl *s = nccl_of(c);
    collective_abort(s->base, why);
    end_sums(s);
}

/* ---- life ---- */

static enum mag_status nccl_open(const struct collective_place *place, struct collective **ret,
                                 struct mag_err *err)
{
    struct collective *base = NULL;
    enum mag_status st = collective_open(&collective_shm, place, &base, err);
    if (st != MAG_OK) {
        return st;
    }
    struct nccl *s = xcalloc(1, sizeof(*s));
    s->head = (struct collective){.ops = &collective_nccl,
                                  .rank = base->rank,
                                  .size = base->size,
                                  .timeout_ms = base->timeout_ms};
    s->base = base;
    *ret = &s->head;
    return MAG_OK;
}

/* All ranks let go together; where one does not, it is left behind. */
static void let_go(struct nccl *s)
{
    struct mag_err err = {0};
    if (s->head.broken ||
        settle(s, ncclCommFinalize(s->comm), "ncclCommFinalize", &err) != MAG_OK) {
        end_sums(s);
        return;
    }
    (void)ncclCommDestroy(s->comm);
    s->comm = NULL;
}

/* A kernel that will not end cannot be waited for, nor can a process that has it end in order. */
static void wait_for_abort(struct nccl *s)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ABORT_MS / 1000;
    if (pthread_timedjoin_np(s->aborter, NULL, &until) == ETIMEDOUT) {
        (void)fprintf(stderr, "magpie-trainer: rank %d: NCCL's sums could not be aborted\n",
                      s->head.rank);
        _exit(RANKS_LOST_STATUS);
    }
}

static void nccl_close(struct collective *c)
{
    struct nccl *s = nccl_of(c);
    if (s->comm != NULL) {
        let_go(s);
    }
    if (s->aborting) {
        wait_for_abort(s);
    }
    if (s->ready != NULL) {
        (void)cudaEventDestroy(s->ready);
    }
    if (s->done != NULL) {
        (void)cudaEventDestroy(s->done);
    }
    if (s->stream != NULL) {
        (void)cudaStreamDestroy(s->stream);
    }
    collective_close(s->base);
    free(s);
}

const struct collective_ops collective_nccl = {
    .name = "nccl",
    .region = true,
    .open = nccl_open,
    .close = nccl_close,
    .sum_start = nccl_sum_start,
    .sum_wait = nccl_sum_wait,
    .poke = nccl_poke,
    .broadcast = nccl_broadcast,
    .abort = nccl_abort,
    .share = nccl_share,
    .device_open = nccl_device_open,
    .device_sum = nccl_device_sum,
    .device_join = nccl_device_join,
    .device_check = nccl_device_check,
};
