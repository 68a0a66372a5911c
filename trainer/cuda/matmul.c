/* SPDX-License-Identifier: Apache-2.0
 *
 * Matrix products by cuBLASLt: bias and relu in its epilogue, lanes as a strided batch. Which
 * kernel does a product is looked up once and kept. cuBLASLt counts columns first, so it is given
 * the transposed product: D' = B' A'.
 */
#include "trainer/cuda/gpu.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

#define MATMULS_MAX 1024
#define ALIGNMENT_MAX 256

/* What the choice of a kernel depends on. */
struct matmul_key {
    int m, n, k, batches;
    int bf16, d_bf16, bias, relu, add;
    int64_t a_row, a_col, a_batch, b_row, b_col, b_batch, d_row, d_batch;
    uint32_t a_align, b_align, d_align;
};

struct matmul {
    struct matmul *next;
    struct matmul_key key;
    cublasLtMatmulDesc_t what;
    cublasLtMatrixLayout_t a, b, d; /* as cuBLASLt names them */
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace;
    bool found;
    bool epilogue; /* bias and relu are in it; else they follow */
};

/* ---- keys ---- */

/* The largest power of two that divides everything that is added to the address. */
static uint32_t alignment(const void *p, int64_t stride, int64_t batch, int size)
{
    const uint64_t bits = (uint64_t)(uintptr_t)p | (uint64_t)(stride * size) |
                          (uint64_t)(batch * size) | ALIGNMENT_MAX;
    return (uint32_t)(bits & (0 - bits));
}

static struct matmul_key key_of(const struct product *p)
{
    struct matmul_key k;
    memset(&k, 0, sizeof(k)); /* compared byte by byte */
    const int size = p->a.bf16 ? 2 : 4;
    k.m = p->m;
    k.n = p->n;
    k.k = p->k;
    k.batches = p->batches;
    k.bf16 = p->a.bf16;
    k.d_bf16 = p->d.bf16;
    k.bias = p->bias != NULL;
    k.relu = p->relu;
    k.add = p->add;
    k.a_row = p->a_row;
    k.a_col = p->a_col;
    k.b_row = p->b_row;
    k.b_col = p->b_col;
    k.d_row = p->d_row;
    if (p->batches > 1) {
        k.a_batch = p->a_batch;
        k.b_batch = p->b_batch;
        k.d_batch = p->d_batch;
    }
    k.a_align = alignment(p->a.data, p->a_row == 1 ? p->a_col : p->a_row, k.a_batch, size);
    k.b_align = alignment(p->b.data, p->b_row == 1 ? p->b_col : p->b_row, k.b_batch, size);
    k.d_align = alignment(p->d.data, p->d_row, k.d_batch, p->d.bf16 ? 2 : 4);
    return k;
}

/* ---- descriptions ---- */

static bool layout(struct device *d, cublasLtMatrixLayout_t *l, bool bf16, int64_t rows,
                   int64_t columns, int64_t stride, int batches, int64_t batch)
{
    const int32_t count = batches;
    return LT(d, cublasLtMatrixLayoutCreate(l, bf16 ? CUDA_R_16BF : CUDA_R_32F, (uint64_t)rows,
                                            (uint64_t)columns, stride)) &&
           LT(d, cublasLtMatrixLayoutSetAttribute(*l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                                  sizeof(count))) &&
           LT(d, cublasLtMatrixLayoutSetAttribute(*l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                  &batch, sizeof(batch)));
}

static int64_t at_least(int64_t v, int64_t least)
{
    return v > least ? v : least;
}

static bool describe_layouts(struct device *d, struct matmul *m)
{
    const struct matmul_key *k = &m->key;
    /* Where the other index is the adjacent one, the operand is transposed. */
    const bool b_turned = k->b_row == 1 && k->b_col >= k->k;
    const bool a_turned = k->a_row == 1 && k->a_col >= k->m;
    const cublasOperation_t b_op = b_turned ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t a_op = a_turned ? CUBLAS_OP_T : CUBLAS_OP_N;
    return LT(d, cublasLtMatmulDescSetAttribute(m->what, CUBLASLT_MATMUL_DESC_TRANSA, &b_op,
                                                sizeof(b_op))) &&
           LT(d, cublasLtMatmulDescSetAttribute(m->what, CUBLASLT_MATMUL_DESC_TRANSB, &a_op,
                                                sizeof(a_op))) &&
           layout(d, &m->a, k->bf16, b_turned ? k->k : k->n, b_turned ? k->n : k->k,
                  b_turned ? k->b_col : at_least(k->b_row, k->n), k->batches, k->b_batch) &&
           layout(d, &m->b, k->bf16, a_turned ? k->m : k->k, a_turned ? k->k : k->m,
                  a_turned ? k->a_col : at_least(k->a_row, k->k), k->batches, k->a_batch) &&
           layout(d, &m->d, k->d_bf16, k->n, k->m, at_least(k->d_row, k->n), k->batches,
                  k->d_batch);
}

static bool describe_epilogue(struct device *d, struct matmul *m, const float *bias)
{
    const cublasLtEpilogue_t e = !m->epilogue   ? CUBLASLT_EPILOGUE_DEFAULT
                                 : !m->key.bias ? CUBLASLT_EPILOGUE_RELU
                                 : m->key.relu  ? CUBLASLT_EPILOGUE_RELU_BIAS
                                                : CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t type = CUDA_R_32F;
    const int64_t stride = m->key.n;
    bool good = LT(
        d, cublasLtMatmulDescSetAttribute(m->what, CUBLASLT_MATMUL_DESC_EPILOGUE, &e, sizeof(e)));
    if (good && m->epilogue && m->key.bias) {
        good = LT(d, cublasLtMatmulDescSetAttribute(m->what, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                    &bias, sizeof(const void *))) &&
               LT(d, cublasLtMatmulDescSetAttribute(m->what, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
                                                    &type, sizeof(type))) &&
               LT(d, cublasLtMatmulDescSetAttribute(m->what, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE,
                                                    &stride, sizeof(stride)));
    }
    return good;
}

