/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/machine.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/memory.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

/* The first line of a small file, "" when it cannot be read. */
static void first_line(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "re");
    out[0] = '\0';
    if (f != NULL) {
        if (fgets(out, (int)size, f) == NULL) {
            out[0] = '\0';
        }
        (void)fclose(f);
    }
    out[strcspn(out, "\n")] = '\0';
}

static int count_cores(void)
{
    cpu_set_t set;
    int cores = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    char line[128];
    long long quota = 0;
    long long period = 0;
    first_line("/sys/fs/cgroup/cpu.max", line, sizeof(line));
    if (sscanf(line, "%lld %lld", &quota, &period) == 2 && period > 0) {
        int limit = (int)((quota + period - 1) / period);
        cores = limit > 0 && limit < cores ? limit : cores;
    }
    return cores > 0 ? cores : 1;
}

static int64_t count_memory_mb(void)
{
    struct memory m;
    memory_look("", &m);
    return m.total >= 0 ? m.total >> 20 : 0;
}

/* Runs a program and gives the start of its output; "" when it fails. */
static void ask(char *const *argv, char *out, size_t size)
{
    int p[2];
    posix_spawn_file_actions_t fa;
    pid_t pid = 0;
    size_t n = 0;
    out[0] = '\0';
    if (pipe2(p, O_CLOEXEC) != 0) {
        return;
    }
    (void)posix_spawn_file_actions_init(&fa);
    (void)posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_adddup2(&fa, p[1], STDOUT_FILENO);
    (void)posix_spawn_file_actions_addopen(&fa, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    int rv = posix_spawnp(&pid, argv[0], &fa, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&fa);
    (void)close(p[1]);
    while (rv == 0 && n + 1 < size) {
        ssize_t got = read(p[0], out + n, size - 1 - n);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            break;
        }
        n += (size_t)got;
    }
    (void)close(p[0]);
    int status = 0;
    bool good =
        rv == 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    out[good ? n : 0] = '\0';
}

static void ask_git(json_t *where)
{
    static char git[] = "git", rev[] = "rev-parse", head[] = "HEAD", st[] = "status",
                por[] = "--porcelain", no[] = "--untracked-files=no";
    char *commit[] = {git, rev, head, NULL};
    char *dirty[] = {git, st, por, no, NULL};
    char out[128];
    ask(commit, out, sizeof(out));
    out[strcspn(out, "\n")] = '\0';
    if (out[0] == '\0') {
        return;
    }
    (void)json_object_set_new(where, "git", json_string(out));
    ask(dirty, out, sizeof(out));
    if (out[0] != '\0') {
        (void)json_object_set_new(where, "git_modified", json_true());
    }
}

static void look_at_versions(struct machine *m)
{
    struct utsname u;
    m->where = json_object();
    if (uname(&u) == 0) {
        char *os = xasprintf("%s %s %s", u.sysname, u.release, u.machine);
        (void)json_object_set_new(m->where, "os", json_string(os));
        free(os);
    }
    ask_git(m->where);
}

/* ---- GPUs ---- */

static bool same_gpu(const char *a, const char *b)
{
    /* UUIDs may be cut short: GPU-8932f937 names GPU-8932f937-d72c-…, as for CUDA itself. */
    size_t n = strlen(a) < strlen(b) ? strlen(a) : strlen(b);
    bool uuid = strncmp(a, "GPU-", 4) == 0 || strncmp(a, "MIG-", 4) == 0;
    return strcmp(a, b) == 0 || (uuid && n >= 8 && strncmp(a, b, n) == 0);
}

static int find_gpu(const struct machine *m, const char *gpu)
{
    for (int i = 0; i < m->n_gpus; i++) {
        if (same_gpu(m->gpus[i], gpu)) {
            return i;
        }
    }
    return -1;
}

