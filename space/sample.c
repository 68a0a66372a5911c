/* SPDX-License-Identifier: Apache-2.0
 *
 * Drawing points. Every parameter has a stream of its own; where constraints refuse a draw, each
 * stream goes on, so that the draw of a space without constraints is the first one here too.
 */
#include "space/constraint_impl.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DRAWS_MAX 256

struct source {
    const struct space *s;
    uint64_t seed, id;
    const char *purpose;
    bool ready[SPACE_PARAMS_MAX];
    struct pcg64 g[SPACE_PARAMS_MAX];
};

static struct pcg64 *generator(struct source *r, int j)
{
    if (!r->ready[j]) {
        pcg_stream_named(&r->g[j], r->seed, r->purpose, r->s->params[j].name, r->id);
        r->ready[j] = true;
    }
    return &r->g[j];
}

static void draw(struct source *r, double *point)
{
    const struct space *s = r->s;
    for (int i = 0; i < s->n; i++) {
        int j = s->order[i];
        point[j] = space_is_active(s, point, j)
                       ? param_from_unit(&s->params[j], pcg64_double(generator(r, j)))
                       : NAN;
    }
}

/* Refused once: draws on, then takes the least broken draw, mends it and moves it about. */
static void draw_on(struct source *r, double *point)
{
    const struct space *s = r->s;
    double *nearest = xcalloc((size_t)s->n, sizeof(*nearest));
    double least = INFINITY;
    for (int i = 1; i < DRAWS_MAX && least > 0; i++) {
        draw(r, point);
        double v = space_violation(s, point);
        if (v < least || i == 1) {
            least = v;
            memcpy(nearest, point, (size_t)s->n * sizeof(*point));
        }
    }
    memcpy(point, nearest, (size_t)s->n * sizeof(*point));
    free(nearest);
    if (least > 0) {
        space_repair(s, r->seed, r->purpose, r->id, point);
        for (int j = 0; j < s->n; j++) {
            (void)generator(r, j);
        }
        repair_wander(s, r->g, point);
    }
}

void space_sample(const struct space *s, uint64_t seed, const char *purpose, uint64_t id,
                  double *point)
{
    struct source r;
    r.s = s;
    r.seed = seed;
    r.id = id;
    r.purpose = purpose;
    memset(r.ready, 0, (size_t)s->n * sizeof(r.ready[0]));
    draw(&r, point);
    if (!space_is_feasible(s, point)) {
        draw_on(&r, point);
    }
}
