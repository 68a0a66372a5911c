/* SPDX-License-Identifier: Apache-2.0
 *
 * The worker: a session with the driver, slots, and the trial programs that run in them. One call
 * runs it all; it owns the process's signals, children and working threads until it returns.
 */
#ifndef MAG_WORKER_WORKER_H
#define MAG_WORKER_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#define WORKER_PER_GPU_MAX 64
#define WORKER_GPU_AUTO 8 /* slots of a GPU with --slots-per-gpu auto */

enum worker_term {
    TERM_AUTO = 0,       /* checkpoint in a job of a batch system, else finish */
    TERM_FINISH = 1,     /* running trials end by themselves */
    TERM_CHECKPOINT = 2, /* they stop at a checkpoint and are given back */
};

struct worker_config {
    const char *driver_urls; /* comma-separated nng URLs, tried in turn: one driver is active */
    int slots;               /* 0 = one for each GPU, else one for each core */
    int slots_per_gpu;       /* instead of `slots`: so many for each GPU; 0 = not given */
    bool gpu_auto; /* as many as a GPU's measured memory has room for, slots_per_gpu at most */
    const char *gpus;    /* "0,2", "none", or NULL = what CUDA_VISIBLE_DEVICES or the machine has */
    const char *labels;  /* comma-separated, or NULL */
    const char *scratch; /* folder for trials' own files; NULL = below $TMPDIR */
    const char *name;    /* NULL = the host's name */
    const char *cgroup;  /* "auto", "none" or a folder (cgroup.h); NULL = auto */
    const char *ca;      /* PEM file of certificates to trust, for tls+tcp://; NULL = the system's */
    const char *token;   /* NULL = $MAGPIE_TOKEN, else none */
    int64_t grace_ms;    /* between SIGTERM and SIGKILL; 0 = 10 s */
    int64_t start_ms;    /* a program's time to say `ready`; 0 = 2 min */
    const char *const *mask; /* POSIX regular expressions of secrets in what programs write */
    int n_mask;
    bool quiet;               /* no start and stop lines on the log (embedded workers) */
    enum worker_term on_term; /* what SIGTERM means */
    int64_t parent; /* pid of the parent that this worker and its driver end with; 0 = none */
};

/* Runs until drained (SIGTERM or SIGINT; a second one stops the trials at a checkpoint, a third
 * kills them; once `parent` is gone, or as `on_term` says, the first one does what the second does;
 * SIGUSR1 does that always, and no more when it comes again) or told to go. Returns
 * the process's exit status: 0 drained, 1 an error while running, 2 a wrong configuration or a
 * driver of another protocol version (said on standard error). */
int worker_run(const struct worker_config *cfg);

#endif
