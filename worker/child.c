/* SPDX-License-Identifier: Apache-2.0
 *
 * Each child carries MAGPIE_RUN=<random> in its environment, by which what it leaves behind is
 * recognised.
 */
#include "worker/child.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/program.h"
#include "worker/orphans.h"
#include "worker/tree.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_CHUNK 65536
#define OUTPUT_LAST_MAX                                                                            \
    (4 << 20) /* bytes read after the end, so that a left-over writer cannot hold us */

struct children {
    struct event_base *base;
    struct event *sigchld;
    struct event *watch;
    int64_t watch_ns; /* when it is due */
    struct cgroups *cgroups;
    char *guard; /* magpie-guard, NULL = not installed */
    struct list_node all;
};

struct child {
    struct list_node node;
    struct children *owner;
    struct child_handler handler;
    pid_t pid;
    char token[33];
    struct bufferevent *channel;
    int out;
    struct event *out_event;
    struct event *limit; /* SIGKILL when it fires */
    int64_t limit_ns;    /* 0 = none */
    struct spawn_limits limits;
    char *group; /* its control group, NULL = none */
    int64_t peak_mb;
    int64_t oom_kills; /* of the machine, when it was started */
    bool left_nothing;
    bool killed;
    bool ended;
    bool held;
    bool skipping; /* inside a line that is too long */
};

/* ---- reading ---- */

static void use_line(struct child *c, struct evbuffer *in, size_t len)
{
    char *text = xmalloc(len + 1);
    (void)evbuffer_remove(in, text, len);
    (void)evbuffer_drain(in, 1);
    text[len] = '\0';
    if (!c->skipping && len > 0) {
        c->handler.line(c->handler.arg, text, len);
    }
    c->skipping = false;
    free(text);
}

/* Hands over whole lines. The handler may hold the child meanwhile, which ends the loop. */
static void use_lines(struct child *c)
{
    struct evbuffer *in = bufferevent_get_input(c->channel);
    while (!c->held || c->ended) {
        struct evbuffer_ptr nl = evbuffer_search(in, "\n", 1, NULL);
        if (nl.pos < 0) {
            break;
        }
        if (nl.pos > CHILD_LINE_MAX && !c->skipping) {
            c->skipping = true;
            c->handler.line(c->handler.arg, NULL, 0);
        }
        use_line(c, in, (size_t)nl.pos);
    }
    if (evbuffer_get_length(in) > CHILD_LINE_MAX && evbuffer_search(in, "\n", 1, NULL).pos < 0) {
        bool first = !c->skipping;
        c->skipping = true;
        (void)evbuffer_drain(in, evbuffer_get_length(in));
        if (first) {
            c->handler.line(c->handler.arg, NULL, 0);
        }
    }
}

static void on_channel(struct bufferevent *bev, void *arg)
{
    (void)bev;
    use_lines(arg);
}

static void on_channel_event(struct bufferevent *bev, short what, void *arg)
{
    (void)what;
    struct child *c = arg;
    (void)bufferevent_disable(bev, EV_READ | EV_WRITE);
    if (c->handler.closed != NULL && !c->ended) {
        c->handler.closed(c->handler.arg);
    }
}

/* Reads once; false at the end or when nothing is there. */
static bool read_output(struct child *c)
{
    char chunk[OUTPUT_CHUNK];
    ssize_t n = read(c->out, chunk, sizeof(chunk));
    if (n > 0) {
        c->handler.output(c->handler.arg, chunk, (size_t)n);
        return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        (void)event_del(c->out_event);
    }
    return false;
}

static void on_output(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)read_output(arg);
}

void child_read_output(struct child *c)
{
    int64_t left = OUTPUT_LAST_MAX;
    while (left > 0 && read_output(c)) {
        left -= OUTPUT_CHUNK;
    }
}

void child_hold(struct child *c, bool hold)
{
    if (c->held == hold || c->ended) {
        return;
    }
    c->held = hold;
    if (hold) {
        (void)bufferevent_disable(c->channel, EV_READ);
        (void)event_del(c->out_event);
        return;
    }
    (void)bufferevent_enable(c->channel, EV_READ);
    (void)event_add(c->out_event, NULL);
    bufferevent_trigger(c->channel, EV_READ, BEV_TRIG_IGNORE_WATERMARKS | BEV_TRIG_DEFER_CALLBACKS);
}

/* ---- its end ---- */

static void kill_group(const struct child *c)
{
    (void)kill(-c->pid, SIGKILL);
}

