/* SPDX-License-Identifier: Apache-2.0
 *
 * Verify: a second study that is given only what was asked. It decides every event again, and its
 * decision must be the recorded one, byte for byte but for the sentences that explain it. What
 * another version of the algorithm decided is followed as recorded: its decisions are facts, and
 * this code cannot make them.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

#define SHOWN 600 /* bytes of each side in the text of a difference */

struct verifier {
    struct study *study;
    struct buf recorded, derived;
    bool tells; /* the record names who decided */
    bool failed;
};

struct verifier *verifier_create(struct spec *spec_take)
{
    struct verifier *v = xcalloc(1, sizeof(*v));
    v->study = study_create(spec_take);
    return v;
}

void verifier_destroy(struct verifier *v)
{
    if (v == NULL) {
        return;
    }
    study_destroy(v->study);
    buf_fini(&v->recorded);
    buf_fini(&v->derived);
    free(v);
}

static void differs(struct verifier *v, const struct event *ev, struct verify_result *res,
                    const char *what)
{
    v->failed = true;
    res->first_bad = ev->seq;
    res->text = xasprintf(
        "event %lld (%s, trial %lld): %s%s", (long long)ev->seq, event_kind_name(ev->kind),
        (long long)ev->trial, what,
        v->tells ? ""
                 : "; the record is too old to say which version of the algorithm decided, perhaps "
                   "another than this one");
}

/* Both sides from a little before their first difference. */
static char *contrast(const char *a, const char *b)
{
    size_t i = 0;
    while (a[i] != '\0' && a[i] == b[i]) {
        i++;
    }
    size_t from = i > 60 ? i - 60 : 0;
    return xasprintf("recorded %s%.*s, derived %s%.*s", from > 0 ? "…" : "", SHOWN, a + from,
                     from > 0 ? "…" : "", SHOWN, b + from);
}

/* Sentences are words for a decision, and a later version may find better ones; the codes beside
 * them are compared. */
static void same_words(char **derived, const char *recorded)
{
    if (*derived != NULL && recorded != NULL) {
        free(*derived);
        *derived = xstrdup(recorded);
    }
}

/* Who decided is told, not derived: an older record does not name it. */
static void same_maker(struct event *derived, const struct event *recorded)
{
    free(derived->maker);
    derived->maker = recorded->maker != NULL ? xstrdup(recorded->maker) : NULL;
}

/* The version that decided this event, where it is not this build's; else NULL. */
static const char *other_maker(struct verifier *v, const struct event *ev)
{
    const struct study *s = v->study;
    v->tells = v->tells || ev->maker != NULL;
    const char *maker = ev->maker != NULL ? ev->maker : s->recorded_maker;
    return maker != NULL && strcmp(maker, s->maker) != 0 ? maker : NULL;
}

/* Takes the decision of another version as it is. */
static void follow(struct verifier *v, const struct event *ev, struct event *again,
                   const char *maker, struct verify_result *res)
{
    struct mag_err err = {0};
    res->other = res->other != NULL ? res->other : xstrdup(maker);
    again->seq = ev->seq;
    again->wall_ms = ev->wall_ms;
    again->up_ms = ev->up_ms;
    if (study_apply(v->study, again, 1, &err) != MAG_OK) {
        differs(v, ev, res, err.text);
    } else {
        res->skipped++;
    }
}

/* Decides it again and compares. */
static void derive(struct verifier *v, const struct event *ev, struct event *again,
                   struct verify_result *res)
{
    struct study *s = v->study;
    struct mag_err err = {0};
    event_clear_decision(again);
    again->wall_ms = ev->wall_ms;
    /* Time and the age of requests are asked, not decided: take them from the record. */
    s->up_ns = ev->up_ms * MAG_NS_PER_MS;
    s->since_ns = -1;
    request_forget(s, again);
    enum mag_status st = study_apply(s, again, 1, &err);
    res->events++;
    if (st != MAG_OK) {
        differs(v, ev, res, err.text);
        return;
    }
    if (again->seq != ev->seq) {
        differs(v, ev, res, "it changes nothing when it is derived again");
        return;
    }
    same_words(&again->why, ev->why);
    same_words(&again->study_why, ev->study_why);
    same_maker(again, ev);
    buf_reset(&v->derived);
    event_encode(again, s->spec->space->n, &v->derived);
    if (strcmp(v->recorded.data, v->derived.data) != 0) {
        char *what = contrast(v->recorded.data, v->derived.data);
        differs(v, ev, res, what);
        free(what);
    }
}

bool verifier_feed(struct verifier *v, const struct event *ev, struct verify_result *res)
{
    struct event again;
    struct mag_err err = {0};
    int dims = v->study->spec->space->n;
    if (v->failed) {
        return false;
    }
    buf_reset(&v->recorded);
    event_encode(ev, dims, &v->recorded);
    if (event_decode(ev->kind, v->recorded.data, v->recorded.len, dims, &again, &err) != MAG_OK) {
        differs(v, ev, res, err.text);
        return false;
    }
    const char *maker = other_maker(v, ev);
    if (maker != NULL) {
        follow(v, ev, &again, maker, res);
    } else {
        derive(v, ev, &again, res);
    }
    event_fini(&again);
    return !v->failed;
}
