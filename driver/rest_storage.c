/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared storage by hand: a garbage collection now, answered with its report at its end.
 */
#include "driver/rest.h"

#include "driver/driver_internal.h"
#include "driver/gc.h"

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