/* ---- choosing ---- */

static bool set_preference(struct device *d, cublasLtMatmulPreference_t p,
                           const struct matmul_key *k)
{
    const size_t workspace = (size_t)DEVICE_WORKSPACE;
    /* Sums of split products in a fixed order: not in the output's own place; and as float32. */
    const uint32_t sums = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    return LT(d, cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                      &workspace, sizeof(workspace))) &&
           LT(d, cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                      &sums, sizeof(sums))) &&
           LT(d, cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                                      &k->b_align, sizeof(k->b_align))) &&
           LT(d, cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                      &k->a_align, sizeof(k->a_align))) &&
           LT(d, cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                                                      &k->d_align, sizeof(k->d_align))) &&
           LT(d, cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
                                                      &k->d_align, sizeof(k->d_align)));
}

/* Asks for a kernel; false when there is none, which is no failure. */
static bool choose(struct device *d, struct matmul *m, const float *bias)
{
    cublasLtMatmulPreference_t p = NULL;
    cublasLtMatmulHeuristicResult_t best;
    int n = 0;
    bool good = describe_epilogue(d, m, bias) && LT(d, cublasLtMatmulPreferenceCreate(&p)) &&
                set_preference(d, p, &m->key);
    if (good) {
        const cublasStatus_t s =
            cublasLtMatmulAlgoGetHeuristic(d->lt, m->what, m->a, m->b, m->d, m->d, p, 1, &best, &n);
        good = s == CUBLAS_STATUS_SUCCESS && n > 0 && best.state == CUBLAS_STATUS_SUCCESS;
    }
    if (good) {
        m->algorithm = best.algo;
        m->workspace = best.workspaceSize;
    }
    if (p != NULL) {
        (void)cublasLtMatmulPreferenceDestroy(p);
    }
    return good;
}

static void matmul_destroy(struct matmul *m)
{
    if (m->what != NULL) {
        (void)cublasLtMatmulDescDestroy(m->what);
    }
    const cublasLtMatrixLayout_t layouts[] = {m->a, m->b, m->d};
    for (int i = 0; i < 3; i++) {
        if (layouts[i] != NULL) {
            (void)cublasLtMatrixLayoutDestroy(layouts[i]);
        }
    }
    free(m);
}

void gpu_forget_matmuls(struct device *d)
{
    while (d->matmuls != NULL) {
        struct matmul *next = d->matmuls->next;
        matmul_destroy(d->matmuls);
        d->matmuls = next;
    }
    d->n_matmuls = 0;
}

/* A bias must be of the output's type, and ours are float32. Kernels may read it in vectors, and no
 * preference tells them how the lanes' ones lie. */
static bool bias_fits(const struct matmul_key *k)
{
    const bool aligned = k->batches == 1 || (size_t)k->n * sizeof(float) % 16 == 0;
    return !k->bias || (!k->d_bf16 && aligned);
}

static struct matmul *matmul_create(struct device *d, const struct product *p,
                                    const struct matmul_key *key)
{
    struct matmul *m = xcalloc(1, sizeof(*m));
    const cublasComputeType_t type =
        d->tf32 && !key->bf16 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    m->key = *key;
    if (LT(d, cublasLtMatmulDescCreate(&m->what, type, CUDA_R_32F)) && describe_layouts(d, m)) {
        m->epilogue = (key->bias || key->relu) && bias_fits(key);
        m->found = choose(d, m, p->bias);
        if (!m->found && m->epilogue) {
            m->epilogue = false;
            m->found = choose(d, m, p->bias);
        }
    }
    if (d->n_matmuls >= MATMULS_MAX) {
        gpu_forget_matmuls(d);
    }
    m->next = d->matmuls;
    d->matmuls = m;
    d->n_matmuls++;
    return m;
}

static struct matmul *find(struct device *d, const struct product *p)
{
    const struct matmul_key key = key_of(p);
    struct matmul *m = d->matmuls;
    while (m != NULL && memcmp(&m->key, &key, sizeof(key)) != 0) {
        m = m->next;
    }
    return m != NULL ? m : matmul_create(d, p, &key);
}

void device_product(struct device *d, const struct product *p)
{
    struct matmul *m = d->own_kernels || p->a.bf16 != p->b.bf16 ? NULL : find(d, p);
    if (m == NULL || !m->found) {
        k_product(p, d->stream);
        return;
    }
    const float one = 1;
    const float before = p->add ? 1 : 0;
    if (m->epilogue && !describe_epilogue(d, m, p->bias)) {
        return;
    }
    if (!LT(d, cublasLtMatmul(d->lt, m->what, &one, p->b.data, m->a, p->a.data, m->b, &before,
                              p->d.data, m->d, p->d.data, m->d, &m->algorithm, d->workspace,
                              m->workspace, d->stream))) {
        return;
    }
    if (!m->epilogue && (p->bias != NULL || p->relu)) {
        const struct extent e = {p->m, 1, p->batches, p->n};
        k_bias_act(p->d, p->d, NULL, p->bias, p->relu ? CELL_RELU : CELL_NONE, e, d->stream);
    }
}
