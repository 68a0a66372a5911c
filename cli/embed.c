/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/embed.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/program.h"
#include "cli/datadir.h"
#include "cli/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_MS 60000      /* a long record is replayed before the ready line */
#define SOCKET_PATH_MAX 100 /* sun_path holds 108 bytes */
#define LOG_TAIL 2048

/* ---- the folder of the socket ---- */

static enum mag_status make_socket_dir(struct embed *e, struct mag_err *err)
{
    char *path = xasprintf("%s/run", e->cfg->data);
    if (strlen(path) + sizeof("/workers.sock") < SOCKET_PATH_MAX &&
        (mkdir(path, 0700) == 0 || errno == EEXIST) && chmod(path, 0700) == 0) {
        e->socket_dir = path;
        return MAG_OK;
    }
    free(path);
    char template[] = "/tmp/magpie-run-XXXXXX";
    if (mkdtemp(template) == NULL) {
        return mag_fail(err, MAG_IO, "cannot make a folder for the workers' socket in /tmp: %s",
                        strerror(errno));
    }
    e->socket_dir = xstrdup(template);
    return MAG_OK;
}

static void remove_socket_dir(struct embed *e)
{
    if (e->socket_dir != NULL) {
        char *path = xasprintf("%s/workers.sock", e->socket_dir);
        (void)unlink(path);
        (void)rmdir(e->socket_dir);
        free(path);
    }
    free(e->socket_dir);
    e->socket_dir = NULL;
}

/* ---- the driver ---- */

static off_t size_of(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 ? s.st_size : 0;
}

/* What the driver wrote to its log since `from`: its last line says why it does not start. */
static void last_words(const char *log, off_t from, char *buf, size_t size)
{
    char text[LOG_TAIL + 1];
    ssize_t n = 0;
    int fd = open(log, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        off_t end = size_of(log);
        n = pread(fd, text, LOG_TAIL, end - from > LOG_TAIL ? end - LOG_TAIL : from);
        (void)close(fd);
    }
    while (n > 0 && text[n - 1] == '\n') {
        n--;
    }
    text[n > 0 ? n : 0] = '\0';
    const char *line = strrchr(text, '\n');
    line = line != NULL ? line + 1 : text;
    const char *prefix = "magpie driver: ";
    line = strncmp(line, prefix, strlen(prefix)) == 0 ? line + strlen(prefix) : line;
    (void)snprintf(buf, size, "%.*s", (int)size - 1, line[0] != '\0' ? line : "it said nothing");
}

/* Reads up to the end of the first line; false at the end of the pipe or the deadline. */
static bool read_ready(int fd, struct buf *line)
{
    int64_t deadline = clock_mono_ns() + READY_MS * MAG_NS_PER_MS;
    while (line->len == 0 || strchr(line->data, '\n') == NULL) {
        int64_t left = (deadline - clock_mono_ns()) / MAG_NS_PER_MS;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (left <= 0 || (poll(&p, 1, (int)left) < 0 && errno != EINTR)) {
            return false;
        }
        ssize_t n = p.revents != 0 ? read(fd, buf_room(line, 512), 512) : -1;
        if (n == 0) {
            return false;
        }
        if (n > 0) {
            line->len += (size_t)n;
            line->data[line->len] = '\0';
        }
    }
    return true;
}

static enum mag_status start_driver(struct embed *e, struct mag_err *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return mag_fail(err, MAG_IO, "pipe: %s", strerror(errno));
    }
    char *log = xasprintf("%s/driver.log", e->cfg->data);
    char *listen = xasprintf("ipc://%s/workers.sock", e->socket_dir);
    off_t from = size_of(log);
    const char *argv[] = {e->self,    "driver", "--data", e->cfg->data, "--http", e->cfg->http,
                          "--listen", listen,   NULL,     NULL,         NULL};
    if (e->cfg->storage != NULL) {
        argv[8] = "--storage";
        argv[9] = e->cfg->storage;
    }
    struct buf line = {0};
    enum mag_status st = spawn_child(argv, log, fds[1], &e->driver, err);
    (void)close(fds[1]);
    if (st == MAG_OK) {
        if (read_ready(fds[0], &line) && strncmp(line.data, "ready ", 6) == 0) {
            e->http = datadir_field(line.data, "http");
        }
        if (e->http == NULL) {
            char why[512];
            last_words(log, from, why, sizeof(why));
            st = mag_fail(err, MAG_IO, "the driver does not start: %s (log: %s)", why, log);
        }
    }
    (void)close(fds[0]);
    buf_fini(&line);
    e->nng = listen; /* as asked for; a path may hold blanks, the ready line's fields not */
    free(log);
    return st;
}

