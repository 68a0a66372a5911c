/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/ranks.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/program.h"
#include "trainer/ranks_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHANNEL_FD 3 /* in rank 0 */
#define REGION_FD 4  /* in every rank, with shm */
#define HIGH_FD 10   /* descriptors to be passed lie from here up: no dup2 hits another */
#define EXIT_LINE "{\"type\":\"exit\"}\n"
#define POLITE_MS 5000
#define RANK_VARIABLE "MAGPIE_RANK"          /* rank/size/timeout_ms/parent */
#define SOCKET_VARIABLE "MAGPIE_RANK_SOCKET" /* mpi: name of an abstract socket */
#define FOLDER_VARIABLE                                                                            \
    "MAGPIE_RANK_FOLDER" /* mpi: for segments, where it is on the rank's host                      \
                          */

/* ---- an environment of our own ---- */

static bool is_ours(const char *entry)
{
    static const char *const names[] = {"MAGPIE_FD=", RANK_VARIABLE "=", SOCKET_VARIABLE "=",
                                        FOLDER_VARIABLE "="};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strncmp(entry, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* Those of `own` (n strings, taken; they come first, so that they hold), and the environment
 * without ours. Free with env_free. */
static char **env_make(char **own, size_t n)
{
    size_t have = 0;
    while (environ[have] != NULL) {
        have++;
    }
    char **env = xcalloc(have + n + 1, sizeof(*env));
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        env[at++] = own[i];
    }
    for (size_t i = 0; i < have; i++) {
        if (!is_ours(environ[i])) {
            env[at++] = xstrdup(environ[i]);
        }
    }
    return env;
}

static void env_free(char **env)
{
    for (size_t i = 0; env[i] != NULL; i++) {
        free(env[i]);
    }
    free(env);
}

/* ---- starting ---- */

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
    }
    *fd = -1;
}

/* Above HIGH_FD; takes `fd`. */
static int raise_fd(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
    (void)close(fd);
    return high;
}

/* Starts one program with descriptors 0 to 2 of ours (0: nothing to read), channel and region where
 * they are given. */
static enum mag_status spawn(struct ranks *r, char *const *argv, char *const *env, int channel,
                             struct mag_err *err)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none;
    sigset_t all;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawnattr_init(&attr);
    (void)posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (channel >= 0) {
        (void)posix_spawn_file_actions_adddup2(&actions, channel, CHANNEL_FD);
    }
    if (r->region >= 0) {
        (void)posix_spawn_file_actions_adddup2(&actions, r->region, REGION_FD);
    }
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setsigdefault(&attr, &all);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    pid_t pid = 0;
    int e = posix_spawnp(&pid, argv[0], &actions, &attr, argv, env);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attr);
    if (e != 0) {
        return mag_fail(err, e == ENOENT ? MAG_INVALID : MAG_IO, "cannot start %s: %s", argv[0],
                        strerror(e));
    }
    r->pids[r->n_pids] = pid;
    r->pidfds[r->n_pids] = (int)syscall(SYS_pidfd_open, pid, 0);
    r->n_pids++;
    if (r->pidfds[r->n_pids - 1] < 0) {
        return mag_fail(err, MAG_IO, "cannot watch a rank: %s", strerror(errno));
    }
    return MAG_OK;
}

static enum mag_status start_here(struct ranks *r, struct mag_err *err)
{
    int pair[2] = {-1, -1};
    char *self = program_self();
    enum mag_status st = collective_shm_create(r->n, &r->region, err);
    if (st == MAG_OK && (r->region = raise_fd(r->region)) < 0) {
        st = mag_fail(err, MAG_IO, "no descriptor for the ranks' memory: %s", strerror(errno));
    }
    if (st == MAG_OK &&
        (self == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)) {
        st = mag_fail(err, MAG_IO, "no channel to the ranks: %s", strerror(errno));
    }
    int theirs = st == MAG_OK ? raise_fd(pair[1]) : -1;
    for (int k = 0; k < r->n && st == MAG_OK; k++) {
        char *const argv[] = {self, (char[]){"--rank"}, NULL};
        char *own[] = {xasprintf(RANK_VARIABLE "=%d/%d/%lld/%d", k, r->n, (long long)r->timeout_ms,
                                 (int)getpid()),
                       k == 0 ? xasprintf("MAGPIE_FD=%d", CHANNEL_FD) : NULL};
        char **env = env_make(own, k == 0 ? 2 : 1);
        st = spawn(r, argv, env, k == 0 ? theirs : -1, err);
        env_free(env);
    }
    close_fd(&theirs);
    free(self);
    channel_init(&r->channel, pair[0]);
    return st;
}

