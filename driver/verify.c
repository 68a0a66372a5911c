/* SPDX-License-Identifier: Apache-2.0
 *
 * Verify: a second study that is given only what was asked. It decides every event again, and its
 * decision must be the recorded one, byte for byte but for the sentences that explain it.
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
    res->text = xasprintf("event %lld (%s, trial %lld): %s", (long long)ev->seq,
                          event_kind_name(ev->kind), (long long)ev->trial, what);
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

bool verifier_feed(struct verifier *v, const struct event *ev, struct verify_result *res)
{
    struct study *s = v->study;
    struct event again;
    struct mag_err err = {0};
    int dims = s->spec->space->n;
    if (v->failed) {
        return false;
    }
    buf_reset(&v->recorded);
    event_encode(ev, dims, &v->recorded);
    enum mag_status st =
        event_decode(ev->kind, v->recorded.data, v->recorded.len, dims, &again, &err);
    if (st != MAG_OK) {
        differs(v, ev, res, err.text);
        return false;
    }
    event_clear_decision(&again);
    again.wall_ms = ev->wall_ms;
    /* Time and the age of requests are asked, not decided: take them from the record. */
    s->up_ns = ev->up_ms * MAG_NS_PER_MS;
    s->since_ns = -1;
    request_forget(s, &again);
    st = study_apply(s, &again, 1, &err);
    res->events++;
    if (st != MAG_OK) {
        differs(v, ev, res, err.text);
    } else if (again.seq != ev->seq) {
        differs(v, ev, res, "it changes nothing when it is derived again");
    } else {
        same_words(&again.why, ev->why);
        same_words(&again.study_why, ev->study_why);
        buf_reset(&v->derived);
        event_encode(&again, dims, &v->derived);
        if (strcmp(v->recorded.data, v->derived.data) != 0) {
            char *what = contrast(v->recorded.data, v->derived.data);
            differs(v, ev, res, what);
            free(what);
        }
    }
    event_fini(&again);
    return !v->failed;
}
