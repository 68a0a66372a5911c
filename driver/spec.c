/* SPDX-License-Identifier: Apache-2.0
 *
 * The experiment file as a whole: what to search, by what, within which limits. Every fault is
 * reported at once; the resolved document has every default written out and parses to the same
 * spec.
 */
#include "driver/spec.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "driver/spec_read.h"
#include "space/constraint.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 256 /* name, unit */
#define RESOURCE_MAX INT64_C(1000000000000)
#define OUTPUT_MB 1024 /* limits.output: weeks of a progress bar, a second of a flood */

/* ---- members ---- */

int64_t spec_int(const json_t *o, const char *pointer, const char *key, int64_t lo, int64_t hi,
                 int64_t def, struct mjson_issues *is)
{
    const json_t *v = json_object_get(o, key);
    if (v == NULL) {
        return def;
    }
    double real = json_number_value(v);
    bool whole = json_is_integer(v) ||
                 (json_is_real(v) && real == floor(real) && fabs(real) <= SPACE_WHOLE_MAX);
    int64_t x = json_is_integer(v) ? json_integer_value(v) : whole ? (int64_t)real : 0;
    if (!whole || x < lo || x > hi) {
        mjson_issue_at(is, pointer, key, "must be a whole number from %lld to %lld%s%s",
                       (long long)lo, (long long)hi, whole ? "" : ", not ",
                       whole ? "" : mjson_kind(v));
        return def;
    }
    return x;
}

static bool has_control(const char *t, bool breaks_pass)
{
    for (; *t != '\0'; t++) {
        if (iscntrl((unsigned char)*t) && !(breaks_pass && strchr("\n\r\t", *t) != NULL)) {
            return true;
        }
    }
    return false;
}

char *spec_text(const json_t *o, const char *pointer, const char *key, size_t max,
                bool may_be_empty, const char *def, struct mjson_issues *is)
{
    const json_t *v = json_object_get(o, key);
    if (v == NULL && def != NULL) {
        return xstrdup(def);
    }
    if (v == NULL) {
        mjson_issue(is, pointer, "\"%s\" is missing", key);
        return NULL;
    }
    size_t n = json_string_length(v);
    if (!json_is_string(v) || n > max || (n == 0 && !may_be_empty) ||
        has_control(json_string_value(v), may_be_empty)) {
        mjson_issue_at(is, pointer, key,
                       "must be a string of %d to %zu bytes without control characters%s%s",
                       may_be_empty ? 0 : 1, max, json_is_string(v) ? "" : ", not ",
                       json_is_string(v) ? "" : mjson_kind(v));
        return NULL;
    }
    return xstrdup(json_string_value(v));
}

int64_t spec_duration(const json_t *o, const char *pointer, const char *key,
                      struct mjson_issues *is)
{
    const json_t *v = json_object_get(o, key);
    int64_t ms = 0;
    bool ok = v == NULL;
    if (json_is_string(v)) {
        ok = duration_parse(json_string_value(v), &ms) == MAG_OK;
    } else if (json_is_number(v)) {
        double s = json_number_value(v);
        ok = s >= 0 && s <= 3.2e8;
        ms = ok ? (int64_t)llround(s * 1000) : 0;
    }
    if (!ok) {
        mjson_issue_at(
            is, pointer, key,
            "must be a duration: seconds, or a text such as \"30s\", \"20m\", \"2h\", \"1d\"");
    }
    return ms;
}

bool spec_object(const json_t *v, const char *pointer, struct mjson_issues *is)
{
    if (v != NULL && !json_is_object(v)) {
        mjson_issue(is, pointer, "must be an object, not %s", mjson_kind(v));
    }
    return json_is_object(v);
}

/* ---- parts ---- */

static void read_resource(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    static const char *const keys[] = {"unit", "min", "max", NULL};
    const json_t *o = json_object_get(doc, "resource");
    if (!spec_object(o, "/resource", is)) {
        return;
    }
    int before = is->total;
    mjson_check_keys(o, keys, "/resource", is);
    s->resource_unit = spec_text(o, "/resource", "unit", NAME_MAX_BYTES, false, "step", is);
    s->resource.min = spec_int(o, "/resource", "min", 1, RESOURCE_MAX, 1, is);
    if (json_object_get(o, "max") == NULL) {
        mjson_issue(is, "/resource", "\"max\" is missing: the %ss of a whole trial",
                    s->resource_unit != NULL ? s->resource_unit : "step");
        return;
    }
    s->resource.max = spec_int(o, "/resource", "max", 1, RESOURCE_MAX, 1, is);
    if (is->total == before && s->resource.min > s->resource.max) {
        mjson_issue(is, "/resource", "min %lld is above max %lld", (long long)s->resource.min,
                    (long long)s->resource.max);
    }
    s->resource.present = is->total == before;
}

