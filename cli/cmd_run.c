/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/clock.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/datadir.h"
#include "cli/embed.h"
#include "cli/format.h"
#include "cli/status.h"
#include "cli/term.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define POLL_MS 400
#define PLAIN_LINE_MS 10000 /* between progress lines without a terminal */
#define DRAIN_MS 15000
#define HURRY_MS 300 /* between the first and second signal to a worker: signals do not queue */

struct run {
    struct client client;
    struct embed embed;
    struct embed_config ecfg;
    struct cmd_spec cs;
    struct term_progress progress;
    sigset_t signals;
    int64_t id;
    int interrupts; /* Ctrl-C and SIGTERM so far */
    bool keep, again, json;
};

/* Standard output carries the result; everything said on the way goes to standard error. */
static FILE *said(const struct run *r)
{
    return r->json ? stderr : stdout;
}

/* ---- which experiment ---- */

/* Is the file's experiment the one that `x` describes? A seed that the file leaves out was drawn
 * then. */
static bool same_experiment(const struct run *r, const json_t *x)
{
    const json_t *spec = json_object_get(x, "spec");
    json_t *doc = json_copy(r->cs.doc);
    if (json_object_get(doc, "seed") == NULL) {
        (void)json_object_set(doc, "seed", json_object_get(spec, "seed"));
    }
    struct mjson_issues is = {0};
    struct spec *mine = spec_parse(doc, 0, &is);
    bool same = mine != NULL && json_equal(mine->resolved, spec);
    spec_destroy(mine);
    mjson_issues_fini(&is);
    json_decref(doc);
    return same;
}

/* An unfinished experiment of this data folder that came from the same file, 0 = none. */
static enum mag_status find_unfinished(struct run *r, int64_t *ret, bool *ret_paused,
                                       struct mag_err *err)
{
    json_t *all = NULL;
    enum mag_status st =
        client_list(&r->client, "/api/v1/experiments", "", "experiments", 0, &all, err);
    size_t i = 0;
    const json_t *x = NULL;
    json_array_foreach(all, i, x)
    {
        if (status_is_over(x) || strcmp(format_string(x, "name"), r->cs.spec->name) != 0) {
            continue;
        }
        json_t *whole = NULL;
        st = client_get(&r->client, &whole, err, "/api/v1/experiments/%" PRId64,
                        format_int(x, "id"));
        if (st != MAG_OK) {
            break;
        }
        if (same_experiment(r, whole)) {
            *ret = format_int(whole, "id");
            *ret_paused = strcmp(format_string(whole, "state"), "paused") == 0;
        }
        json_decref(whole);
    }
    json_decref(all);
    return st;
}

static enum mag_status continue_or_submit(struct run *r, struct mag_err *err)
{
    int64_t old = 0;
    bool paused = false;
    enum mag_status st = r->again ? MAG_OK : find_unfinished(r, &old, &paused, err);
    if (st != MAG_OK) {
        return st;
    }
    if (old > 0) {
        r->id = old;
        (void)fprintf(said(r),
                      "going on with experiment %" PRId64
                      ", which this file began (--again starts anew)\n",
                      old);
        char path[96];
        (void)snprintf(path, sizeof(path), "/api/v1/experiments/%" PRId64 ":resume", old);
        return paused ? client_post(&r->client, path, json_object(), NULL, err) : MAG_OK;
    }
    json_t *x = NULL;
    st = client_submit(&r->client, r->cs.text, r->cs.len, &x, err);
    if (st == MAG_OK) {
        r->id = format_int(x, "id");
        (void)fprintf(said(r), "experiment %" PRId64 " \"%s\", %d worker%s\n", r->id,
                      r->cs.spec->name, r->ecfg.workers, r->ecfg.workers == 1 ? "" : "s");
    }
    json_decref(x);
    return st;
}

/* ---- following it ---- */

/* Waits for a signal or the next look. */
static void wait_a_little(struct run *r)
{
    struct timespec t = {.tv_nsec = POLL_MS * MAG_NS_PER_MS};
    int number = sigtimedwait(&r->signals, NULL, &t);
    if (number == SIGINT || number == SIGTERM) {
        r->interrupts++;
    }
}

static void say_drain(struct run *r)
{
    term_progress_clear(&r->progress, said(r));
    (void)fprintf(said(r),
                  "draining: running trials are given back; Ctrl-C again to end at once\n");
    (void)fflush(said(r));
}

/* Ends when the experiment is over or pauses, a child's death cannot be mended, or on Ctrl-C. The
 * last state seen in *ret (new reference). */
