/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams, events and NCCL in host memory, as far as trainer/collective_nccl.c uses them: a thread
 * for each stream runs what was queued, in order and not before; a communicator is a region that
 * its ranks map, and is in progress for a few polls after each call. Ranks that do not make the
 * same calls end with an assertion, where NCCL would hang or add up rubbish.
 *
 * Streams of others (of cuda_host.c) are host threads: whatever they were given is done.
 *
 * NCCL_HOST_GPUS: how many GPUs there are (64). NCCL_HOST_FAIL: "library", "id", "init", "sum" (the
 * call fails) or "async" (found by polling, at the third sum).
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/err.h"
#include "trainer/nccl_calls.h"

#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define RANKS_MAX 8
#define PIECE 65536 /* floats */
#define STREAMS_MAX 8
#define POLLS 3 /* that find a call in progress */

enum task_kind { TASK_WAIT, TASK_RECORD, TASK_COPY, TASK_SUM };

struct CUevent_st {
    uint64_t recorded, reached; /* under `lock` */
};

struct task {
    struct task *next;
    enum task_kind kind;
    cudaEvent_t event;
    uint64_t count;
    void *to;
    const void *from;
    size_t n; /* bytes of a copy, floats of a sum */
    ncclComm_t comm;
};

struct CUstream_st {
    pthread_t thread;
    struct task *first, **last;
    bool runs, ends; /* a task runs; no more will come */
};

struct region {
    _Atomic int joined;
    struct {
        _Atomic uint64_t posted, taken;
        _Atomic size_t n;
    } ranks[RANKS_MAX];
    float values[RANKS_MAX][PIECE];
};

struct ncclComm {
    struct region *region;
    int rank, size;
    uint64_t seq; /* pieces summed; of the stream's thread */
    _Atomic bool aborted;
    _Atomic int polls;
    int sums;
    ncclResult_t failure;
    cudaStream_t stream; /* of the last sum */
};

/* Of cuda_host.c, where that is linked. */
bool cuda_host_may_wait(int64_t waited_ms) __attribute__((weak));

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static cudaStream_t streams[STREAMS_MAX];
static int device = -1;

static bool fails(const char *what)
{
    const char *wanted = getenv("NCCL_HOST_FAIL");
    return wanted != NULL && strcmp(wanted, what) == 0;
}

static void nap(void)
{
    const struct timespec ts = {.tv_nsec = 100000};
    (void)nanosleep(&ts, NULL);
}

/* ---- streams and events ---- */

static bool is_ours(cudaStream_t s)
{
    for (int i = 0; i < STREAMS_MAX; i++) {
        if (s != NULL && streams[i] == s) {
            return true;
        }
    }
    return false;
}

static void sum(struct task *t);

static void run_task(struct task *t)
{
    switch (t->kind) {
    case TASK_WAIT:
        (void)pthread_mutex_lock(&lock);
        while (t->event->reached < t->count) {
            (void)pthread_cond_wait(&changed, &lock);
        }
        (void)pthread_mutex_unlock(&lock);
        break;
    case TASK_RECORD:
        (void)pthread_mutex_lock(&lock);
        t->event->reached = t->count;
        (void)pthread_cond_broadcast(&changed);
        (void)pthread_mutex_unlock(&lock);
        break;
    case TASK_COPY:
        memcpy(t->to, t->from, t->n);
        break;
    case TASK_SUM:
    default:
        sum(t);
        break;
    }
}

static void *run_stream(void *arg)
{
    cudaStream_t s = arg;
    (void)pthread_mutex_lock(&lock);
    for (;;) {
        while (s->first == NULL && !s->ends) {
            (void)pthread_cond_wait(&changed, &lock);
        }
        struct task *t = s->first;
        if (t == NULL) {
            break;
        }
        s->first = t->next;
        s->last = s->first == NULL ? &s->first : s->last;
        s->runs = true;
        (void)pthread_mutex_unlock(&lock);
        run_task(t);
        free(t);
        (void)pthread_mutex_lock(&lock);
        s->runs = false;
        (void)pthread_cond_broadcast(&changed);
    }
    (void)pthread_mutex_unlock(&lock);
    return NULL;
}

