/* SPDX-License-Identifier: Apache-2.0
 *
 * A growing array of zeroed items, one for each trial id. Ids are small and dense, so this is both
 * the fastest map and one whose iteration order means something.
 */
#ifndef MAG_OPTIMIZERS_IDTAB_H
#define MAG_OPTIMIZERS_IDTAB_H

#include "base/alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define IDTAB_ID_MAX INT32_MAX /* ids that load accepts */

/* Declares `struct NAME { TYPE *at; int64_t n; }` and NAME_of(tab, id), which makes room. */
#define IDTAB(NAME, TYPE)                                                                          \
    struct NAME {                                                                                  \
        __typeof__(TYPE) *at;                                                                      \
        int64_t n;                                                                                 \
    };                                                                                             \
    static inline __typeof__(TYPE) *NAME##_of(struct NAME *t, int64_t id)                          \
    {                                                                                              \
        if (id >= t->n) {                                                                          \
            int64_t n = 2 * id + 16;                                                               \
            t->at = xreallocarray(t->at, (size_t)n, sizeof(*t->at));                               \
            memset(t->at + t->n, 0, (size_t)(n - t->n) * sizeof(*t->at));                          \
            t->n = n;                                                                              \
        }                                                                                          \
        return &t->at[id];                                                                         \
    }

#endif
