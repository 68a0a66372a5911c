/* SPDX-License-Identifier: Apache-2.0
 *
 * Thousands of seeded histories against the invariants of study_sim.c. MAGPIE_SIM_SEEDS sets how
 * many seeds each algorithm gets (default 20), MAGPIE_SIM_FIRST the first one, MAGPIE_SIM_ALGORITHM
 * one alone.
 */
#include "tests/driver/study_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A plain TAP program: an abort shows its text and its place, and every sanitizer works in it. */

static long number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtol(text, NULL, 10) : otherwise;
}

static void add(struct sim_result *sum, const struct sim_result *r)
{
    sum->events += r->events;
    sum->trials += r->trials;
    sum->late += r->late;
    sum->losses += r->losses;
    sum->retries += r->retries;
    sum->restarts += r->restarts;
    sum->repeats += r->repeats;
    sum->resumed += r->resumed;
    sum->reserved += r->reserved;
    sum->points += r->points;
    sum->whole += r->whole;
    sum->cut += r->cut;
    sum->refits += r->refits;
}

/* With folds one algorithm of each kind: what is tested is the study's, and each runs points. */
static bool wanted(const char *algorithm, bool folds)
{
    static const char *const kinds[] = {"random", "grid", "tpe", "nsga2", "asha", "pbt"};
    const char *only = getenv("MAGPIE_SIM_ALGORITHM");
    bool is = !folds || only != NULL;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && !is; i++) {
        is = strcmp(kinds[i], algorithm) == 0;
    }
    return is && (only == NULL || strcmp(only, algorithm) == 0);
}

/* A world in which nothing goes wrong tests nothing. */
static bool is_wild(const struct sim_result *sum, long n, bool restarts)
{
    return sum->late > n / 2 && sum->losses > n / 2 && sum->retries > 0 && sum->repeats > n / 2 &&
           sum->resumed > n / 2 && sum->reserved > 0 && (!restarts || sum->restarts > n / 2);
}

static bool run_all(bool leases, bool restarts, bool shadow, int steps, bool folds)
{
    long first = number("MAGPIE_SIM_FIRST", 1);
    long n = number("MAGPIE_SIM_SEEDS", folds ? 8 : 20);
    const struct optimizer_ops *const *ops = optimizer_registry();
    bool ok = true;
    for (int i = 0; ops[i] != NULL; i++) {
        struct sim_result sum = {0};
        for (long seed = first; seed < first + n && wanted(ops[i]->name, folds); seed++) {
            struct sim_options o = {.algorithm = ops[i]->name,
                                    .seed = (uint64_t)seed,
                                    .steps = steps,
                                    .shadow = shadow,
                                    .restarts = restarts,
                                    .leases = leases,
                                    .folds = folds};
            struct sim_result r;
            sim_run(&o, &r);
            add(&sum, &r);
        }
        if (wanted(ops[i]->name, folds)) {
            printf("# %s: %ld histories, %d events, %lld trials, late %lld, lost %lld, retried "
                   "%lld, restarts %lld, "
                   "repeats %lld, resumed %lld, reserved %lld\n",
                   ops[i]->name, n, sum.events, (long long)sum.trials, (long long)sum.late,
                   (long long)sum.losses, (long long)sum.retries, (long long)sum.restarts,
                   (long long)sum.repeats, (long long)sum.resumed, (long long)sum.reserved);
            if (folds) {
                printf("#   %lld points, %lld whole, %lld cut, %lld refits\n",
                       (long long)sum.points, (long long)sum.whole, (long long)sum.cut,
                       (long long)sum.refits);
                ok = ok && sum.whole > 0 && sum.cut > n && (sum.refits > 0 || n < 3);
            }
            ok = ok && (n < 20 || is_wild(&sum, n, restarts));
        }
    }
    return ok;
}

static bool invariants_hold(void)
{
    return run_all(true, true, false, 400, false);
}

static bool shadow_is_equal(void)
{
    return run_all(true, false, true, 150, false);
}

static bool folds_keep_the_invariants(void)
{
    return run_all(true, true, false, 400, true);
}

static bool shadow_of_folds_is_equal(void)
{
    return run_all(true, false, true, 150, true);
}

static bool compare_restarts(bool folds)
{
    long first = number("MAGPIE_SIM_FIRST", 1);
    long n = number("MAGPIE_SIM_SEEDS", folds ? 8 : 20);
    const struct optimizer_ops *const *ops = optimizer_registry();
    for (int i = 0; ops[i] != NULL; i++) {
        for (long seed = first; seed < first + n && wanted(ops[i]->name, folds); seed++) {
            struct sim_options o = {
                .algorithm = ops[i]->name, .seed = (uint64_t)seed + 5000, .steps = 250, .folds = folds};
            struct sim_result calm, killed;
            sim_run(&o, &calm);
            o.restarts = true;
            sim_run(&o, &killed);
            if (calm.record != killed.record || calm.trials != killed.trials) {
                printf("# %s seed %ld: the records differ\n", ops[i]->name, seed);
                return false;
            }
        }
    }
    return true;
}

static bool restarts_change_nothing(void)
{
    return compare_restarts(false);
}

static bool restarts_change_no_fold(void)
{
    return compare_restarts(true);
}

int main(void)
{
    static const struct {
        const char *claim;
        bool (*run)(void);
    } tests[] = {
        {"in every history with deaths and restarts the invariants hold", invariants_hold},
        {"a study that lives by the record alone is equal after every event", shadow_is_equal},
        {"a run with restarts equals the undisturbed run with the same order of events",
         restarts_change_nothing},
        {"with folds every point ends once at the optimizer, by the mean of its folds",
         folds_keep_the_invariants},
        {"a study of folds that lives by the record alone is equal after every event",
         shadow_of_folds_is_equal},
        {"a run of folds with restarts equals the undisturbed run", restarts_change_no_fold},
    };
    int n = (int)(sizeof(tests) / sizeof(tests[0]));
    int failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("1..%d\n", n);
    for (int i = 0; i < n; i++) {
        bool ok = tests[i].run();
        printf("%sok %d - %s\n", ok ? "" : "not ", i + 1, tests[i].claim);
        failed += !ok;
    }
    return failed > 0;
}