static void queue(cudaStream_t s, struct task task)
{
    struct task *t = xcalloc(1, sizeof(*t));
    *t = task;
    *s->last = t;
    s->last = &t->next;
    (void)pthread_cond_broadcast(&changed);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *ret, unsigned int flags)
{
    MAG_ASSERT(flags == cudaStreamNonBlocking, "a stream that waits for the default one");
    cudaStream_t s = xcalloc(1, sizeof(*s));
    s->last = &s->first;
    (void)pthread_mutex_lock(&lock);
    int i = 0;
    while (i < STREAMS_MAX && streams[i] != NULL) {
        i++;
    }
    MAG_ASSERT(i < STREAMS_MAX, "too many streams");
    streams[i] = s;
    (void)pthread_mutex_unlock(&lock);
    MAG_ASSERT(pthread_create(&s->thread, NULL, run_stream, s) == 0, "a thread");
    *ret = s;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    (void)pthread_mutex_lock(&lock);
    s->ends = true;
    for (int i = 0; i < STREAMS_MAX; i++) {
        streams[i] = streams[i] == s ? NULL : streams[i];
    }
    (void)pthread_cond_broadcast(&changed);
    (void)pthread_mutex_unlock(&lock);
    (void)pthread_join(s->thread, NULL);
    free(s);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t s)
{
    (void)pthread_mutex_lock(&lock);
    bool idle = s->first == NULL && !s->runs;
    (void)pthread_mutex_unlock(&lock);
    return idle ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *ret, unsigned int flags)
{
    (void)flags;
    *ret = xcalloc(1, sizeof(**ret));
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    free(e);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    (void)pthread_mutex_lock(&lock);
    e->recorded++;
    if (is_ours(s)) {
        queue(s, (struct task){.kind = TASK_RECORD, .event = e, .count = e->recorded});
    } else {
        e->reached = e->recorded;
        (void)pthread_cond_broadcast(&changed);
    }
    (void)pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned int flags)
{
    (void)flags;
    (void)pthread_mutex_lock(&lock);
    const uint64_t count = e->recorded;
    if (is_ours(s)) {
        queue(s, (struct task){.kind = TASK_WAIT, .event = e, .count = count});
    }
    const bool foreign = !is_ours(s);
    const int64_t start = clock_mono_ns();
    while (foreign && e->reached < count) {
        (void)pthread_mutex_unlock(&lock);
        if (cuda_host_may_wait != NULL &&
            !cuda_host_may_wait((clock_mono_ns() - start) / MAG_NS_PER_MS)) {
            return cudaSuccess; /* as the backend's waits, which then fail */
        }
        nap();
        (void)pthread_mutex_lock(&lock);
    }
    (void)pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

/* ---- memory and devices ---- */

cudaError_t cudaMalloc(void **ret, size_t bytes)
{
    *ret = xcalloc(bytes + 1, 1);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind,
                            cudaStream_t s)
{
    (void)kind;
    (void)pthread_mutex_lock(&lock);
    queue(s, (struct task){.kind = TASK_COPY, .to = to, .from = from, .n = n});
    (void)pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *ret)
{
    const char *n = getenv("NCCL_HOST_GPUS");
    *ret = n != NULL ? (int)strtol(n, NULL, 10) : 64;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int which)
{
    device = which;
    return cudaSuccess;
}

/* cuda_host.c chooses none: a trainer's rank has the one of its number. */
cudaError_t cudaGetDevice(int *ret)
{
    const char *rank = getenv("MAGPIE_RANK");
    int n = 1;
    (void)cudaGetDeviceCount(&n);
    *ret = device >= 0 ? device : (int)(rank != NULL ? strtol(rank, NULL, 10) : 0) % n;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *to, int room, int which)
{
    (void)snprintf(to, (size_t)room, "0000:%02x:00.0", (unsigned)which);
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t e)
{
    return e == cudaSuccess ? "no error" : "an error";
}

/* ---- communicators ---- */

bool nccl_load(void)
{
    return !fails("library");
}

ncclResult_t ncclGetVersion(int *ret)
{
    *ret = NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t r)
{
    return r == ncclRemoteError ? "remote process exited or there was a network error"
                                : "unhandled system error";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return "the stand-in was asked to fail";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    uint64_t bits = 0;
    MAG_ASSERT(getrandom(&bits, sizeof(bits), 0) == sizeof(bits), "no random bits");
    memset(id, 0, sizeof(*id));
    (void)snprintf(id->internal, sizeof(id->internal), "/magpie-nccl-%016llx",
                   (unsigned long long)bits);
    return fails("id") ? ncclSystemError : ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *ret, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    MAG_ASSERT(config->blocking == 0, "a communicator that may hang");
    MAG_ASSERT(size <= RANKS_MAX, "%d ranks", size);
    int fd = shm_open(id.internal, O_CREAT | O_RDWR, 0600);
    MAG_ASSERT(fd >= 0 && ftruncate(fd, sizeof(struct region)) == 0, "no shared memory");
    ncclComm_t c = xcalloc(1, sizeof(*c));
    c->region = mmap(NULL, sizeof(struct region), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MAG_ASSERT(c->region != MAP_FAILED, "no shared memory");
    (void)close(fd);
    c->rank = rank;
    c->size = size;
    c->failure = fails("init") && rank == size - 1 ? ncclSystemError : ncclSuccess;
    if (atomic_fetch_add(&c->region->joined, 1) + 1 == size || fails("init")) {
        (void)shm_unlink(id.internal);
    }
    *ret = c;
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *state)
{
    bool waits = atomic_load(&c->region->joined) < c->size || atomic_load(&c->polls) > 0;
    (void)atomic_fetch_sub(&c->polls, 1);
    *state = c->failure != ncclSuccess ? c->failure : waits ? ncclInProgress : ncclSuccess;
    return ncclSuccess;
}

static void free_comm(ncclComm_t c)
{
    (void)munmap(c->region, sizeof(*c->region));
    free(c);
}

ncclResult_t ncclCommFinalize(ncclComm_t c)
{
    atomic_store(&c->polls, POLLS);
    return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t c)
{
    free_comm(c);
    return ncclSuccess;
}

/* Waits for the sums to have ended, as NCCL waits for its kernels. */
ncclResult_t ncclCommAbort(ncclComm_t c)
{
    atomic_store(&c->aborted, true);
    (void)pthread_mutex_lock(&lock);
    while (c->stream != NULL && is_ours(c->stream) && (c->stream->runs || c->stream->first)) {
        (void)pthread_cond_wait(&changed, &lock);
    }
    (void)pthread_mutex_unlock(&lock);
    free_comm(c);
    return ncclSuccess;
}

/* ---- sums ---- */

ncclResult_t ncclGroupStart(void)
{
    return ncclSuccess;
}

static _Atomic(ncclComm_t) grouped;

ncclResult_t ncclGroupEnd(void)
{
    ncclComm_t c = atomic_exchange(&grouped, NULL);
    if (c == NULL) {
        return ncclSuccess;
    }
    atomic_store(&c->polls, POLLS);
    return ncclInProgress;
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t n, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t c, cudaStream_t s)
{
    MAG_ASSERT(from == to && type == ncclFloat32 && op == ncclSum, "only sums of floats in place");
    MAG_ASSERT(is_ours(s), "on a stream of its own");
    MAG_ASSERT(atomic_load(&c->polls) <= 0 || atomic_load(&grouped) == c,
               "the last call is still in progress");
    c->sums++;
    if (fails("sum") && c->rank == c->size - 1) {
        return ncclSystemError;
    }
    c->failure = fails("async") && c->sums == 3 ? ncclRemoteError : c->failure;
    atomic_store(&grouped, c);
    c->stream = s;
    (void)pthread_mutex_lock(&lock);
    queue(s, (struct task){.kind = TASK_SUM, .to = to, .n = n, .comm = c});
    (void)pthread_mutex_unlock(&lock);
    return ncclSuccess;
}

/* Until every rank has come so far; false after an abort. */
static bool wait_for_ranks(ncclComm_t c, bool taken, uint64_t seq)
{
    for (int r = 0; r < c->size; r++) {
        while (atomic_load(taken ? &c->region->ranks[r].taken : &c->region->ranks[r].posted) <
               seq) {
            if (atomic_load(&c->aborted)) {
                return false;
            }
            nap();
        }
    }
    return true;
}

static void sum(struct task *t)
{
    ncclComm_t c = t->comm;
    struct region *g = c->region;
    float *data = t->to;
    for (size_t at = 0; at < t->n; at += PIECE) {
        const size_t n = t->n - at < PIECE ? t->n - at : PIECE;
        if (!wait_for_ranks(c, true, c->seq)) {
            return;
        }
        c->seq++;
        memcpy(g->values[c->rank], data + at, n * sizeof(float));
        atomic_store(&g->ranks[c->rank].n, t->n);
        atomic_store(&g->ranks[c->rank].posted, c->seq);
        if (!wait_for_ranks(c, false, c->seq)) {
            return;
        }
        for (int r = 0; r < c->size; r++) {
            const size_t theirs = atomic_load(&g->ranks[r].n);
            MAG_ASSERT(theirs == t->n, "rank %d sums %zu floats, rank %d %zu", c->rank, t->n, r,
                       theirs);
            for (size_t i = 0; i < n; i++) {
                data[at + i] = r == 0 ? g->values[r][i] : data[at + i] + g->values[r][i];
            }
        }
        atomic_store(&g->ranks[c->rank].taken, c->seq);
    }
}
