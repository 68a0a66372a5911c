/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/elastic.h"

#include "base/alloc.h"
#include "base/log.h"
#include "trainer/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLOSED_MS 5000 /* between the end of rank 0's channel and its own */

enum course_state { COURSE_STARTING = 0, COURSE_RUNNING = 1, COURSE_SAID = 2, COURSE_OVER = 3 };

/* One trial. */
struct course {
    struct elastic *x;
    const struct distribution *plan;
    const json_t *start;
    const struct elastic_hooks *hooks;
    json_int_t trial;
    enum course_state state;
    int n;                                 /* ranks it goes on with */
    int failures;                          /* since the newest checkpoint */
    json_int_t last_step, checkpoint_step; /* passed on so far */
    char *keep_dir;                        /* ours; NULL = checkpoints stay where they are */
    char *kept;                            /* folder of the newest checkpoint, NULL = none */
    json_int_t kept_step;
    json_t *order; /* pause, as it came; the ranks hear it again after a restart */
    bool stopped;  /* told to stop */
    bool exit;
};

/* ---- the newest checkpoint ---- */

static void remove_kept(struct course *c)
{
    if (c->kept != NULL && c->keep_dir != NULL) {
        char *file = xasprintf("%s/%s", c->kept, CHECKPOINT_FILE);
        (void)unlink(file);
        (void)rmdir(c->kept);
        free(file);
    }
    free(c->kept);
    c->kept = NULL;
}

/* A second name for its file: the worker publishes and removes the folder that it was told. */
static char *keep_linked(struct course *c, json_int_t step, const char *path)
{
    char *folder = xasprintf("%s/%lld", c->keep_dir, (long long)step);
    char *from = xasprintf("%s/%s", path, CHECKPOINT_FILE);
    char *to = xasprintf("%s/%s", folder, CHECKPOINT_FILE);
    (void)mkdir(c->keep_dir, 0700);
    bool good = (mkdir(folder, 0700) == 0 || errno == EEXIST) &&
                (unlink(to) == 0 || errno == ENOENT) && link(from, to) == 0;
    if (!good) {
        log_warn("trainer", "checkpoint-not-kept", "step=%lld error=%s", (long long)step,
                 log_quote(strerror(errno)));
        (void)rmdir(folder);
        free(folder);
        folder = NULL;
    }
    free(from);
    free(to);
    return folder;
}

static void keep(struct course *c, const json_t *m)
{
    json_int_t step = json_integer_value(json_object_get(m, "step"));
    const char *path = json_string_value(json_object_get(m, "path"));
    if (path == NULL) {
        return;
    }
    char *folder = c->keep_dir != NULL ? keep_linked(c, step, path) : xstrdup(path);
    if (folder != NULL && c->kept != NULL && strcmp(folder, c->kept) == 0) {
        free(folder);
        return;
    }
    if (folder != NULL) {
        remove_kept(c);
        c->kept = folder;
        c->kept_step = step;
    }
    c->failures = 0;
}

/* ---- to whoever listens ---- */

static void pass_on(struct course *c, const json_t *m, const char *text, size_t len)
{
    struct buf b = {0};
    buf_add(&b, text, len);
    buf_addc(&b, '\n');
    c->exit = c->hooks->line(c->hooks->ctx, m, b.data, b.len) != MAG_OK || c->exit;
    buf_fini(&b);
}

static void say(struct course *c, json_t *m_take)
{
    char *text = mjson_dump(m_take);
    pass_on(c, m_take, text, strlen(text));
    free(text);
    json_decref(m_take);
}

static void say_failed(struct course *c, const char *why)
{
    char *reason = xasprintf("%s; %d times in a row without a newer checkpoint", why, c->failures);
    say(c, json_pack("{s:s, s:I, s:s, s:b, s:s}", "type", "error", "trial", c->trial, "cause",
                     "program", "retry", 1, "reason", reason));
    free(reason);
    c->state = COURSE_OVER;
}

/* ---- from rank 0 ---- */

