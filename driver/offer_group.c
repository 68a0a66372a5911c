/* SPDX-License-Identifier: Apache-2.0
 *
 * Groups: trials of the built-in trainer that a worker runs as one, in the slots of one. Each is
 * decided, committed and told of on its own; a group is only who goes with whom. What would come
 * next is looked at first, and joins when it is like the first one: nothing is given to be taken
 * back, and nobody waits for a group to become full, but for a suggestion that is being computed.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "driver/pool_state.h"
#include "wire/fuse.h"

#include <stdlib.h>
#include <string.h>

#define GATHER_MS 1000 /* for how long a poll waits for suggestions that are being computed */

/* ---- who is in which ---- */

static struct holding_group *find_group(struct worker *w, int64_t id)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &w->holdings)
    {
        struct holding *h = container_of(n, struct holding, node);
        if (h->group != NULL && h->group->id == id) {
            return h->group;
        }
    }
    return NULL;
}

void holding_join(struct worker *w, struct holding *h, int64_t id)
{
    if (h->group != NULL && h->group->id == id) {
        return;
    }
    holding_leave(h);
    if (id <= 0) {
        return;
    }
    h->group = find_group(w, id);
    if (h->group == NULL) {
        h->group = xcalloc(1, sizeof(*h->group));
        h->group->id = id;
    }
    h->group->members++;
}

void holding_leave(struct holding *h)
{
    struct holding_group *g = h->group;
    h->group = NULL;
    if (g != NULL && --g->members == 0) {
        free(g);
    }
}

/* ---- how many, and which ---- */

/* What the worker has found to fit into one program. */
static int64_t room_there(const struct worker *w, int64_t experiment)
{
    for (size_t i = 0; i < w->n_room; i++) {
        if (w->room[i].experiment == experiment) {
            return w->room[i].lanes;
        }
    }
    return WIRE_LANES_MAX;
}

/* Trials that the worker may run as one, whatever there is to give. */
static int64_t most_lanes(const struct worker *w, const struct experiment *x)
{
    const struct spec *spec = study_spec(x->study);
    bool alone = spec->fuse == 0 || spec->fuse == 1 || spec->distribution != NULL;
    if (alone || w->fuse == 0) {
        return 1;
    }
    int64_t lanes = spec->fuse == FUSE_AUTO ? w->fuse : spec->fuse;
    int64_t there = room_there(w, x->id);
    return there < lanes ? there : lanes;
}

/* Trials in the group of one that was just given. No slot anywhere stays idle for it. */
static int count_lanes(const struct worker *w, const struct experiment *x, int64_t idle)
{
    int64_t lanes = most_lanes(w, x);
    int64_t trials = 0;
    int64_t places = 0;
    study_room(x->study, &trials, &places);
    int64_t left = trials < places ? trials : places;
    if (idle > 1 && left < INT64_MAX) {
        int64_t share = (left + 1 + idle - 1) / idle;
        lanes = share < lanes ? share : lanes;
    }
    return (int)lanes;
}

bool offer_may_reserve(const struct worker *w, const struct experiment *x)
{
    int64_t lanes = most_lanes(w, x);
    int64_t trials = 0;
    int64_t places = 0;
    study_room(x->study, &trials, &places);
    return lanes == 1 || places >= (trials < lanes ? trials : lanes);
}

static char *key_of(const struct spec *spec, const double *point)
{
    json_t *params = space_point_to_json(spec->space, point);
    char *key = fuse_key(spec->trial, params);
    json_decref(params);
    return key;
}

/* Would the study's next trial be one for the group of `first`? One that failed before runs alone,
 * so that it takes no others with it. */
static bool next_is_alike(const struct experiment *x, const struct holding *first)
{
    const struct spec *spec = study_spec(x->study);
    const struct trial *t = study_trial(x->study, first->trial);
    struct study_next next;
    if (t == NULL || t->failures > 0 || !study_next(x->study, &next) || next.failed) {
        return false;
    }
    int64_t step = first->resume_uri != NULL ? first->resume_step : -1;
    if (next.budget != t->budget || next.resume_step != step || next.fold != t->fold) {
        return false;
    }
    char *have = key_of(spec, t->point);
    char *want = key_of(spec, next.point);
    bool alike = strcmp(have, want) == 0;
    free(want);
    free(have);
    return alike;
}

/* ---- filling ---- */

static void fill(struct worker *w, struct experiment *x, struct holding *first, bool reserve,
                 int lanes)
{
    bool thinks = false;
    while (first->group->members < lanes && !thinks) {
        struct holding *h = study_must_think(x->study) || next_is_alike(x, first)
                                ? offer_grant(w, x, reserve, &thinks)
                                : NULL;
        if (h == NULL) {
            break;
        }
        holding_join(w, h, first->group->id);
        offer_holding(w, x, h);
    }
    if (!thinks) {
        w->gather.on = false;
    }
}

void offer_group(struct worker *w, struct experiment *x, struct holding *first, bool reserve,
                 int64_t idle)
{
    const struct trial *t = study_trial(x->study, first->trial);
    int lanes = t != NULL && t->failures == 0 ? count_lanes(w, x, idle) : 1;
    if (lanes <= 1) {
        offer_holding(w, x, first);
        return;
    }
    holding_join(w, first, ++w->pool->groups);
    offer_holding(w, x, first);
    w->gather = (struct gathering){
        .on = true,
        .experiment = x->id,
        .trial = first->trial,
        .attempt = first->attempt,
        .until_ns = driver_now_ns(w->pool->driver) + GATHER_MS * MAG_NS_PER_MS,
        .reserve = reserve,
        .lanes = lanes,
    };
    fill(w, x, first, reserve, lanes);
}

void offer_go_on(struct worker *w)
{
    const struct gathering *g = &w->gather;
    struct pool *p = w->pool;
    if (!g->on) {
        return;
    }
    struct experiment *x = driver_experiment(p->driver, g->experiment);
    struct holding *first = holding_find(w, g->experiment, g->trial, g->attempt);
    if (x == NULL || x->deleted || first == NULL || first->group == NULL || p->draining ||
        driver_is_read_only(p->driver)) {
        w->gather.on = false;
    } else if (!driver_is_thinking(x)) {
        fill(w, x, first, g->reserve, g->lanes);
    }
}

bool offer_is_gathering(struct worker *w)
{
    const struct gathering *g = &w->gather;
    return g->on && driver_now_ns(w->pool->driver) < g->until_ns;
}
