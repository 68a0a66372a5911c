/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pcg.h"

#include <criterion/criterion.h>
#include <math.h>

#define U128(hi, lo) (((unsigned __int128)(hi) << 64) | (lo))
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* The output of the reference program pcg32-demo (PCG C library 0.94), round 1. */
Test(pcg, pcg32_gives_the_reference_output)
{
    static const uint32_t want[] = {0xa15c02b7, 0x7b47f409, 0xba1d3330,
                                    0x83d2f293, 0xbfa4784b, 0xcbed606e};
    struct pcg32 g;
    pcg32_seed(&g, 42, 54);
    for (size_t i = 0; i < COUNT(want); i++) {
        cr_assert_eq(pcg32_next(&g), want[i], "output %zu", i);
    }
}

Test(pcg, skipping_is_drawing_and_throwing_away)
{
    static const uint64_t far[] = {0, 1, 2, 3, 64, 1000, 65537};
    for (size_t k = 0; k < sizeof(far) / sizeof(far[0]); k++) {
        struct pcg64 a;
        struct pcg64 b;
        pcg64_seed(&a, 42, 54);
        pcg64_seed(&b, 42, 54);
        for (uint64_t i = 0; i < far[k]; i++) {
            (void)pcg64_next(&a);
        }
        pcg64_skip(&b, far[k]);
        cr_assert_eq(pcg64_next(&a), pcg64_next(&b), "%llu", (unsigned long long)far[k]);
    }
}

/* The output of the reference program check-pcg64 (setseq_xsl_rr_128_64), round 1. */
Test(pcg, pcg64_gives_the_reference_output)
{
    static const uint64_t want[] = {0x86b1da1d72062b68, 0x1304aa46c9853d39, 0xa3670e9e0dd50358,
                                    0xf9090e529a7dae00, 0xc85b9fd837996f2c, 0x606121f8e3919196};
    struct pcg64 g;
    pcg64_seed(&g, 42, 54);
    for (size_t i = 0; i < COUNT(want); i++) {
        cr_assert_eq(pcg64_next(&g), want[i], "output %zu", i);
    }
}

/* numpy 1.26.4: the bit generator's state set to {state, inc} below, then random_raw(8). */
static const struct pcg64 numpy_start = {.state = U128(0x0123456789abcdef, 0xfedcba9876543210),
                                         .inc = U128(0x0011223344556677, 0x8899aabbccddeeff)};

Test(pcg, pcg64_steps_as_numpys_PCG64)
{
    static const uint64_t want[] = {0x35e903ddf9ab505a, 0x4125f9468197e3d5, 0xb2954efda09f9471,
                                    0x2b2a7ad187f29dbf, 0x5280eddab39fc02a, 0xcc36499733db2249,
                                    0xee494cc5b532d512, 0x9c4df1d58be1c679};
    struct pcg64 g = numpy_start;
    for (size_t i = 0; i < COUNT(want); i++) {
        cr_assert_eq(pcg64_next(&g), want[i], "output %zu", i);
    }
    cr_assert(g.state == U128(0xef2496e8c13e9dab, 0x23c6f9666d619398), "the state after 8 steps");
}

Test(pcg, dxsm_steps_as_numpys_PCG64DXSM)
{
    static const uint64_t want[] = {0xa5c2f45958c644a2, 0x9b4e945fbaafdfd8, 0x89b8a581be13cc03,
                                    0x994456123616dbef, 0x6a3f326e5ce2eff5, 0xbee297d0ec21a989,
                                    0xb2312952ff2f3b40, 0xc0ae3acd527bd162};
    struct pcg64 g = numpy_start;
    for (size_t i = 0; i < COUNT(want); i++) {
        cr_assert_eq(pcg64_next_dxsm(&g), want[i], "output %zu", i);
    }
    cr_assert(g.state == U128(0x5554d89df938ebba, 0x6980b4e9adfb8558), "the state after 8 steps");
}

/* numpy.random.Generator(PCG64).random() from the same state. */
Test(pcg, doubles_are_numpys)
{
    static const double want[] = {0x1.af481eefcd5a8p-3, 0x1.0497e51a065f8p-2, 0x1.652a9dfb413f2p-1,
                                  0x1.5953d68c3f94cp-3};
    struct pcg64 g = numpy_start;
    for (size_t i = 0; i < COUNT(want); i++) {
        cr_assert_eq(pcg64_double(&g), want[i], "output %zu", i);
    }
}

