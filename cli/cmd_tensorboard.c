/* SPDX-License-Identifier: Apache-2.0
 *
 * TensorBoard on an experiment's event files: where they lie, when the storage is a folder, else on a
 * copy that follows them. Event files never change once they are there, so a copy is brought up to
 * date by what it has not.
 */
#include "base/alloc.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/spawn.h"
#include "storage/storage.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define COPY_EVERY_S 10
#define EVENT_FILE "tfevents"

extern char **environ;

/* ---- where the files are ---- */

/* The experiment's place in storage ("file:/…/experiments/7"); malloc'ed. */
static enum mag_status find_place(struct client *c, const char *key, char **ret,
                                  struct mag_err *err)
{
    json_t *x = NULL;
    enum mag_status st = client_open(c, err);
    if (st == MAG_OK) {
        char *path = client_experiment(c, key, "");
        st = client_call(c, "GET", path, NULL, 0, &x, err);
        free(path);
    }
    client_close(c);
    const char *place = json_string_value(json_object_get(x, "storage"));
    if (st == MAG_OK && json_is_false(json_object_get(json_object_get(x, "spec"), "tensorboard"))) {
        st = mag_fail(err, MAG_UNSUPPORTED,
                      "experiment %s writes no event files: its file says \"tensorboard\": false",
                      key);
    } else if (st == MAG_OK && place == NULL) {
        st = mag_fail(err, MAG_UNSUPPORTED, "this driver does not say where its storage is");
    }
    if (st == MAG_OK) {
        *ret = xstrdup(place);
    }
    json_decref(x);
    return st;
}

/* ---- a copy ---- */

struct copy {
    struct storage *s;
    char *root; /* local folder of the experiment */
    char *dir;  /* key that is listed */
    char *local;
    struct mag_err *err;
    enum mag_status status;
};

static void copy_file(struct copy *c, const char *name)
{
    char *path = xasprintf("%s/%s", c->local, name);
    char *part = xasprintf("%s/.part", c->local);
    char *key = xasprintf("%s/%s", c->dir, name);
    char *bytes = NULL;
    size_t len = 0;
    if (access(path, F_OK) != 0) {
        c->status = storage_get(c->s, key, STORAGE_OBJECT_MAX, &bytes, &len, c->err);
        if (c->status == MAG_OK) {
            c->status = storage_make_local(c->local, c->err);
        }
        FILE *f = c->status == MAG_OK ? fopen(part, "we") : NULL;
        bool ok = f != NULL && fwrite(bytes, 1, len, f) == len;
        ok = f != NULL && fclose(f) == 0 && ok && rename(part, path) == 0;
        if (c->status == MAG_OK && !ok) {
            c->status = mag_fail(c->err, MAG_IO, "%s: %s", path, strerror(errno));
        }
    }
    free(bytes);
    free(key);
    free(part);
    free(path);
}

static bool visit_file(void *arg, const char *name)
{
    struct copy *c = arg;
    if (strstr(name, EVENT_FILE) != NULL && name[strlen(name) - 1] != '/') {
        copy_file(c, name);
    }
    return c->status == MAG_OK;
}

/* The event files of `below`/tensorboard; nothing there is nothing to do. */
static void copy_run(struct copy *c, const char *key, const char *below)
{
    c->dir = xasprintf("%s/%stensorboard", key, below);
    c->local = xasprintf("%s/%stensorboard", c->root, below);
    enum mag_status st = storage_list(c->s, c->dir, visit_file, c, c->err);
    c->status = c->status == MAG_OK ? st : c->status;
    free(c->dir);
    free(c->local);
}

struct trials {
    struct copy *copy;
    const char *key;
};

static bool visit_trial(void *arg, const char *name)
{
    const struct trials *t = arg;
    char *below = xasprintf("trials/%s", name);
    if (name[strlen(name) - 1] == '/') {
        copy_run(t->copy, t->key, below);
    }
    free(below);
    return t->copy->status == MAG_OK;
}

static enum mag_status copy_all(struct storage *s, const char *key, const char *root,
                                struct mag_err *err)
{
    struct copy c = {.s = s, .root = xstrdup(root), .err = err};
    struct trials t = {.copy = &c, .key = key};
    char *dir = xasprintf("%s/trials", key);
    copy_run(&c, key, "");
    if (c.status == MAG_OK) {
        enum mag_status st = storage_list(s, dir, visit_trial, &t, err);
        c.status = c.status == MAG_OK ? st : c.status;
    }
    free(dir);
    free(c.root);
    return c.status;
}

/* Kept between calls: ~/.cache/magpie/tensorboard/<store>/<experiment>, malloc'ed. */
static char *cache_folder(const char *place)
{
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    const char *below = strstr(place, "/experiments/");
    const char *store = below;
    while (store > place && store[-1] != '/') {
        store--;
    }
    char *base = cache != NULL && cache[0] == '/' ? xstrdup(cache)
                                                  : xasprintf("%s/.cache", home != NULL ? home : "/tmp");
    char *path = xasprintf("%s/magpie/tensorboard/%.*s/%s", base, (int)(below - store), store,
                           below + strlen("/experiments/"));
    free(base);
    return path;
}

/* ---- running it ---- */

struct board {
    char *folder;        /* what TensorBoard is given */
    struct storage *far; /* storage that is no folder: `folder` is its copy */
    char *key;
};