/* A listening abstract socket: no file that is left behind. */
static int listen_abstract(char **ret_name)
{
    uint64_t bits = 0;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (getrandom(&bits, sizeof(bits), 0) != sizeof(bits)) {
        return -1;
    }
    char *name = xasprintf("magpie-ranks-%d-%016llx", (int)getpid(), (unsigned long long)bits);
    size_t n = strlen(name);
    memcpy(a.sun_path + 1, name, n);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&a, len) != 0 || listen(fd, 1) != 0) {
        if (fd >= 0) {
            (void)close(fd);
        }
        free(name);
        return -1;
    }
    *ret_name = name;
    return fd;
}

static enum mag_status start_mpi(struct ranks *r, struct mag_err *err)
{
    char *name = NULL;
    const char *given = getenv("MAGPIE_MPIRUN");
    char *program = program_find("magpie-trainer-mpi");
    if (program == NULL) {
        return mag_fail(
            err, MAG_INVALID,
            "\"transport\": \"mpi\" needs magpie-trainer-mpi, which this installation has "
            "not: build it with libopenmpi-dev, or take \"shm\"");
    }
    r->listener = listen_abstract(&name);
    if (r->listener < 0) {
        free(program);
        return mag_fail(err, MAG_IO, "no socket for rank 0: %s", strerror(errno));
    }
    r->folder = ranks_folder_make();
    char *count = xasprintf("%d", r->n);
    /* No core per rank, no spinning: several trials share a host. */
    const char *const args[] = {given != NULL ? given : "mpirun",
                                "--oversubscribe",
                                "--bind-to",
                                "none",
                                "--mca",
                                "mpi_yield_when_idle",
                                "1",
                                "--mca",
                                "btl_vader_single_copy_mechanism",
                                "none",
                                "--mca",
                                "btl_base_warn_component_unused",
                                "0",
                                "-x",
                                RANK_VARIABLE,
                                "-x",
                                SOCKET_VARIABLE,
                                "-x",
                                FOLDER_VARIABLE,
                                "-np",
                                count,
                                program,
                                "--rank",
                                NULL};
    char *argv[sizeof(args) / sizeof(args[0])] = {NULL};
    for (size_t i = 0; args[i] != NULL; i++) {
        argv[i] = xstrdup(args[i]);
    }
    char *own[] = {xasprintf(RANK_VARIABLE "=0/%d/%lld/0", r->n, (long long)r->timeout_ms),
                   xasprintf(SOCKET_VARIABLE "=%s", name),
                   xasprintf(FOLDER_VARIABLE "=%s", r->folder != NULL ? r->folder : ""),
                   xstrdup("OMPI_ALLOW_RUN_AS_ROOT=1"),
                   xstrdup("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"),
                   r->folder != NULL ? xasprintf("TMPDIR=%s", r->folder) : NULL};
    char **env = env_make(own, r->folder != NULL ? 6 : 5);
    enum mag_status st = spawn(r, argv, env, -1, err);
    if (st == MAG_INVALID) {
        st = mag_wrap(err, st, "\"transport\": \"mpi\" needs mpirun (package openmpi-bin)");
    }
    for (size_t i = 0; argv[i] != NULL; i++) {
        free(argv[i]);
    }
    env_free(env);
    free(count);
    free(program);
    free(name);
    return st;
}

