/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/quota.h"

#include "base/log.h"
#include "base/size.h"
#include "driver/driver_internal.h"
#include "driver/gc.h"

#include <stdio.h>

static bool all_over(const struct driver *d)
{
    return d->cfg.quota_bytes > 0 && d->used_bytes >= d->cfg.quota_bytes;
}

static bool own_over(const struct experiment *x)
{
    int64_t limit = x->study != NULL ? study_limits(x->study)->storage_bytes : 0;
    return limit > 0 && x->used_bytes >= limit;
}

bool quota_is_over(const struct driver *d, const struct experiment *x)
{
    return own_over(x) || all_over(d);
}

/* Held polls are looked at again, and what is shown of each experiment. */
static void wake(struct driver *d)
{
    for (struct experiment *x = driver_next(d, NULL); x != NULL; x = driver_next(d, x)) {
        if (study_state(x->study) == STUDY_RUNNING) {
            loop_mark_dirty(d, x);
        }
    }
}

static void say(const struct experiment *x, bool over, int64_t used, int64_t limit)
{
    log_write(over ? LOG_WARN : LOG_INFO, "driver", over ? "storage-full" : "storage-free",
              "experiment=%lld used=%lld limit=%lld", x != NULL ? (long long)x->id : 0LL,
              (long long)used, (long long)limit);
}

static void look_at_all(struct driver *d)
{
    bool over = all_over(d);
    if (over != d->storage_full) {
        d->storage_full = over;
        say(NULL, over, d->used_bytes, d->cfg.quota_bytes);
        wake(d);
    }
}

void quota_note(struct driver *d, struct experiment *x)
{
    struct study_usage u = {0};
    if (x->study != NULL && x->broken == NULL) {
        study_usage(x->study, &u);
    }
    int64_t used = u.checkpoint_bytes + u.log_bytes;
    bool more = used > x->used_bytes;
    d->used_bytes += used - x->used_bytes;
    x->used_bytes = used;
    bool own = own_over(x);
    if (own != x->storage_full) {
        x->storage_full = own;
        say(x, own, used, x->study != NULL ? study_limits(x->study)->storage_bytes : 0);
    }
    look_at_all(d);
    if (more && all_over(d)) {
        gc_press(d->gc, 0);
    } else if (more && own) {
        gc_press(d->gc, x->id);
    }
}

void quota_start(struct driver *d)
{
    if (all_over(d)) {
        gc_press(d->gc, 0);
        return;
    }
    for (struct experiment *x = driver_next(d, NULL); x != NULL; x = driver_next(d, x)) {
        if (own_over(x)) {
            gc_press(d->gc, x->id);
        }
    }
}

void quota_forget(struct driver *d, struct experiment *x)
{
    d->used_bytes -= x->used_bytes;
    x->used_bytes = 0;
    look_at_all(d);
}

const char *quota_why(const struct driver *d, const struct experiment *x, char *buf, size_t size)
{
    if (study_spec(x->study)->program == SPEC_ASKED || study_state(x->study) != STUDY_RUNNING ||
        !quota_is_over(d, x)) {
        return NULL;
    }
    bool own = own_over(x);
    char used[24];
    char limit[24];
    size_format(own ? x->used_bytes : d->used_bytes, used);
    size_format(own ? study_limits(x->study)->storage_bytes : d->cfg.quota_bytes, limit);
    if (own) {
        (void)snprintf(buf, size,
                       "its trials hold %s in storage, the limit is %s: running trials go on, no "
                       "more are given; raise it (magpie extend --storage)",
                       used, limit);
    } else {
        (void)snprintf(buf, size,
                       "storage holds %s, its quota is %s: running trials go on, no more are "
                       "given; delete experiments (magpie storage shows them) or raise "
                       "--storage-quota",
                       used, limit);
    }
    return "storage-full";
}
