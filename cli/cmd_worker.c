/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/datadir.h"
#include "worker/worker.h"

#include <stdlib.h>

int cmd_worker(int argc, char **argv)
{
    struct worker_config cfg = {0};
    const char *data = NULL;
    int64_t slots = 0;
    const struct flag flags[] = {
        {.name = "driver", .kind = FLAG_TEXT, .to = &cfg.driver_urls, .value = "URL[,URL]",
         .help = "the driver's worker address [that of --data's driver, else tcp://127.0.0.1:8471]",
         .env = "MAGPIE_DRIVER"},
        {.name = "slots", .kind = FLAG_INT, .to = &slots, .value = "N",
         .help = "trials at a time [one for each GPU, else one for each core]", .min = 1, .max = 1024},
        {.name = "gpus", .kind = FLAG_TEXT, .to = &cfg.gpus, .value = "LIST",
         .help = "GPUs to use, such as 0,2, or none [$CUDA_VISIBLE_DEVICES, else all]"},
        {.name = "labels", .kind = FLAG_TEXT, .to = &cfg.labels, .value = "LIST",
         .help = "labels that experiments may require, such as ssd,rack-7"},
        {.name = "scratch", .kind = FLAG_TEXT, .to = &cfg.scratch, .value = "DIR",
         .help = "folder for trials' own files [below $TMPDIR]"},
        {.name = "name", .kind = FLAG_TEXT, .to = &cfg.name, .value = "NAME", .help = "how it is shown [the host's name]"},
        {.name = "data", .kind = FLAG_TEXT, .to = &data, .value = "DIR",
         .help = "data folder of a driver on this host: its address and token"},
        {.name = "grace", .kind = FLAG_DURATION, .to = &cfg.grace_ms, .value = "TIME",
         .help = "between SIGTERM and SIGKILL for a trial program", .fallback = "10s", .min = 10, .max = 3600000},
        {.name = "start-time", .kind = FLAG_DURATION, .to = &cfg.start_ms, .value = "TIME",
         .help = "how long a trial program may take to say that it is ready", .fallback = "2m", .min = 100,
         .max = 86400000},
        {.name = "quiet", .kind = FLAG_BOOL, .to = &cfg.quiet, .help = "no lines about single trials in the log"},
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie worker", .args = "", .flags = flags,
        .summary = "Runs trials for a driver: built-in training kernels, or any program.",
        .detail = "Ctrl-C or SIGTERM drains: running trials finish, no new ones are taken; a second one stops them\n"
                  "at a checkpoint, a third kills them. It waits for a driver that is not there (yet, or again)."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    char *own = data == NULL ? cmd_default_data_dir() : NULL;
    const char *dir = data != NULL ? data : own;
    char *url = cfg.driver_urls == NULL ? datadir_nng(dir) : NULL;
    char *token = getenv("MAGPIE_TOKEN") == NULL ? datadir_token(dir) : NULL;
    cfg.slots = (int)slots;
    cfg.token = token;
    if (cfg.driver_urls == NULL) {
        cfg.driver_urls = url != NULL ? url : "tcp://127.0.0.1:8471";
    }
    status = worker_run(&cfg);
    free(token);
    free(url);
    free(own);
    return status;
}
