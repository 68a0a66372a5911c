/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/executor.h"

#include "base/alloc.h"
#include "base/json.h"
#include "base/log.h"
#include "trainer/channel.h"
#include "trainer/session.h"
#include "trainer/trial.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

struct executor {
    struct channel channel;
    struct session session;
    int64_t trial; /* that runs; 0 = none */
    bool exit;
};

/* One "start" message, checked. Borrows from the message. */
struct start {
    struct trial_job job;
    struct dataset_part part;
    const json_t *params;
    const json_t *spec;
};

/* ---- to the worker ---- */

static enum mag_status send_line(struct executor *e, struct buf *line)
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
    buf_adds(&b, "}}");
    e->exit = send_line(e, &b) != MAG_OK || e->exit;
}

static void send_error(struct executor *e, int64_t trial, const char *cause, const char *reason)
{
    struct buf b = {0};
    buf_addf(&b,
             "{\"type\":\"error\",\"trial\":%lld,\"cause\":\"%s\",\"reason\":", (long long)trial,
             cause);
    buf_add_json_string(&b, reason);
    buf_addc(&b, '}');
    e->exit = send_line(e, &b) != MAG_OK || e->exit;
}

static void send_result(struct executor *e, const struct trial_result *r)
{
    static const char *const names[] = {"completed", "stopped", "paused"};
    struct buf b = {0};
    buf_addf(&b, "{\"type\":\"result\",\"trial\":%lld,\"status\":\"%s\",\"metrics\":",
             (long long)e->trial, names[r->end]);
    metrics_json(&r->metrics, &b);
    buf_addc(&b, '}');
    e->exit = send_line(e, &b) != MAG_OK || e->exit;
}

static enum mag_status on_report(void *ctx, int64_t step, const struct metrics *m,
                                 struct mag_err *err)
{
    struct executor *e = ctx;
    struct buf b = {0};
    buf_addf(&b,
             "{\"type\":\"report\",\"trial\":%lld,\"step\":%lld,\"metrics\":", (long long)e->trial,
             (long long)step);
    metrics_json(m, &b);
    buf_addc(&b, '}');
    enum mag_status st = send_line(e, &b);
    return st == MAG_OK ? MAG_OK : mag_fail(err, st, "the worker has gone");
}

static enum mag_status on_checkpoint(void *ctx, int64_t step, const char *path, struct mag_err *err)
{
    struct executor *e = ctx;
    struct buf b = {0};
    buf_addf(&b,
             "{\"type\":\"checkpoint\",\"trial\":%lld,\"step\":%lld,\"path\":", (long long)e->trial,
             (long long)step);
    buf_add_json_string(&b, path);
    buf_addc(&b, '}');
    enum mag_status st = send_line(e, &b);
    return st == MAG_OK ? MAG_OK : mag_fail(err, st, "the worker has gone");
}

/* ---- from the worker ---- */

/* The message as an object with a "type", or NULL: then it was logged and is ignored. */
static json_t *parse_line(const char *line, size_t len, const char **type)
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
    for (char *line = NULL; (line = channel_next(&e->channel, false, &len)) != NULL;) {
        const char *type = NULL;
        json_t *m = parse_line(line, len, &type);
        if (m == NULL) {
            continue;
        }
        int64_t trial = json_integer_value(json_object_get(m, "trial"));
        if (strcmp(type, "exit") == 0) {
            e->exit = true;
        } else if (strcmp(type, "start") == 0) {
            send_error(e, trial, "program", "this program runs another trial");
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
static enum mag_status parse_start(const json_t *m, struct start *s, struct mag_err *err)
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
    enum mag_status st = dataset_part_parse(m, &s->part, err);
    return st == MAG_OK ? MAG_OK : mag_wrap(err, st, "bad start message");
}

static const char *cause_of(enum mag_status st)
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

/* Recipe, data set and backend; says what is wrong with the configuration. */
static bool make_ready(struct executor *e, const struct start *s, struct recipe *recipe)
{
    struct mjson_issues is = {0};
    struct mag_err err = {0};
    const struct recipe_context ctx = {.params = s->params};
    bool parsed = recipe_parse(s->spec, "/trial", &ctx, &is, recipe);
    enum mag_status st =
        parsed ? session_prepare(&e->session, recipe, s->job.seed, &s->part, "/trial", &is, &err)
               : MAG_INVALID;
    if (is.total > 0) {
        struct buf text = {0};
        issues_text(&is, &text);
        send_error(e, e->trial, "configuration", text.data);
        buf_fini(&text);
    } else if (st != MAG_OK) {
        /* A damaged data set is the user's to mend, as a missing one is. */
        send_error(e, e->trial, st == MAG_CORRUPT ? "configuration" : cause_of(st), err.text);
    }
    if (parsed && st != MAG_OK) {
        recipe_fini(recipe);
    }
    mjson_issues_fini(&is);
    return st == MAG_OK;
}

static void run_trial(struct executor *e, const struct start *s)
{
    struct recipe recipe;
    if (!make_ready(e, s, &recipe)) {
        return;
    }
    const struct trial_hooks hooks = {
        .ctx = e, .poll = on_poll, .report = on_report, .checkpoint = on_checkpoint};
    struct trial_result result;
    struct mag_err err = {0};
    enum mag_status st =
        trial_run(&s->job, &recipe, e->session.dataset, e->session.backend, &hooks, &result, &err);
    if (st != MAG_OK) {
        send_error(e, e->trial, cause_of(st), err.text);
    } else if (result.end != TRIAL_EXITED) {
        send_result(e, &result);
    }
    recipe_fini(&recipe);
}

static void handle_start(struct executor *e, const json_t *m)
{
    struct start s;
    struct mag_err err = {0};
    if (parse_start(m, &s, &err) != MAG_OK) {
        log_warn("trainer", "bad-start", "reason=%s", log_quote(err.text));
        send_error(e, s.job.trial, "program", err.text);
    } else {
        e->trial = s.job.trial;
        run_trial(e, &s);
        e->trial = 0;
    }
    if (!e->exit) {
        send_ready(e);
    }
}

int executor_run(int fd)
{
    struct executor e = {0};
    channel_init(&e.channel, fd);
    send_ready(&e);
    while (!e.exit) {
        size_t len = 0;
        char *line = channel_next(&e.channel, true, &len);
        if (line == NULL) {
            break;
        }
        const char *type = NULL;
        json_t *m = parse_line(line, len, &type);
        if (m == NULL) {
            continue;
        }
        if (strcmp(type, "exit") == 0) {
            e.exit = true;
        } else if (strcmp(type, "start") == 0) {
            handle_start(&e, m);
        } /* stop and pause for a trial that has ended came too late */
        json_decref(m);
    }
    session_fini(&e.session);
    channel_fini(&e.channel);
    return 0;
}
