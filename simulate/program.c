/* SPDX-License-Identifier: Apache-2.0
 *
 * An objective that is a program of the user's: one process a run, asked line by line.
 *
 *     to it    {"trial":1,"step":3,"budget":9,"params":{"lr":0.01},"seed":7}
 *     from it  {"value":0.42}   or with the step's time   {"value":0.42,"seconds":31.5}
 *
 * Further metrics of the experiment come beside it: {"value":0.42,"values":{"latency":3.1}}. A value
 * that is null (or NaN) fails the trial. Its standard error is ours. It gets a socket as standard
 * input and output, so that a program that went away costs no signal.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "simulate/objective_impl.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_MAX 65536  /* bytes of one answer */
#define GOODBYE_MS 2000   /* to end after its input has ended */
#define SECONDS_MAX 3.2e7 /* a year, for one step */

extern char **environ;

struct program {
    const struct space *space;
    char *name; /* its command, for messages */
    uint64_t seed;
    int64_t timeout_ms;
    const struct objective_more *more;
    int n_more;
    pid_t pid;
    int fd;
    struct buf in; /* bytes received and not used */
};

/* ---- start and end ---- */

static enum mag_status spawn(struct program *p, char *const argv[], int theirs,
                             struct mag_err *err)
{
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t attr;
    sigset_t none;
    (void)sigemptyset(&none);
    (void)posix_spawn_file_actions_init(&fa);
    (void)posix_spawnattr_init(&attr);
    (void)posix_spawn_file_actions_adddup2(&fa, theirs, STDIN_FILENO);
    (void)posix_spawn_file_actions_adddup2(&fa, theirs, STDOUT_FILENO);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    int e = posix_spawnp(&p->pid, argv[0], &fa, &attr, argv, environ);
    (void)posix_spawn_file_actions_destroy(&fa);
    (void)posix_spawnattr_destroy(&attr);
    if (e != 0) {
        p->pid = 0;
        return mag_fail(err, MAG_INVALID, "the objective's program %s cannot be started: %s",
                        argv[0], strerror(e));
    }
    return MAG_OK;
}

enum mag_status program_start(const struct objective_spec *s, const struct objective_for *what,
                              struct program **ret, struct mag_err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return mag_fail(err, MAG_IO, "no socket for the objective's program: %s", strerror(errno));
    }
    struct program *p = xcalloc(1, sizeof(*p));
    p->space = what->space;
    p->seed = what->noise;
    p->timeout_ms = s->timeout_ms;
    p->more = what->more;
    p->n_more = what->n_more;
    p->fd = pair[0];
    p->name = xstrdup(s->argv[0]);
    for (int i = 1; s->argv[i] != NULL && strlen(p->name) < 200; i++) {
        char *longer = xasprintf("%s %s", p->name, s->argv[i]);
        free(p->name);
        p->name = longer;
    }
    enum mag_status st = spawn(p, s->argv, pair[1], err);
    (void)close(pair[1]);
    if (st != MAG_OK) {
        program_destroy(p);
        return st;
    }
    *ret = p;
    return MAG_OK;
}

/* True when it has ended within the time. */
static bool wait_end(pid_t pid, int ms, int *ret_status)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    if (fd >= 0) {
        (void)poll(&pfd, 1, ms);
        (void)close(fd);
    }
    return waitpid(pid, ret_status, WNOHANG) == pid;
}

void program_destroy(struct program *p)
{
    if (p == NULL) {
        return;
    }
    int status = 0;
    (void)close(p->fd);
    if (p->pid > 0 && !wait_end(p->pid, GOODBYE_MS, &status)) {
        (void)kill(-p->pid, SIGKILL);
        (void)waitpid(p->pid, &status, 0);
    }
    buf_fini(&p->in);
    free(p->name);
    free(p);
}

/* It said goodbye instead of an answer: how it ended, if it did. */
static enum mag_status gone(struct program *p, const struct objective_ask *ask, struct mag_err *err)
{
    int status = 0;
    char how[64] = "closed its output";
    if (wait_end(p->pid, GOODBYE_MS, &status)) {
        p->pid = 0;
        if (WIFSIGNALED(status)) {
            (void)snprintf(how, sizeof(how), "was killed by signal %d", WTERMSIG(status));
        } else {
            (void)snprintf(how, sizeof(how), "ended with status %d", WEXITSTATUS(status));
        }
    }
    return mag_fail(err, MAG_CLOSED,
                    "the objective's program \"%s\" %s before it answered trial %lld, step %lld; it "
                    "must answer line after line until its input ends",
                    p->name, how, (long long)ask->trial, (long long)ask->step);
}

/* ---- asking ---- */

static enum mag_status send_all(struct program *p, const struct objective_ask *ask,
                                const struct buf *line, struct mag_err *err)
{
    for (size_t at = 0; at < line->len;) {
        ssize_t n = send(p->fd, line->data + at, line->len - at, MSG_NOSIGNAL);
        if (n > 0) {
            at += (size_t)n;
        } else if (n < 0 && errno != EINTR) {
            return gone(p, ask, err);
        }
    }
    return MAG_OK;
}

