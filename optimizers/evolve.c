/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/evolve.h"

#include "base/alloc.h"

#include <math.h>
#include <stdio.h>

#define PURPOSE_MAX (SPACE_NAME_MAX + 64)

/* The stream of one parameter. */
static void stream_of(struct pcg64 *g, uint64_t seed, const char *purpose, const struct param *p,
                      uint64_t id)
{
    char text[PURPOSE_MAX];
    (void)snprintf(text, sizeof(text), "%s:%s", purpose, p->name);
    pcg_stream(g, seed, text, id);
}

double *evolve_coordinates(const struct space *s, uint64_t seed, const char *purpose, uint64_t id,
                           const double *point)
{
    double *u = xcalloc((size_t)s->n + 1, sizeof(*u));
    space_to_unit(s, point, u);
    for (int i = 0; i < s->n; i++) {
        if (isnan(u[i])) {
            struct pcg64 g;
            stream_of(&g, seed, purpose, &s->params[i], id);
            u[i] = pcg64_double(&g);
        }
    }
    return u;
}

double evolve_reflect(double v)
{
    v = fabs(fmod(v, 2));
    return v > 1 ? 2 - v : v;
}

void evolve_cross(const struct space *s, uint64_t seed, const char *purpose, uint64_t id,
                  const struct evolve_cross *c, double *u)
{
    for (int i = 0; i < s->n; i++) {
        struct pcg64 g;
        stream_of(&g, seed, purpose, &s->params[i], id);
        bool cross = pcg64_double(&g) < c->rate || i == c->forced;
        u[i] = cross ? evolve_reflect(c->mutant[i]) : c->target[i];
    }
}

bool evolve_pick(struct pcg64 *g, int n, int except, int k, int *ret)
{
    bool excepts = except >= 0 && except < n;
    if (n - excepts < k) {
        return false;
    }
    for (int i = 0; i < k;) {
        int at = (int)pcg64_below(g, (uint64_t)n);
        bool taken = at == except;
        for (int j = 0; j < i; j++) {
            taken = taken || ret[j] == at;
        }
        if (!taken) {
            ret[i++] = at;
        }
    }
    return true;
}