static enum mag_status follow(struct run *r, json_t **ret, struct mag_err *err)
{
    enum mag_status st = MAG_OK;
    while (st == MAG_OK && r->interrupts == 0) {
        json_t *x = NULL;
        st = client_get(&r->client, &x, err, "/api/v1/experiments/%" PRId64, r->id);
        if (st == MAG_OK) {
            json_decref(*ret);
            *ret = x;
            char *line = status_line(x, term_is_tty(said(r)));
            term_progress(&r->progress, said(r), clock_mono_ns() / MAG_NS_PER_MS, PLAIN_LINE_MS,
                          line);
            free(line);
            if (status_is_over(x) || strcmp(format_string(x, "state"), "paused") == 0) {
                break;
            }
        }
        struct mag_err dead = {0};
        if (embed_tend(&r->embed, &dead) != MAG_OK) {
            *err = dead; /* why nobody answers */
            return dead.code;
        }
        wait_a_little(r);
    }
    term_progress_clear(&r->progress, said(r));
    return st;
}

/* Workers end when their trials do. After a Ctrl-C they are told twice: a trial then stops at its
 * next checkpoint and is given back, and the record knows. A second Ctrl-C ends everything. */
static void drain(struct run *r)
{
    bool hurry = r->interrupts > 0;
    int64_t now = clock_mono_ns();
    int64_t again = now + HURRY_MS * MAG_NS_PER_MS;
    int64_t deadline = now + DRAIN_MS * MAG_NS_PER_MS;
    embed_signal_workers(&r->embed, SIGTERM);
    while (embed_workers_left(&r->embed) > 0 && r->interrupts < 2 && now < deadline) {
        wait_a_little(r);
        now = clock_mono_ns();
        if (hurry && now >= again) {
            embed_signal_workers(&r->embed, SIGTERM);
            hurry = false;
        }
    }
    embed_stop(&r->embed, r->interrupts > 1 ? 500 : DRAIN_MS);
}

static void keep_open(struct run *r)
{
    (void)fprintf(said(r), "the driver and the board stay up; Ctrl-C ends them\n");
    (void)fflush(said(r));
    struct mag_err err = {0};
    while (r->interrupts == 0 && embed_tend(&r->embed, &err) == MAG_OK) {
        wait_a_little(r);
    }
    r->interrupts = 0;
}

static void report(struct run *r, json_t *x)
{
    if (r->json) {
        cmd_print_json(json_pack("{s:I, s:O*, s:O*, s:O*, s:O*, s:O*, s:s}", "experiment", r->id,
                                 "name", json_object_get(x, "name"), "state",
                                 json_object_get(x, "state"), "why", json_object_get(x, "why"),
                                 "counts", json_object_get(x, "counts"), "best",
                                 json_object_get(x, "best"), "url", r->embed.http));
        return;
    }
    status_print_end(&r->client, x, stdout);
    const char *state = format_string(x, "state");
    if (strcmp(state, "paused") == 0) {
        (void)printf("paused: %s\n", format_why(x));
    }
    (void)printf("board: %s/\n", r->embed.http);
}

static void say_next(const struct run *r, bool over)
{
    const char *magpie = program_invocation_name;
    if (r->json) {
        return;
    }
    if (!over) {
        (void)printf("to go on:\n  %s run %s --data %s\n", magpie, r->cs.path, r->ecfg.data);
    } else {
        (void)printf("to look at it again:\n  %s driver --data %s\n  %s trials %" PRId64
                     " --sort best --limit 10 --data %s\n",
                     magpie, r->ecfg.data, magpie, r->id, r->ecfg.data);
    }
}

static int session(struct run *r)
{
    struct mag_err err = {0};
    json_t *x = NULL;
    bool over = false;
    enum mag_status st = embed_start(&r->embed, &r->ecfg, &err);
    if (st != MAG_OK) {
        return cmd_fail(&err);
    }
    r->client.url = r->embed.http;
    r->client.data = r->ecfg.data;
    st = client_open(&r->client, &err);
    if (st == MAG_OK) {
        (void)fprintf(said(r), "board: %s/\n", r->embed.http);
        st = continue_or_submit(r, &err);
    }
    (void)fflush(stdout);
    if (st == MAG_OK) {
        st = follow(r, &x, &err);
    }
    if (st == MAG_OK && r->interrupts > 0) {
        say_drain(r);
    }
    if (st == MAG_OK && x != NULL) {
        over = status_is_over(x);
        report(r, x);
        say_next(r, over);
        if (r->keep && r->interrupts == 0) {
            keep_open(r);
        }
    }
    (void)fflush(stdout);
    int status = st != MAG_OK ? cmd_fail(&err) : CMD_OK;
    drain(r);
    client_close(&r->client);
    bool well = over && strcmp(format_string(x, "state"), "completed") == 0;
    json_decref(x);
    return status != CMD_OK ? status : well ? CMD_OK : CMD_FAILED;
}

