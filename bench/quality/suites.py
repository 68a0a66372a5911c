# SPDX-License-Identifier: Apache-2.0
"""The suites: which problems and seeds belong to tuning and which to the report, and how a problem is made by name.

Tuning uses BBOB instances 1 to 5 and seeds below 1000; the report uses instances 6 to 15 and seeds from 1000 on, which no
option of any algorithm was ever chosen on.
"""
import fidelity
import functions
import mixed

BBOB_DIMENSIONS = (5, 2, 10)
SEEDS = 20


def _seeds(split, n=SEEDS):
    base = 0 if split == "tune" else 1000
    return [base + k for k in range(n)]


def _bbob_jobs(split):
    instances = range(1, 6) if split == "tune" else range(6, 16)
    base = 100 if split == "tune" else 1000
    for dim in BBOB_DIMENSIONS:
        for instance in instances:
            for function in range(1, 25):
                yield functions.bbob_name(function, dim, instance), base + instance


def _fixed_jobs(make):
    return lambda split: ((name, seed) for seed in _seeds(split) for name in make())


def _from(make):
    return lambda name: make()[name]


SUITES = {
    "named": (_fixed_jobs(functions.named), _from(functions.named)),
    "parallel": (_fixed_jobs(functions.parallel), _from(functions.parallel)),
    "bbob": (_bbob_jobs, functions.bbob),
    "mixed": (mixed.jobs, mixed.problem),
    "mf": (fidelity.mf_jobs, fidelity.mf),
    "curves": (fidelity.curves_jobs, fidelity.curves),
}


def jobs(suite, split):
    """(problem, seed) in the order in which they are worth most: every prefix is balanced over the functions."""
    return list(SUITES[suite][0](split))


def problem(suite, name):
    return SUITES[suite][1](name)
