# SPDX-License-Identifier: Apache-2.0
"""Ray Tune: trials that do nothing, two at a time. peer_ray.py reuse|default TRIALS FOLDER

Ray listens on every interface whatever it is told, so it is run in a network namespace with loopback alone."""
import json
import os
import shutil
import sys
import tempfile
import time

VARIANT, TRIALS, WORK = sys.argv[1], int(sys.argv[2]), sys.argv[3]
os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AIR_NEW_OUTPUT="0", RAY_worker_niceness="0")
import ray  # noqa: E402
from ray import tune  # noqa: E402

SLOTS = 2


def objective(config):
    tune.report({"loss": config["x"]})


# A socket's path must be short: Ray's own folder cannot lie deep.
folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
n = TRIALS if VARIANT == "reuse" else max(10, TRIALS // 25)
ray.init(num_cpus=SLOTS, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _node_ip_address="127.0.0.1",
         _temp_dir=folder)
tuner = tune.Tuner(objective, param_space={"x": tune.uniform(0, 1)},
                   tune_config=tune.TuneConfig(metric="loss", mode="min", num_samples=n, max_concurrent_trials=SLOTS,
                                               reuse_actors=VARIANT == "reuse"),
                   run_config=tune.RunConfig(storage_path=WORK, verbose=0))
t = time.perf_counter()
results = tuner.fit()
ms = (time.perf_counter() - t) * 1e3 * SLOTS / n
errors = results.num_errors
ray.shutdown()
print(json.dumps({"system": f"ray {ray.__version__}", "what": {"reuse": "reused actors", "default": "an actor a trial"}[VARIANT],
                  "slots": SLOTS, "trials": n, "errors": errors, "ms_per_trial": round(ms, 3),
                  "trials_per_s": round(1000 * SLOTS / ms, 1)}))
shutil.rmtree(folder, ignore_errors=True)