/* ---- workers ---- */

static enum mag_status start_worker(struct embed *e, int i, struct mag_err *err)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "worker-%d", i + 1);
    char *log = xasprintf("%s/%s.log", e->cfg->data, name);
    char slots[16];
    (void)snprintf(slots, sizeof(slots), "%d", e->cfg->slots);
    const char *argv[] = {e->self,  "worker", "--driver", e->nng,       "--slots", slots,
                          "--name", name,     "--data",   e->cfg->data, "--quiet", NULL};
    enum mag_status st = spawn_child(argv, log, -1, &e->workers[i], err);
    free(log);
    return st;
}

enum mag_status embed_start(struct embed *e, const struct embed_config *cfg, struct mag_err *err)
{
    *e = (struct embed){.cfg = cfg, .self = program_self()};
    if (e->self == NULL) {
        return mag_fail(err, MAG_IO, "/proc does not tell where this program lies");
    }
    enum mag_status st = make_socket_dir(e, err);
    if (st == MAG_OK) {
        st = start_driver(e, err);
    }
    for (int i = 0; i < cfg->workers && st == MAG_OK; i++) {
        st = start_worker(e, i, err);
    }
    if (st != MAG_OK) {
        embed_stop(e, 2000);
    }
    return st;
}

/* Reaps *pid when it has ended; true then. */
static bool ended(pid_t *pid, int *ret_status)
{
    if (*pid <= 0 || waitpid(*pid, ret_status, WNOHANG) == 0) {
        return false;
    }
    *pid = 0;
    return true;
}

enum mag_status embed_tend(struct embed *e, struct mag_err *err)
{
    int status = 0;
    char text[64];
    if (ended(&e->driver, &status)) {
        spawn_status_text(status, text, sizeof(text));
        return mag_fail(err, MAG_CLOSED,
                        "the driver ended (%s); see %s/driver.log. Run the same again to go on",
                        text, e->cfg->data);
    }
    for (int i = 0; i < e->cfg->workers; i++) {
        if (!ended(&e->workers[i], &status)) {
            continue;
        }
        spawn_status_text(status, text, sizeof(text));
        if (e->restarts++ >= EMBED_RESTARTS_MAX) {
            return mag_fail(err, MAG_CLOSED, "workers keep ending (%s); see %s/worker-%d.log", text,
                            e->cfg->data, i + 1);
        }
        enum mag_status st = start_worker(e, i, err);
        if (st != MAG_OK) {
            return st;
        }
    }
    return MAG_OK;
}

void embed_signal_workers(struct embed *e, int number)
{
    for (int i = 0; i < e->cfg->workers; i++) {
        if (e->workers[i] > 0) {
            (void)kill(e->workers[i], number);
        }
    }
}

int embed_workers_left(struct embed *e)
{
    int left = 0;
    int status = 0;
    for (int i = 0; i < e->cfg->workers; i++) {
        (void)ended(&e->workers[i], &status);
        left += e->workers[i] > 0;
    }
    return left;
}

static bool all_gone(struct embed *e, bool driver_too)
{
    int status = 0;
    if (driver_too) {
        (void)ended(&e->driver, &status);
    }
    return embed_workers_left(e) == 0 && (!driver_too || e->driver <= 0);
}

/* Waits for SIGCHLD-worth of changes by polling: children of ours, so at most 20 ms late. */
static bool wait_gone(struct embed *e, bool driver_too, int patience_ms)
{
    int64_t deadline = clock_mono_ns() + patience_ms * MAG_NS_PER_MS;
    while (!all_gone(e, driver_too)) {
        if (clock_mono_ns() > deadline) {
            return false;
        }
        (void)poll(NULL, 0, 20);
    }
    return true;
}

void embed_stop(struct embed *e, int patience_ms)
{
    embed_signal_workers(e, SIGTERM);
    if (!wait_gone(e, false, patience_ms)) {
        embed_signal_workers(e, SIGKILL);
        (void)wait_gone(e, false, patience_ms);
    }
    if (e->driver > 0) {
        (void)kill(e->driver, SIGTERM);
        if (!wait_gone(e, true, patience_ms)) {
            (void)kill(e->driver, SIGKILL);
            (void)wait_gone(e, true, patience_ms);
        }
    }
    remove_socket_dir(e);
    free(e->self);
    free(e->http);
    free(e->nng);
    e->self = NULL;
    e->http = NULL;
    e->nng = NULL;
}
