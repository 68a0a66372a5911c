/* SPDX-License-Identifier: Apache-2.0
 *
 * ask_tell: how many no-op trials a second a driver gives and takes back, each ask and each tell
 * acknowledged only when it is durable. Starts a driver of its own in a fresh folder on the disk to
 * be measured, and prints one JSON line for each measurement.
 */
#include "base/alloc.h"
#include "base/flags.h"
#include "bench/ask_tell/client.h"
#include "bench/ask_tell/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static const char *magpie, *folder, *only, *durability;
static int64_t scale = 100;
static bool requests;

/* ---- the driver ---- */

struct server {
    pid_t pid;
    int out;
    int port;
    char data[PATH_MAX];
};

static bool await_ready(struct server *s)
{
    char line[512];
    size_t n = 0;
    struct pollfd p = {.fd = s->out, .events = POLLIN};
    while (n < sizeof(line) - 1 && poll(&p, 1, 30000) > 0 && read(s->out, line + n, 1) == 1 &&
           line[n] != '\n') {
        n++;
    }
    line[n] = '\0';
    const char *http = strstr(line, "http=http://127.0.0.1:");
    s->port = http != NULL ? (int)strtol(http + 22, NULL, 10) : 0;
    return s->port > 0;
}

static bool start_driver(struct server *s)
{
    int pipes[2];
    (void)snprintf(s->data, sizeof(s->data), "%s/magpie-bench-XXXXXX", folder);
    if (mkdtemp(s->data) == NULL || pipe2(pipes, O_CLOEXEC) != 0) {
        (void)fprintf(stderr, "ask_tell: %s: %s\n", s->data, strerror(errno));
        return false;
    }
    const char *argv[] = {magpie,         "driver",      "--data",   s->data,
                          "--http",       "127.0.0.1:0", "--listen", "tcp://127.0.0.1:0",
                          "--durability", durability,    NULL};
    posix_spawn_file_actions_t actions;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
    int rc = posix_spawn(&s->pid, magpie, &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(pipes[1]);
    s->out = pipes[0];
    if (rc != 0) {
        (void)fprintf(stderr, "ask_tell: %s: %s\n", magpie, strerror(rc));
        return false;
    }
    return await_ready(s);
}

static int remove_one(const char *path, const struct stat *sb, int kind, struct FTW *w)
{
    return remove(path);
}

static void stop_driver(struct server *s)
{
    if (s->pid > 0) {
        (void)kill(s->pid, SIGTERM);
        (void)waitpid(s->pid, NULL, 0);
    }
    (void)close(s->out);
    (void)nftw(s->data, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- measurements ---- */

static long long make_experiment(int port, int64_t trials)
{
    char body[512];
    int status = 0;
    (void)snprintf(
        body, sizeof(body),
        "{\"name\":\"bench\",\"objective\":{\"metric\":\"loss\",\"direction\":\"min\"},"
        "\"searchspace\":{\"lr\":{\"type\":\"DOUBLE\",\"range\":[0.0001,0.1],\"scale\":\"log\"},"
        "\"units\":{\"type\":\"INTEGER\",\"range\":[32,512]}},"
        "\"optimizer\":{\"algorithm\":\"random\"},\"limits\":{\"trials\":%lld},\"seed\":1}",
        (long long)trials);
    char *answer = client_call(port, "POST", "/api/v1/experiments", body, &status);
    long long id = status == 201 && answer != NULL ? strtoll(answer + 6, NULL, 10) : 0;
    if (id == 0) {
        (void)fprintf(stderr, "ask_tell: no experiment: %.300s\n",
                      answer != NULL ? answer : "no answer");
    }
    free(answer);
    return id;
}

static bool print_disk(const char *when, struct disk_rate *rate)
{
    char name[64];
    if (!disk_name(folder, name, sizeof(name))) {
        (void)fprintf(stderr,
                      "ask_tell: %s lies on %s: a figure for durable writes needs a disk; name one "
                      "with --dir\n",
                      folder, name);
        return false;
    }
    if (!disk_fdatasync(folder, rate)) {
        (void)fprintf(stderr, "ask_tell: %s: %s\n", folder, strerror(errno));
        return false;
    }
    (void)printf(
        "{\"bench\":\"disk\",\"when\":\"%s\",\"file_system\":\"%s\",\"fdatasync_median_us\":%.1f,"
        "\"fdatasync_p99_us\":%.1f,\"fdatasync_per_s\":%.0f}\n",
        when, name, rate->median_us, rate->p99_us, rate->per_second);
    (void)fflush(stdout);
    return true;
}

struct phase {
    const char *name;
    int clients, batch;
    int64_t trials;
};

static const struct phase phases[] = {
    {"one", 1, 1, 3000},
    {"many", 64, 1, 60000},
    {"batch", 4, 16, 60000},
    {"long", 64, 1, 200000},
};

static void print_phase(const struct phase *p, const struct crowd *c, const struct disk_rate *disk)
{
    (void)printf("{\"bench\":\"%s\",\"clients\":%d,\"batch\":%d,\"trials\":%lld,\"seconds\":%.3f,"
                 "\"trials_per_s\":%.0f,\"round_median_us\":%.0f,\"round_p99_us\":%.0f",
                 p->name, c->clients, c->batch, (long long)c->trials, c->seconds,
                 (double)c->trials / c->seconds, c->median_us, c->p99_us);
    if (c->clients == 1) {
        (void)printf(",\"allowed_us\":%.0f", 2 * disk->median_us + 400);
    }
    if (strcmp(p->name, "long") == 0) {
        (void)printf(
            ",\"first_thousand_per_s\":%.0f,\"last_thousand_per_s\":%.0f,\"last_to_first\":%.2f",
            1000 / c->first_s, 1000 / c->last_s, c->first_s / c->last_s);
    }
    (void)printf("}\n");
    (void)fflush(stdout);
}

static bool run_phase(const struct phase *p, const struct server *s, const struct disk_rate *disk)
{
    int64_t trials = p->trials * scale / 100;
    trials = trials < 2000 ? 2000 : trials;
    /* A thousand trials first: connections, caches and the log's file are warm. */
    struct crowd warm = {.port = s->port,
                         .clients = p->clients,
                         .batch = p->batch,
                         .trials = 1000,
                         .requests = requests};
    struct crowd c = {.port = s->port,
                      .clients = p->clients,
                      .batch = p->batch,
                      .trials = trials,
                      .requests = requests};
    warm.experiment = make_experiment(s->port, 1000);
    c.experiment = make_experiment(s->port, trials);
    if (warm.experiment == 0 || c.experiment == 0 || !crowd_run(&warm) || !crowd_run(&c)) {
        return false;
    }
    print_phase(p, &c, disk);
    return true;
}

static bool run_all(void)
{
    struct disk_rate disk;
    struct server s = {.out = -1};
    if (!print_disk("before", &disk)) {
        return false;
    }
    bool ok = start_driver(&s);
    for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]) && ok; i++) {
        if (only == NULL || strcmp(only, phases[i].name) == 0) {
            ok = run_phase(&phases[i], &s, &disk);
        }
    }
    stop_driver(&s);
    return ok && print_disk("after", &disk);
}