static void read_limits(struct spec_limits *l, const json_t *doc, struct mjson_issues *is)
{
    static const char *const keys[] = {"trials", "parallel",  "time",       "target", "retries",
                                       "losses", "failures",  "trial_time", "memory", "output",
                                       "files",  "processes", "storage",    NULL};
    const json_t *o = json_object_get(doc, "limits");
    if (spec_object(o, "/limits", is)) {
        mjson_check_keys(o, keys, "/limits", is);
    }
    l->trials = spec_int(o, "/limits", "trials", 1, SPEC_TRIALS_MAX, 0, is);
    l->parallel = spec_int(o, "/limits", "parallel", 1, 1000000, 0, is);
    l->time_ms = spec_duration(o, "/limits", "time", is);
    l->retries = spec_int(o, "/limits", "retries", 0, 1000, 2, is);
    l->losses = spec_int(o, "/limits", "losses", 0, 1000, 5, is);
    l->failures = spec_int(o, "/limits", "failures", 0, SPEC_TRIALS_MAX, 10, is);
    l->trial_time_ms = spec_duration(o, "/limits", "trial_time", is);
    l->memory_mb = spec_memory(o, "/limits", "memory", is);
    l->output_mb = json_object_get(o, "output") != NULL ? spec_memory(o, "/limits", "output", is)
                                                        : OUTPUT_MB;
    l->files = spec_int(o, "/limits", "files", 16, 1 << 20, 0, is);
    l->processes = spec_int(o, "/limits", "processes", 0, 65536, 4096, is);
    l->storage_bytes =
        spec_bytes(o, "/limits", "storage", SPEC_STORAGE_MIN, SPEC_STORAGE_MAX, 0, is);
    const json_t *target = json_object_get(o, "target");
    l->has_target = target != NULL;
    if (target != NULL && !json_is_number(target)) {
        mjson_issue(is, "/limits/target", "must be a number, not %s", mjson_kind(target));
    }
    l->target = json_number_value(target);
}

/* The optimizer sees points; what runs at a time are their folds. */
struct opt_setup spec_opt_setup(const struct spec *s)
{
    int folds = s->validation.folds;
    int64_t units = s->limits.parallel;
    return (struct opt_setup){.space = s->space,
                              .seed = s->seed,
                              .resource = s->resource,
                              .trials = s->limits.trials,
                              .bounded = s->limits.time_ms > 0 || s->limits.has_target,
                              .parallel = units > 0 ? (units + folds - 1) / folds : 0,
                              .objectives = s->n_objectives,
                              .folds = folds};
}

struct early_setup spec_early_setup(const struct spec *s)
{
    struct early_setup setup = {.resource = s->resource,
                                .seed = s->seed,
                                .maximize = s->maximize,
                                .folds = s->validation.folds};
    if (setup.folds > 1) { /* its steps are the folds that have ended */
        setup.resource = (struct opt_resource){.present = true, .min = 1, .max = setup.folds};
    }
    return setup;
}

/* Builds both once: only they know their options. The resolved forms go into the spec's. */
static void read_search(struct spec *s, const json_t *doc, struct mjson_issues *is,
                        json_t **ret_optimizer, json_t **ret_rule)
{
    json_t *rule = json_object_get(doc, "early_stopping");
    json_t *optimizer = json_object_get(doc, "optimizer");
    struct early_setup early = spec_early_setup(s);
    if (early.folds == 1 && !s->resource.present && json_object_get(doc, "resource") != NULL) {
        /* It is faulty, and said so; the rule's own faults show all the same. */
        early.resource = (struct opt_resource){.present = true, .min = 1, .max = 1000000};
    }
    struct early_stop *e =
        rule != NULL ? early_stop_create(rule, "/early_stopping", &early, is) : NULL;
    struct optimizer *o = NULL;
    if (s->space != NULL && (s->resource.present || json_object_get(doc, "resource") == NULL)) {
        struct opt_setup setup = spec_opt_setup(s);
        o = optimizer_create(optimizer, "/optimizer", &setup, is, &s->auto_why);
    }
    if (e != NULL && o != NULL && (optimizer_ops_of(o)->caps & OPT_CAP_PAUSES) != 0 &&
        !early_stop_may_combine(e)) {
        mjson_issue(is, "/early_stopping",
                    "\"%s\" already ends poor trials early; for both, add \"combine\": true here, "
                    "else leave "
                    "early_stopping out",
                    optimizer_ops_of(o)->name);
    }
    *ret_rule = e != NULL ? early_stop_resolved(e) : NULL;
    *ret_optimizer = o != NULL ? optimizer_resolved(o) : NULL;
    s->early_stopping = json_incref(rule);
    s->optimizer = json_incref(optimizer);
    early_stop_destroy(e);
    optimizer_destroy(o);
}

