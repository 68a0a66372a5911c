/* SPDX-License-Identifier: Apache-2.0
 *
 * One rank of the conformance suite of trainer/collective.h: `collective_rank BACKEND CASE
 * [TIMEOUT_MS]`. Under mpirun the library says who we are; with shm the first process is the one
 * that starts ranks (`shm N`), as test_collective.py asks for it. Prints one line a rank: "ok
 * DIGEST" or "error STATUS TEXT". Built with MAG_NCCL it is the one for nccl, whose device memory
 * it tries too; `collective_rank gpus` tells how many there are.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/pcg.h"
#include "trainer/collective.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef MAG_NCCL
#include <cuda_runtime_api.h>
#endif

#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            printf("wrong %s:%d: %s: ", __FILE__, __LINE__, #cond);                                \
            printf(" " __VA_ARGS__);                                                               \
            printf("\n");                                                                          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static uint32_t digest;

static void add_digest(const void *p, size_t n)
{
    digest = crc32c(digest, p, n);
}

/* Values that float addition does not round. */
static float whole(int rank, size_t i)
{
    return (float)((int)((i * 2654435761u + (unsigned)rank * 40503u) % 2001) - 1000);
}

static void must(enum mag_status st, const struct mag_err *err)
{
    CHECK(st == MAG_OK, "%s", err->text);
}

static void sums_of_whole_numbers_are_exact(struct collective *c)
{
    static const size_t sizes[] = {0, 1, 2, 3, 7, 64, 1000, 65537, 262144, 700001};
    struct mag_err err = {0};
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        size_t n = sizes[k];
        float *v = xmalloc((n + 1) * sizeof(*v));
        for (size_t i = 0; i < n; i++) {
            v[i] = whole(c->rank, i);
        }
        v[n] = 12345; /* not ours to touch */
        must(collective_sum(c, COLLECTIVE_FLOAT, v, n, &err), &err);
        for (size_t i = 0; i < n; i++) {
            float want = 0;
            for (int r = 0; r < c->size; r++) {
                want += whole(r, i);
            }
            CHECK(v[i] == want, "n=%zu i=%zu %g %g", n, i, (double)v[i], (double)want);
        }
        CHECK(v[n] == 12345);
        free(v);
    }
}

static void doubles_keep_their_digits(struct collective *c)
{
    struct mag_err err = {0};
    double v[3] = {0x1p53, 1e-300 * (c->rank + 1), c->rank};
    v[0] = c->rank == 0 ? 0x1p52 : 1;
    must(collective_sum(c, COLLECTIVE_DOUBLE, v, 3, &err), &err);
    CHECK(v[0] == 0x1p52 + (c->size - 1), "%.17g", v[0]);
    CHECK(v[2] == (double)(c->size * (c->size - 1) / 2), "%g", v[2]);
}

/* The same bits every time and on every rank (the caller compares the digests). */
static void sums_round_the_same_everywhere(struct collective *c)
{
    const size_t n = 100003;
    struct mag_err err = {0};
    float *first = xmalloc(n * sizeof(*first));
    float *v = xmalloc(n * sizeof(*v));
    for (int round = 0; round < 3; round++) {
        struct pcg64 g;
        pcg_stream(&g, 7, "values", (uint64_t)c->rank);
        for (size_t i = 0; i < n; i++) {
            v[i] = (float)pcg64_next(&g) * 0x1p-64f - 0.5f;
        }
        must(collective_sum(c, COLLECTIVE_FLOAT, v, n, &err), &err);
        CHECK(round == 0 || memcmp(first, v, n * sizeof(*v)) == 0, "round %d", round);
        memcpy(first, v, n * sizeof(*v));
    }
    add_digest(v, n * sizeof(*v));
    free(v);
    free(first);
}

/* Many under way at once, with work and pokes between, waited for in any order. */
static void sums_overlap(struct collective *c)
{
    enum { N = 11, M = 5000 };
    struct collective_sum sums[N];
    float *v = xmalloc(sizeof(float) * N * M);
    struct mag_err err = {0};
    for (int k = 0; k < N; k++) {
        for (size_t i = 0; i < M; i++) {
            v[(size_t)k * M + i] = whole(c->rank, i + (size_t)k);
        }
        must(collective_sum_start(c, &sums[k], COLLECTIVE_FLOAT, v + (size_t)k * M, M, &err), &err);
        collective_poke(c);
    }
    for (int k = N - 1; k >= 0; k--) {
        must(collective_sum_wait(c, &sums[k], &err), &err);
    }
    for (size_t i = 0; i < (size_t)N * M; i++) {
        float want = 0;
        for (int r = 0; r < c->size; r++) {
            want += whole(r, i % M + i / M);
        }
        CHECK(v[i] == want, "i=%zu", i);
    }
    free(v);
}

