/* SPDX-License-Identifier: Apache-2.0
 *
 * Optuna's SQLite studies (its RDB storage, schema 12: Optuna 3 and later), read and written. The
 * schema is that of optuna/storages/_rdb/models.py; versions before are refused with the command
 * that upgrades them.
 */
#ifndef MAG_BRIDGES_OPTUNA_H
#define MAG_BRIDGES_OPTUNA_H

#include "base/json.h"

#define OPTUNA_TRIALS_MAX 1000000

/* A study as it lies there:
 *   {"name", "directions": ["min" | "max", …], "metrics": [names],
 *    "params": {name: {"kind": "float" | "int" | "categorical", "low", "high", "step", "log",
 * "choices"}}, "trials": [{"number", "state": "COMPLETE" | …, "params": {name: value}, "values":
 * [number | null]}]} A parameter whose distribution changed has the union of what it had. `name`
 * NULL: the only study of the file. New reference. NOTFOUND, INVALID and UNSUPPORTED say what to
 * do. */
enum mag_status optuna_read(const char *path, const char *name, json_t **ret,
                            struct mag_err *err) MAG_MUSTCHECK;

/* What became of the trials when the study was made an experiment. */
struct optuna_kept {
    int64_t used;       /* observations of the warm start */
    int64_t unfinished; /* pruned, failed, running, waiting */
    int64_t partial;    /* without a parameter that this space always has */
    int64_t beyond;     /* over the limit */
};

/* The experiment file that goes on from the study: search space (with conditions where the trials
 * show one), objectives, and the finished trials as "warm_start" observations, `limit` at most (the
 * best quarter, and the rest evenly). New reference; INVALID: it has no parameters. */
enum mag_status optuna_to_experiment(const json_t *study, int64_t limit, json_t **ret,
                                     struct optuna_kept *kept, struct mag_err *err) MAG_MUSTCHECK;
/* A categorical choice as one of our values: strings as they are, others as their JSON text.
 * malloc'ed. */
char *optuna_choice_text(const json_t *choice);

/* Writes a new study file with the experiment's trials: `experiment` and `trials` as REST gives
 * them, each trial with its "metrics". The file appears whole; CONFLICT when it is there. */
enum mag_status optuna_write(const char *path, const json_t *experiment, const json_t *trials,
                             struct mag_err *err) MAG_MUSTCHECK;

#endif