static void check_top_keys(const json_t *doc, struct mjson_issues *is)
{
    static const char *const keys[] = {"$schema", "name", "objective", "searchspace", "optimizer",
                                       "resource", "limits", "seed", "trial", "checkpoint", "tensorboard",
                                       "early_stopping", "points", "requires", "metrics", "project",
                                       "tags", "notes", "notify", "simulation", "objectives",
                                       "outcome_constraints", "constraints", "warm_start", "logs",
                                       "validation", "ablation", "distribution", NULL};
    if (json_object_get(doc, "combine") != NULL) {
        mjson_issue(is, "/combine", "\"combine\" belongs into \"early_stopping\"");
    }
    const json_t *simulation = json_object_get(doc, "simulation");
    if (simulation != NULL && !json_is_object(simulation)) {
        mjson_issue(is, "/simulation", "must be an object (`magpie simulate` reads it), not %s",
                    mjson_kind(simulation));
    }
    json_t *rest = json_copy((json_t *)(uintptr_t)doc);
    (void)json_object_del(rest, "combine");
    mjson_check_keys(rest, keys, "", is);
    json_decref(rest);
    const json_t *schema = json_object_get(doc, "$schema");
    if (schema != NULL && !json_is_string(schema)) {
        mjson_issue(is, "/$schema", "must be a string (editors read it; magpie does not)");
    }
}

/* ---- the resolved document ---- */

static void write_duration(json_t *o, const char *key, int64_t ms)
{
    json_t *v = ms % 1000 == 0 ? json_integer(ms / 1000) : json_real((double)ms / 1000);
    (void)json_object_set_new(o, key, v);
}

static json_t *limits_json(const struct spec_limits *l)
{
    json_t *o = json_pack("{s:I, s:I, s:I}", "retries", (json_int_t)l->retries, "losses",
                          (json_int_t)l->losses, "failures", (json_int_t)l->failures);
    if (l->trials > 0) {
        (void)json_object_set_new(o, "trials", json_integer(l->trials));
    }
    if (l->parallel > 0) {
        (void)json_object_set_new(o, "parallel", json_integer(l->parallel));
    }
    if (l->has_target) {
        (void)json_object_set_new(o, "target", json_real(l->target));
    }
    write_duration(o, "time", l->time_ms);
    write_duration(o, "trial_time", l->trial_time_ms);
    (void)json_object_set_new(o, "output", json_integer(l->output_mb));
    (void)json_object_set_new(o, "processes", json_integer(l->processes));
    if (l->storage_bytes > 0) {
        (void)json_object_set_new(o, "storage", json_integer(l->storage_bytes));
    }
    if (l->memory_mb > 0) {
        (void)json_object_set_new(o, "memory", json_integer(l->memory_mb));
    }
    if (l->files > 0) {
        (void)json_object_set_new(o, "files", json_integer(l->files));
    }
    return o;
}

static json_t *resolve(const struct spec *s, json_t *optimizer_take, json_t *rule_take)
{
    json_t *o = json_pack("{s:s, s:o, s:o, s:o, s:I}", "name", s->name, "searchspace",
                          space_to_json(s->space), "optimizer", optimizer_take, "limits",
                          limits_json(&s->limits), "seed", (json_int_t)s->seed);
    spec_write_goals(s, o);
    if (s->resource.present) {
        (void)json_object_set_new(o, "resource",
                                  json_pack("{s:s, s:I, s:I}", "unit", s->resource_unit, "min",
                                            (json_int_t)s->resource.min, "max",
                                            (json_int_t)s->resource.max));
    }
    if (rule_take != NULL) {
        (void)json_object_set_new(o, "early_stopping", rule_take);
    }
    if (s->trial != NULL) {
        (void)json_object_set(o, "trial", s->trial);
    }
    json_t *constraints = space_constraints_to_json(s->space);
    if (constraints != NULL) {
        (void)json_object_set_new(o, "constraints", constraints);
    }
    if (s->points != NULL) {
        (void)json_object_set(o, "points", s->points);
    }
    if (s->warm_start != NULL) {
        (void)json_object_set(o, "warm_start", s->warm_start);
    }
    spec_write_validation(s, o);
    if (s->ablation != NULL) {
        (void)json_object_set(o, "ablation", s->ablation);
    }
    if (s->distribution != NULL) {
        (void)json_object_set(o, "distribution", s->distribution);
    }
    spec_write_extra(s, o);
    return o;
}

