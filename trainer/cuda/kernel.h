/* SPDX-License-Identifier: Apache-2.0
 *
 * What kernels are written in: the common part of C and CUDA C++. nvcc compiles the .cu files for
 * the device; tests include the same files in C programs, where a launch is a loop, so that every
 * line of a kernel runs on machines without a GPU too.
 *
 * There are two kinds of kernels. "Each" kernels give every item to one thread (EACH_ITEM) and
 * never wait for another. "Block" kernels work together in blocks of KERNEL_THREADS threads, by
 * block_sum and BARRIER alone; they must be right for any power of two of threads, and every thread
 * of a block must reach every barrier. No kernel uses atomics: sums have a fixed order, results are
 * the same in every run.
 */
#ifndef MAG_TRAINER_CUDA_KERNEL_H
#define MAG_TRAINER_CUDA_KERNEL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define KERNEL_THREADS 256
#define KERNEL_BLOCKS_MAX 4096      /* of an "each" kernel: more items than that go round again */
#define LAUNCH_BLOCKS_MAX (1 << 30) /* of a "block" kernel; where there can be more: EACH_BLOCK */

#ifdef __CUDACC__

#define BLOCK_THREADS KERNEL_THREADS
#define MAG_DEVICE static __host__ __device__ __forceinline__
#define MAG_INSIDE static __device__ __forceinline__ /* of a kernel: knows its thread */
#define KERNEL static __global__ void __launch_bounds__(KERNEL_THREADS)
#define SHARED __shared__
#define BARRIER() __syncthreads()
#define KERNELS_BEGIN extern "C" {
#define KERNELS_END }
#define LAUNCH_EACH(kernel, items, stream, ...)                                                    \
    do {                                                                                           \
        int64_t blocks_ = ((items) + KERNEL_THREADS - 1) / KERNEL_THREADS;                         \
        if (blocks_ > 0) {                                                                         \
            kernel<<<(unsigned)(blocks_ < KERNEL_BLOCKS_MAX ? blocks_ : KERNEL_BLOCKS_MAX),        \
                     KERNEL_THREADS, 0, (cudaStream_t)(stream)>>>(__VA_ARGS__);                    \
        }                                                                                          \
    } while (0)
#define LAUNCH_BLOCKS(kernel, blocks, stream, ...)                                                 \
    do {                                                                                           \
        const int64_t blocks_ = (blocks);                                                          \
        if (blocks_ > 0) {                                                                         \
            kernel<<<(unsigned)(blocks_ < LAUNCH_BLOCKS_MAX ? blocks_ : LAUNCH_BLOCKS_MAX),        \
                     KERNEL_THREADS, 0, (cudaStream_t)(stream)>>>(__VA_ARGS__);                    \
        }                                                                                          \
    } while (0)

#else

#define MAG_DEVICE static inline
#define KERNELS_BEGIN
#define KERNELS_END

#endif

#if !defined(__CUDACC__) && defined(MAG_HOST_KERNELS)

#ifndef HOST_THREADS
#define HOST_THREADS 2 /* of a block; with 1 there is nothing to wait for */
#endif
#if HOST_THREADS > 1
#include <omp.h>
#endif
#define BLOCK_THREADS HOST_THREADS
#define MAG_INSIDE static inline
#define KERNEL static void
#define SHARED static
#if HOST_THREADS > 1
#define BARRIER() _Pragma("omp barrier")
#else
#define BARRIER() (void)0
#endif

struct kernel_index {
    unsigned x;
};
static _Thread_local struct kernel_index threadIdx, blockIdx;
static struct kernel_index blockDim, gridDim;

#define LAUNCH_EACH(kernel, items, stream, ...)                                                    \
    do {                                                                                           \
        (void)(stream);                                                                            \
        (void)(items);                                                                             \
        threadIdx.x = 0;                                                                           \
        blockIdx.x = 0;                                                                            \
        blockDim.x = 1;                                                                            \
        gridDim.x = 1;                                                                             \
        kernel(__VA_ARGS__);                                                                       \
    } while (0)
#if HOST_THREADS > 1
#define LAUNCH_BLOCKS(kernel, blocks, stream, ...)                                                 \
    do {                                                                                           \
        const unsigned blocks_ = (unsigned)(blocks);                                               \
        (void)(stream);                                                                            \
        blockDim.x = HOST_THREADS;                                                                 \
        gridDim.x = blocks_;                                                                       \
        _Pragma("omp parallel num_threads(HOST_THREADS)")                                          \
        {                                                                                          \
            threadIdx.x = (unsigned)omp_get_thread_num();                                          \
            for (unsigned b_ = 0; b_ < blocks_; b_++) {                                            \
                blockIdx.x = b_;                                                                   \
                BARRIER();                                                                         \
                kernel(__VA_ARGS__);                                                               \
            }                                                                                      \
        }                                                                                          \
    } while (0)
#else
#define LAUNCH_BLOCKS(kernel, blocks, stream, ...)                                                 \
    do {                                                                                           \
        (void)(stream);                                                                            \
        threadIdx.x = 0;                                                                           \
        blockDim.x = 1;                                                                            \
        gridDim.x = (unsigned)(blocks);                                                            \
        for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {                               \
            kernel(__VA_ARGS__);                                                                   \
        }                                                                                          \
    } while (0)
#endif

#endif

#if defined(__CUDACC__) || defined(MAG_HOST_KERNELS)

/* The items of this thread in an "each" kernel. */
#define EACH_ITEM(i, n)                                                                            \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n);                      \
         i += (int64_t)gridDim.x * blockDim.x)

/* The items of this block, each of which all its threads work on. */
#define EACH_BLOCK(i, n) for (int64_t i = blockIdx.x; i < (n); i += gridDim.x)

/* The sum over the threads of the block, in a fixed order; every thread gets it. */
MAG_INSIDE double block_sum(double v)
{
    SHARED double part[KERNEL_THREADS];
    BARRIER(); /* the sum before may still be read */
    part[threadIdx.x] = v;
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        BARRIER();
        if (threadIdx.x < half) {
            part[threadIdx.x] += part[threadIdx.x + half];
        }
    }
    BARRIER();
    return part[0];
}

/* The largest value over the threads of the block, and the smallest index among those that have it.
 */
MAG_INSIDE float block_largest(float v, int index, int *ret_index)
{
    SHARED float value[KERNEL_THREADS];
    SHARED int where[KERNEL_THREADS];
    BARRIER();
    value[threadIdx.x] = v;
    where[threadIdx.x] = index;
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        BARRIER();
        if (threadIdx.x < half) {
            const unsigned other = threadIdx.x + half;
            if (value[other] > value[threadIdx.x] ||
                (value[other] == value[threadIdx.x] && where[other] < where[threadIdx.x])) {
                value[threadIdx.x] = value[other];
                where[threadIdx.x] = where[other];
            }
        }
    }
    BARRIER();
    *ret_index = where[0];
    return value[0];
}

#endif

#endif
