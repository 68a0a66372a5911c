/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/executor.h"
#include "trainer/executor_impl.h"

#include "base/alloc.h"
#include "base/json.h"
#include "base/log.h"
#include "trainer/channel.h"
#include "trainer/distribution.h"
#include "trainer/elastic.h"
#include "trainer/session.h"
#include "trainer/trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* ---- to the worker ---- */

enum mag_status executor_send(struct executor *e, struct buf *line)
{
    buf_addc(line, '\n');
    enum mag_status st = channel_write(&e->channel, line->data, line->len);
    buf_fini(line);
    return st;
}

static void send_ready(struct executor *e)
{
    struct buf b = {0};
    buf_adds(&b, "{\"type\":\"ready\",\"versions\":{\"magpie-trainer\":");
    buf_add_json_string(&b, MAG_VERSION);
    buf_adds(&b, ",\"zlib\":");
    buf_add_json_string(&b, zlibVersion());
    if (e->session.backend != NULL) {
        buf_adds(&b, ",\"backend\":");
        buf_add_json_string(&b, e->session.ops->describe(e->session.backend));
    }
    buf_addf(&b, "},\"lanes\":%d%s}", e->ranks == NULL ? BACKEND_LANES_MAX : 1,
             backend_registry[0]->memory != NULL ? ",\"admits\":true" : "");
    e->exit = executor_send(e, &b) != MAG_OK || e->exit;
}

void executor_refuse(struct executor *e, int64_t trial, const struct refusal *why)
{
    struct buf b = {0};
    buf_addf(&b,
             "{\"type\":\"error\",\"trial\":%lld,\"cause\":\"%s\",\"reason\":", (long long)trial,
             why->cause);
    buf_add_json_string(&b, why->text);
    if (why->room.need > 0 && !why->room.gpu) {
        buf_addf(&b, ",\"need_mb\":%lld", (long long)(why->room.need >> 20) + 1);
    }
    buf_adds(&b, why->room.never ? ",\"retry\":false}" : "}");
    e->exit = executor_send(e, &b) != MAG_OK || e->exit;
}

static void refuse(struct refusal *why, const char *cause, const char *text)
{
    (void)snprintf(why->cause, sizeof(why->cause), "%s", cause);
    (void)snprintf(why->text, sizeof(why->text), "%s", text);
}

void executor_error(struct executor *e, int64_t trial, const char *cause, const char *reason)
{
    struct refusal why = {0};
    refuse(&why, cause, reason);
    executor_refuse(e, trial, &why);
}

void executor_result(struct executor *e, int64_t trial, const struct trial_result *r)
{
    static const char *const names[] = {"completed", "stopped", "paused"};
    struct buf b = {0};
    buf_addf(&b,
             "{\"type\":\"result\",\"trial\":%lld,\"status\":\"%s\",\"metrics\":", (long long)trial,
             names[r->end]);
    metrics_json(&r->metrics, &b);
    buf_addc(&b, '}');
    e->exit = executor_send(e, &b) != MAG_OK || e->exit;
}

enum mag_status executor_report(struct executor *e, int64_t trial, int64_t step,
                                const struct metrics *m, struct mag_err *err)
{
    struct buf b = {0};
    buf_addf(&b, "{\"type\":\"report\",\"trial\":%lld,\"step\":%lld,\"metrics\":", (long long)trial,
             (long long)step);
    metrics_json(m, &b);
    buf_addc(&b, '}');
    enum mag_status st = executor_send(e, &b);
    return st == MAG_OK ? MAG_OK : mag_fail(err, st, "the worker has gone");
}

enum mag_status executor_checkpoint(struct executor *e, int64_t trial, int64_t step,
                                    const char *path, struct mag_err *err)
{
    struct buf b = {0};
    buf_addf(&b,
             "{\"type\":\"checkpoint\",\"trial\":%lld,\"step\":%lld,\"path\":", (long long)trial,
             (long long)step);
    buf_add_json_string(&b, path);
    buf_addc(&b, '}');
    enum mag_status st = executor_send(e, &b);
    return st == MAG_OK ? MAG_OK : mag_fail(err, st, "the worker has gone");
}

