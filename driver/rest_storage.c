/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared storage: what experiments hold in it; a garbage collection by hand, answered with its
 * report at its end.
 */
#include "driver/rest.h"

#include "base/alloc.h"
#include "driver/driver_internal.h"
#include "driver/gc.h"
#include "driver/quota.h"

#include <stdlib.h>

/* ---- who holds what ---- */

static int most_first(const void *a, const void *b)
{
    const struct experiment *x = *(const struct experiment *const *)a;
    const struct experiment *y = *(const struct experiment *const *)b;
    if (x->used_bytes != y->used_bytes) {
        return x->used_bytes < y->used_bytes ? 1 : -1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

/* Those that hold anything or have a limit; *ret malloc'ed. */
static int64_t find_holders(struct driver *d, struct experiment ***ret)
{
    struct experiment **list = xcalloc((size_t)d->n_experiments + 1, sizeof(struct experiment *));
    int64_t n = 0;
    for (struct experiment *x = driver_next(d, NULL); x != NULL; x = driver_next(d, x)) {
        if (x->used_bytes > 0 || study_limits(x->study)->storage_bytes > 0) {
            list[n++] = x;
        }
    }
    qsort(list, (size_t)n, sizeof(struct experiment *), most_first);
    *ret = list;
    return n;
}

static json_t *or_null(int64_t limit)
{
    return limit > 0 ? json_integer(limit) : json_null();
}

static json_t *holder_json(const struct driver *d, const struct experiment *x)
{
    struct study_usage u;
    char why[512];
    study_usage(x->study, &u);
    const char *code = quota_why(d, x, why, sizeof(why));
    json_t *o =
        json_pack("{s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:o}", "id", (json_int_t)x->id, "name",
                  study_spec(x->study)->name, "state", study_state_name(study_state(x->study)),
                  "used", (json_int_t)x->used_bytes, "checkpoints", (json_int_t)u.checkpoints,
                  "checkpoint_bytes", (json_int_t)u.checkpoint_bytes, "log_bytes",
                  (json_int_t)u.log_bytes, "limit", or_null(study_limits(x->study)->storage_bytes));
    (void)json_object_set_new(
        o, "why", code == NULL ? json_null() : json_pack("{s:s, s:s}", "code", code, "text", why));
    return o;
}

void rest_storage_get(struct http_call *c)
{
    struct experiment **list = NULL;
    int64_t n = find_holders(c->d, &list);
    json_t *experiments = json_array();
    for (int64_t i = 0; i < n && i < REST_LIMIT_MAX; i++) {
        (void)json_array_append_new(experiments, holder_json(c->d, list[i]));
    }
    free(list);
    json_t *o = json_pack("{s:I, s:o, s:b, s:I, s:o}", "used", (json_int_t)c->d->used_bytes,
                          "quota", or_null(c->d->cfg.quota_bytes), "full", c->d->storage_full,
                          "holders", (json_int_t)n, "experiments", experiments);
    rest_add_json(&c->out, o);
    json_decref(o);
    http_reply(c);
}

/* ---- garbage ---- */

static void on_done(void *arg, const json_t *report)
{
    struct http_call *c = arg;
    c->state = NULL;
    rest_add_json(&c->out, report);
    http_reply(c);
}

static void on_gone(struct http_call *c)
{
    if (c->req == NULL) {
        gc_forget(c->d->gc, c);
        c->state = NULL;
        http_call_free(c);
    }
}

void rest_storage_gc(struct http_call *c)
{
    struct mjson_issues is = {0};
    static const char *const keys[] = {"dry_run", NULL};
    mjson_check_keys(c->body, keys, "", &is);
    bool dry = body_bool(c->body, "dry_run", false, &is);
    if (is.total > 0) {
        http_problem_issues(c, 422, "the request is not valid", &is);
        return;
    }
    struct mag_err err = {0};
    c->state = c;
    http_keep(c, on_gone);
    enum mag_status st = gc_run(c->d->gc, dry, on_done, c, &err);
    if (st != MAG_OK) {
        c->state = NULL;
        http_problem_status(c, st, &err);
    }
}