enum mag_status ranks_start(struct ranks *r, int n, const struct distribution *d,
                            struct mag_err *err)
{
    *r = (struct ranks){.n = n,
                        .transport = d->transport,
                        .timeout_ms = d->timeout_ms,
                        .listener = -1,
                        .region = -1};
    channel_init(&r->channel, -1);
    enum mag_status st = d->transport == TRANSPORT_MPI ? start_mpi(r, err) : start_here(r, err);
    if (st != MAG_OK) {
        ranks_stop(r, false);
        return st;
    }
    log_info("trainer", "ranks-started", "ranks=%d transport=%s", n,
             d->transport == TRANSPORT_MPI ? "mpi" : "shm");
    return MAG_OK;
}

/* ---- watching ---- */

/* Rank 0 connects; a process of another user is not it. */
static void accept_rank(struct ranks *r)
{
    struct ucred peer = {0};
    socklen_t len = sizeof(peer);
    int fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0 || peer.uid != geteuid()) {
        (void)close(fd);
        return;
    }
    close_fd(&r->listener);
    channel_init(&r->channel, fd);
}

enum ranks_event ranks_wait(struct ranks *r, int other, int timeout_ms)
{
    struct pollfd p[COLLECTIVE_RANKS_MAX + 3];
    const int64_t end = clock_mono_ns() + timeout_ms * MAG_NS_PER_MS;
    for (;;) {
        nfds_t n = 0;
        p[n++] = (struct pollfd){.fd = other, .events = POLLIN};
        p[n++] = (struct pollfd){.fd = r->channel.ended ? -1 : r->channel.fd, .events = POLLIN};
        p[n++] = (struct pollfd){.fd = r->listener, .events = POLLIN};
        for (int i = 0; i < r->n_pids; i++) {
            p[n++] = (struct pollfd){.fd = r->pidfds[i], .events = POLLIN};
        }
        int64_t left = timeout_ms < 0 ? -1 : (end - clock_mono_ns()) / MAG_NS_PER_MS;
        int k = poll(p, n, timeout_ms < 0 ? -1 : left > 0 ? (int)left : 0);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (p[1].revents != 0) {
            return RANKS_LINE; /* before its end: what it said last counts */
        }
        for (nfds_t i = 3; i < n; i++) {
            if (p[i].revents != 0) {
                return RANKS_DEATH;
            }
        }
        if (p[2].revents != 0) {
            accept_rank(r);
            continue;
        }
        return p[0].revents != 0 ? RANKS_OTHER : RANKS_TIMEOUT;
    }
}

