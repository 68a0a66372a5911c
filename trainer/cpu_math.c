/* SPDX-License-Identifier: Apache-2.0
 *
 * Element-wise kernels and the matrix product. The loops are written for the compiler's vectoriser
 * (FOR_CPUS). A processor always takes the same version, so results repeat bit for bit on it.
 */
#include "trainer/cpu.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(MAG_ONEDNN)
#include <dnnl.h>
#elif defined(MAG_OPENBLAS)
#include <cblas.h>
#endif

float *cpu_alloc(size_t n)
{
    size_t bytes = (n * sizeof(float) + 127) / 64 * 64;
    return mag_try_aligned(64, bytes);
}

void cpu_fail(struct backend *b, enum mag_status code, const char *what)
{
    if (b->failure.code == MAG_OK) {
        (void)mag_fail(&b->failure, code, "%s failed", what);
    }
}

FOR_CPUS static void round_all(const float *from, float *to, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = backend_bf16(from[i]);
    }
}

const float *cpu_factor(struct backend *b, int which, const float *from, size_t n)
{
    if (!b->bf16) {
        return from;
    }
    if (n > b->rounded_size[which]) {
        free(b->rounded[which]);
        b->rounded[which] = cpu_alloc(n);
        b->rounded_size[which] = b->rounded[which] != NULL ? n : 0;
    }
    if (b->rounded[which] == NULL) {
        cpu_fail(b, MAG_NOMEM, "rounding to bfloat16");
        return from;
    }
    round_all(from, b->rounded[which], n);
    return b->rounded[which];
}

void cpu_round_grad(const struct backend *b, float *g, size_t n)
{
    if (b->bf16) {
        round_all(g, g, n);
    }
}

/* C[m][n] = op(A) op(B) + beta C, in float32. */
#if defined(MAG_ONEDNN)
static void product(struct backend *b, bool trans_a, bool trans_b, int m, int n, int k,
                    const float *a, int lda, const float *bb, int ldb, float beta, float *c,
                    int ldc)
{
    dnnl_status_t st = dnnl_sgemm(trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', m, n, k, 1.0f, a, lda,
                                  bb, ldb, beta, c, ldc);
    if (st != dnnl_success) {
        cpu_fail(b, st == dnnl_out_of_memory ? MAG_NOMEM : MAG_BUG, "oneDNN's matrix product");
    }
}
#elif defined(MAG_OPENBLAS)
static void product(struct backend *b, bool trans_a, bool trans_b, int m, int n, int k,
                    const float *a, int lda, const float *bb, int ldb, float beta, float *c,
                    int ldc)
{
    (void)b;
    cblas_sgemm(CblasRowMajor, trans_a ? CblasTrans : CblasNoTrans,
                trans_b ? CblasTrans : CblasNoTrans, m, n, k, 1.0f, a, lda, bb, ldb, beta, c, ldc);
}
#else
/* Row by row, with the inner loop over columns, which the compiler vectorises. */
FOR_CPUS static void product(struct backend *b, bool trans_a, bool trans_b, int m, int n, int k,
                             const float *a, int lda, const float *bb, int ldb, float beta,
                             float *c, int ldc)
{
    (void)b;
    for (int i = 0; i < m; i++) {
        float *row = c + (size_t)i * (size_t)ldc;
        for (int j = 0; j < n; j++) {
            row[j] = beta != 0 ? row[j] * beta : 0;
        }
        for (int t = 0; t < k; t++) {
            float x = trans_a ? a[(size_t)t * (size_t)lda + (size_t)i]
                              : a[(size_t)i * (size_t)lda + (size_t)t];
            for (int j = 0; j < n; j++) {
                row[j] += x * (trans_b ? bb[(size_t)j * (size_t)ldb + (size_t)t]
                                       : bb[(size_t)t * (size_t)ldb + (size_t)j]);
            }
        }
    }
}
#endif

/* Floats from the first value of a matrix to its last. */
static size_t span(int rows, int columns, int ld)
{
    return (size_t)(rows - 1) * (size_t)ld + (size_t)columns;
}

void cpu_matmul(struct backend *b, bool trans_a, bool trans_b, int m, int n, int k, const float *a,
                int lda, const float *bb, int ldb, float beta, float *c, int ldc)
{
    a = cpu_factor(b, 0, a, trans_a ? span(k, m, lda) : span(m, k, lda));
    bb = cpu_factor(b, 1, bb, trans_b ? span(n, k, ldb) : span(k, n, ldb));
    product(b, trans_a, trans_b, m, n, k, a, lda, bb, ldb, beta, c, ldc);
}