static enum mag_status on_report(void *ctx, int64_t step, const struct metrics *m,
                                 struct mag_err *err)
{
    struct executor *e = ctx;
    executor_measure(e, e->trial, true);
    return executor_report(e, e->trial, step, m, err);
}

static enum mag_status on_checkpoint(void *ctx, int64_t step, const char *path, struct mag_err *err)
{
    struct executor *e = ctx;
    return executor_checkpoint(e, e->trial, step, path, err);
}

/* ---- from the worker ---- */

/* The message as an object with a "type", or NULL: then it was logged and is ignored. */
json_t *executor_parse_line(const char *line, size_t len, const char **type)
{
    struct mag_err err = {0};
    json_t *m = NULL;
    if (mjson_parse(line, len, &m, &err) != MAG_OK) {
        log_warn("trainer", "bad-line", "bytes=%zu reason=%s", len, log_quote(err.text));
        return NULL;
    }
    *type = json_string_value(json_object_get(m, "type"));
    if (*type == NULL) {
        log_warn("trainer", "bad-line", "reason=\"no type\"");
        json_decref(m);
        return NULL;
    }
    return m;
}

/* Between batches: what came from the worker meanwhile. Orders for other trials came too late. */
static enum trial_order on_poll(void *ctx)
{
    struct executor *e = ctx;
    enum trial_order order = ORDER_NONE;
    size_t len = 0;
    executor_measure(e, e->trial, false);
    for (char *line = NULL; (line = channel_next(&e->channel, false, &len)) != NULL;) {
        const char *type = NULL;
        json_t *m = executor_parse_line(line, len, &type);
        if (m == NULL) {
            continue;
        }
        int64_t trial = json_integer_value(json_object_get(m, "trial"));
        if (strcmp(type, "exit") == 0) {
            e->exit = true;
        } else if (strcmp(type, "start") == 0) {
            executor_error(e, trial, "program", "this program runs another trial");
        } else if (trial == e->trial && strcmp(type, "stop") == 0) {
            order = ORDER_STOP;
        } else if (trial == e->trial && strcmp(type, "pause") == 0 && order == ORDER_NONE) {
            order = ORDER_PAUSE;
        }
        json_decref(m);
    }
    return e->exit || e->channel.ended ? ORDER_EXIT : order;
}

static const char *text_of(const json_t *m, const char *key)
{
    const char *s = json_string_value(json_object_get(m, key));
    return s != NULL && s[0] != '\0' ? s : NULL;
}

/* Reads a start message; the text in `err` says what it lacks. */
enum mag_status executor_parse_start(const json_t *m, struct start *s, struct mag_err *err)
{
    *s = (struct start){.params = json_object_get(m, "params"), .spec = json_object_get(m, "spec")};
    const json_t *resume = json_object_get(m, "resume_from");
    const json_t *budget = json_object_get(m, "budget");
    const json_t *seed = json_object_get(m, "seed");
    s->job.trial = json_integer_value(json_object_get(m, "trial"));
    s->job.seed = (uint64_t)json_integer_value(seed);
    s->job.budget = json_integer_value(budget);
    s->job.checkpoint_dir = text_of(m, "checkpoint_dir");
    s->job.checkpoint_every =
        json_integer_value(json_object_get(json_object_get(m, "checkpoint"), "every"));
    s->job.resume_path = text_of(resume, "path");
    const struct {
        bool good;
        const char *text;
    } wanted[] = {
        {s->job.trial > 0, "\"trial\" must be a whole number above 0"},
        {json_is_object(s->params) || s->params == NULL, "\"params\" must be an object"},
        {json_is_object(s->spec), "\"spec\" must be the experiment's trial object"},
        {budget == NULL || json_is_null(budget) || (json_is_integer(budget) && s->job.budget > 0),
         "\"budget\" must be null or a whole number above 0"},
        {seed == NULL || json_is_integer(seed), "\"seed\" must be a whole number"},
        {resume == NULL || json_is_null(resume) || s->job.resume_path != NULL,
         "\"resume_from\" must be null or {\"step\", \"path\"}"},
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        if (!wanted[i].good) {
            return mag_fail(err, MAG_INVALID, "bad start message: %s", wanted[i].text);
        }
    }
    struct mjson_issues is = {0};
    enum mag_status st = dataset_part_parse(m, &s->part, err);
    if (st != MAG_OK) {
        return mag_wrap(err, st, "bad start message");
    }
    if (!distribution_parse(json_object_get(m, "distribution"), "/distribution", &is, &s->plan)) {
        st = mag_fail(err, MAG_INVALID, "bad start message: %s: %s", is.items[0].pointer,
                      is.items[0].text);
    }
    mjson_issues_fini(&is);
    return st;
}

