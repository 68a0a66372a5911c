/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/datadir.h"
#include "cli/spawn.h"
#include "worker/worker.h"

#include <stdlib.h>
#include <string.h>

/* "4" or "auto"; NULL = not given. */
static int read_per_gpu(const char *text, struct worker_config *cfg)
{
    if (text == NULL) {
        return CMD_GO_ON;
    }
    char *end = NULL;
    cfg->gpu_auto = strcmp(text, "auto") == 0;
    long n = cfg->gpu_auto ? WORKER_GPU_AUTO : strtol(text, &end, 10);
    if ((end != NULL && (end == text || *end != '\0')) || n < 1 || n > WORKER_PER_GPU_MAX) {
        return cmd_failf(CMD_USAGE, "--slots-per-gpu %s: expected 1 to %d, or auto", text,
                         WORKER_PER_GPU_MAX);
    }
    cfg->slots_per_gpu = (int)n;
    return CMD_GO_ON;
}

int cmd_worker(int argc, char **argv)
{
    struct worker_config cfg = {0};
    const char *data = NULL;
    const char *on_term = NULL;
    int64_t slots = 0;
    const char *slots_per_gpu = NULL;
    static const char *const on_terms[] = {"auto", "finish", "checkpoint", NULL};
    struct flag_list mask = {0};
    const struct flag flags[] = {
        FLAG(FLAG_TEXT, "driver", &cfg.driver_urls, "URL[,URL]",
             "the driver's worker address [that of --data's driver, else tcp://127.0.0.1:8471]",
             .env = "MAGPIE_DRIVER"),
        FLAG(FLAG_TEXT, "ca", &cfg.ca, "FILE",
             "certificates (PEM) that a tls+tcp:// driver's must be signed by [the system's]",
             .env = "MAGPIE_CA_BUNDLE"),
        FLAG(FLAG_INT, "slots", &slots, "N",
             "trials at a time [one for each GPU, else one for each core]", .min = 1, .max = 1024),
        FLAG(FLAG_TEXT, "slots-per-gpu", &slots_per_gpu, "N",
             "trials at a time on each GPU, as requires.gpu_memory and the memory that builtin "
             "trials "
             "are measured to take allow; auto: as many as fit, 8 at most"),
        FLAG(FLAG_TEXT, "gpus", &cfg.gpus, "LIST",
             "GPUs to use, such as 0,2, or none [$CUDA_VISIBLE_DEVICES, else all]"),
        FLAG(FLAG_TEXT, "labels", &cfg.labels, "LIST",
             "labels that experiments may require, such as ssd,rack-7"),
        FLAG(FLAG_TEXT, "scratch", &cfg.scratch, "DIR",
             "folder for trials' own files [below $TMPDIR]"),
        FLAG(FLAG_TEXT, "name", &cfg.name, "NAME", "how it is shown [the host's name]"),
        FLAG(FLAG_TEXT, "data", &data, "DIR",
             "data folder of a driver on this host: its address and token"),
        FLAG(FLAG_DURATION, "grace", &cfg.grace_ms, "TIME",
             "between SIGTERM and SIGKILL for a trial program", .fallback = "10s", .min = 10,
             .max = 3600000),
        FLAG(FLAG_DURATION, "start-time", &cfg.start_ms, "TIME",
             "how long a trial program may take to say that it is ready", .fallback = "2m",
             .min = 100, .max = 86400000),
        FLAG(FLAG_TEXT, "on-term", &on_term, "WHAT",
             "SIGTERM lets trials finish, or stops them at a checkpoint; auto: the latter in a job "
             "of Slurm, PBS or LSF",
             .fallback = "auto", .choices = on_terms),
        FLAG(FLAG_LIST, "mask", &mask, "REGEX",
             "secrets in what programs write, beside those known by form and by variable; may be "
             "given several times",
             .env = "MAGPIE_MASK"),
        FLAG(FLAG_TEXT, "cgroup", &cfg.cgroup, "WHERE",
             "control group (version 2) in which programs get groups of their own: a folder, none, "
             "or auto: the worker's, where systemd delegated it",
             .fallback = "auto"),
        FLAG(FLAG_BOOL, "quiet", &cfg.quiet, NULL, "no lines about single trials in the log"),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie worker",
        .args = "",
        .flags = flags,
        .summary = "Runs trials for a driver: built-in training kernels, or any program.",
        .detail = "Ctrl-C or SIGTERM drains: running trials finish, no new ones are taken; a "
                  "second one stops them\n"
                  "at a checkpoint, a third kills them. SIGUSR1 does at once what the second does: "
                  "trials are given\nback uncounted. It waits for a driver that is not there (yet, "
                  "or again)."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    status = read_per_gpu(slots_per_gpu, &cfg);
    if (status != CMD_GO_ON) {
        return status;
    }
    char *own = data == NULL ? cmd_default_data_dir() : NULL;
    const char *dir = data != NULL ? data : own;
    char *url = cfg.driver_urls == NULL ? datadir_nng(dir) : NULL;
    char *token = getenv("MAGPIE_TOKEN") == NULL ? datadir_token(dir) : NULL;
    cfg.slots = (int)slots;
    cfg.mask = mask.items;
    cfg.n_mask = mask.n;
    cfg.token = token;
    cfg.on_term = strcmp(on_term, "finish") == 0       ? TERM_FINISH
                  : strcmp(on_term, "checkpoint") == 0 ? TERM_CHECKPOINT
                                                       : TERM_AUTO;
    cfg.parent = spawn_parent();
    if (cfg.driver_urls == NULL) {
        cfg.driver_urls = url != NULL ? url : "tcp://127.0.0.1:8471";
    }
    status = worker_run(&cfg);
    free(token);
    free(url);
    free(own);
    return status;
}
