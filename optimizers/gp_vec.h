/* SPDX-License-Identifier: Apache-2.0
 *
 * Four doubles at a time, for the inner loops of the Gaussian process alone. TWICE compiles
 * NAME_body for plain x86-64 and for AVX2 from the same text (without fused multiply-add: the
 * folder is built with -ffp-contract=off), so that both give the same bits, and makes NAME choose.
 */
#ifndef MAG_OPTIMIZERS_GP_VEC_H
#define MAG_OPTIMIZERS_GP_VEC_H

#define INLINE static inline __attribute__((always_inline))

/* Four doubles at any address. */
typedef double vec __attribute__((vector_size(32), aligned(8), may_alias));

#if defined(__x86_64__) && defined(__GNUC__)
#define TWICE(name, params, args)                                                                  \
    static void name##_plain params                                                                \
    {                                                                                              \
        name##_body args;                                                                          \
    }                                                                                              \
    __attribute__((target("avx2"))) static void name##_avx2 params                                 \
    {                                                                                              \
        name##_body args;                                                                          \
    }                                                                                              \
    static void name params                                                                        \
    {                                                                                              \
        if (__builtin_cpu_supports("avx2")) {                                                      \
            name##_avx2 args;                                                                      \
        } else {                                                                                   \
            name##_plain args;                                                                     \
        }                                                                                          \
    }
#else
#define TWICE(name, params, args)                                                                  \
    static void name params                                                                        \
    {                                                                                              \
        name##_body args;                                                                          \
    }
#endif

#endif