/* A space whose constraints have faults stays without them: what else is wrong shows too. */
static void read_space(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    const json_t *constraints = json_object_get(doc, "constraints");
    s->space = space_parse(json_object_get(doc, "searchspace"), "/searchspace", is);
    if (s->space != NULL && constraints != NULL) {
        (void)space_constrain(s->space, constraints, "/constraints", is);
    }
}

static struct spec *parse(const json_t *doc, uint64_t seed_if_absent, int before,
                          struct mjson_issues *is)
{
    struct spec *s = xcalloc(1, sizeof(*s));
    json_t *optimizer = NULL;
    json_t *rule = NULL;
    check_top_keys(doc, is);
    s->name = spec_text(doc, "", "name", NAME_MAX_BYTES, false, "experiment", is);
    s->seed = (uint64_t)spec_int(doc, "", "seed", 0, INT64_C(1) << 53,
                                 (int64_t)(seed_if_absent & ((UINT64_C(1) << 53) - 1)), is);
    spec_read_goals(s, doc, is);
    if (json_object_get(doc, "searchspace") == NULL) {
        mjson_issue(is, "",
                    "\"searchspace\" is missing: {\"lr\": {\"type\": \"DOUBLE\", \"range\": "
                    "[0.0001, 0.1]}}");
    } else {
        read_space(s, doc, is);
    }
    read_resource(s, doc, is);
    read_limits(&s->limits, doc, is);
    spec_read_validation(s, doc, is);
    spec_read_points(s, doc, is);
    spec_read_warm(s, doc, is);
    read_search(s, doc, is, &optimizer, &rule);
    spec_read_trial(s, doc, is);
    spec_read_ablation(s, doc, is);
    spec_read_extra(s, doc, is);
    spec_read_distribution(s, doc, is);
    spec_check_goals(s, doc, is);
    if (is->total > before) {
        json_decref(optimizer);
        json_decref(rule);
        spec_destroy(s);
        return NULL;
    }
    s->resolved = resolve(s, optimizer, rule);
    if (json_object_get(doc, "simulation") != NULL) {
        (void)json_object_set(s->resolved, "simulation", json_object_get(doc, "simulation"));
    }
    return s;
}

struct spec *spec_parse(const json_t *doc, uint64_t seed_if_absent, struct mjson_issues *is)
{
    int before = is->total;
    if (!json_is_object(doc)) {
        mjson_issue(is, "", "an experiment is a JSON object, not %s", mjson_kind(doc));
        return NULL;
    }
    json_t *expanded = spec_expand_ablation(doc, is);
    struct spec *s = parse(expanded != NULL ? expanded : doc, seed_if_absent, before, is);
    json_decref(expanded);
    return s;
}

void spec_destroy(struct spec *s)
{
    if (s == NULL) {
        return;
    }
    for (int i = 0; i < s->requires_.n_labels; i++) {
        free(s->requires_.labels[i]);
    }
    free(s->requires_.labels);
    for (int i = 0; i < s->n_observed; i++) {
        free(s->observed[i].point);
        free(s->observed[i].measures);
    }
    free(s->observed);
    json_decref(s->logs);
    json_decref(s->warm_start);
    json_decref(s->ablation);
    json_decref(s->distribution);
    json_t *const values[] = {s->trial,  s->metrics,        s->tags,      s->notify,
                              s->points, s->early_stopping, s->optimizer, s->resolved};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        json_decref(values[i]);
    }
    free(s->name);
    for (int i = 0; i < s->n_measures; i++) {
        free(s->measures[i].name);
    }
    free(s->resource_unit);
    free(s->validation.column);
    free(s->notes);
    free(s->project);
    free(s->auto_why);
    space_destroy(s->space);
    free(s);
}