static void every_root_broadcasts(struct collective *c)
{
    const size_t n = 2500001; /* more than one piece */
    struct mag_err err = {0};
    unsigned char *v = xmalloc(n);
    for (int root = 0; root < c->size; root++) {
        memset(v, c->rank == root ? 17 + root : 0, n);
        must(collective_broadcast(c, v, n, root, c->timeout_ms, &err), &err);
        for (size_t i = 0; i < n; i++) {
            CHECK(v[i] == 17 + root, "root %d byte %zu", root, i);
        }
    }
    free(v);
}

/* Nobody leaves before the last one came, who takes its time. */
static void barriers_hold_everybody(struct collective *c)
{
    struct mag_err err = {0};
    if (c->rank == c->size - 1) {
        const struct timespec ts = {.tv_nsec = 100 * MAG_NS_PER_MS};
        (void)nanosleep(&ts, NULL);
    }
    int64_t came = clock_mono_ns(); /* one clock for all ranks of a host */
    must(collective_barrier(c, &err), &err);
    int64_t left = clock_mono_ns();
    for (int root = 0; root < c->size; root++) {
        int64_t theirs = came;
        must(collective_broadcast(c, &theirs, sizeof(theirs), root, c->timeout_ms, &err), &err);
        CHECK(left >= theirs, "left before rank %d came", root);
    }
}

static void waiting_ranks_sleep(struct collective *c)
{
    struct mag_err err = {0};
    struct timespec before;
    struct timespec after;
    must(collective_barrier(c, &err), &err);
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    if (c->rank == c->size - 1) {
        const struct timespec ts = {.tv_nsec = 400 * MAG_NS_PER_MS};
        (void)nanosleep(&ts, NULL);
    }
    must(collective_barrier(c, &err), &err);
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    double used =
        (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
    CHECK(used < 0.1, "%.3f s of processor time in 0.4 s", used);
}

static void memory_is_shared(struct collective *c)
{
    struct mag_err err = {0};
    for (int round = 0; round < 2; round++) { /* again: zeroed anew */
        int64_t *v = NULL;
        enum mag_status st = collective_share(c, 1 << 20, (void **)&v, &err);
        must(st, &err);
        CHECK(v[0] == 0 && v[c->rank] == 0 && v[131071] == 0);
        must(collective_barrier(c, &err), &err);
        v[c->rank] = c->rank + 1;
        must(collective_barrier(c, &err), &err);
        for (int r = 0; r < c->size; r++) {
            CHECK(v[r] == r + 1);
        }
        must(collective_barrier(c, &err), &err);
    }
}

/* ---- device memory ---- */
#ifdef MAG_NCCL

enum { SPANS = 3, SPAN_FLOATS = 70001 };

struct device_run {
    cudaStream_t stream;
    float *host, *device[SPANS];
};

static void cuda_must(cudaError_t e)
{
    CHECK(e == cudaSuccess, "%s", cudaGetErrorString(e));
}

static void device_run_open(struct device_run *d)
{
    cuda_must(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking));
    d->host = xcalloc((size_t)SPANS * SPAN_FLOATS, sizeof(float));
    for (int k = 0; k < SPANS; k++) {
        cuda_must(cudaMalloc((void **)&d->device[k], SPAN_FLOATS * sizeof(float)));
    }
}

static void device_run_close(struct device_run *d)
{
    cuda_must(cudaStreamDestroy(d->stream));
    for (int k = 0; k < SPANS; k++) {
        cuda_must(cudaFree(d->device[k]));
    }
    free(d->host);
}

/* As a backend waits: asking how the other ranks are. */
static enum mag_status wait_for_stream(struct collective *c, cudaStream_t s, struct mag_err *err)
{
    const int64_t start = clock_mono_ns();
    enum mag_status st = MAG_OK;
    while (st == MAG_OK && cudaStreamQuery(s) == cudaErrorNotReady) {
        st = collective_device_check(c, (clock_mono_ns() - start) / MAG_NS_PER_MS, err);
    }
    return st;
}