/* How often the kernel has killed for lack of memory; 0 = it does not say. */
static int64_t oom_kills(void)
{
    char line[128];
    long long n = 0;
    FILE *f = fopen("/proc/vmstat", "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL &&
           sscanf(line, "oom_kill %lld", &n) != 1) {
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return n;
}

static void on_limit(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct child *c = arg;
    c->killed = true;
    kill_group(c);
}

void child_limit(struct child *c, int64_t grace_ms)
{
    int64_t at = clock_mono_ns() + grace_ms * MAG_NS_PER_MS;
    if (c->ended || (c->limit_ns != 0 && c->limit_ns <= at)) {
        return;
    }
    c->limit_ns = at;
    const struct timeval tv = {.tv_sec = grace_ms / 1000, .tv_usec = grace_ms % 1000 * 1000};
    (void)event_add(c->limit, &tv);
}

void child_unlimit(struct child *c)
{
    c->limit_ns = 0;
    (void)event_del(c->limit);
}

void child_stop(struct child *c, int64_t grace_ms)
{
    if (!c->ended) {
        (void)kill(-c->pid, SIGTERM);
        child_limit(c, grace_ms);
    }
}

bool child_was_killed(const struct child *c)
{
    return c->killed;
}

bool child_left_nothing(const struct child *c)
{
    return c->left_nothing;
}

int64_t child_peak_mb(const struct child *c)
{
    return c->peak_mb;
}

bool child_saw_oom(const struct child *c)
{
    if (c->group != NULL && cgroup_saw_oom(c->group)) {
        return true;
    }
    return oom_kills() > c->oom_kills;
}

static bool is_leader(void *arg, pid_t pid);

/* Its parent gone, whatever it started is in its group, or was left to us with all below it. */
static bool left_nothing(const struct child *c)
{
    struct tree_left left;
    tree_find_left(is_leader, c->owner, &left);
    bool none = true;
    for (size_t i = 0; i < left.n; i++) {
        none = none && strcmp(left.items[i].token, c->token) != 0;
    }
    free(left.items);
    return none && kill(-c->pid, 0) != 0 && errno == ESRCH;
}

/* The process is reaped: what it wrote and still lies in pipe and socket is handed over first. */
static void finish(struct child *c, int status)
{
    c->left_nothing = left_nothing(c);
    kill_group(c);
    if (c->group != NULL) {
        int64_t peak = cgroup_peak_mb(c->group);
        c->peak_mb = peak > c->peak_mb ? peak : c->peak_mb;
        cgroup_kill(c->group);
    }
    c->ended = true;
    (void)event_del(c->limit);
    (void)event_del(c->out_event);
    child_read_output(c);
    struct evbuffer *in = bufferevent_get_input(c->channel);
    (void)bufferevent_disable(c->channel, EV_READ | EV_WRITE);
    (void)evbuffer_unfreeze(in, 0);
    while (evbuffer_read(in, bufferevent_getfd(c->channel), OUTPUT_CHUNK) > 0) {
        use_lines(c);
    }
    use_lines(c);
    c->handler.ended(c->handler.arg, status);
}

static struct child *find_pid(struct children *cs, pid_t pid)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &cs->all)
    {
        struct child *c = container_of(n, struct child, node);
        if (c->pid == pid && !c->ended) {
            return c;
        }
    }
    return NULL;
}

static bool is_leader(void *arg, pid_t pid)
{
    return find_pid(arg, pid) != NULL;
}

static bool is_live_token(void *arg, const char *token)
{
    struct children *cs = arg;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &cs->all)
    {
        const struct child *c = container_of(n, struct child, node);
        if (!c->ended && strcmp(c->token, token) == 0) {
            return true;
        }
    }
    return false;
}

static void on_sigchld(evutil_socket_t sig, short what, void *arg)
{
    (void)sig;
    (void)what;
    struct children *cs = arg;
    int status = 0;
    pid_t pid = 0;
    bool any = false;
    struct rusage used;
    while ((pid = wait4(-1, &status, WNOHANG, &used)) > 0) {
        any = true;
        struct child *c = find_pid(cs, pid);
        if (c != NULL) {
            c->peak_mb = used.ru_maxrss >> 10 > c->peak_mb ? used.ru_maxrss >> 10 : c->peak_mb;
            finish(c, status);
        }
    }
    if (any) {
        const struct orphans_test test = {
            .arg = cs, .is_leader = is_leader, .is_live = is_live_token};
        orphans_kill(&test);
    }
}

/* ---- limits that we keep ---- */

static void kill_over(struct child *c, enum child_limit limit, const char *why)
{
    c->killed = true;
    tree_kill(c->pid, c->token);
    if (c->handler.over != NULL) {
        c->handler.over(c->handler.arg, limit, why);
    }
}

