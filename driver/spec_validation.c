/* SPDX-License-Identifier: Apache-2.0
 *
 * "validation": how a point is judged. By folds a point is several trials, one a fold, and counts by
 * their mean; by a ratio it is one trial whose program holds that part of the data back.
 */
#include "driver/spec_read.h"

#include "base/alloc.h"

static bool read_flag(const json_t *o, const char *key, bool def, struct mjson_issues *is)
{
    const json_t *v = json_object_get(o, key);
    if (v != NULL && !json_is_boolean(v)) {
        mjson_issue_at(is, "/validation", key, "must be true or false, not %s", mjson_kind(v));
    }
    return v != NULL ? json_is_true(v) : def;
}

static void read_ratio(struct spec_validation *v, const json_t *ratio, struct mjson_issues *is)
{
    v->train_ratio = json_number_value(ratio);
    if (!json_is_number(ratio) || !(v->train_ratio > 0 && v->train_ratio < 1)) {
        mjson_issue(is, "/validation/train_ratio",
                    "must be a number above 0 and below 1: the part of the examples to train on");
        v->train_ratio = 0.75;
    }
    v->folds = 1;
}

/* One of the two ways to split, and what goes with it. */
static void read_split(struct spec_validation *v, const json_t *o, struct mjson_issues *is)
{
    const json_t *folds = json_object_get(o, "folds");
    const json_t *ratio = json_object_get(o, "train_ratio");
    const json_t *column = json_object_get(o, "fold_column");
    v->folds = 1;
    if (folds != NULL && ratio != NULL) {
        mjson_issue(is, "/validation", "\"folds\" and \"train_ratio\" exclude each other");
    } else if (ratio != NULL) {
        read_ratio(v, ratio, is);
    } else if (folds != NULL) {
        v->folds = (int)spec_int(o, "/validation", "folds", 2, SPEC_FOLDS_MAX, 3, is);
    } else if (column != NULL) {
        mjson_issue(is, "/validation",
                    "\"fold_column\" needs \"folds\": say how many there are; the column holds 0 "
                    "to folds - 1");
    } else {
        mjson_issue(is, "/validation",
                    "needs \"folds\": 3 for cross-validation, or \"train_ratio\": 0.75 for one "
                    "split");
    }
    if (column == NULL) {
        return;
    }
    v->column = spec_text(o, "/validation", "fold_column", SPEC_METRIC_MAX, false, NULL, is);
    if (ratio != NULL) {
        mjson_issue(is, "/validation/fold_column", "goes with \"folds\", not with \"train_ratio\"");
    }
    if (v->stratified) {
        mjson_issue(is, "/validation/stratified",
                    "the folds stand in the column \"fold_column\": nothing is left to stratify");
    }
}

static void check_total(const struct spec *s, struct mjson_issues *is)
{
    if (s->limits.trials * s->validation.folds > SPEC_TRIALS_MAX) {
        mjson_issue(is, "/limits/trials",
                    "%lld points of %d folds are more than %d trials: lower one of them",
                    (long long)s->limits.trials, s->validation.folds, SPEC_TRIALS_MAX);
    }
}

void spec_read_validation(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    static const char *const keys[] = {"folds",      "fold_column", "train_ratio", "seed",
                                       "stratified", "refit",       NULL};
    struct spec_validation *v = &s->validation;
    const json_t *o = json_object_get(doc, "validation");
    *v = (struct spec_validation){.folds = 1};
    if (!spec_object(o, "/validation", is)) {
        return;
    }
    mjson_check_keys(o, keys, "/validation", is);
    v->present = true;
    s->requires_.folds = true;
    v->stratified = read_flag(o, "stratified", false, is);
    v->refit = read_flag(o, "refit", true, is);
    v->seed = (uint64_t)spec_int(o, "/validation", "seed", 0, INT64_C(1) << 53, (int64_t)s->seed, is);
    read_split(v, o, is);
    check_total(s, is);
}

json_t *spec_split_json(const struct spec *s)
{
    const struct spec_validation *v = &s->validation;
    if (!v->present) {
        return NULL;
    }
    json_t *o = json_pack("{s:b, s:I}", "stratified", v->stratified, "seed", (json_int_t)v->seed);
    if (v->train_ratio > 0) {
        (void)json_object_set_new(o, "train_ratio", json_real(v->train_ratio));
    }
    if (v->column != NULL) {
        (void)json_object_set_new(o, "fold_column", json_string(v->column));
    }
    return o;
}

void spec_write_validation(const struct spec *s, json_t *out)
{
    json_t *o = spec_split_json(s);
    if (o == NULL) {
        return;
    }
    if (s->validation.train_ratio == 0) {
        (void)json_object_set_new(o, "folds", json_integer(s->validation.folds));
    }
    (void)json_object_set_new(o, "refit", json_boolean(s->validation.refit));
    (void)json_object_set_new(out, "validation", o);
}