const char *executor_cause(enum mag_status st)
{
    switch (st) {
    case MAG_INVALID:
    case MAG_NOTFOUND:
    case MAG_LIMIT:
    case MAG_UNSUPPORTED:
        return "configuration";
    case MAG_NOMEM:
        return "out-of-memory";
    case MAG_OK:
    case MAG_CONFLICT:
    case MAG_TIMEOUT:
    case MAG_CLOSED:
    case MAG_IO:
    case MAG_CORRUPT:
    case MAG_BUG:
    default:
        return "program";
    }
}

/* All issues in one sentence each, on one line. */
static void issues_text(const struct mjson_issues *is, struct buf *out)
{
    for (int i = 0; i < is->n; i++) {
        buf_addf(out, "%s%s: %s", i > 0 ? "; " : "", is->items[i].pointer, is->items[i].text);
    }
}

/* Recipe, data set and backend; or what is wrong with the configuration. */
bool executor_make_ready(struct executor *e, const struct start *s, struct recipe *recipe,
                         struct refusal *why)
{
    struct mjson_issues is = {0};
    struct mag_err err = {0};
    const bool here = e->ranks != NULL && strcmp(e->ranks->ops->name, "shm") == 0;
    e->session.processes = here ? e->ranks->size : 1;
    e->session.server = here && s->plan.strategy == STRATEGY_SERVER;
    const struct recipe_context ctx = {.params = s->params};
    bool parsed = recipe_parse(s->spec, "/trial", &ctx, &is, recipe);
    enum mag_status st =
        parsed ? session_prepare(&e->session, recipe, s->job.seed, &s->part, "/trial", &is, &err)
               : MAG_INVALID;
    if (is.total > 0) {
        struct buf text = {0};
        issues_text(&is, &text);
        refuse(why, "configuration", text.data);
        buf_fini(&text);
    } else if (st != MAG_OK) {
        /* A damaged data set is the user's to mend, as a missing one is. */
        refuse(why, st == MAG_CORRUPT ? "configuration" : executor_cause(st), err.text);
        why->room = st == MAG_NOMEM ? e->session.verdict : (struct room_verdict){0};
    }
    if (parsed && st != MAG_OK) {
        recipe_fini(recipe);
    }
    mjson_issues_fini(&is);
    return st == MAG_OK;
}

/* ---- the other ranks ---- */

static void lose(struct executor *e, const struct mag_err *err)
{
    (void)fprintf(stderr, "magpie-trainer: rank %d: %s\n", e->ranks->rank, err->text);
    e->exit = e->parted = true;
    e->status = RANKS_LOST_STATUS;
}

/* All ranks can begin, or all hear why one of them cannot. */
static bool agree(struct executor *e, bool ready, struct refusal *why)
{
    double bad[COLLECTIVE_RANKS_MAX] = {0};
    struct mag_err err = {0};
    int first = 0;
    bad[e->ranks->rank] = ready ? 0 : 1;
    enum mag_status st =
        collective_sum(e->ranks, COLLECTIVE_DOUBLE, bad, (size_t)e->ranks->size, &err);
    while (st == MAG_OK && first < e->ranks->size && bad[first] == 0) {
        first++;
    }
    if (st == MAG_OK && first < e->ranks->size) {
        st = collective_broadcast(e->ranks, why, sizeof(*why), first, e->ranks->timeout_ms, &err);
        ready = false;
    }
    if (st != MAG_OK) {
        lose(e, &err);
        return false;
    }
    return ready;
}

/* After a failure inside a trial the ranks are at different places: they end, and whoever started
 * them starts them again. One that only lost the others says nothing about the trial. */
