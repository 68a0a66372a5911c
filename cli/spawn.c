/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/spawn.h"

#include "base/alloc.h"
#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CAPTURE_MAX 65536
#define PARENT_ENV "MAGPIE_PARENT"

extern char **environ;

static char *const *as_argv(const char *const argv[])
{
    return (char *const *)(uintptr_t)argv; /* posix_spawn does not write to them */
}

static void read_all(int fd, struct buf *out)
{
    char chunk[4096];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return;
        }
        if (n > 0 && out->len < CAPTURE_MAX) {
            buf_add(out, chunk, (size_t)n);
        }
    }
}

static int wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int spawn_capture(const char *const argv[], char **ret_output)
{
    struct buf out = {0};
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        *ret_output = xasprintf("%s: %s\n", argv[0], strerror(errno));
        return 127;
    }
    posix_spawn_file_actions_t fa;
    (void)posix_spawn_file_actions_init(&fa);
    (void)posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_adddup2(&fa, fds[1], STDOUT_FILENO);
    (void)posix_spawn_file_actions_adddup2(&fa, fds[1], STDERR_FILENO);
    pid_t pid = 0;
    int e = posix_spawn(&pid, argv[0], &fa, NULL, as_argv(argv), environ);
    (void)posix_spawn_file_actions_destroy(&fa);
    (void)close(fds[1]);
    int status = 127;
    if (e == 0) {
        read_all(fds[0], &out);
        status = wait_for(pid);
    } else {
        buf_addf(&out, "%s: %s\n", argv[0], strerror(e));
    }
    (void)close(fds[0]);
    *ret_output = buf_take(&out);
    return status;
}

/* The environment plus MAGPIE_PARENT; free the last entry and the array. */
static char **child_environ(char **ret_own)
{
    size_t n = 0;
    while (environ[n] != NULL) {
        n++;
    }
    char **env = xcalloc(n + 2, sizeof(*env));
    memcpy(env, environ, n * sizeof(*env));
    *ret_own = xasprintf(PARENT_ENV "=%d", (int)getpid());
    env[n] = *ret_own;
    return env;
}

enum mag_status spawn_child(const char *const argv[], const char *log_path, int stdout_fd,
                            pid_t *ret, struct mag_err *err)
{
    posix_spawn_file_actions_t fa;
    (void)posix_spawn_file_actions_init(&fa);
    (void)posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_addopen(&fa, STDERR_FILENO, log_path,
                                           O_WRONLY | O_CREAT | O_APPEND, 0600);
    (void)posix_spawn_file_actions_adddup2(&fa, stdout_fd >= 0 ? stdout_fd : STDERR_FILENO,
                                           STDOUT_FILENO);
    posix_spawnattr_t attr;
    (void)posix_spawnattr_init(&attr);
    sigset_t none;
    (void)sigemptyset(&none);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setpgroup(&attr, 0);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
    char *own = NULL;
    char **env = child_environ(&own);
    pid_t pid = 0;
    int e = posix_spawn(&pid, argv[0], &fa, &attr, as_argv(argv), env);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&fa);
    free(own);
    free(env);
    if (e != 0) {
        return mag_fail(err, MAG_IO, "cannot start %s: %s", argv[0], strerror(e));
    }
    *ret = pid;
    return MAG_OK;
}

static pid_t followed; /* set once, first in main */

void spawn_follow_parent(void)
{
    const char *parent = getenv(PARENT_ENV);
    if (parent == NULL) {
        return;
    }
    followed = (pid_t)strtol(parent, NULL, 10);
    (void)unsetenv(PARENT_ENV);
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != followed) {
        (void)raise(SIGTERM); /* it went before the line above */
    }
}

pid_t spawn_parent(void)
{
    return followed;
}

void spawn_status_text(int wait_status, char *buf, size_t size)
{
    if (WIFSIGNALED(wait_status)) {
        (void)snprintf(buf, size, "killed by signal %d (%s)", WTERMSIG(wait_status),
                       strsignal(WTERMSIG(wait_status)));
    } else {
        (void)snprintf(buf, size, "exit status %d", WEXITSTATUS(wait_status));
    }
}
