/* SPDX-License-Identifier: Apache-2.0
 *
 * PCG generators (O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good
 * Algorithms for Random Number Generation", HMC-CS-2014-0905): pcg32 (XSH-RR 64/32), pcg64 XSL-RR
 * 128/64 and pcg64 DXSM. Explicit state, no globals. Optimizers use pcg64 XSL-RR through pcg_stream:
 * one generator per (seed, purpose, trial), so that no draw depends on the order of events.
 */
#ifndef MAG_BASE_PCG_H
#define MAG_BASE_PCG_H

#include <stdint.h>

struct pcg32 {
    uint64_t state;
    uint64_t inc; /* odd */
};

struct pcg64 {
    unsigned __int128 state;
    unsigned __int128 inc; /* odd */
};

/* As the reference pcg32_srandom: (42, 54) gives a15c02b7 7b47f409 ba1d3330 … */
void pcg32_seed(struct pcg32 *g, uint64_t seed, uint64_t stream);
uint32_t pcg32_next(struct pcg32 *g);

/* As the reference pcg64 (setseq XSL-RR 128/64) srandom; numpy's PCG64 has the same step. */
void pcg64_seed(struct pcg64 *g, unsigned __int128 seed, unsigned __int128 stream);
uint64_t pcg64_next(struct pcg64 *g);
/* As n calls of pcg64_next, in log(n) steps. */
void pcg64_skip(struct pcg64 *g, uint64_t n);
/* The DXSM output with the cheap multiplier, numpy's PCG64DXSM. */
uint64_t pcg64_next_dxsm(struct pcg64 *g);

/* The generator for one purpose of one trial. `purpose` is a short constant text ("sample:lr");
 * `id` the trial or step it is for. Independent of every other (seed, purpose, id). */
void pcg_stream(struct pcg64 *g, uint64_t seed, const char *purpose, uint64_t id);
/* The same generator as for the purpose "<purpose>:<name>". */
void pcg_stream_named(struct pcg64 *g, uint64_t seed, const char *purpose, const char *name,
                      uint64_t id);

/* Uniform in [0, 1), 53 bits. */
double pcg64_double(struct pcg64 *g);
/* Uniform in [0, n), unbiased; n > 0. */
uint64_t pcg64_below(struct pcg64 *g, uint64_t n);
/* Standard normal (Box-Muller, two draws, one value). */
double pcg64_normal(struct pcg64 *g);
/* Fisher-Yates over n indices. */
void pcg64_shuffle(struct pcg64 *g, uint32_t *items, uint32_t n);

#endif