Test(pcg, streams_differ_by_seed_purpose_and_id_and_repeat)
{
    static const struct {
        uint64_t seed;
        const char *purpose;
        uint64_t id;
    } keys[] = {{1, "sample:lr", 1}, {2, "sample:lr", 1}, {1, "sample:units", 1},
                {1, "sample:lr", 2}, {1, "", 1},          {0, "sample:lr", 0},
                {1, "sample:lr", 0}, {0, "sample:lr", 1}};
    uint64_t first[COUNT(keys)];
    for (size_t i = 0; i < COUNT(keys); i++) {
        struct pcg64 g;
        pcg_stream(&g, keys[i].seed, keys[i].purpose, keys[i].id);
        first[i] = pcg64_next(&g);
        pcg_stream(&g, keys[i].seed, keys[i].purpose, keys[i].id);
        cr_assert_eq(pcg64_next(&g), first[i], "the same key gives the same stream");
        for (size_t j = 0; j < i; j++) {
            cr_assert_neq(first[i], first[j], "keys %zu and %zu", i, j);
        }
    }
}

Test(pcg, first_draws_of_consecutive_trials_are_uniform)
{
    enum { N = 20000, BINS = 20 };
    int bins[BINS] = {0};
    for (uint64_t id = 0; id < N; id++) {
        struct pcg64 g;
        pcg_stream(&g, 42, "sample:lr", id);
        bins[(int)(pcg64_double(&g) * BINS)]++;
    }
    double chi2 = 0;
    for (int i = 0; i < BINS; i++) {
        double d = bins[i] - (double)N / BINS;
        chi2 += d * d / ((double)N / BINS);
    }
    cr_assert_lt(chi2, 43.8, "chi-square %g; 43.8 is the 0.1 %% point of 19 degrees", chi2);
}

Test(pcg, below_stays_below_and_hits_every_value)
{
    struct pcg64 g;
    pcg64_seed(&g, 7, 7);
    cr_assert_eq(pcg64_below(&g, 1), 0);
    int seen[6] = {0};
    for (int i = 0; i < 6000; i++) {
        uint64_t v = pcg64_below(&g, 6);
        cr_assert_lt(v, 6);
        seen[v]++;
    }
    for (int i = 0; i < 6; i++) {
        cr_assert(seen[i] > 850 && seen[i] < 1150, "%d came %d times of 6000", i, seen[i]);
    }
    uint64_t big = (1ULL << 63) + 1; /* almost every other draw is rejected */
    for (int i = 0; i < 1000; i++) {
        cr_assert_lt(pcg64_below(&g, big), big);
    }
}

Test(pcg, normals_have_mean_0_and_variance_1)
{
    enum { N = 100000 };
    struct pcg64 g;
    pcg64_seed(&g, 3, 3);
    double sum = 0;
    double squares = 0;
    for (int i = 0; i < N; i++) {
        double v = pcg64_normal(&g);
        cr_assert(isfinite(v));
        sum += v;
        squares += v * v;
    }
    cr_assert_lt(fabs(sum / N), 0.015);
    cr_assert_lt(fabs(squares / N - 1), 0.025);
}

Test(pcg, shuffle_permutes_evenly)
{
    int places[4][4] = {{0}};
    struct pcg64 g;
    pcg64_seed(&g, 9, 9);
    for (int i = 0; i < 8000; i++) {
        uint32_t items[4] = {0, 1, 2, 3};
        pcg64_shuffle(&g, items, 4);
        unsigned all = 0;
        for (int p = 0; p < 4; p++) {
            all |= 1U << items[p];
            places[items[p]][p]++;
        }
        cr_assert_eq(all, 15, "each item exactly once");
    }
    for (int i = 0; i < 16; i++) {
        int n = places[i / 4][i % 4];
        cr_assert(n > 1800 && n < 2200, "item %d at place %d: %d of 8000", i / 4, i % 4, n);
    }
    pcg64_shuffle(&g, NULL, 0);
}

Test(pcg, a_named_stream_is_that_of_the_joined_purpose)
{
    struct pcg64 a, b;
    pcg_stream(&a, 42, "sample:lr", 7);
    pcg_stream_named(&b, 42, "sample", "lr", 7);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(pcg64_next(&a), pcg64_next(&b));
    }
}
