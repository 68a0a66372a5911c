/* SPDX-License-Identifier: Apache-2.0
 *
 * magpie-guard PARENT [KEY=VALUE…] -- PROGRAM [ARGUMENT…]: becomes PROGRAM, which the kernel kills
 * when the process PARENT, its worker, dies. Without it a program that does not talk to its worker
 * would run on beside the attempt that takes its trial over. posix_spawn cannot ask the kernel for
 * this itself, nor set limits: cgroup=FOLDER to join, cwd=FOLDER, memory=MiB, files=N.
 *
 * Core dumps are off (the soft limit: a program that wants them raises it). A memory limit is kept
 * by the worker, which measures; here stands a wall behind it, of writable memory of one process, for
 * what would grow faster than it measures.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define CANNOT_START 127

static int fail(const char *what, const char *name)
{
    (void)fprintf(stderr, "magpie: cannot %s \"%s\": %s\n", what, name, strerror(errno));
    return CANNOT_START;
}

/* Never above what we may. */
static int limit(int resource, rlim_t want)
{
    struct rlimit r;
    if (getrlimit(resource, &r) != 0) {
        return -1;
    }
    rlim_t v = r.rlim_max == RLIM_INFINITY || want < r.rlim_max ? want : r.rlim_max;
    r = (struct rlimit){.rlim_cur = v, .rlim_max = v};
    return setrlimit(resource, &r);
}

static void no_core_dumps(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_CORE, &r) == 0) {
        r.rlim_cur = 0;
        (void)setrlimit(RLIMIT_CORE, &r);
    }
}

static int join(const char *folder)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/cgroup.procs", folder);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int rv = fd >= 0 && write(fd, "0", 1) == 1 ? 0 : -1;
    if (fd >= 0) {
        (void)close(fd);
    }
    return rv;
}

/* What allocators reserve and never use is half as much again, and a little. */
static rlim_t wall(const char *mib)
{
    rlim_t n = (rlim_t)strtoull(mib, NULL, 10);
    return (n + n / 2 + 256) << 20;
}

/* One KEY=VALUE; 0 or an exit status. */
static int obey(const char *arg)
{
    const char *value = strchr(arg, '=');
    value = value != NULL ? value + 1 : "";
    if (strncmp(arg, "cgroup=", 7) == 0) {
        return join(value) == 0 ? 0 : fail("join the control group", value);
    }
    if (strncmp(arg, "cwd=", 4) == 0) {
        return chdir(value) == 0 ? 0 : fail("go to the folder", value);
    }
    if (strncmp(arg, "memory=", 7) == 0) {
        return limit(RLIMIT_DATA, wall(value)) == 0 ? 0 : fail("limit the memory to", value);
    }
    if (strncmp(arg, "files=", 6) == 0) {
        return limit(RLIMIT_NOFILE, (rlim_t)strtoull(value, NULL, 10)) == 0
                   ? 0
                   : fail("limit the open files to", value);
    }
    errno = EINVAL;
    return fail("use", arg);
}

int main(int argc, char **argv)
{
    int at = 2;
    while (at < argc && strcmp(argv[at], "--") != 0) {
        at++;
    }
    if (at + 1 >= argc) {
        (void)fprintf(stderr, "usage: magpie-guard PARENT [KEY=VALUE...] -- PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    pid_t parent = (pid_t)strtol(argv[1], NULL, 10);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent) {
        return 1; /* it died before the kernel knew of our wish */
    }
    no_core_dumps();
    for (int i = 2; i < at; i++) {
        int status = obey(argv[i]);
        if (status != 0) {
            return status;
        }
    }
    (void)execvp(argv[at + 1], argv + at + 1);
    return fail("start", argv[at + 1]);
}