/* build/bench/ask_tell -> build/magpie */
static char *magpie_beside(void)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[n > 0 ? n : 0] = '\0';
    for (int i = 0; i < 2 && strrchr(self, '/') != NULL; i++) {
        *strrchr(self, '/') = '\0';
    }
    return xasprintf("%s/magpie", self);
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"one", "many", "batch", "long", NULL};
    static const char *const modes[] = {"full", "normal", NULL};
    const struct flag flags[] = {
        {.name = "magpie",
         .kind = FLAG_TEXT,
         .to = &magpie,
         .value = "PATH",
         .help = "the program [beside this one]"},
        {.name = "dir",
         .kind = FLAG_TEXT,
         .to = &folder,
         .value = "DIR",
         .help = "on the disk to measure",
         .fallback = "."},
        {.name = "only",
         .kind = FLAG_TEXT,
         .to = &only,
         .value = "NAME",
         .help = "one measurement",
         .choices = names},
        {.name = "durability",
         .kind = FLAG_TEXT,
         .to = &durability,
         .value = "MODE",
         .help = "of the driver",
         .fallback = "full",
         .choices = modes},
        {.name = "scale",
         .kind = FLAG_INT,
         .to = &scale,
         .value = "PERCENT",
         .help = "of the trials",
         .fallback = "100",
         .min = 1,
         .max = 1000},
        {.name = "requests",
         .kind = FLAG_BOOL,
         .to = &requests,
         .help = "every ask carries an idempotency key"},
        {0},
    };
    const struct flags_usage u = {.program = "ask_tell",
                                  .args = "",
                                  .flags = flags,
                                  .summary = "Durable no-op trials a second over HTTP."};
    struct flags_args args;
    struct mag_err err = {0};
    if (flags_parse(&u, argc, argv, &args, &err) != MAG_OK) {
        (void)fprintf(stderr, "ask_tell: %s\n", err.text);
        return 2;
    }
    if (args.help) {
        struct buf text = {0};
        flags_help(&u, &text);
        (void)fputs(text.data, stdout);
        buf_fini(&text);
        return 0;
    }
    char *beside = magpie == NULL ? magpie_beside() : NULL;
    magpie = magpie != NULL ? magpie : beside;
    int status = run_all() ? 0 : 1;
    free(beside);
    return status;
}
