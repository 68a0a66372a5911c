/* SPDX-License-Identifier: Apache-2.0
 *
 * Trials that were granted together run as one: in the slots of one, side by side in one program.
 * Beyond that each is a run like any other, and leaves the group when it ends.
 */
#include "worker/app.h"

#include "base/alloc.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct group {
    int64_t id;
    struct run *members[WIRE_LANES_MAX]; /* by arrival */
    int n;
    bool begun; /* nobody joins any more */
};

static struct group *find_open(const struct app *a, const struct run *r)
{
    struct list_node *n, *tmp;
    list_foreach(n, tmp, &a->runs)
    {
        struct group *g = container_of(n, struct run, node)->group;
        if (g != NULL && !g->begun && g->id == r->grant.group && g->n < WIRE_LANES_MAX &&
            g->members[0]->grant.experiment == r->grant.experiment) {
            return g;
        }
    }
    return NULL;
}

void group_join(struct run *r)
{
    bool builtin = json_object_get(r->grant.program, "program") != NULL;
    if (r->grant.group <= 0 || !builtin) {
        return;
    }
    r->group = find_open(r->app, r);
    if (r->group == NULL) {
        r->group = xcalloc(1, sizeof(*r->group));
        r->group->id = r->grant.group;
    }
    r->group->members[r->group->n++] = r;
}

void group_leave(struct run *r)
{
    struct group *g = r->group;
    r->group = NULL;
    if (g == NULL) {
        return;
    }
    for (int i = 0; i < g->n; i++) {
        if (g->members[i] == r) {
            memmove(&g->members[i], &g->members[i + 1],
                    (size_t)(g->n - i - 1) * sizeof(struct run *));
            g->n--;
            break;
        }
    }
    if (g->n == 0) {
        free(g);
    }
}

int group_members(struct run *r, struct run *out[WIRE_LANES_MAX])
{
    if (r->group == NULL) {
        out[0] = r;
        return 1;
    }
    memcpy(out, r->group->members, (size_t)r->group->n * sizeof(struct run *));
    return r->group->n;
}

bool group_is_ready(const struct run *r)
{
    const struct group *g = r->group;
    bool ready = true;
    for (int i = 0; g != NULL && i < g->n; i++) {
        ready = ready && g->members[i]->state == RUN_WAITING;
    }
    return ready;
}

void group_begin(struct run *r)
{
    if (r->group != NULL) {
        r->group->begun = true;
    }
}

struct run *group_heir(const struct run *r)
{
    const struct group *g = r->group;
    for (int i = 0; g != NULL && i < g->n; i++) {
        if (g->members[i] != r && g->members[i]->slot != NULL) {
            return g->members[i];
        }
    }
    return NULL;
}

/* ---- what fits ---- */

void room_note(struct app *a, int64_t experiment, int lanes)
{
    size_t i = 0;
    while (i < a->n_room && a->room[i].experiment != experiment) {
        i++;
    }
    if (i == a->n_room && i == WIRE_ROOMS_MAX) {
        memmove(&a->room[0], &a->room[1], (WIRE_ROOMS_MAX - 1) * sizeof(a->room[0]));
        i--;
    } else if (i == a->n_room) {
        a->n_room++;
    }
    if (a->room[i].experiment == experiment && a->room[i].lanes == lanes) {
        return;
    }
    a->room[i] = (struct wire_room){.experiment = experiment, .lanes = lanes};
    log_info("worker", "group-bound", "experiment=%" PRId64 " trials=%d fit into one program",
             experiment, lanes);
}

void room_tell(const struct app *a, struct wire_next *next)
{
    for (size_t i = 0; i < a->n_room; i++) {
        *wire_room_add(&next->room, &next->n_room) = a->room[i];
    }
}