static void part(struct executor *e, enum mag_status st, const struct mag_err *err)
{
    if (e->ranks->broken) {
        lose(e, err);
        return;
    }
    if (e->ranks->rank == 0) {
        executor_error(e, e->trial, executor_cause(st), err->text);
    }
    char *why = xasprintf("rank %d: %s", e->ranks->rank, err->text);
    e->exit = e->parted = true;
    e->status = 1;
    collective_abort(e->ranks, why);
    free(why);
}

/* Rank 0: the others get the start message too; NULL: they end. */
static void tell_ranks(struct executor *e, const char *text)
{
    struct mag_err err = {0};
    int64_t len = text != NULL ? (int64_t)strlen(text) : 0;
    if (e->ranks == NULL || e->parted) {
        return;
    }
    enum mag_status st =
        collective_broadcast(e->ranks, &len, sizeof(len), 0, e->ranks->timeout_ms, &err);
    if (st == MAG_OK && len > 0) {
        st = collective_broadcast(e->ranks, (void *)(uintptr_t)text, (size_t)len, 0,
                                  e->ranks->timeout_ms, &err);
    }
    if (st != MAG_OK) {
        lose(e, &err);
    }
}

/* The next start message from rank 0, malloc'ed; NULL: it is over. */
static char *hear_rank_0(struct executor *e)
{
    struct mag_err err = {0};
    int64_t len = 0;
    char *text = NULL;
    enum mag_status st =
        collective_broadcast(e->ranks, &len, sizeof(len), 0, COLLECTIVE_FOREVER, &err);
    if (st == MAG_OK && len > 0 && len <= CHANNEL_LINE_MAX) {
        text = xcalloc((size_t)len + 1, 1);
        st = collective_broadcast(e->ranks, text, (size_t)len, 0, e->ranks->timeout_ms, &err);
    }
    if (st != MAG_OK) {
        free(text);
        lose(e, &err);
        return NULL;
    }
    return text;
}

/* ---- trials ---- */

static bool on_order(void *ctx, int64_t trial, enum trial_order order)
{
    struct executor *e = ctx;
    if (trial != e->trial) {
        return true;
    }
    const struct trial_result none = {.end = order == ORDER_STOP ? TRIAL_STOPPED : TRIAL_PAUSED};
    executor_result(e, trial, &none);
    return false;
}

/* It may begin on its GPU, and there is memory for it; else its end has been told. */
static bool is_let_in(struct executor *e, const struct recipe *recipe)
{
    struct refusal why = {0};
    struct mag_err err = {0};
    const struct gpu_ask ask = {
        .trial = e->trial, .recipe = recipe, .lanes = 1, .ctx = e, .order = on_order};
    if (!executor_may_begin(e, &ask)) {
        return false;
    }
    enum mag_status st = e->session.asks ? session_admit(&e->session, recipe, &err) : MAG_OK;
    if (st != MAG_OK) {
        refuse(&why, executor_cause(st), err.text);
        why.room = e->session.verdict;
        executor_refuse(e, e->trial, &why);
    }
    return st == MAG_OK;
}

static void run_trial(struct executor *e, const struct start *s)
{
    struct recipe recipe;
    struct refusal why = {0};
    const bool speaks = e->ranks == NULL || e->ranks->rank == 0;
    bool ready = executor_make_ready(e, s, &recipe, &why);
    bool all_ready = e->ranks != NULL ? agree(e, ready, &why) : ready;
    if (!all_ready) {
        if (ready) {
            recipe_fini(&recipe);
        }
        if (speaks && !e->exit) {
            executor_refuse(e, e->trial, &why);
        }
        return;
    }
    if (!is_let_in(e, &recipe)) {
        recipe_fini(&recipe);
        return;
    }
    const struct trial_hooks hooks = {
        .ctx = e, .poll = on_poll, .report = on_report, .checkpoint = on_checkpoint};
    const struct trial_hooks silent = {0};
    struct trial_result result;
    struct mag_err err = {0};
    enum mag_status st = trial_run(&s->job, &recipe, e->session.dataset, e->session.backend,
                                   speaks ? &hooks : &silent, &result, &err);
    if (st != MAG_OK && e->ranks != NULL) {
        part(e, st, &err);
    } else if (st != MAG_OK) {
        executor_error(e, e->trial, executor_cause(st), err.text);
    } else if (result.end == TRIAL_EXITED) {
        e->exit = e->parted = true; /* all ranks have ended it, at the same batch */
    } else if (speaks) {
        executor_result(e, e->trial, &result);
    }
    recipe_fini(&recipe);
}

