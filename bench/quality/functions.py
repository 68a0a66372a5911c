# SPDX-License-Identifier: Apache-2.0
"""Named test functions and the BBOB suite (Hansen et al., COCO; the generators of PyPI's coco-experiment)."""
import math
import os
import tempfile

from problem import Problem, floats, vector

BRANIN_BEST = 0.397887357729738
HARTMANN6_BEST = -3.322368011415515
HARTMANN3_BEST = -3.862782147820755

HARTMANN_ALPHA = (1.0, 1.2, 3.0, 3.2)
HARTMANN6_A = ((10, 3, 17, 3.5, 1.7, 8), (0.05, 10, 17, 0.1, 8, 14), (3, 3.5, 1.7, 10, 17, 8), (17, 8, 0.05, 10, 0.1, 14))
HARTMANN6_P = ((0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886), (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
               (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650), (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381))
HARTMANN3_A = ((3, 10, 30), (0.1, 10, 35), (3, 10, 30), (0.1, 10, 35))
HARTMANN3_P = ((0.3689, 0.1170, 0.2673), (0.4699, 0.4387, 0.7470), (0.1091, 0.8732, 0.5547), (0.0381, 0.5743, 0.8828))


def branin(x):
    a, b = x
    return ((b - 5.1 / (4 * math.pi ** 2) * a * a + 5 / math.pi * a - 6) ** 2
            + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10)


def hartmann(x, a, p, alpha=HARTMANN_ALPHA):
    return -sum(alpha[i] * math.exp(-sum(a[i][j] * (x[j] - p[i][j]) ** 2 for j in range(len(x)))) for i in range(4))


def hartmann6(x):
    return hartmann(x, HARTMANN6_A, HARTMANN6_P)


def rosenbrock(x):
    return sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(len(x) - 1))


def ackley_shifted(x):
    z = [v - 7.0 for v in x]
    n = len(z)
    return (20 + math.e - 20 * math.exp(-0.2 * math.sqrt(sum(v * v for v in z) / n))
            - math.exp(sum(math.cos(2 * math.pi * v) for v in z) / n))


def named():
    """The four functions of the goals, by name."""
    from problem import Param
    branin_params = [Param("x00", "float", -5, 10), Param("x01", "float", 0, 15)]
    table = [("branin", branin_params, branin, BRANIN_BEST, 100),
             ("hartmann6", floats(6, 0, 1), hartmann6, HARTMANN6_BEST, 150),
             ("rosenbrock5", floats(5, -2.048, 2.048), rosenbrock, 0.0, 200),
             ("ackley10", floats(10, -32.8, 32.8), ackley_shifted, 0.0, 200)]
    return {name: Problem("named", name, params, lambda p, f=f: f(vector(p)), best, n)
            for name, params, f, best, n in table}


def parallel():
    """Hartmann-6, 200 trials of exponential durations on 1, 8 and 32 workers in virtual time."""
    out = {}
    for workers in (1, 8, 32):
        p = Problem("parallel", "hartmann6-w%d" % workers, floats(6, 0, 1), lambda q: hartmann6(vector(q)),
                    HARTMANN6_BEST, 200)
        p.workers, p.durations = workers, lambda rng, params: rng.expovariate(1.0)
        out[p.name] = p
    return out


_suites = {}


def _bbob_handle(function, dim, instance):
    import cocoex
    if "bbob" not in _suites:
        _suites["bbob"] = cocoex.Suite("bbob", "instances: 1-15", "dimensions: 2,3,5,10")
    return _suites["bbob"].get_problem_by_function_dimension_instance(function, dim, instance)


def _bbob_optimum(handle):
    """COCO writes the best point to a file in the current folder and to nowhere else."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            handle._best_parameter("print")
            with open("._bbob_problem_best_parameter.txt") as f:
                best = [float(v) for v in f.read().split()]
        finally:
            os.chdir(here)
    return handle(best)


def bbob_name(function, dim, instance):
    return "f%02d-d%d-i%d" % (function, dim, instance)


def bbob(name):
    function, dim, instance = (int(part[1:]) for part in name.split("-"))
    handle = _bbob_handle(function, dim, instance)
    p = Problem("bbob", name, floats(dim, -5, 5), lambda q: handle(vector(q)), _bbob_optimum(handle), 200)
    p.handle = handle  # COCO frees the function with it
    return p
