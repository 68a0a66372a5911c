/* SPDX-License-Identifier: Apache-2.0
 *
 * What the optimizer would answer, and how much of that is known. A slow optimizer's suggestion is
 * two things: an outline (whether there is something to give, and what kind), which is quick, and
 * the whole, with its point, which only an ask needs and another thread may compute.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

struct thought {
    const struct optimizer *opt; /* borrowed from the study, which stands still */
    struct opt_ask ask;
    struct opt_suggestion s;
    double point[];
};

void study_think_init(struct study *s)
{
    s->slow = optimizer_is_slow(s->opt);
}

void study_pretend_slow(struct study *s)
{
    s->slow = true;
}

bool study_is_slow(const struct study *s)
{
    return s->slow;
}

static struct opt_ask next_ask(const struct study *s)
{
    return (struct opt_ask){.next_trial = s->n_points + 1, .may_create = study_may_create(s)};
}

const struct opt_suggestion *study_peek(const struct study *s)
{
    struct peek *p = s->peek;
    if (!p->valid) {
        double *point = p->s.point;
        p->s = (struct opt_suggestion){.point = point};
        struct opt_ask ask = next_ask(s);
        optimizer_suggest(s->opt, &ask, &p->s);
        p->valid = true;
    }
    return &p->s;
}

const struct opt_suggestion *study_outline(const struct study *s)
{
    struct peek *p = s->peek;
    if (!s->slow) {
        return study_peek(s);
    }
    if (!p->outlined) {
        p->outline = (struct opt_suggestion){.point = NULL};
        struct opt_ask ask = next_ask(s);
        optimizer_suggest(s->opt, &ask, &p->outline);
        p->outlined = true;
    }
    return &p->outline;
}

const struct opt_suggestion *study_outlook(const struct study *s)
{
    return s->peek->valid ? &s->peek->s : study_outline(s);
}

void study_unpeek(struct study *s)
{
    s->peek->valid = false;
    s->peek->outlined = false;
}

bool study_must_think(const struct study *s)
{
    return s->slow && !s->peek->valid && !study_is_refitting(s) && study_has_work(s) && list_is_empty(&s->queue) &&
           study_outline(s)->answer == OPT_TRIAL;
}

struct thought *study_thought(const struct study *s)
{
    size_t bytes = ((size_t)s->spec->space->n + 1) * sizeof(double);
    struct thought *t = xcalloc(1, sizeof(*t) + bytes);
    t->opt = s->opt;
    t->ask = next_ask(s);
    t->s.point = t->point;
    (void)study_outline(s); /* from here on queries read it and leave the optimizer alone */
    return t;
}

void study_thought_run(struct thought *t)
{
    optimizer_suggest(t->opt, &t->ask, &t->s);
}

void study_thought_take(struct study *s, struct thought *t_take)
{
    struct peek *p = s->peek;
    struct opt_ask now = next_ask(s);
    MAG_ASSERT(t_take->opt == s->opt && t_take->ask.next_trial == now.next_trial &&
                   t_take->ask.may_create == now.may_create,
               "a suggestion for trial %lld comes when trial %lld is next",
               (long long)t_take->ask.next_trial, (long long)now.next_trial);
    double *point = p->s.point;
    memcpy(point, t_take->point, (size_t)s->spec->space->n * sizeof(*point));
    p->s = t_take->s;
    p->s.point = point;
    p->valid = true;
    free(t_take);
}