FOR_CPUS void cpu_sum_rows(const float *from, int rows, int width, float *to)
{
    memset(to, 0, (size_t)width * sizeof(float));
    for (int i = 0; i < rows; i++, from += width) {
        for (int k = 0; k < width; k++) {
            to[k] += from[k];
        }
    }
}

FOR_CPUS void cpu_bytes_to_float(const uint8_t *from, float scale, float *to, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = (float)from[i] * scale;
    }
}

FOR_CPUS void cpu_multiply(const float *a, const float *b, float *to, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = a[i] * b[i];
    }
}

FOR_CPUS void cpu_add(const float *a, float *to, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] += a[i];
    }
}

FOR_CPUS void cpu_sum(const float *a, const float *b, float *to, size_t n, bool relu)
{
    for (size_t i = 0; i < n; i++) {
        float sum = a[i] + b[i];
        to[i] = relu && !(sum > 0) ? 0 : sum;
    }
}

/* ---- the optimizer step, each in one pass over memory ---- */

FOR_CPUS static void sgd(float *restrict w, float *restrict v, const float *restrict g, size_t n,
                         float lr, float momentum, float keep)
{
    for (size_t i = 0; i < n; i++) {
        v[i] = momentum * v[i] + g[i];
        w[i] = keep * w[i] - lr * v[i];
    }
}

FOR_CPUS static void adam(float *const slots[OP_SLOTS], size_t n, const struct update *u,
                          float keep)
{
    float *restrict w = slots[SLOT_VALUE];
    float *restrict m = slots[SLOT_FIRST];
    float *restrict v = slots[SLOT_SECOND];
    const float *restrict g = slots[SLOT_GRAD];
    const float b1 = u->beta1;
    const float b2 = u->beta2;
    const float step = (float)((double)u->lr / (1 - pow((double)b1, (double)u->count)));
    const float inv = (float)(1 / sqrt(1 - pow((double)b2, (double)u->count)));
    const float eps = u->epsilon;
    for (size_t i = 0; i < n; i++) {
        m[i] = b1 * m[i] + (1 - b1) * g[i];
        v[i] = b2 * v[i] + (1 - b2) * g[i] * g[i];
        w[i] = keep * w[i] - step * m[i] / (sqrtf(v[i]) * inv + eps);
    }
}

FOR_CPUS static void nesterov(float *restrict w, float *restrict v, const float *restrict g,
                              size_t n, float lr, float momentum, float keep)
{
    for (size_t i = 0; i < n; i++) {
        v[i] = momentum * v[i] + g[i];
        w[i] = keep * w[i] - lr * (g[i] + momentum * v[i]);
    }
}

FOR_CPUS static void rmsprop(float *const slots[OP_SLOTS], size_t n, const struct update *u,
                             float keep)
{
    float *restrict w = slots[SLOT_VALUE];
    float *restrict m = slots[SLOT_FIRST];
    float *restrict v = slots[SLOT_SECOND];
    const float *restrict g = slots[SLOT_GRAD];
    const float rho = u->beta2;
    const float momentum = u->momentum;
    const float lr = u->lr;
    const float eps = u->epsilon;
    for (size_t i = 0; i < n; i++) {
        v[i] = rho * v[i] + (1 - rho) * g[i] * g[i];
        m[i] = momentum * m[i] + g[i] / (sqrtf(v[i]) + eps);
        w[i] = keep * w[i] - lr * m[i];
    }
}

FOR_CPUS static void adagrad(float *const slots[OP_SLOTS], size_t n, const struct update *u,
                             float keep)
{
    float *restrict w = slots[SLOT_VALUE];
    float *restrict v = slots[SLOT_SECOND];
    const float *restrict g = slots[SLOT_GRAD];
    const float lr = u->lr;
    const float eps = u->epsilon;
    for (size_t i = 0; i < n; i++) {
        v[i] += g[i] * g[i];
        w[i] = keep * w[i] - lr * g[i] / (sqrtf(v[i]) + eps);
    }
}

FOR_CPUS double cpu_square(const float *v, size_t n)
{
    double part[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int k = 0; k < 8; k++) {
            part[k] += (double)v[i + (size_t)k] * (double)v[i + (size_t)k];
        }
    }
    for (; i < n; i++) {
        part[0] += (double)v[i] * (double)v[i];
    }
    return ((part[0] + part[1]) + (part[2] + part[3])) +
           ((part[4] + part[5]) + (part[6] + part[7]));
}