static void copy_spans(struct device_run *d, bool in)
{
    for (int k = 0; k < SPANS; k++) {
        float *host = d->host + (size_t)k * SPAN_FLOATS;
        cuda_must(cudaMemcpyAsync(in ? d->device[k] : host, in ? host : d->device[k],
                                  SPAN_FLOATS * sizeof(float),
                                  in ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost, d->stream));
    }
}

/* One sum of two spans and one of one, queued behind the copies and waited for by those back. */
static enum mag_status sum_spans(struct collective *c, struct device_run *d, struct mag_err *err)
{
    const struct collective_span spans[SPANS] = {
        {d->device[2], SPAN_FLOATS}, {d->device[1], SPAN_FLOATS}, {d->device[0], SPAN_FLOATS}};
    copy_spans(d, true);
    enum mag_status st = collective_device_sum(c, spans, 2, d->stream, err);
    if (st == MAG_OK) {
        st = collective_device_sum(c, spans + 2, 1, d->stream, err);
    }
    if (st == MAG_OK) {
        st = collective_device_join(c, d->stream, err);
    }
    if (st == MAG_OK) {
        copy_spans(d, false);
        st = wait_for_stream(c, d->stream, err);
    }
    return st;
}

static void device_sums_are_exact(struct collective *c)
{
    struct mag_err err = {0};
    struct device_run d;
    device_run_open(&d);
    must(collective_device_open(c, &err), &err);
    must(collective_device_open(c, &err), &err); /* at once */
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < (size_t)SPANS * SPAN_FLOATS; i++) {
            d.host[i] = whole(c->rank, i + (size_t)round);
        }
        must(sum_spans(c, &d, &err), &err);
        for (size_t i = 0; i < (size_t)SPANS * SPAN_FLOATS; i++) {
            float want = 0;
            for (int r = 0; r < c->size; r++) {
                want += whole(r, i + (size_t)round);
            }
            CHECK(d.host[i] == want, "i=%zu %g %g", i, (double)d.host[i], (double)want);
        }
    }
    device_run_close(&d);
}

/* The same bits every time and on every rank. */
static void device_sums_round_the_same(struct collective *c)
{
    const size_t n = (size_t)SPANS * SPAN_FLOATS;
    struct mag_err err = {0};
    struct device_run d;
    device_run_open(&d);
    float *first = xmalloc(n * sizeof(*first));
    for (int round = 0; round < 3; round++) {
        struct pcg64 g;
        pcg_stream(&g, 7, "device", (uint64_t)c->rank);
        for (size_t i = 0; i < n; i++) {
            d.host[i] = (float)pcg64_next(&g) * 0x1p-64f - 0.5f;
        }
        must(sum_spans(c, &d, &err), &err);
        CHECK(round == 0 || memcmp(first, d.host, n * sizeof(float)) == 0, "round %d", round);
        memcpy(first, d.host, n * sizeof(float));
    }
    add_digest(first, n * sizeof(float));
    free(first);
    device_run_close(&d);
}

#ifndef MAG_NCCL_HOST
/* Recorded and repeated as a part of the caller's work, as the backend's steps are. */
static void device_sums_can_be_recorded(struct collective *c)
{
    const struct timespec nap = {.tv_nsec = MAG_NS_PER_MS};
    struct mag_err err = {0};
    struct device_run d;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    device_run_open(&d);
    const struct collective_span span = {d.device[0], SPAN_FLOATS};
    for (size_t i = 0; i < SPAN_FLOATS; i++) {
        d.host[i] = 1;
    }
    copy_spans(&d, true);
    must(wait_for_stream(c, d.stream, &err), &err);
    cuda_must(cudaStreamBeginCapture(d.stream, cudaStreamCaptureModeThreadLocal));
    must(collective_device_sum(c, &span, 1, d.stream, &err), &err);
    must(collective_device_join(c, d.stream, &err), &err);
    cuda_must(cudaStreamEndCapture(d.stream, &graph));
    cuda_must(cudaGraphInstantiate(&exec, graph, 0));
    for (int round = 0; round < 3; round++) {
        cuda_must(cudaGraphLaunch(exec, d.stream));
    }
    copy_spans(&d, false);
    must(wait_for_stream(c, d.stream, &err), &err);
    const float want = (float)(c->size * c->size * c->size);
    CHECK(d.host[0] == want && d.host[SPAN_FLOATS - 1] == want, "%g", (double)d.host[0]);
    cuda_must(cudaGraphExecDestroy(exec));
    cuda_must(cudaGraphDestroy(graph));
    (void)nanosleep(&nap, NULL); /* NCCL is told of it by a callback */
    device_run_close(&d);
}
#endif