static enum mag_status on_ranks_line(void *ctx, const json_t *message, const char *text, size_t len)
{
    (void)message;
    struct executor *e = ctx;
    return channel_write(&e->channel, text, len);
}

/* A trial over several processes: this one watches them. */
static void run_elastic(struct executor *e, const struct start *s, const json_t *m)
{
    const struct elastic_hooks hooks = {.ctx = e, .line = on_ranks_line, .orders = &e->channel};
    struct mag_err err = {0};
    bool leave = false;
    enum mag_status st = elastic_run(&e->elastic, &s->plan, m, &hooks, &leave, &err);
    e->exit = e->exit || leave;
    if (st != MAG_OK) {
        executor_error(e, e->trial, executor_cause(st), err.text);
    }
}

static void handle_start(struct executor *e, const json_t *m)
{
    struct start s;
    struct mag_err err = {0};
    const json_t *trials = json_object_get(m, "trials");
    e->session.asks = e->ranks == NULL && json_is_true(json_object_get(m, "admit"));
    e->steps_to_measure = 0;
    if (trials != NULL && e->ranks == NULL) {
        executor_run_group(e, trials);
    } else if (executor_parse_start(m, &s, &err) != MAG_OK) {
        log_warn("trainer", "bad-start", "reason=%s", log_quote(err.text));
        executor_error(e, s.job.trial, "program", err.text);
    } else {
        e->trial = s.job.trial;
        s.job.ranks = e->ranks;
        s.job.plan = &s.plan;
        if (e->ranks == NULL && (s.plan.ranks > 1 || s.plan.strategy == STRATEGY_SERVER)) {
            run_elastic(e, &s, m);
        } else {
            run_trial(e, &s);
        }
        e->trial = 0;
    }
}

/* A rank other than 0. */
static void follow(struct executor *e)
{
    char *text = NULL;
    while (!e->exit && (text = hear_rank_0(e)) != NULL) {
        const char *type = NULL;
        json_t *m = executor_parse_line(text, strlen(text), &type);
        if (m != NULL) {
            handle_start(e, m);
        }
        json_decref(m);
        free(text);
    }
}

/* Ends the program when its device serves no trial any more; the worker starts a fresh one. */
static void leave_lost_device(struct executor *e)
{
    const struct session *s = &e->session;
    if (s->backend != NULL && s->ops->lost != NULL && s->ops->lost(s->backend)) {
        log_error("trainer", "device-lost", "backend=%s; this program ends",
                  log_quote(s->ops->describe(s->backend)));
        e->exit = true;
        e->status = 1;
    }
}

static void serve(struct executor *e)
{
    send_ready(e);
    while (!e->exit) {
        size_t len = 0;
        char *line = channel_next(&e->channel, true, &len);
        if (line == NULL) {
            break;
        }
        const char *type = NULL;
        json_t *m = executor_parse_line(line, len, &type);
        if (m == NULL) {
            continue;
        }
        if (strcmp(type, "exit") == 0) {
            e->exit = true;
        } else if (strcmp(type, "start") == 0) {
            tell_ranks(e, line);
            handle_start(e, m);
            leave_lost_device(e);
            if (!e->exit) {
                send_ready(e);
            }
        } /* stop and pause for a trial that has ended came too late */
        json_decref(m);
    }
    tell_ranks(e, NULL);
}

int executor_run(int fd, struct collective *ranks)
{
    struct executor e = {.ranks = ranks, .elastic.ranks = {.listener = -1, .region = -1}};
    e.session.device = ranks != NULL ? ranks->rank : 0;
    channel_init(&e.channel, fd);
    if (ranks != NULL && ranks->rank > 0) {
        follow(&e);
    } else {
        serve(&e);
    }
    elastic_fini(&e.elastic);
    session_fini(&e.session);
    channel_fini(&e.channel);
    return e.status;
}
