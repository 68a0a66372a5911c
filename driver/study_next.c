/* SPDX-License-Identifier: Apache-2.0
 *
 * What an ask would give next, for those who give several trials that must be alike: looked at
 * before it is asked for, because a decision is never taken back.
 */
#include "driver/study_impl.h"

static bool next_known(const struct trial *t, int64_t budget, struct study_next *ret)
{
    *ret = (struct study_next){.point = t->point,
                               .budget = budget,
                               .resume_step = t->checkpoint_uri != NULL ? t->checkpoint_step : -1,
                               .fold = t->fold,
                               .failed = t->failures > 0};
    return true;
}

static bool next_created(const struct study *s, const struct opt_suggestion *o,
                         struct study_next *ret)
{
    const struct trial *parent = point_at(s, o->parent);
    *ret = (struct study_next){.point = o->point,
                               .budget = o->budget,
                               .resume_step = parent != NULL && parent->checkpoint_uri != NULL
                                                  ? parent->checkpoint_step
                                                  : -1,
                               .fold = study_folds(s) > 1 || s->spec->validation.present ? 1 : 0};
    return true;
}

bool study_next(const struct study *s, struct study_next *ret)
{
    if (!study_has_work(s) || study_must_think(s)) {
        return false;
    }
    struct list_node *first = list_first(&s->queue);
    if (first != NULL) {
        const struct trial *t = container_of(first, struct trial, link);
        return next_known(t, t->budget, ret);
    }
    const struct opt_suggestion *o = study_peek(s);
    if (o->answer == OPT_TRIAL) {
        return next_created(s, o, ret);
    }
    return o->answer == OPT_RESUME && next_known(point_at(s, o->trial), o->budget, ret);
}

void study_room(const struct study *s, int64_t *ret_trials, int64_t *ret_places)
{
    *ret_trials = INT64_MAX;
    *ret_places = INT64_MAX;
    if (s->limits.trials > 0) {
        int64_t left = s->n_points < s->limits.trials ? s->limits.trials - s->n_points : 0;
        *ret_trials = left * study_folds(s) + s->counts[TRIAL_WAITING] - s->n_reserved +
                      s->counts[TRIAL_PAUSED];
    }
    if (s->limits.parallel > 0) {
        int64_t left = s->limits.parallel - s->counts[TRIAL_RUNNING] - s->n_reserved;
        *ret_places = left > 0 ? left : 0;
    }
}