/* The last rank does `end` instead of the sum that the others wait for. */
static enum mag_status sum_without(struct collective *c, void (*end)(struct collective *c),
                                   struct mag_err *err)
{
    struct device_run d;
    device_run_open(&d);
    must(collective_device_open(c, err), err);
    enum mag_status st = sum_spans(c, &d, err);
    if (st == MAG_OK && c->rank == c->size - 1) {
        end(c);
        return mag_fail(err, MAG_IO, "the disk is full");
    }
    return st == MAG_OK ? sum_spans(c, &d, err) : st; /* a quick end is seen in the first */
}

static void fall_silent(struct collective *c)
{
    (void)c;
    (void)pause();
}

static void die(struct collective *c)
{
    (void)c;
    (void)raise(SIGKILL);
}

static void give_up(struct collective *c)
{
    collective_abort(c, "the disk is full");
}

static enum mag_status device_silent_rank(struct collective *c, struct mag_err *err)
{
    return sum_without(c, fall_silent, err);
}

static enum mag_status device_dead_rank(struct collective *c, struct mag_err *err)
{
    return sum_without(c, die, err);
}

static enum mag_status device_failing_rank(struct collective *c, struct mag_err *err)
{
    return sum_without(c, give_up, err);
}

/* Where they cannot, every rank says so, and they go on without. */
static enum mag_status device_open_alone(struct collective *c, struct mag_err *err)
{
    struct mag_err other = {0};
    enum mag_status st = collective_device_open(c, err);
    must(collective_barrier(c, &other), &other);
    return st;
}

static enum mag_status device_sums(struct collective *c, struct mag_err *err)
{
    struct device_run d;
    device_run_open(&d);
    enum mag_status st = collective_device_open(c, err);
    for (int round = 0; round < 5 && st == MAG_OK; round++) {
        st = sum_spans(c, &d, err);
    }
    return st;
}

#endif

static void all_is_well(struct collective *c)
{
#ifdef MAG_NCCL
    device_sums_are_exact(c);
    device_sums_round_the_same(c);
#ifndef MAG_NCCL_HOST
    device_sums_can_be_recorded(c);
#endif
#endif

    sums_of_whole_numbers_are_exact(c);
    doubles_keep_their_digits(c);
    sums_round_the_same_everywhere(c);
    sums_overlap(c);
    every_root_broadcasts(c);
    barriers_hold_everybody(c);
    waiting_ranks_sleep(c);
    memory_is_shared(c);
}

/* ---- what goes wrong: ends in an error on every rank that is left ---- */

static enum mag_status wrong_sizes(struct collective *c, struct mag_err *err)
{
    float v[8] = {0};
    return collective_sum(c, COLLECTIVE_FLOAT, v, c->rank == 0 ? 7 : 8, err);
}

static enum mag_status wrong_kinds(struct collective *c, struct mag_err *err)
{
    double v[4] = {0};
    return c->rank == 0 ? collective_sum(c, COLLECTIVE_DOUBLE, v, 4, err)
                        : collective_broadcast(c, v, sizeof(v), 0, c->timeout_ms, err);
}

static enum mag_status silent_rank(struct collective *c, struct mag_err *err)
{
    float v[8] = {0};
    if (c->rank == c->size - 1) {
        (void)pause(); /* ended by whoever started it */
    }
    return collective_sum(c, COLLECTIVE_FLOAT, v, 8, err);
}

static enum mag_status dead_rank(struct collective *c, struct mag_err *err)
{
    float v[8] = {0};
    if (c->rank == c->size - 1) {
        (void)raise(SIGKILL);
    }
    return collective_sum(c, COLLECTIVE_FLOAT, v, 8, err);
}

static enum mag_status failing_rank(struct collective *c, struct mag_err *err)
{
    float v[8] = {0};
    if (c->rank == c->size - 1) {
        collective_abort(c, "the disk is full");
        return mag_fail(err, MAG_IO, "the disk is full");
    }
    return collective_sum(c, COLLECTIVE_FLOAT, v, 8, err);
}

