/* SPDX-License-Identifier: Apache-2.0
 *
 * The CUDA backend's device (trainer/cuda/device.h) in host memory: its kernels compiled as C, with
 * two threads a block, products and convolutions by the backend's own kernels. The backend's code
 * above runs unchanged. What it leaves out is CUDA itself, cuBLASLt and cuDNN.
 */
#define MAG_HOST_KERNELS
#include "trainer/cuda/device.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trainer/cuda/elements.cu"
#include "trainer/cuda/embeddings.cu"
#include "trainer/cuda/heads.cu"
#include "trainer/cuda/norms.cu"
#include "trainer/cuda/products.cu"
#include "trainer/cuda/steps.cu"
#include "trainer/cuda/windows.cu"

#include "cuda_host.h"
#include "trainer/cuda/cuda.h"

const struct backend_ops *const backend_registry[] = {&backend_cuda, &backend_ref, NULL};

int64_t cuda_host_memory = (int64_t)1 << 32;

struct device {
    struct mag_err err;
    int64_t used;
    bool lost; /* as a GPU is after a kernel that went astray */
    int64_t marks[DEVICE_MARKS_MAX];
};

/* In front of every allocation. */
struct block {
    int64_t bytes;
    char pad[PAD_BYTES - sizeof(int64_t)];
};

struct device_conv {
    struct device *device;
    struct filter f;
    int lanes;
};

enum mag_status device_open(int which, bool tf32, struct device **ret, struct mag_err *err)
{
    (void)which;
    (void)tf32;
    (void)err;
    const char *mb = getenv("CUDA_HOST_MB");
    cuda_host_memory = mb != NULL ? strtoll(mb, NULL, 10) << 20 : cuda_host_memory;
    *ret = xcalloc(1, sizeof(**ret));
    return MAG_OK;
}

void device_close(struct device *d)
{
    MAG_ASSERT(d == NULL || d->used == 0, "%lld bytes of the device were not freed",
               d != NULL ? (long long)d->used : 0);
    free(d);
}

const char *device_describe(const struct device *d)
{
    (void)d;
    return "host memory";
}

/* The file CUDA_HOST_LOST names, which is removed, makes this process lose its device. */
static void perhaps_lose(struct device *d)
{
    const char *path = getenv("CUDA_HOST_LOST");
    d->lost = d->lost || (path != NULL && unlink(path) == 0);
    if (d->lost) {
        device_fail(d, MAG_IO, "unspecified launch failure");
    }
}

bool device_is_lost(const struct device *d)
{
    return d->lost;
}

enum mag_status device_check(struct device *d, struct mag_err *err)
{
    perhaps_lose(d);
    const enum mag_status st = d->err.code;
    if (st != MAG_OK) {
        (void)mag_fail(err, st, "%s", d->err.text);
    }
    d->err = (struct mag_err){0};
    return st;
}

void device_fail(struct device *d, enum mag_status code, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)mag_fail(&d->err, code, "%s", text);
}

void *device_stream(struct device *d)
{
    return d;
}

void device_wait(struct device *d)
{
    (void)d;
}

static bool (*watch_of)(void *ctx, int64_t waited_ms);
static void *watched;

void device_watch(struct device *d, bool (*watch)(void *ctx, int64_t waited_ms), void *ctx)
{
    (void)d;
    watch_of = watch;
    watched = ctx;
}

bool cuda_host_may_wait(int64_t waited_ms)
{
    return watch_of == NULL || watch_of(watched, waited_ms);
}

enum mag_status device_alloc(struct device *d, int64_t bytes, const char *what, void **ret,
                             struct mag_err *err)
{
    int64_t total = 0;
    const int64_t left = device_memory_free(d, &total);
    if (bytes > left) {
        return device_no_room(what, bytes, left, total, err);
    }
    struct block *b = xcalloc(1, sizeof(*b) + (size_t)bytes);
    b->bytes = bytes;
    d->used += bytes;
    *ret = b + 1;
    return MAG_OK;
}

void device_free(struct device *d, void *p)
{
    if (p != NULL) {
        struct block *b = (struct block *)p - 1;
        d->used -= b->bytes;
        free(b);
    }
}

int64_t device_memory_free(struct device *d, int64_t *ret_total)
{
    *ret_total = cuda_host_memory;
    return cuda_host_memory - d->used;
}

void device_put(struct device *d, void *to, const void *from, size_t bytes)
{
    (void)d;
    memcpy(to, from, bytes);
}

void device_get(struct device *d, void *to, const void *from, size_t bytes)
{
    (void)d;
    memcpy(to, from, bytes);
}

void device_zero(struct device *d, void *p, size_t bytes)
{
    (void)d;
    memset(p, 0, bytes);
}

void device_product(struct device *d, const struct product *p)
{
    k_product(p, d);
}

struct device_conv *device_conv_create(struct device *d, const struct filter *f, int lanes,
                                       int x_lanes, bool bf16, void *work, int64_t work_bytes)
{
    (void)bf16;
    MAG_ASSERT(x_lanes == lanes || f->groups == 1, "groups of shared channels");
    memset(work, 0xff, (size_t)work_bytes); /* cuDNN leaves something in it */
    struct device_conv *c = xcalloc(1, sizeof(*c));
    *c = (struct device_conv){.device = d, .f = *f, .lanes = lanes};
    return c;
}

void device_conv_destroy(struct device_conv *c)
{
    free(c);
}

void device_conv_forward(struct device_conv *c, struct tensor x, struct tensor w, struct tensor y,
                         int n)
{
    k_conv(x, w, y, c->f, n, c->lanes, c->device);
}

void device_conv_dx(struct device_conv *c, struct tensor dy, struct tensor w, struct tensor dx,
                    int n, bool add)
{
    k_conv_dx(dy, w, dx, c->f, n, c->lanes, add, c->device);
}

void device_conv_dw(struct device_conv *c, struct tensor x, struct tensor dy, float *dw,
                    uint16_t *half, int n)
{
    (void)half;
    const struct tensor to = {dw, 0, 1};
    k_conv_dw(x, dy, to, c->f, n, c->lanes, c->device);
}

bool device_record(struct device *d)
{
    (void)d;
    return false;
}

struct device_graph *device_record_end(struct device *d)
{
    (void)d;
    return NULL;
}

void device_repeat(struct device *d, struct device_graph *g)
{
    (void)d;
    (void)g;
}

void device_graph_destroy(struct device_graph *g)
{
    (void)g;
}

bool device_mark(struct device *d, int k)
{
    if (k < DEVICE_MARKS_MAX) {
        d->marks[k] = clock_mono_ns();
    }
    return k < DEVICE_MARKS_MAX;
}

float device_mark_ms(struct device *d, int k)
{
    return (float)(d->marks[k + 1] - d->marks[k]) * 1e-6f;
}