/* ---- start ---- */

/* The usual address when nobody listens there, else any port. */
static const char *default_http(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(8470)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    bool free_ = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    return free_ ? "127.0.0.1:8470" : "127.0.0.1:0";
}

static void block_signals(struct run *r)
{
    (void)sigemptyset(&r->signals);
    (void)sigaddset(&r->signals, SIGINT);
    (void)sigaddset(&r->signals, SIGTERM);
    (void)sigaddset(&r->signals, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &r->signals, NULL);
}

static int with_file(struct run *r, const char *data)
{
    if (r->cs.spec->program == SPEC_ASKED) {
        return cmd_failf(CMD_USAGE,
                         "%s has no \"trial\", so its trials are asked and told over REST: start "
                         "'magpie driver' and 'magpie submit' it",
                         r->cs.path);
    }
    int status = cmd_spec_check_trainer(&r->cs, r->json);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct mag_err err = {0};
    char *own = data == NULL ? cmd_default_data_dir() : NULL;
    char *dir = NULL;
    if (datadir_make(data != NULL ? data : own, &dir, &err) == MAG_OK) {
        r->ecfg.data = dir;
        block_signals(r);
        status = session(r);
    } else {
        status = cmd_fail(&err);
    }
    free(dir);
    free(own);
    return status;
}

/* A worker runs one trial at a time, with a slot for each of its ranks. */
static void choose_workers(struct run *r, int64_t given)
{
    int64_t slots = r->cs.spec->requires_.slots > 0 ? r->cs.spec->requires_.slots : 1;
    int64_t n = given > 0 ? given : sysconf(_SC_NPROCESSORS_ONLN) / slots;
    r->ecfg.slots = (int)slots;
    r->ecfg.workers = (int)(n < 1 ? 1 : n > EMBED_WORKERS_MAX ? EMBED_WORKERS_MAX : n);
}

int cmd_run(int argc, char **argv)
{
    struct run r = {0};
    const char *data = NULL;
    int64_t workers = 0;
    const struct flag flags[] = {
        FLAG(FLAG_INT, "workers", &workers, "N",
             "worker processes, one trial at a time each [one for each core, or for the cores "
             "that the ranks of one trial take]",
             .min = 1,
             .max = EMBED_WORKERS_MAX),
        FLAG(FLAG_TEXT, "data", &data, "DIR",
             "folder of record, checkpoints and logs [$XDG_DATA_HOME/magpie]"),
        FLAG(FLAG_TEXT, "storage", &r.ecfg.storage, "URL",
             "checkpoints and outputs: a folder, s3://, swift:// or hdfs:// "
             "(docs/STORAGE.md) [file:DIR/storage]"),
        FLAG(FLAG_TEXT, "http", &r.ecfg.http, "ADDR:PORT",
             "board and REST [127.0.0.1:8470, any port when it is taken]"),
        FLAG(FLAG_BOOL, "keep", &r.keep, NULL,
             "leave driver and board up at the end, until Ctrl-C"),
        FLAG(FLAG_BOOL, "again", &r.again, NULL,
             "a new experiment, even if this file has an unfinished one here"),
        FLAG(FLAG_BOOL, "json", &r.json, NULL,
             "print the result as JSON; progress goes to standard error"),
        {0},
    };
    const struct flags_usage u = {.program = "magpie run",
                                  .args = "FILE",
                                  .flags = flags,
                                  .min_args = 1,
                                  .max_args = 1,
                                  .summary = "Runs one experiment file to its end: a driver, N "
                                             "workers and the board, all in one command.",
                                  .detail = "Ctrl-C drains; the same command on the same data "
                                            "folder then goes on where it stopped.\n"
                                            "Exit status: 0 completed, 1 not (failed, cancelled, "
                                            "paused, interrupted), 2 a wrong file or line."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    r.ecfg.http = r.ecfg.http != NULL ? r.ecfg.http : default_http();
    status = cmd_spec_read(args.items[0], r.json, &r.cs);
    if (status == CMD_GO_ON) {
        choose_workers(&r, workers);
        status = with_file(&r, data);
    }
    cmd_spec_fini(&r.cs);
    return status;
}