static int run_case(struct collective *c, const char *name)
{
    static const struct {
        const char *name;
        enum mag_status (*fn)(struct collective *c, struct mag_err *err);
    } cases[] = {{"wrong-sizes", wrong_sizes},
                 {"wrong-kinds", wrong_kinds},
                 {"silent-rank", silent_rank},
                 {"dead-rank", dead_rank},
#ifdef MAG_NCCL
                 {"device-silent-rank", device_silent_rank},
                 {"device-dead-rank", device_dead_rank},
                 {"device-failing-rank", device_failing_rank},
                 {"device-open", device_open_alone},
                 {"device-sums", device_sums},
#endif
                 {"failing-rank", failing_rank}};
    struct mag_err err = {0};
    if (strcmp(name, "well") == 0) {
        all_is_well(c);
        printf("ok %08x of %d\n", digest, c->size);
        return 0;
    }
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (strcmp(cases[i].name, name) == 0) {
            int64_t start = clock_mono_ns();
            enum mag_status st = cases[i].fn(c, &err);
            printf("%s %s after %.1f s: %s\n", st == MAG_OK ? "ok" : "error", mag_status_name(st),
                   (double)(clock_mono_ns() - start) / 1e9, err.text);
            struct mag_err again = {0};
            CHECK(st == MAG_OK || st == MAG_UNSUPPORTED ||
                  collective_barrier(c, &again) != MAG_OK); /* for good */
            return st == MAG_OK ? 0 : 3;
        }
    }
    return 2;
}

/* ---- shm: starts the ranks ---- */

static int wait_for_ranks(int size, const pid_t *pids, int fd)
{
    int bad = 0;
    for (int left = size; left > 0; left--) {
        int status = 0;
        pid_t pid = wait(&status);
        if (WIFSIGNALED(status)) {
            collective_shm_fail(fd, "a rank was killed");
            bad++;
        } else if (WEXITSTATUS(status) != 0) {
            bad++;
        }
        for (int r = 0; bad > 0 && left == 2 && r < size; r++) { /* the silent one */
            if (pids[r] != pid) {
                (void)kill(pids[r], SIGKILL);
            }
        }
    }
    return bad > 0 ? 3 : 0;
}

static int start_shm(char **argv, int size)
{
    struct mag_err err = {0};
    int fd = -1;
    pid_t pids[COLLECTIVE_RANKS_MAX];
    must(collective_shm_create(size, &fd, &err), &err);
    (void)fcntl(fd, F_SETFD, 0);
    for (int r = 0; r < size; r++) {
        char *rank = xasprintf("%d/%d/%d", r, size, fd);
        char *const args[] = {argv[0], rank, argv[2], argv[3], NULL};
        CHECK(posix_spawn(&pids[r], "/proc/self/exe", NULL, NULL, args, environ) == 0);
        free(rank);
    }
    return wait_for_ranks(size, pids, fd);
}

int main(int argc, char **argv)
{
    struct collective_place p = {.size = 1, .fd = -1};
    const struct collective_ops *ops = &collective_self;
    struct collective *c = NULL;
    struct mag_err err = {0};
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
#ifdef MAG_NCCL
    int gpus = 0;
    (void)cudaGetDeviceCount(&gpus);
    if (argc == 2 && strcmp(argv[1], "gpus") == 0) {
        printf("%d\n", gpus);
        return 0;
    }
#endif
    if (argc != 4) {
        return 2;
    }
    p.timeout_ms = strtol(argv[3], NULL, 10);
    if (sscanf(argv[1], "shm:%d", &p.size) == 1) {
        return start_shm(argv, p.size);
    }
    if (sscanf(argv[1], "%d/%d/%d", &p.rank, &p.size, &p.fd) == 3) {
        ops = &collective_shm;
#ifdef MAG_NCCL
        ops = &collective_nccl;
        cuda_must(cudaSetDevice(p.rank % gpus));
#endif
    }
#ifdef MAG_MPI
    if (strcmp(argv[1], "mpi") == 0) {
        ops = &collective_mpi;
    }
#endif
    must(collective_open(ops, &p, &c, &err), &err);
    int status = run_case(c, argv[2]);
    collective_close(c);
    return status;
}
