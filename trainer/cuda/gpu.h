/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to what calls NVIDIA's libraries (gpu.c, matmul.c, convs.c): the device, and one function
 * a library that turns its errors into ours. Each keeps the library's own words.
 */
#ifndef MAG_TRAINER_CUDA_GPU_H
#define MAG_TRAINER_CUDA_GPU_H

#include "trainer/cuda/device.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#define STAGES 4                    /* copies from the host that may be under way at once */
#define STAGE_MAX ((size_t)8 << 20) /* bytes of one; larger ones go in parts */
#define COMPUTE_CAPABILITY_MIN 80   /* bfloat16 and TensorFloat-32 products */

struct matmul; /* of matmul.c: a product that a kernel was found for */

/* A copy from the host on its way. */
struct stage {
    void *pinned;
    size_t room;
    cudaEvent_t done;
};

struct device {
    cudaStream_t stream;
    cublasLtHandle_t lt;
    cudnnHandle_t dnn;
    void *workspace;
    struct matmul *matmuls;
    int n_matmuls;
    bool tf32;
    bool lost;        /* CUDA's errors stick: every call fails from now on */
    bool own_kernels; /* MAGPIE_CUDA_LIBRARIES=0: no cuBLASLt, no cuDNN */
    struct stage stages[STAGES];
    int next_stage;
    cudaEvent_t marks[DEVICE_MARKS_MAX]; /* NULL = not made yet */
    struct mag_err err, err_before;      /* the first failure; the one before recording began */
    bool (*watch)(void *ctx, int64_t waited_ms);
    void *watched;
    char text[256];
};

/* True when the call went well; otherwise the failure is noted. */
bool gpu_cuda(struct device *d, cudaError_t e, const char *what);
bool gpu_lt(struct device *d, cublasStatus_t s, const char *what);
bool gpu_dnn(struct device *d, cudnnStatus_t s, const char *what);
#define CUDA(d, call) gpu_cuda(d, call, #call)
#define LT(d, call) gpu_lt(d, call, #call)
#define DNN(d, call) gpu_dnn(d, call, #call)

/* matmul.c */
void gpu_forget_matmuls(struct device *d);

#endif
