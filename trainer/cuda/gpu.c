/* SPDX-License-Identifier: Apache-2.0
 *
 * The device: memory, copies and graphs by the CUDA runtime.
 */
#include "trainer/cuda/gpu.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SPINS 500 /* polls of a watched wait that only give the processor away, then naps begin */
#define NAP_NS 20000L

struct device_graph {
    struct device *device;
    cudaGraphExec_t exec;
};

/* ---- failures ---- */

void device_fail(struct device *d, enum mag_status code, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)mag_fail(&d->err, code, "%s", text);
}

/* "cudaMalloc" of "cudaMalloc(&p, n)". */
static int name_length(const char *what)
{
    return (int)strcspn(what, "(");
}

bool gpu_cuda(struct device *d, cudaError_t e, const char *what)
{
    if (e != cudaSuccess) {
        device_fail(d, e == cudaErrorMemoryAllocation ? MAG_NOMEM : MAG_IO, "%.*s: %s",
                    name_length(what), what, cudaGetErrorString(e));
    }
    return e == cudaSuccess;
}

bool gpu_lt(struct device *d, cublasStatus_t s, const char *what)
{
    if (s != CUBLAS_STATUS_SUCCESS) {
        device_fail(d, s == CUBLAS_STATUS_ALLOC_FAILED ? MAG_NOMEM : MAG_IO, "%.*s: %s",
                    name_length(what), what, cublasLtGetStatusString(s));
    }
    return s == CUBLAS_STATUS_SUCCESS;
}

bool gpu_dnn(struct device *d, cudnnStatus_t s, const char *what)
{
    if (s != CUDNN_STATUS_SUCCESS) {
        char why[160] = "";
        cudnnGetLastErrorString(why, sizeof(why));
        device_fail(d, MAG_IO, "%.*s: %s %s", name_length(what), what, cudnnGetErrorString(s), why);
    }
    return s == CUDNN_STATUS_SUCCESS;
}

/* Errors of a call pass, those of the context stay: asked again, it still has them. */
static bool is_lost(const struct device *d)
{
    (void)cudaGetLastError();
    const cudaError_t e = cudaStreamQuery(d->stream);
    (void)cudaGetLastError();
    return e != cudaSuccess && e != cudaErrorNotReady && e != cudaErrorStreamCaptureUnsupported;
}

enum mag_status device_check(struct device *d, struct mag_err *err)
{
    (void)CUDA(d, cudaGetLastError()); /* a launch that failed */
    const enum mag_status st = d->err.code;
    if (st != MAG_OK) {
        (void)mag_fail(err, st, "%s", d->err.text);
        d->lost = is_lost(d);
    }
    d->err = (struct mag_err){0};
    return st;
}

bool device_is_lost(const struct device *d)
{
    return d->lost;
}

/* ---- life ---- */

static void describe(struct device *d, const struct cudaDeviceProp *p)
{
    int runtime = 0;
    (void)cudaRuntimeGetVersion(&runtime);
    const size_t dnn = cudnnGetVersion();
    (void)snprintf(d->text, sizeof(d->text),
                   "%.100s (sm_%d%d, %.0f GB), CUDA %d.%d, cuDNN %zu.%zu.%zu%s", p->name, p->major,
                   p->minor, (double)p->totalGlobalMem / 1e9, runtime / 1000, runtime % 1000 / 10,
                   dnn / 10000, dnn / 100 % 100, dnn % 100,
                   d->own_kernels ? ", own kernels only" : "");
}

static enum mag_status find_gpu(int which, struct cudaDeviceProp *ret, struct mag_err *err)
{
    int n = 0;
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e != cudaSuccess || n == 0) {
        int driver = 0;
        (void)cudaDriverGetVersion(&driver); /* 0 where there is none */
        const char *why = driver == 0        ? "no NVIDIA driver is installed"
                          : e != cudaSuccess ? cudaGetErrorString(e)
                                             : "the driver lists none";
        (void)cudaGetLastError();
        return mag_fail(err, MAG_NOTFOUND, "no CUDA device: %s", why);
    }
    which %= n;
    e = cudaGetDeviceProperties(ret, which);
    if (e == cudaSuccess && ret->major * 10 + ret->minor < COMPUTE_CAPABILITY_MIN) {
        return mag_fail(
            err, MAG_UNSUPPORTED,
            "%s has compute capability %d.%d; 8.0 or later is needed (A100, H100, B200)", ret->name,
            ret->major, ret->minor);
    }
    e = e == cudaSuccess ? cudaSetDevice(which) : e;
    if (e != cudaSuccess) {
        return mag_fail(err, MAG_NOTFOUND, "no CUDA device: %s", cudaGetErrorString(e));
    }
    return MAG_OK;
}

