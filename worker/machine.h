/* SPDX-License-Identifier: Apache-2.0
 *
 * What this host offers: cores and memory within the container's limits, GPUs, versions.
 */
#ifndef MAG_WORKER_MACHINE_H
#define MAG_WORKER_MACHINE_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define MACHINE_GPUS_MAX 64

struct machine {
    char host[256];
    int cores;
    int64_t memory_mb;
    int n_gpus;
    bool hides_gpus; /* "none" was asked for: programs are to see none */
    char *gpus[MACHINE_GPUS_MAX]; /* as CUDA_VISIBLE_DEVICES names them */
    int64_t gpu_memory_mb;        /* of the smallest; 0 = unknown */
    json_t *where;                /* {"os", "cpu", "git"…} */
};

/* `gpus` as in worker_config. INVALID: the list makes no sense. Runs git and, with GPUs,
 * nvidia-smi: call before nng is live. */
enum mag_status machine_look(struct machine *m, const char *gpus,
                             struct mag_err *err) MAG_MUSTCHECK;
/* Adds the GPUs of a list as CUDA_VISIBLE_DEVICES has it. */
enum mag_status machine_add_gpus(struct machine *m, const char *list,
                                 struct mag_err *err) MAG_MUSTCHECK;
/* Adds those `wanted`, each of which must be among `visible`: what we were given may be narrowed,
 * never replaced. */
enum mag_status machine_narrow_gpus(struct machine *m, const char *wanted, const char *visible,
                                    struct mag_err *err) MAG_MUSTCHECK;
void machine_fini(struct machine *m);
/* Memory that a program could have now, MiB, within the container's limit. */
int64_t machine_free_mb(void);
/* {"cpu": share of all cores, "memory_mb", "load"} since the last call, new reference. */
json_t *machine_use(void);

#endif
