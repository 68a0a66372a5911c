/* SPDX-License-Identifier: Apache-2.0
 *
 * Which stored checkpoints the study still refers to. A trial that was copied from another one
 * (population-based training) goes on from that one's checkpoint until it has one of its own, also
 * after its worker died: until then the checkpoint must stay.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool study_checkpoint_name(const char *uri, struct study_pin *ret)
{
    const char *at = uri != NULL ? strstr(uri, "/trials/") : NULL;
    for (const char *more = at; more != NULL; more = strstr(more + 1, "/trials/")) {
        at = more;
    }
    int end = 0;
    return at != NULL &&
           sscanf(at, "/trials/%" SCNd64 "/checkpoints/%" SCNd64 "-%" SCNd64 "%n", &ret->trial,
                  &ret->step, &ret->attempt, &end) == 3 &&
           at[end] == '\0';
}

static bool is_open(const struct trial *t)
{
    return t->state == TRIAL_WAITING || t->state == TRIAL_RUNNING || t->state == TRIAL_PAUSED;
}

int study_pins(const struct study *s, int64_t trial, struct study_pin **ret)
{
    int n = 0;
    *ret = NULL;
    for (int64_t id = trial + 1; s->has_copies && id <= s->n_trials; id++) {
        const struct trial *t = trial_at(s, id);
        struct study_pin pin;
        if (t->parent > 0 && is_open(t) && study_checkpoint_name(t->checkpoint_uri, &pin) &&
            pin.trial == trial) {
            *ret = xreallocarray(*ret, (size_t)n + 1, sizeof(**ret));
            (*ret)[n++] = pin;
        }
    }
    return n;
}

int study_claims(const struct study *s, int64_t lo, int64_t hi, struct study_pin **ret)
{
    int n = 0;
    *ret = NULL;
    int64_t end = s->has_copies || hi > s->n_trials ? s->n_trials : hi;
    for (int64_t id = lo > 0 ? lo : 1; id <= end; id++) {
        struct study_pin pin;
        if (study_checkpoint_name(trial_at(s, id)->checkpoint_uri, &pin) && pin.trial >= lo &&
            pin.trial <= hi) {
            *ret = xreallocarray(*ret, (size_t)n + 1, sizeof(**ret));
            (*ret)[n++] = pin;
        }
    }
    return n;
}