static enum mag_status send_json(struct course *c, const json_t *m)
{
    char *text = mjson_dump(m);
    struct buf b = {0};
    buf_adds(&b, text);
    buf_addc(&b, '\n');
    enum mag_status st = channel_write(&c->x->ranks.channel, b.data, b.len);
    buf_fini(&b);
    free(text);
    return st;
}

/* The start message, on from the newest checkpoint. */
static void send_start(struct course *c)
{
    json_t *m = json_deep_copy(c->start);
    if (c->kept != NULL) {
        (void)json_object_set_new(m, "resume_from",
                                  json_pack("{s:I, s:s}", "step", c->kept_step, "path", c->kept));
    }
    c->x->ready = false;
    c->state = COURSE_RUNNING;
    if (send_json(c, m) == MAG_OK && c->order != NULL) {
        (void)send_json(c, c->order); /* what cannot be written is seen as its end */
    }
    json_decref(m);
}

static void hear_step(struct course *c, const json_t *m, json_int_t *last, const char *text,
                      size_t len)
{
    json_int_t step = json_integer_value(json_object_get(m, "step"));
    if (step > *last) {
        *last = step;
        pass_on(c, m, text, len);
    }
}

static void hear(struct course *c, const char *text, size_t len)
{
    json_t *m = NULL;
    if (mjson_parse(text, len, &m, NULL) != MAG_OK) {
        log_warn("trainer", "bad-line", "from=rank-0 bytes=%zu", len);
        return;
    }
    const char *type = json_string_value(json_object_get(m, "type"));
    type = type != NULL ? type : "";
    if (strcmp(type, "ready") == 0) {
        c->x->ready = true;
        if (c->state == COURSE_STARTING) {
            send_start(c);
        } else if (c->state == COURSE_SAID) {
            c->state = COURSE_OVER;
        }
    } else if (c->state == COURSE_RUNNING && strcmp(type, "report") == 0) {
        hear_step(c, m, &c->last_step, text, len);
    } else if (c->state == COURSE_RUNNING && strcmp(type, "checkpoint") == 0) {
        keep(c, m);
        hear_step(c, m, &c->checkpoint_step, text, len);
    } else if (c->state == COURSE_RUNNING &&
               (strcmp(type, "result") == 0 || strcmp(type, "error") == 0)) {
        pass_on(c, m, text, len);
        c->state = COURSE_SAID;
    }
    json_decref(m);
}

static void hear_rank(struct course *c)
{
    size_t len = 0;
    for (char *line = NULL; (line = channel_next(&c->x->ranks.channel, false, &len)) != NULL;) {
        hear(c, line, len);
    }
}

/* ---- orders ---- */

static void obey(struct course *c, const json_t *m)
{
    const char *type = json_string_value(json_object_get(m, "type"));
    json_int_t trial = json_integer_value(json_object_get(m, "trial"));
    bool running = c->state == COURSE_RUNNING && trial == c->trial;
    if (type == NULL) {
        return;
    }
    if (strcmp(type, "exit") == 0) {
        c->exit = true;
    } else if (trial == c->trial && strcmp(type, "stop") == 0) {
        c->stopped = true;
    } else if (trial == c->trial && strcmp(type, "pause") == 0 && c->order == NULL) {
        c->order = json_deep_copy(m);
    } else {
        return;
    }
    if (running) {
        (void)send_json(c, m);
    }
}

static void hear_orders(struct course *c)
{
    size_t len = 0;
    for (char *line = NULL; (line = channel_next(c->hooks->orders, false, &len)) != NULL;) {
        json_t *m = NULL;
        if (mjson_parse(line, len, &m, NULL) == MAG_OK) {
            obey(c, m);
        }
        json_decref(m);
    }
    c->exit = c->exit || c->hooks->orders->ended;
}

/* ---- the ranks' lives ---- */

