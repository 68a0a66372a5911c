/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/asha_sha.h"

#include "base/alloc.h"
#include "base/pcg.h"

#include <math.h>
#include <stdlib.h>

enum { WORKERS = 25, TRIALS = 256, ETA = 4, RUNGS = 5, BRACKETS_MAX = 2000 };

struct bracket {
    int rung;    /* that runs now; RUNGS = over */
    int waiting; /* jobs of it that no worker has */
    int running, arrived;
};

struct worker {
    double end;  /* of its job */
    int bracket; /* -1 = none */
    bool drops;  /* its job ends by being dropped */
};

struct sha {
    struct bracket *brackets;
    int n;
    struct worker workers[WORKERS];
    struct pcg64 g;
    double std, p;
    struct sha_result r;
};

/* The rung is whole: its best quarter goes on. */
static void advance(struct bracket *b)
{
    while (b->rung < RUNGS && b->waiting == 0 && b->running == 0) {
        int next = b->arrived / ETA;
        b->rung = next > 0 ? b->rung + 1 : RUNGS;
        b->waiting = b->rung < RUNGS ? next : 0;
        b->arrived = 0;
        if (b->rung >= RUNGS) {
            return;
        }
    }
}

static void give(struct sha *s, struct worker *w, double now)
{
    int i = 0;
    while (i < s->n && s->brackets[i].waiting == 0) {
        i++;
    }
    if (i == s->n) {
        s->brackets[s->n++] = (struct bracket){.waiting = TRIALS};
    }
    struct bracket *b = &s->brackets[i];
    double below = b->rung == 0 ? 0 : pow(ETA, b->rung - 1);
    double time = (pow(ETA, b->rung) - below) * (1 + fabs(s->std * pcg64_normal(&s->g)));
    double drop = s->p > 0 ? log(1 - pcg64_double(&s->g)) / log(1 - s->p) : INFINITY;
    b->waiting--;
    b->running++;
    *w = (struct worker){.end = now + fmin(time, drop), .bracket = i, .drops = drop < time};
}

static void take(struct sha *s, struct worker *w)
{
    struct bracket *b = &s->brackets[w->bracket];
    b->running--;
    b->arrived += !w->drops;
    if (b->rung == RUNGS - 1 && !w->drops) {
        s->r.first = s->r.trained == 0 ? w->end : s->r.first;
        s->r.trained++;
    }
    advance(b);
}

struct sha_result sha_run(double std, double p, double end, uint64_t seed)
{
    struct sha s = {.std = std, .p = p, .r = {.first = end}};
    s.brackets = xcalloc(BRACKETS_MAX, sizeof(*s.brackets));
    pcg_stream(&s.g, seed, "sha", 0);
    for (int k = 0; k < WORKERS; k++) {
        give(&s, &s.workers[k], 0);
    }
    for (;;) {
        struct worker *w = &s.workers[0];
        for (int k = 1; k < WORKERS; k++) {
            w = s.workers[k].end < w->end ? &s.workers[k] : w;
        }
        if (w->end > end || s.n >= BRACKETS_MAX - 1) {
            break;
        }
        double now = w->end;
        take(&s, w);
        give(&s, w, now);
    }
    s.r.busy = 1; /* there is always another bracket */
    free(s.brackets);
    return s.r;
}