enum mag_status device_open(int which, bool tf32, struct device **ret, struct mag_err *err)
{
    struct cudaDeviceProp properties;
    enum mag_status st = find_gpu(which, &properties, err);
    if (st != MAG_OK) {
        return st;
    }
    struct device *d = xcalloc(1, sizeof(*d));
    const char *libraries = getenv("MAGPIE_CUDA_LIBRARIES");
    d->tf32 = tf32;
    d->own_kernels = libraries != NULL && strcmp(libraries, "0") == 0;
    bool good = CUDA(d, cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking)) &&
                LT(d, cublasLtCreate(&d->lt)) && DNN(d, cudnnCreate(&d->dnn)) &&
                DNN(d, cudnnSetStream(d->dnn, d->stream)) &&
                CUDA(d, cudaMalloc(&d->workspace, (size_t)DEVICE_WORKSPACE));
    for (int i = 0; good && i < STAGES; i++) {
        good = CUDA(d, cudaEventCreateWithFlags(&d->stages[i].done, cudaEventDisableTiming));
    }
    if (!good) {
        st = mag_fail(err, d->err.code, "%s cannot be used: %s", properties.name, d->err.text);
        device_close(d);
        return st;
    }
    describe(d, &properties);
    *ret = d;
    return MAG_OK;
}

void device_close(struct device *d)
{
    if (d == NULL) {
        return;
    }
    gpu_forget_matmuls(d);
    if (d->stream != NULL) {
        (void)cudaStreamSynchronize(d->stream);
    }
    for (int i = 0; i < STAGES; i++) {
        (void)cudaFreeHost(d->stages[i].pinned);
        if (d->stages[i].done != NULL) {
            (void)cudaEventDestroy(d->stages[i].done);
        }
    }
    for (int i = 0; i < DEVICE_MARKS_MAX && d->marks[i] != NULL; i++) {
        (void)cudaEventDestroy(d->marks[i]);
    }
    (void)cudaFree(d->workspace);
    if (d->dnn != NULL) {
        (void)cudnnDestroy(d->dnn);
    }
    if (d->lt != NULL) {
        (void)cublasLtDestroy(d->lt);
    }
    if (d->stream != NULL) {
        (void)cudaStreamDestroy(d->stream);
    }
    free(d);
}

const char *device_describe(const struct device *d)
{
    return d->text;
}

void *device_stream(struct device *d)
{
    return d->stream;
}

void device_watch(struct device *d, bool (*watch)(void *ctx, int64_t waited_ms), void *ctx)
{
    d->watch = watch;
    d->watched = ctx;
}

/* As cudaEventSynchronize, or cudaStreamSynchronize where `e` is NULL; but not for longer than the
 * watch allows. */
static bool wait_for(struct device *d, cudaEvent_t e)
{
    if (d->watch == NULL) {
        return CUDA(d, e != NULL ? cudaEventSynchronize(e) : cudaStreamSynchronize(d->stream));
    }
    const int64_t start = clock_mono_ns();
    const struct timespec nap = {.tv_nsec = NAP_NS};
    for (int64_t round = 0;; round++) {
        const cudaError_t state = e != NULL ? cudaEventQuery(e) : cudaStreamQuery(d->stream);
        if (state != cudaErrorNotReady) {
            return CUDA(d, state);
        }
        (void)cudaGetLastError(); /* that it is not ready is no failure of later calls */
        if (!d->watch(d->watched, (clock_mono_ns() - start) / MAG_NS_PER_MS)) {
            device_fail(d, MAG_CLOSED, "the other ranks were lost while the GPU worked");
            return false;
        }
        if (round < SPINS) {
            (void)sched_yield();
        } else {
            (void)nanosleep(&nap, NULL);
        }
    }
}

void device_wait(struct device *d)
{
    (void)wait_for(d, NULL);
}

/* ---- memory ---- */

int64_t device_memory_free(struct device *d, int64_t *ret_total)
{
    size_t left = 0;
    size_t total = 0;
    (void)CUDA(d, cudaMemGetInfo(&left, &total));
    *ret_total = (int64_t)total;
    return (int64_t)left;
}