/* After a death. Once said, a result stands, whatever its ranks do then. */
static void fall_back(struct course *c, const char *why)
{
    hear_rank(c); /* what rank 0 said before */
    ranks_stop(&c->x->ranks, false);
    c->x->ready = false;
    if (c->state >= COURSE_SAID) {
        c->state = COURSE_OVER;
        return;
    }
    c->failures++;
    c->state = COURSE_STARTING;
    if (c->stopped) {
        return; /* run says so */
    }
    if (c->failures >= ELASTIC_TRIES) {
        say_failed(c, why);
    } else if (c->failures > 1 && c->n > c->plan->min_ranks) {
        c->n--;
    }
    if (c->state == COURSE_STARTING) {
        log_warn("trainer", "ranks-restart", "trial=%lld ranks=%d step=%lld reason=%s",
                 (long long)c->trial, c->n, c->kept != NULL ? (long long)c->kept_step : 0LL,
                 log_quote(why));
    }
}

/* Ranks of the right kind: those of the trial before, or new ones. */
static enum mag_status have_ranks(struct course *c, struct mag_err *err)
{
    struct ranks *r = &c->x->ranks;
    if (r->n == c->n && r->transport == c->plan->transport &&
        r->timeout_ms == c->plan->timeout_ms) {
        return MAG_OK;
    }
    ranks_stop(r, true);
    c->x->ready = false;
    return ranks_start(r, c->n, c->plan, err);
}

/* How long nothing may happen now; -1 = as long as it takes. */
static int patience(const struct course *c)
{
    if (c->x->ranks.channel.ended) {
        return CLOSED_MS;
    }
    return c->state == COURSE_RUNNING ? -1 : (int)c->plan->timeout_ms;
}

static void on_event(struct course *c)
{
    char why[600] = "a rank has ended";
    const int orders = c->hooks->orders != NULL ? c->hooks->orders->fd : -1;
    switch (ranks_wait(&c->x->ranks, orders, patience(c))) {
    case RANKS_LINE:
        hear_rank(c);
        break;
    case RANKS_OTHER:
        hear_orders(c);
        break;
    case RANKS_DEATH:
        (void)ranks_death(&c->x->ranks, why, sizeof(why));
        fall_back(c, why);
        break;
    case RANKS_TIMEOUT:
    default:
        fall_back(c, c->x->ranks.channel.ended ? "rank 0 closed its channel and did not end"
                                               : "the ranks did not come up in time");
        break;
    }
}

static void say_stopped(struct course *c)
{
    say(c, json_pack("{s:s, s:I, s:s}", "type", "result", "trial", c->trial, "status", "stopped"));
    c->state = COURSE_OVER;
}

static enum mag_status run(struct course *c, struct mag_err *err)
{
    if (c->hooks->orders != NULL) {
        hear_orders(c); /* that came together with the start */
    }
    while (c->state != COURSE_OVER && !c->exit) {
        if (c->state == COURSE_STARTING && c->stopped) {
            say_stopped(c);
            break;
        }
        enum mag_status st = have_ranks(c, err);
        if (st != MAG_OK) {
            return st;
        }
        if (c->state == COURSE_STARTING && c->x->ready) {
            send_start(c);
        }
        on_event(c);
    }
    return MAG_OK;
}

enum mag_status elastic_run(struct elastic *x, const struct distribution *plan, const json_t *start,
                            const struct elastic_hooks *hooks, bool *ret_exit, struct mag_err *err)
{
    const char *folder = json_string_value(json_object_get(start, "trial_dir"));
    struct course c = {.x = x,
                       .plan = plan,
                       .start = start,
                       .hooks = hooks,
                       .trial = json_integer_value(json_object_get(start, "trial")),
                       .n = plan->ranks,
                       .last_step = -1,
                       .checkpoint_step = -1};
    c.keep_dir = folder != NULL ? xasprintf("%s/.ranks", folder) : NULL;
    enum mag_status st = run(&c, err);
    if (c.exit || st != MAG_OK) {
        ranks_stop(&x->ranks, st == MAG_OK);
        x->ready = false;
    }
    remove_kept(&c);
    if (c.keep_dir != NULL) {
        (void)rmdir(c.keep_dir);
    }
    free(c.keep_dir);
    json_decref(c.order);
    *ret_exit = c.exit;
    return st;
}

void elastic_fini(struct elastic *x)
{
    ranks_stop(&x->ranks, true);
}
