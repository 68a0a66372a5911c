/* SPDX-License-Identifier: Apache-2.0
 *
 * One GPU as the backend sees it: memory, copies, matrix products and convolutions, all in the
 * order of one stream. Calls that return nothing only queue work; what fails sticks until
 * device_check. gpu.c, matmul.c and convs.c do it with CUDA, cuBLASLt and cuDNN; the tests
 * have a second implementation in host memory, so that the backend runs on machines without a GPU.
 */
#ifndef MAG_TRAINER_CUDA_DEVICE_H
#define MAG_TRAINER_CUDA_DEVICE_H

#include "base/err.h"
#include "trainer/cuda/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEVICE_WORKSPACE ((int64_t)64 << 20) /* bytes that cuBLASLt may work in */

struct device;
struct device_conv;
struct device_graph;

/* Of the visible GPUs the one of number `which`, counted around. `tf32` lets products and
 * convolutions of float32 use TensorFloat-32. NOTFOUND where there is no GPU, UNSUPPORTED where it
 * or the driver is too old. */
enum mag_status device_open(int which, bool tf32, struct device **ret,
                            struct mag_err *err) MAG_MUSTCHECK;
void device_close(struct device *d); /* NULL allowed */
/* "NVIDIA H200 (sm_90, 141 GB), CUDA 13.0, cuDNN 9.13.1". Borrowed. */
const char *device_describe(const struct device *d);
/* The first failure since the last check, and forgets it. Waits for nothing: work that is still
 * queued is reported by a later check. */
enum mag_status device_check(struct device *d, struct mag_err *err) MAG_MUSTCHECK;
/* Did the last failure that device_check told leave a device on which nothing works any more in
 * this process? So it is after a kernel that went astray. */
bool device_is_lost(const struct device *d);
/* Notes a failure that no call could return. */
void device_fail(struct device *d, enum mag_status code, const char *fmt, ...) MAG_PRINTF(3, 4);
void *device_stream(struct device *d);
void device_wait(struct device *d);
/* `watch` is asked again and again while the device is waited for; once it says false, waits return
 * at once with a failure. NULL: none. */
void device_watch(struct device *d, bool (*watch)(void *ctx, int64_t waited_ms), void *ctx);

/* Zeroed memory; NOMEM names what was asked for, what is free and what there is. */
enum mag_status device_alloc(struct device *d, int64_t bytes, const char *what, void **ret,
                             struct mag_err *err) MAG_MUSTCHECK;
/* What device_alloc says then; names the sizes. */
enum mag_status device_no_room(const char *what, int64_t bytes, int64_t left, int64_t total,
                               struct mag_err *err);
void device_free(struct device *d, void *p); /* NULL allowed; waits for the work that uses it */
int64_t device_memory_free(struct device *d, int64_t *ret_total);

/* Copies from the host; `from` may be reused at once. */
void device_put(struct device *d, void *to, const void *from, size_t bytes);
/* Copies to the host and waits for it. */
void device_get(struct device *d, void *to, const void *from, size_t bytes);
void device_zero(struct device *d, void *p, size_t bytes);

/* ---- products (matmul.c) ---- */
void device_product(struct device *d, const struct product *p);

/* ---- convolutions (convs.c) ---- */
/* Of `lanes` lanes; x_lanes is 1 where all see the same input, and then groups must be 1. cuDNN may
 * work in `work`. */
struct device_conv *device_conv_create(struct device *d, const struct filter *f, int lanes,
                                       int x_lanes, bool bf16, void *work, int64_t work_bytes);
void device_conv_destroy(struct device_conv *c); /* NULL allowed */
void device_conv_forward(struct device_conv *c, struct tensor x, struct tensor w, struct tensor y,
                         int n);
void device_conv_dx(struct device_conv *c, struct tensor dy, struct tensor w, struct tensor dx,
                    int n, bool add);
/* dw is float32, whatever x and dy are; `half` is room for it in bfloat16 where they are that. */
void device_conv_dw(struct device_conv *c, struct tensor x, struct tensor dy, float *dw,
                    uint16_t *half, int n);

/* ---- graphs: work that is queued once and repeated (gpu.c) ---- */
/* From here on work is recorded, not run. False where that is not possible. Copies from and to the
 * host are not allowed until the end. */
bool device_record(struct device *d);
/* NULL when recording failed: nothing was run then. */
struct device_graph *device_record_end(struct device *d);
void device_repeat(struct device *d, struct device_graph *g);
void device_graph_destroy(struct device_graph *g); /* NULL allowed */

/* ---- time ---- */
/* Mark number k, from 0 on, in the order of the work that is queued; false when there are too many.
 */
#define DEVICE_MARKS_MAX 2048
bool device_mark(struct device *d, int k);
/* Milliseconds from mark k to the next, when both have been passed. */
float device_mark_ms(struct device *d, int k);

#endif
