/* SPDX-License-Identifier: Apache-2.0
 *
 * MLflow's file store ("mlruns"): an experiment's trials as runs with parameters, metrics by step
 * and tags, for `mlflow ui --backend-store-uri DIR` and mlflow.search_runs.
 */
#ifndef MAG_BRIDGES_MLFLOW_H
#define MAG_BRIDGES_MLFLOW_H

#include "base/json.h"

/* Adds the experiment to the store at `dir`, which is made when it is missing. Its folder there is
 * named by a number made of the experiment's name and creation, and appears whole; CONFLICT when it
 * is there already. `experiment` and `trials` as REST gives them, each trial with its "metrics". */
enum mag_status mlflow_write(const char *dir, const json_t *experiment, const json_t *trials,
                             struct mag_err *err) MAG_MUSTCHECK;

#endif