static enum mag_status open_board(const char *place, struct board *b, struct mag_err *err)
{
    static const char file[] = "file:";
    const char *below = strstr(place, "/experiments/");
    if (below == NULL) {
        return mag_fail(err, MAG_UNSUPPORTED, "%s is not in a storage of magpie", place);
    }
    if (strncmp(place, file, strlen(file)) == 0) {
        struct stat sb;
        b->folder = xstrdup(place + strlen(file));
        char *root = xstrndup(b->folder, strlen(b->folder) - strlen(below));
        bool there = stat(root, &sb) == 0 && S_ISDIR(sb.st_mode);
        free(root);
        return there ? MAG_OK
                     : mag_fail(err, MAG_NOTFOUND,
                                "%s is not on this host: run this where the driver's storage is "
                                "mounted",
                                b->folder);
    }
    char *root = xstrndup(place, (size_t)(below - place));
    enum mag_status st = storage_open(root, &b->far, err);
    free(root);
    b->key = xstrdup(below + 1);
    b->folder = cache_folder(place);
    return st == MAG_OK ? copy_all(b->far, b->key, b->folder, err) : st;
}

static void close_board(struct board *b)
{
    storage_close(b->far);
    free(b->folder);
    free(b->key);
}

/* Until the child ends: signals that would end us are passed on, the copy is brought up to date. */
static int follow(const struct board *b, pid_t pid, const sigset_t *set)
{
    const struct timespec wait = {.tv_sec = COPY_EVERY_S};
    int status = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        siginfo_t info = {0};
        int sig = sigtimedwait(set, &info, &wait);
        bool terminal = sig == SIGINT && info.si_code == SI_KERNEL; /* the child got it, too */
        if (sig == SIGTERM || sig == SIGHUP || (sig == SIGINT && !terminal)) {
            (void)kill(pid, sig);
        } else if (sig < 0 && errno == EAGAIN && b->far != NULL) {
            struct mag_err err = {0};
            if (copy_all(b->far, b->key, b->folder, &err) != MAG_OK) {
                (void)fprintf(stderr, "magpie tensorboard: %s\n", err.text);
            }
        }
    }
    bool ended = WIFSIGNALED(status) && (WTERMSIG(status) == SIGINT || WTERMSIG(status) == SIGTERM);
    return ended ? CMD_OK : WIFEXITED(status) ? WEXITSTATUS(status) : CMD_FAILED;
}

static int run_board(const struct board *b, char *const argv[])
{
    pid_t pid = 0;
    sigset_t set, none;
    posix_spawnattr_t attr;
    (void)sigemptyset(&none);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)posix_spawnattr_init(&attr);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    int e = posix_spawnp(&pid, argv[0], NULL, &attr, argv, environ);
    (void)posix_spawnattr_destroy(&attr);
    if (e == ENOENT) {
        return cmd_failf(CMD_FAILED,
                         "there is no %s on this host: install it with \"pip "
                         "install tensorboard\" (in the environment that you call this from), name "
                         "one by MAGPIE_TENSORBOARD, or open %s with TensorBoard elsewhere",
                         argv[0], b->folder);
    }
    if (e != 0) {
        return cmd_failf(CMD_FAILED, "%s: %s", argv[0], strerror(e));
    }
    return follow(b, pid, &set);
}

/* `more`: the user's own arguments for TensorBoard. */
static int start_board(const struct board *b, const char *host, int64_t port,
                       const struct flags_args *more)
{
    const char *own = getenv("MAGPIE_TENSORBOARD");
    char *argv[FLAGS_ARGS_MAX + 8] = {NULL};
    int n = 0;
    argv[n++] = xstrdup(own != NULL && own[0] != '\0' ? own : "tensorboard");
    argv[n++] = xasprintf("--logdir=%s", b->folder);
    argv[n++] = xasprintf("--host=%s", host);
    argv[n++] = xasprintf("--port=%" PRId64, port);
    for (int i = 1; i < more->n; i++) {
        argv[n++] = xstrdup(more->items[i]);
    }
    int status = run_board(b, argv);
    while (n > 0) {
        free(argv[--n]);
    }
    return status;
}

int cmd_tensorboard(int argc, char **argv)
{
    struct client c = {0};
    const char *host = NULL;
    int64_t port = 0;
    bool only_name = false;
    const struct flag flags[] = {
        FLAG(FLAG_TEXT, "host", &host, "ADDRESS", "where TensorBoard listens",
             .fallback = "127.0.0.1"),
        FLAG(FLAG_INT, "port", &port, "PORT", "its port, 0 = a free one", .fallback = "6006",
             .min = 0, .max = 65535),
        FLAG(FLAG_BOOL, "logdir", &only_name, NULL, "print the folder of event files, start nothing"),
        CLIENT_FLAGS(&c),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie tensorboard",
        .args = "ID [-- ARGUMENT...]",
        .flags = flags,
        .min_args = 1,
        .max_args = FLAGS_ARGS_MAX,
        .summary = "Starts TensorBoard (yours: pip install tensorboard) on an experiment's trials.",
        .detail = "ID is an experiment's number or its name. What stands behind -- goes to "
                  "TensorBoard. Event files in\na storage that is no folder are copied below "
                  "~/.cache/magpie, again while TensorBoard runs."};
    struct flags_args args;
    struct mag_err err = {0};
    struct board b = {0};
    char *place = NULL;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    if (find_place(&c, args.items[0], &place, &err) != MAG_OK ||
        open_board(place, &b, &err) != MAG_OK) {
        status = cmd_fail(&err);
    } else if (only_name && c.json) {
        cmd_print_json(json_pack("{s:s}", "logdir", b.folder));
        status = CMD_OK;
    } else if (only_name) {
        (void)printf("%s\n", b.folder);
        status = CMD_OK;
    } else {
        status = start_board(&b, host, port, &args);
    }
    close_board(&b);
    free(place);
    return status;
}