static void describe(const struct ranks *r, int i, int status, char *text, size_t size)
{
    char who[32] = "mpirun";
    if (r->transport == TRANSPORT_SHM) {
        (void)snprintf(who, sizeof(who), "rank %d", i);
    }
    if (WIFSIGNALED(status)) {
        (void)snprintf(text, size, "%s was killed by signal %d (%s)", who, WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    } else {
        (void)snprintf(text, size, "%s ended with exit status %d", who, WEXITSTATUS(status));
    }
}

/* Reaps those that have ended; tells of the one that did for a reason of its own, where several
 * have ended since. */
static bool reap(struct ranks *r, char *text, size_t size)
{
    bool any = false;
    bool own = false;
    for (int i = 0; i < r->n_pids; i++) {
        int status = 0;
        if (r->pidfds[i] < 0 || waitpid(r->pids[i], &status, WNOHANG) <= 0) {
            continue;
        }
        close_fd(&r->pidfds[i]);
        bool told = WIFEXITED(status) && WEXITSTATUS(status) == RANKS_LOST_STATUS;
        if (!any || (!own && !told)) {
            describe(r, i, status, text, size);
        }
        any = true;
        own = own || !told;
    }
    return any;
}

bool ranks_death(struct ranks *r, char *text, size_t size)
{
    char why[512];
    bool any = reap(r, text, size);
    if (any && r->region >= 0 && collective_shm_why(r->region, why, sizeof(why))) {
        (void)snprintf(text, size, "%s", why); /* a rank has said it itself */
    } else if (any && r->region >= 0) {
        collective_shm_fail(r->region, text);
    }
    return any;
}

/* ---- ending ---- */

static bool all_reaped(const struct ranks *r)
{
    for (int i = 0; i < r->n_pids; i++) {
        if (r->pidfds[i] >= 0) {
            return false;
        }
    }
    return true;
}

static void wait_gone(struct ranks *r, int64_t ms)
{
    char text[128];
    const int64_t end = clock_mono_ns() + ms * MAG_NS_PER_MS;
    while (!all_reaped(r)) {
        int64_t left = (end - clock_mono_ns()) / MAG_NS_PER_MS;
        struct pollfd p[COLLECTIVE_RANKS_MAX];
        for (int i = 0; i < r->n_pids; i++) {
            p[i] = (struct pollfd){.fd = r->pidfds[i], .events = POLLIN};
        }
        if (left <= 0 || (poll(p, (nfds_t)r->n_pids, (int)left) < 0 && errno != EINTR)) {
            return;
        }
        (void)reap(r, text, sizeof(text));
    }
}

static void signal_all(const struct ranks *r, int sig)
{
    for (int i = 0; i < r->n_pids; i++) {
        if (r->pidfds[i] >= 0) {
            (void)kill(r->pids[i], sig);
        }
    }
}

void ranks_stop(struct ranks *r, bool politely)
{
    if (r->n == 0) {
        return;
    }
    if (politely && r->channel.fd >= 0 &&
        channel_write(&r->channel, EXIT_LINE, strlen(EXIT_LINE)) == MAG_OK) {
        wait_gone(r, POLITE_MS);
    }
    if (r->transport == TRANSPORT_MPI && !all_reaped(r)) {
        signal_all(r, SIGTERM); /* mpirun ends its ranks and removes its files */
        wait_gone(r, POLITE_MS);
    }
    signal_all(r, SIGKILL);
    for (int i = 0; i < r->n_pids; i++) {
        if (r->pidfds[i] >= 0) {
            (void)waitpid(r->pids[i], NULL, 0);
            close_fd(&r->pidfds[i]);
        }
    }
    close_fd(&r->channel.fd);
    channel_fini(&r->channel);
    close_fd(&r->listener);
    close_fd(&r->region);
    ranks_folder_remove(r->folder);
    *r = (struct ranks){.listener = -1, .region = -1};
}

/* ---- in a rank ---- */

const char *ranks_folder_here(void)
{
    const char *folder = getenv(FOLDER_VARIABLE);
    return folder != NULL && folder[0] == '/' && access(folder, W_OK) == 0 ? folder : NULL;
}

void ranks_bind_to_parent(void)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}

enum mag_status ranks_place(struct collective_place *place, int *ret_fd, bool *ret_is_rank,
                            struct mag_err *err)
{
    const char *text = getenv(RANK_VARIABLE);
    long long timeout_ms = 0;
    int parent = 0;
    *ret_is_rank = text != NULL;
    *place = (struct collective_place){.fd = REGION_FD};
    if (text == NULL) {
        return MAG_OK;
    }
    if (sscanf(text, "%d/%d/%lld/%d", &place->rank, &place->size, &timeout_ms, &parent) != 4 ||
        place->size < 1 || place->rank < 0 || place->rank >= place->size || timeout_ms <= 0) {
        return mag_fail(err, MAG_INVALID, RANK_VARIABLE " is \"%s\", which makes no sense", text);
    }
    place->timeout_ms = timeout_ms;
    ranks_bind_to_parent();
    if (parent != 0 && getppid() != parent) {
        return mag_fail(err, MAG_CLOSED, "the process that started this rank has gone");
    }
    *ret_fd = place->rank == 0 ? CHANNEL_FD : -1;
    return MAG_OK;
}

enum mag_status ranks_connect(int *ret_fd, struct mag_err *err)
{
    const char *name = getenv(SOCKET_VARIABLE);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t n = name != NULL ? strlen(name) : 0;
    if (n == 0 || n + 1 >= sizeof(a.sun_path)) {
        return mag_fail(err, MAG_INVALID, SOCKET_VARIABLE " does not name a socket");
    }
    memcpy(a.sun_path + 1, name, n);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&a, len) != 0) {
        enum mag_status st = mag_fail(err, MAG_CLOSED,
                                      "rank 0 cannot reach the trainer that started the ranks, "
                                      "which runs on the host of mpirun: %s",
                                      strerror(errno));
        if (fd >= 0) {
            (void)close(fd);
        }
        return st;
    }
    *ret_fd = fd;
    return MAG_OK;
}