/* Adam's step and the decay into the gradient's place, whose norm then scales it. */
FOR_CPUS static void lamb_step(float *const slots[OP_SLOTS], size_t n, const struct update *u,
                               float decay)
{
    const float *restrict w = slots[SLOT_VALUE];
    float *restrict m = slots[SLOT_FIRST];
    float *restrict v = slots[SLOT_SECOND];
    float *restrict g = slots[SLOT_GRAD];
    const float b1 = u->beta1;
    const float b2 = u->beta2;
    const float first = (float)(1 / (1 - pow((double)b1, (double)u->count)));
    const float inv = (float)(1 / sqrt(1 - pow((double)b2, (double)u->count)));
    const float eps = u->epsilon;
    for (size_t i = 0; i < n; i++) {
        m[i] = b1 * m[i] + (1 - b1) * g[i];
        v[i] = b2 * v[i] + (1 - b2) * g[i] * g[i];
        g[i] = first * m[i] / (sqrtf(v[i]) * inv + eps) + decay * w[i];
    }
}

FOR_CPUS static void subtract(float *restrict w, const float *restrict s, size_t n, float rate)
{
    for (size_t i = 0; i < n; i++) {
        w[i] -= rate * s[i];
    }
}

static void lamb(float *const slots[OP_SLOTS], size_t n, const struct update *u, float decay,
                 bool decays)
{
    lamb_step(slots, n, u, decay);
    double w2 = decays ? cpu_square(slots[SLOT_VALUE], n) : 0;
    double s2 = decays ? cpu_square(slots[SLOT_GRAD], n) : 0;
    double trust = w2 > 0 && s2 > 0 ? sqrt(w2) / sqrt(s2) : 1;
    subtract(slots[SLOT_VALUE], slots[SLOT_GRAD], n, (float)((double)u->lr * trust));
}

FOR_CPUS static void multiply_by(float *v, size_t n, float factor)
{
    for (size_t i = 0; i < n; i++) {
        v[i] *= factor;
    }
}

void cpu_update(float *const slots[OP_SLOTS], size_t n, const struct update *u, bool decays)
{
    float decay = decays ? u->weight_decay : 0;
    float keep = 1 - u->lr * decay;
    if (u->scale > 0 && u->scale != 1) {
        multiply_by(slots[SLOT_GRAD], n, u->scale);
    }
    switch (u->kind) {
    case OPTIMIZER_SGD:
        (u->nesterov ? nesterov : sgd)(slots[SLOT_VALUE], slots[SLOT_FIRST], slots[SLOT_GRAD], n,
                                       u->lr, u->momentum, keep);
        break;
    case OPTIMIZER_RMSPROP:
        rmsprop(slots, n, u, keep);
        break;
    case OPTIMIZER_ADAGRAD:
        adagrad(slots, n, u, keep);
        break;
    case OPTIMIZER_LAMB:
        lamb(slots, n, u, decay, decays);
        break;
    case OPTIMIZER_ADAM:
    default:
        adam(slots, n, u, keep);
        break;
    }
}

FOR_CPUS void cpu_average(const float *value, float *average, size_t n, float keep)
{
    if (keep == 0) {
        memcpy(average, value, n * sizeof(*average));
        return;
    }
    for (size_t i = 0; i < n; i++) {
        average[i] += (1 - keep) * (value[i] - average[i]);
    }
}

/* ---- layouts ---- */

FOR_CPUS void cpu_to_plain(const float *blocked, int c, int area, int block, float *plain)
{
    for (int k = 0; k < c; k++) {
        const float *from =
            blocked + (size_t)(k / block) * (size_t)area * (size_t)block + (size_t)(k % block);
        for (int i = 0; i < area; i++) {
            plain[(size_t)k * (size_t)area + (size_t)i] = from[(size_t)i * (size_t)block];
        }
    }
}

FOR_CPUS void cpu_to_blocked(const float *plain, int c, int area, int block, float *blocked)
{
    for (int k = 0; k < c; k++) {
        float *to =
            blocked + (size_t)(k / block) * (size_t)area * (size_t)block + (size_t)(k % block);
        for (int i = 0; i < area; i++) {
            to[(size_t)i * (size_t)block] = plain[(size_t)k * (size_t)area + (size_t)i];
        }
    }
}

void cpu_reblock(const float *from, int from_block, const struct shape *image, float *to,
                 int to_block, float *room)
{
    const int area = image->h * image->w;
    if (from_block == to_block) {
        memcpy(to, from, (size_t)shape_size(image) * sizeof(float));
    } else if (from_block == 1) {
        cpu_to_blocked(from, image->c, area, to_block, to);
    } else if (to_block == 1) {
        cpu_to_plain(from, image->c, area, from_block, to);
    } else {
        cpu_to_plain(from, image->c, area, from_block, room);
        cpu_to_blocked(room, image->c, area, to_block, to);
    }
}
