/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MAG_TRAINER_DENORMAL_H
#define MAG_TRAINER_DENORMAL_H

#if defined(__SSE__)
#include <immintrin.h>
#endif

/* Very small values cost a hundred times the time on some processors and carry no information. */
static inline void flush_denormals(void)
{
#if defined(__SSE__)
    _mm_setcsr(_mm_getcsr() | 0x8040u);
#endif
}

#endif