/* Waits for a whole line at the start of p->in; its length in *ret. */
static enum mag_status receive(struct program *p, const struct objective_ask *ask, size_t *ret,
                               struct mag_err *err)
{
    int64_t deadline = clock_mono_ns() + p->timeout_ms * MAG_NS_PER_MS;
    for (;;) {
        char *end = p->in.len > 0 ? memchr(p->in.data, '\n', p->in.len) : NULL;
        if (end != NULL) {
            *ret = (size_t)(end - p->in.data);
            return MAG_OK;
        }
        if (p->in.len > ANSWER_MAX) {
            return mag_fail(err, MAG_LIMIT,
                            "the objective's program \"%s\" answered more than %d bytes without a "
                            "line's end",
                            p->name, ANSWER_MAX);
        }
        int64_t left = (deadline - clock_mono_ns()) / MAG_NS_PER_MS;
        struct pollfd pfd = {.fd = p->fd, .events = POLLIN};
        if (left <= 0 || poll(&pfd, 1, (int)left) == 0) {
            return mag_fail(err, MAG_TIMEOUT,
                            "the objective's program \"%s\" did not answer trial %lld, step %lld "
                            "within %g s (does it flush its output?)",
                            p->name, (long long)ask->trial, (long long)ask->step,
                            (double)p->timeout_ms / 1000);
        }
        ssize_t n = recv(p->fd, buf_room(&p->in, 4096), 4096, MSG_DONTWAIT);
        if (n > 0) {
            p->in.len += (size_t)n;
        } else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
            return gone(p, ask, err);
        }
    }
}

static double number_or_nan(const json_t *v)
{
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* The metrics beside the first. */
static enum mag_status read_more(const struct program *p, const json_t *o, double *ret,
                                 struct mag_err *err)
{
    for (int i = 0; i < p->n_more; i++) {
        const json_t *v = json_object_get(json_object_get(o, "values"), p->more[i].name);
        if (!json_is_number(v) && !json_is_null(v)) {
            return mag_fail(err, MAG_INVALID,
                            "the objective's program \"%s\" must answer \"values\": {\"%.60s\": "
                            "number, …} too: the experiment needs that metric",
                            p->name, p->more[i].name);
        }
        ret[i] = number_or_nan(v);
    }
    return MAG_OK;
}

static enum mag_status read_answer(const struct program *p, const json_t *o, double *ret,
                                   double *ret_seconds, struct mag_err *err)
{
    const json_t *value = json_object_get(o, "value");
    const json_t *seconds = json_object_get(o, "seconds");
    if (!json_is_number(value) && !json_is_null(value)) {
        return mag_fail(err, MAG_INVALID,
                        "the objective's program \"%s\" must answer {\"value\": number}; \"value\" "
                        "is %s",
                        p->name, value != NULL ? mjson_kind(value) : "missing");
    }
    double s = json_number_value(seconds);
    if (seconds != NULL && !(json_is_number(seconds) && s >= 0 && s <= SECONDS_MAX)) {
        return mag_fail(err, MAG_INVALID,
                        "the objective's program \"%s\": \"seconds\" must be 0 to %g", p->name,
                        SECONDS_MAX);
    }
    ret[0] = number_or_nan(value);
    if (seconds != NULL) {
        *ret_seconds = s;
    }
    return read_more(p, o, ret + 1, err);
}

static void write_question(const struct program *p, const struct objective_ask *ask,
                           struct buf *out)
{
    json_t *params = space_point_to_json(p->space, ask->point);
    json_t *q =
        json_pack("{s:I, s:I, s:I, s:o, s:I}", "trial", (json_int_t)ask->trial, "step",
                  (json_int_t)ask->step, "budget", (json_int_t)ask->budget, "params", params,
                  "seed", (json_int_t)(p->seed & ((UINT64_C(1) << 53) - 1)));
    char *text = mjson_dump(q);
    buf_addf(out, "%s\n", text);
    free(text);
    json_decref(q);
}

enum mag_status program_value(struct program *p, const struct objective_ask *ask, double *ret,
                              double *ret_seconds, struct mag_err *err)
{
    struct buf line = {0};
    size_t len = 0;
    write_question(p, ask, &line);
    enum mag_status st = send_all(p, ask, &line, err);
    buf_fini(&line);
    st = st == MAG_OK ? receive(p, ask, &len, err) : st;
    if (st != MAG_OK) {
        return st;
    }
    json_t *o = NULL;
    struct mag_err bad = {0};
    if (mjson_parse_nan(p->in.data, len, &o, &bad) != MAG_OK) {
        st = mag_fail(err, MAG_INVALID,
                      "the objective's program \"%s\" answered \"%.*s\", which is no JSON", p->name,
                      (int)(len < 60 ? len : 60), p->in.data);
    } else {
        st = read_answer(p, o, ret, ret_seconds, err);
    }
    json_decref(o);
    buf_shift(&p->in, len + 1);
    return st;
}