static void watch(struct child *c, const struct tree_left *left)
{
    char why[160];
    struct tree t;
    const struct spawn_limits *l = &c->limits;
    if (c->ended || c->killed) {
        return;
    }
    tree_measure(c->pid, c->token, left, l->memory_mb > 0 ? l->memory_mb : INT64_MAX, &t);
    c->peak_mb = t.memory_mb > c->peak_mb ? t.memory_mb : c->peak_mb;
    if (l->memory_mb > 0 && t.memory_mb > l->memory_mb) {
        (void)snprintf(why, sizeof(why),
                       "it used %lld MB of memory; limits.memory allows %lld MB",
                       (long long)t.memory_mb, (long long)l->memory_mb);
        kill_over(c, CHILD_MEMORY, why);
    } else if (l->processes > 0 && t.processes > l->processes) {
        (void)snprintf(why, sizeof(why),
                       "it had %lld processes; limits.processes allows %lld",
                       (long long)t.processes, (long long)l->processes);
        kill_over(c, CHILD_PROCESSES, why);
    }
}

static bool is_watched(const struct child *c)
{
    const struct spawn_limits *l = &c->limits;
    return l->memory_mb > 0 || (l->processes > 0 && l->processes < CHILD_PROCESSES_FEW);
}

static void watch_on(struct children *cs)
{
    int ms = CHILD_GLANCE_MS;
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &cs->all)
    {
        ms = is_watched(container_of(n, struct child, node)) ? CHILD_WATCH_MS : ms;
    }
    int64_t due = clock_mono_ns() + ms * MAG_NS_PER_MS;
    /* Never later than it was: many short programs must not put the look at a long one off. */
    if (!evtimer_pending(cs->watch, NULL) || due < cs->watch_ns) {
        const struct timeval next = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
        cs->watch_ns = due;
        (void)event_add(cs->watch, &next);
    }
}

/* The handler of one that is over its limit may end others, so nothing is kept across it. */
static void on_watch(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct children *cs = arg;
    struct tree_left left;
    struct list_node *n, *tmp;
    tree_find_left(is_leader, cs, &left);
    list_foreach(n, tmp, &cs->all)
    {
        watch(container_of(n, struct child, node), &left);
    }
    free(left.items);
    if (!list_is_empty(&cs->all)) {
        watch_on(cs);
    }
}

/* ---- starting ---- */

static void make_token(char out[33])
{
    unsigned char raw[16];
    ssize_t n = getrandom(raw, sizeof(raw), 0);
    MAG_ASSERT(n == (ssize_t)sizeof(raw), "getrandom");
    for (size_t i = 0; i < sizeof(raw); i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", raw[i]);
    }
}

/* The environment with MAGPIE_RUN added; entries borrowed, the array and the last entry are not. */
static char **with_token(char *const *env, const char *token)
{
    size_t n = 0;
    while (env[n] != NULL) {
        n++;
    }
    char **all = xcalloc(n + 2, sizeof(char *));
    memcpy(all, env, n * sizeof(char *));
    all[n] = xasprintf(TREE_VARIABLE "=%s", token);
    return all;
}

/* The descriptor, moved above those that the child gets; closes the old one. */
static int lift(int fd)
{
    if (fd < 0 || fd > CHILD_FD) {
        return fd;
    }
    int up = fcntl(fd, F_DUPFD_CLOEXEC, CHILD_FD + 1);
    (void)close(fd);
    return up;
}

static void close_all(const int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
}

static enum mag_status open_pipes(int chan[2], int out[2], struct mag_err *err)
{
    bool ok =
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, chan) == 0 && pipe2(out, O_CLOEXEC) == 0;
    for (int i = 0; ok && i < 2; i++) {
        chan[i] = lift(chan[i]);
        out[i] = lift(out[i]);
        ok = chan[i] >= 0 && out[i] >= 0;
    }
    return ok ? MAG_OK
              : mag_fail(err, MAG_IO, "cannot make a channel to a program: %s", strerror(errno));
}

static void attach(struct child *c, int channel, int out)
{
    struct event_base *base = c->owner->base;
    (void)evutil_make_socket_nonblocking(channel);
    (void)evutil_make_socket_nonblocking(out);
    c->channel = bufferevent_socket_new(base, channel, BEV_OPT_CLOSE_ON_FREE);
    c->out = out;
    c->out_event = event_new(base, out, EV_READ | EV_PERSIST, on_output, c);
    c->limit = evtimer_new(base, on_limit, c);
    MAG_ASSERT(c->channel != NULL && c->out_event != NULL && c->limit != NULL, "event_new");
    bufferevent_setcb(c->channel, on_channel, NULL, on_channel_event, c);
    (void)bufferevent_enable(c->channel, EV_READ | EV_WRITE);
    (void)event_add(c->out_event, NULL);
}