static enum mag_status add_gpu(struct machine *m, const char *gpu, struct mag_err *err)
{
    bool plain =
        strspn(gpu, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-/:.") ==
        strlen(gpu);
    if (!plain || gpu[0] == '-') {
        return mag_fail(err, MAG_INVALID,
                        "GPU \"%s\": expected numbers or UUIDs such as \"0,1\", or \"none\"", gpu);
    }
    if (m->n_gpus == MACHINE_GPUS_MAX) {
        return mag_fail(err, MAG_LIMIT, "more than %d GPUs", MACHINE_GPUS_MAX);
    }
    if (find_gpu(m, gpu) < 0) {
        m->gpus[m->n_gpus++] = xstrdup(gpu);
    }
    return MAG_OK;
}

/* "none", "NoDevFiles" and "void" are what schedulers and container runtimes write for no GPU. As for
 * CUDA, a list ends at its first negative number. */
enum mag_status machine_add_gpus(struct machine *m, const char *list, struct mag_err *err)
{
    static const char *const none[] = {"none", "NoDevFiles", "void"};
    char *copy = xstrdup(list);
    char *save = NULL;
    enum mag_status st = MAG_OK;
    for (char *g = strtok_r(copy, ", ", &save); g != NULL && st == MAG_OK;
         g = strtok_r(NULL, ", ", &save)) {
        bool ends = g[0] == '-' && isdigit((unsigned char)g[1]);
        for (size_t i = 0; i < 3; i++) {
            ends = ends || strcmp(g, none[i]) == 0;
        }
        if (ends) {
            break;
        }
        st = add_gpu(m, g, err);
    }
    free(copy);
    return st;
}

enum mag_status machine_narrow_gpus(struct machine *m, const char *wanted, const char *visible,
                                    struct mag_err *err)
{
    struct machine all = {0};
    enum mag_status st = machine_add_gpus(&all, visible, err);
    if (st == MAG_OK) {
        st = machine_add_gpus(m, wanted, err);
    }
    for (int i = 0; i < m->n_gpus && st == MAG_OK; i++) {
        if (find_gpu(&all, m->gpus[i]) < 0) {
            st = mag_fail(err, MAG_INVALID,
                          "--gpus %s: \"%s\" is not among CUDA_VISIBLE_DEVICES=%s; choose from those",
                          wanted, m->gpus[i], visible);
        }
    }
    machine_fini(&all);
    return st;
}

static void count_devices(struct machine *m)
{
    for (int i = 0; i < MACHINE_GPUS_MAX; i++) {
        char path[32];
        (void)snprintf(path, sizeof(path), "/dev/nvidia%d", i);
        if (access(path, F_OK) == 0) {
            m->gpus[m->n_gpus++] = xasprintf("%d", i);
        }
    }
}

static void ask_gpu_memory(struct machine *m)
{
    static char smi[] = "nvidia-smi", query[] = "--query-gpu=memory.total",
                format[] = "--format=csv,noheader,nounits";
    char *argv[] = {smi, query, format, NULL};
    char out[1024];
    ask(argv, out, sizeof(out));
    char *save = NULL;
    for (char *line = strtok_r(out, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        int64_t mb = strtoll(line, NULL, 10);
        if (mb > 0 && (m->gpu_memory_mb == 0 || mb < m->gpu_memory_mb)) {
            m->gpu_memory_mb = mb;
        }
    }
}

static enum mag_status look_at_gpus(struct machine *m, const char *gpus, struct mag_err *err)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    enum mag_status st = MAG_OK;
    if (gpus != NULL && strcmp(gpus, "none") == 0) {
        m->hides_gpus = true;
        return MAG_OK;
    }
    if (gpus != NULL && visible != NULL) {
        st = machine_narrow_gpus(m, gpus, visible, err);
    } else if (gpus != NULL || visible != NULL) {
        st = machine_add_gpus(m, gpus != NULL ? gpus : visible, err);
    } else {
        count_devices(m);
    }
    if (st == MAG_OK && m->n_gpus > 0) {
        ask_gpu_memory(m);
    }
    return st;
}

enum mag_status machine_look(struct machine *m, const char *gpus, struct mag_err *err)
{
    *m = (struct machine){0};
    if (gethostname(m->host, sizeof(m->host) - 1) != 0 || m->host[0] == '\0') {
        (void)snprintf(m->host, sizeof(m->host), "localhost");
    }
    m->cores = count_cores();
    m->memory_mb = count_memory_mb();
    look_at_versions(m);
    return look_at_gpus(m, gpus, err);
}

void machine_fini(struct machine *m)
{
    for (int i = 0; i < m->n_gpus; i++) {
        free(m->gpus[i]);
    }
    json_decref(m->where);
    *m = (struct machine){0};
}

/* ---- use ---- */

int64_t machine_free_mb(void)
{
    struct memory m;
    memory_look("", &m);
    return m.free >= 0 ? m.free >> 20 : 0;
}

json_t *machine_use(void)
{
    static unsigned long long last_busy, last_all;
    unsigned long long v[8] = {0};
    char line[256];
    double load = 0;
    first_line("/proc/stat", line, sizeof(line));
    int n = sscanf(line, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3],
                   &v[4], &v[5], &v[6], &v[7]);
    unsigned long long all = 0;
    for (int i = 0; i < n; i++) {
        all += v[i];
    }
    unsigned long long busy = all - v[3] - v[4];
    double share = all > last_all ? (double)(busy - last_busy) / (double)(all - last_all) : 0;
    last_busy = busy;
    last_all = all;
    struct sysinfo si;
    int64_t free_mb =
        sysinfo(&si) == 0 ? (int64_t)(si.freeram + si.bufferram) * si.mem_unit >> 20 : 0;
    int64_t total_mb = (int64_t)si.totalram * si.mem_unit >> 20;
    (void)getloadavg(&load, 1);
    return json_pack("{s:f, s:I, s:f}", "cpu", share, "memory_mb", (json_int_t)(total_mb - free_mb),
                     "load", load);
}
