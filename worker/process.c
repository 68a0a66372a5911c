/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/process.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* `cwd` NULL: ours, or the guard's to set. */
static int spawn(pid_t *pid, char *const *argv, char *const *env, const char *cwd, int channel,
                 int out)
{
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t at;
    sigset_t none, all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    (void)posix_spawn_file_actions_init(&fa);
    (void)posix_spawnattr_init(&at);
    /* Both ends lie above 3, so no dup2 hits a descriptor that is still needed. */
    (void)posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_adddup2(&fa, out, STDOUT_FILENO);
    (void)posix_spawn_file_actions_adddup2(&fa, out, STDERR_FILENO);
    (void)posix_spawn_file_actions_adddup2(&fa, channel, SPAWN_FD);
    (void)posix_spawn_file_actions_addclosefrom_np(&fa, SPAWN_FD + 1);
    if (cwd != NULL) {
        (void)posix_spawn_file_actions_addchdir_np(&fa, cwd);
    }
    (void)posix_spawnattr_setpgroup(&at, 0);
    (void)posix_spawnattr_setsigmask(&at, &none);
    (void)posix_spawnattr_setsigdefault(&at, &all);
    (void)posix_spawnattr_setflags(&at, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                            POSIX_SPAWN_SETSIGDEF);
    int rv = posix_spawnp(pid, argv[0], &fa, &at, argv, env);
    (void)posix_spawnattr_destroy(&at);
    (void)posix_spawn_file_actions_destroy(&fa);
    return rv;
}

/* ---- is it there? ---- */

/* The PATH that the program itself will see, as its first lookup goes by that. */
static const char *path_of(char *const *env)
{
    for (size_t i = 0; env[i] != NULL; i++) {
        if (strncmp(env[i], "PATH=", 5) == 0) {
            return env[i] + 5;
        }
    }
    return "/usr/local/bin:/usr/bin:/bin";
}

/* Can `name` be executed, looked up as execvp does, from the folder `at`? 0 or an errno. */
static int find_program(int at, const char *name, const char *path)
{
    if (strchr(name, '/') != NULL) {
        return faccessat(at, name, X_OK, 0) == 0 ? 0 : errno;
    }
    int failed = ENOENT;
    for (const char *p = path; p != NULL;) {
        const char *end = strchrnul(p, ':');
        char *file = xasprintf("%.*s/%s", end > p ? (int)(end - p) : 1, end > p ? p : ".", name);
        if (faccessat(at, file, X_OK, 0) == 0) {
            failed = 0;
        } else if (errno == EACCES && failed != 0) {
            failed = EACCES;
        }
        free(file);
        p = failed != 0 && *end == ':' ? end + 1 : NULL;
    }
    return failed;
}

/* What is wrong and how to mend it. */
static enum mag_status fail_start(const struct spawn_program *p, int rv, struct mag_err *err)
{
    const char *name = p->argv[0];
    bool path = strchr(name, '/') != NULL;
    if (rv == ENOENT && !path) {
        return mag_fail(err, MAG_INVALID, "cannot start \"%s\": no such program in this worker's PATH",
                        name);
    }
    return mag_fail(err, MAG_INVALID, "cannot start \"%s\": %s%s%s%s", name, strerror(rv),
                    p->cwd != NULL && path ? ", seen from " : "",
                    p->cwd != NULL && path ? p->cwd : "",
                    rv == EACCES ? "; make it executable (chmod +x), or start it by its "
                                   "interpreter: [\"python3\", \"train.py\"]"
                                 : "");
}

static enum mag_status check_program(const struct spawn_program *p, struct mag_err *err)
{
    int at = AT_FDCWD;
    if (p->cwd != NULL) {
        at = open(p->cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (at < 0) {
            return mag_fail(err, MAG_INVALID, "its working folder \"%s\" (trial.cwd): %s", p->cwd,
                            strerror(errno));
        }
    }
    int rv = find_program(at, p->argv[0], path_of(p->env));
    if (at >= 0) {
        (void)close(at);
    }
    return rv == 0 ? MAG_OK : fail_start(p, rv, err);
}

/* ---- under the guard ---- */

static void add_number(char **out, size_t *n, const char *key, int64_t v)
{
    if (v > 0) {
        out[(*n)++] = xasprintf("%s=%" PRId64, key, v);
    }
}

/* guard PARENT KEY=VALUE… -- argv…; the first *ret_own entries are ours. */
static char **with_guard(const struct spawn_program *p, const char *guard, size_t *ret_own)
{
    size_t items = 0;
    size_t n = 0;
    while (p->argv[items] != NULL) {
        items++;
    }
    char **all = xcalloc(items + 8, sizeof(char *));
    all[n++] = xstrdup(guard);
    all[n++] = xasprintf("%ld", (long)getpid());
    if (p->cgroup != NULL) {
        all[n++] = xasprintf("cgroup=%s", p->cgroup);
    }
    if (p->cwd != NULL) {
        all[n++] = xasprintf("cwd=%s", p->cwd);
    }
    add_number(all, &n, "memory", p->limits.memory_mb);
    add_number(all, &n, "files", p->limits.files);
    all[n++] = xstrdup("--");
    *ret_own = n;
    memcpy(all + n, p->argv, items * sizeof(char *));
    return all;
}

enum mag_status spawn_program(pid_t *ret, const struct spawn_program *p, const char *guard,
                              int channel, int out, struct mag_err *err)
{
    enum mag_status st = check_program(p, err);
    if (st != MAG_OK) {
        return st;
    }
    size_t own = 0;
    char **full = guard != NULL ? with_guard(p, guard, &own) : NULL;
    int rv = spawn(ret, full != NULL ? full : p->argv, p->env, full != NULL ? NULL : p->cwd, channel,
                   out);
    if (rv == 0 && full == NULL && p->limits.files > 0) {
        const rlim_t n = (rlim_t)p->limits.files;
        const struct rlimit files = {.rlim_cur = n, .rlim_max = n};
        (void)prlimit(*ret, RLIMIT_NOFILE, &files, NULL);
    }
    for (size_t i = 0; i < own; i++) {
        free(full[i]);
    }
    free(full);
    if (rv == 0) {
        return MAG_OK;
    }
    bool users = rv == ENOENT || rv == EACCES || rv == ENOEXEC || rv == ENOTDIR || rv == E2BIG;
    return mag_fail(err, users ? MAG_INVALID : MAG_IO, "cannot start \"%s\": %s", p->argv[0],
                    strerror(rv));
}