/* Starts the process; both far ends are closed afterwards, whatever comes of it. */
static enum mag_status spawn_it(struct child *c, const struct spawn_program *program, int channel,
                                int out, struct mag_err *err)
{
    struct spawn_program p = *program;
    char **env = with_token(program->env, c->token);
    p.env = env;
    c->group = c->owner->guard != NULL ? cgroup_make(c->owner->cgroups, c->token, &p.limits) : NULL;
    p.cgroup = c->group;
    if (c->group != NULL && c->owner->cgroups->memory) {
        p.limits.memory_mb = 0; /* the kernel keeps it: no wall behind it */
    }
    c->oom_kills = oom_kills();
    enum mag_status st = spawn_program(&c->pid, &p, c->owner->guard, channel, out, err);
    for (size_t i = 0; env[i] != NULL; i++) {
        if (env[i + 1] == NULL) {
            free(env[i]);
        }
    }
    free(env);
    (void)close(channel);
    (void)close(out);
    return st;
}

enum mag_status child_start(struct child **ret, struct children *cs,
                            const struct spawn_program *program,
                            const struct child_handler *handler, struct mag_err *err)
{
    int chan[2] = {-1, -1};
    int out[2] = {-1, -1};
    enum mag_status st = open_pipes(chan, out, err);
    if (st != MAG_OK) {
        close_all(chan, 2);
        close_all(out, 2);
        return st;
    }
    struct child *c = xcalloc(1, sizeof(*c));
    c->owner = cs;
    c->handler = *handler;
    c->limits = program->limits;
    make_token(c->token);
    st = spawn_it(c, program, chan[1], out[1], err);
    if (st != MAG_OK) {
        (void)close(chan[0]);
        (void)close(out[0]);
        cgroup_drop_take(cs->cgroups, c->group);
        free(c);
        return st;
    }
    attach(c, chan[0], out[0]);
    list_append(&cs->all, &c->node);
    watch_on(cs);
    *ret = c;
    return MAG_OK;
}

void child_set_handler(struct child *c, const struct child_handler *handler)
{
    c->handler = *handler;
}

pid_t child_pid(const struct child *c)
{
    return c->pid;
}

void child_send(struct child *c, const char *text, size_t len)
{
    if (!c->ended) {
        (void)bufferevent_write(c->channel, text, len);
    }
}

void child_destroy(struct child *c)
{
    if (c == NULL) {
        return;
    }
    if (!c->ended) {
        kill_group(c);
    }
    list_remove(&c->node);
    bufferevent_free(c->channel);
    event_free(c->out_event);
    event_free(c->limit);
    (void)close(c->out);
    cgroup_drop_take(c->owner->cgroups, c->group);
    free(c);
}

struct children *children_create(struct event_base *base, struct cgroups *cgroups)
{
    struct children *cs = xcalloc(1, sizeof(*cs));
    cs->base = base;
    cs->cgroups = cgroups;
    cs->guard = program_find("magpie-guard");
    list_init(&cs->all);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    cs->sigchld = evsignal_new(base, SIGCHLD, on_sigchld, cs);
    MAG_ASSERT(cs->sigchld != NULL, "evsignal_new");
    cs->watch = evtimer_new(base, on_watch, cs);
    MAG_ASSERT(cs->watch != NULL, "evtimer_new");
    (void)event_add(cs->sigchld, NULL);
    return cs;
}

/* Until nothing below us is left, two seconds at most: a process in the kernel's hands may stay. */
static void kill_all(struct children *cs)
{
    const struct orphans_test test = {.arg = cs, .is_leader = is_leader, .is_live = is_live_token};
    int64_t end = clock_mono_ns() + 2 * MAG_NS_PER_S;
    while (clock_mono_ns() < end) {
        orphans_kill(&test);
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid < 0) {
            return;
        }
        if (pid == 0) {
            (void)poll(NULL, 0, 5);
        }
    }
}

void children_destroy(struct children *cs)
{
    if (cs == NULL) {
        return;
    }
    while (!list_is_empty(&cs->all)) {
        child_destroy(container_of(list_first(&cs->all), struct child, node));
    }
    (void)event_del(cs->sigchld);
    kill_all(cs);
    event_free(cs->sigchld);
    event_free(cs->watch);
    free(cs->guard);
    free(cs);
}