enum mag_status device_alloc(struct device *d, int64_t bytes, const char *what, void **ret,
                             struct mag_err *err)
{
    void *p = NULL;
    cudaError_t e = cudaMalloc(&p, (size_t)bytes);
    if (e == cudaErrorMemoryAllocation) {
        int64_t total = 0;
        (void)cudaGetLastError(); /* this failure is reported here, and is no fault of later work */
        const int64_t left = device_memory_free(d, &total);
        return device_no_room(what, bytes, left, total, err);
    }
    if (e != cudaSuccess) {
        return mag_fail(err, MAG_IO, "memory for %s: %s", what, cudaGetErrorString(e));
    }
    device_zero(d, p, (size_t)bytes);
    *ret = p;
    return MAG_OK;
}

void device_free(struct device *d, void *p)
{
    if (p != NULL) {
        (void)CUDA(d, cudaFree(p)); /* waits for the device */
    }
}

void device_zero(struct device *d, void *p, size_t bytes)
{
    (void)CUDA(d, cudaMemsetAsync(p, 0, bytes, d->stream));
}

/* Pinned memory of `bytes` that no copy reads any more; NULL when there is none, which is noted. */
static struct stage *take_stage(struct device *d, size_t bytes)
{
    struct stage *s = &d->stages[d->next_stage];
    d->next_stage = (d->next_stage + 1) % STAGES;
    if (!wait_for(d, s->done)) {
        return NULL;
    }
    if (s->room < bytes) {
        size_t room = 4096;
        while (room < bytes) {
            room *= 2;
        }
        (void)cudaFreeHost(s->pinned);
        s->pinned = NULL;
        s->room = 0;
        if (!CUDA(d, cudaMallocHost(&s->pinned, room))) {
            return NULL;
        }
        s->room = room;
    }
    return s;
}

/* One copy of STAGE_MAX bytes at most, through pinned memory. */
static bool put_part(struct device *d, char *to, const char *from, size_t bytes)
{
    struct stage *s = take_stage(d, bytes);
    if (s == NULL) {
        return false;
    }
    memcpy(s->pinned, from, bytes);
    return CUDA(d, cudaMemcpyAsync(to, s->pinned, bytes, cudaMemcpyHostToDevice, d->stream)) &&
           CUDA(d, cudaEventRecord(s->done, d->stream));
}

void device_put(struct device *d, void *to, const void *from, size_t bytes)
{
    bool good = true;
    for (size_t at = 0; good && at < bytes; at += STAGE_MAX) {
        const size_t left = bytes - at;
        good = put_part(d, (char *)to + at, (const char *)from + at,
                        left < STAGE_MAX ? left : STAGE_MAX);
    }
}

void device_get(struct device *d, void *to, const void *from, size_t bytes)
{
    if (bytes == 0 || (d->watch != NULL && !wait_for(d, NULL)) ||
        !CUDA(d, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, d->stream)) ||
        !CUDA(d, cudaStreamSynchronize(d->stream))) {
        memset(to, 0, bytes); /* the failure is noted; what is returned is no stale memory */
    }
}

/* ---- graphs ---- */

bool device_record(struct device *d)
{
    d->err_before = d->err;
    if (cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
        (void)cudaGetLastError();
        return false;
    }
    return true;
}

struct device_graph *device_record_end(struct device *d)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    bool good = cudaStreamEndCapture(d->stream, &graph) == cudaSuccess &&
                d->err.code == d->err_before.code &&
                cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess;
    if (graph != NULL) {
        (void)cudaGraphDestroy(graph);
    }
    if (!good) {
        if (exec != NULL) {
            (void)cudaGraphExecDestroy(exec);
        }
        (void)cudaGetLastError();
        d->err = d->err_before; /* nothing was run, so nothing has failed */
        return NULL;
    }
    struct device_graph *g = xcalloc(1, sizeof(*g));
    *g = (struct device_graph){.device = d, .exec = exec};
    return g;
}

void device_repeat(struct device *d, struct device_graph *g)
{
    (void)CUDA(d, cudaGraphLaunch(g->exec, d->stream));
}

void device_graph_destroy(struct device_graph *g)
{
    if (g != NULL) {
        device_wait(g->device); /* it may still run */
        (void)cudaGraphExecDestroy(g->exec);
        free(g);
    }
}

/* ---- time ---- */

bool device_mark(struct device *d, int k)
{
    return k < DEVICE_MARKS_MAX &&
           (d->marks[k] != NULL || CUDA(d, cudaEventCreate(&d->marks[k]))) &&
           CUDA(d, cudaEventRecord(d->marks[k], d->stream));
}

float device_mark_ms(struct device *d, int k)
{
    float ms = 0;
    (void)CUDA(d, cudaEventElapsedTime(&ms, d->marks[k], d->marks[k + 1]));
    return ms;
}
