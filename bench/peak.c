/* SPDX-License-Identifier: Apache-2.0
 *
 * What one core can do at most: additions with multiplications in float32, with its widest vectors,
 * out of registers. build/bench/peak [SECONDS] prints a JSON line; "gflops" counts two operations
 * for a multiplication with addition, a second of processor time.
 */
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

#if defined(__x86_64__)
#include <immintrin.h>

#define CHAINS 12   /* independent sums: more than latency times units */
#define ROUNDS 4096 /* between two looks at the clock */

static volatile float sink; /* so that nothing is left out */

__attribute__((target("avx2,fma"))) static void round_avx2(void)
{
    __m256 sums[CHAINS];
    const __m256 a = _mm256_set1_ps(0.999F);
    const __m256 b = _mm256_set1_ps(1e-3F);
    for (int i = 0; i < CHAINS; i++) {
        sums[i] = _mm256_set1_ps((float)i);
    }
    for (int r = 0; r < ROUNDS; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            sums[i] = _mm256_fmadd_ps(sums[i], a, b);
        }
    }
    for (int i = 0; i < CHAINS; i++) {
        sink = _mm256_cvtss_f32(sums[i]);
    }
}

__attribute__((target("avx512f"))) static void round_avx512(void)
{
    __m512 sums[CHAINS];
    const __m512 a = _mm512_set1_ps(0.999F);
    const __m512 b = _mm512_set1_ps(1e-3F);
    for (int i = 0; i < CHAINS; i++) {
        sums[i] = _mm512_set1_ps((float)i);
    }
    for (int r = 0; r < ROUNDS; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            sums[i] = _mm512_fmadd_ps(sums[i], a, b);
        }
    }
    for (int i = 0; i < CHAINS; i++) {
        sink = _mm512_cvtss_f32(sums[i]);
    }
}

/* The fastest of many short rounds: only those were undisturbed. */
static double fastest(void (*round)(void), int width, double seconds)
{
    double best = 0;
    const int64_t end = clock_cpu_ns() + (int64_t)(seconds * (double)MAG_NS_PER_S);
    for (int64_t now = clock_cpu_ns(); now < end;) {
        for (int i = 0; i < 20; i++) {
            round();
        }
        const int64_t then = now;
        now = clock_cpu_ns();
        const double rate = 2.0 * 20 * ROUNDS * CHAINS * width / (double)(now - then);
        best = rate > best ? rate : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    const double seconds = argc > 1 ? strtod(argv[1], NULL) : 0.5;
    if (__builtin_cpu_supports("avx512f")) {
        printf("{\"isa\":\"avx512\",\"gflops\":%.1f}\n", fastest(round_avx512, 16, seconds));
    } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        printf("{\"isa\":\"avx2\",\"gflops\":%.1f}\n", fastest(round_avx2, 8, seconds));
    } else {
        fprintf(stderr, "peak: neither AVX2 with FMA nor AVX-512 here\n");
        return 1;
    }
    return 0;
}
#else
int main(void)
{
    fprintf(stderr, "peak: x86-64 only\n");
    return 1;
}
#endif
