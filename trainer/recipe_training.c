/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/recipe_training.h"

#include "trainer/feed.h"
#include "trainer/tally.h"

#include <stdlib.h>
#include <string.h>

/* ---- schedule ---- */

static void parse_plateau(const struct place *p, struct schedule *s)
{
    int metric = 1;
    s->patience = 10;
    s->threshold = 1e-4;
    s->factor = 0.1;
    (void)value_choice(p, "metric", false, measure_names, &metric);
    s->metric = measure_names[metric];
    s->larger = measure_larger(s->metric);
    (void)value_number(p, "factor", false, 1e-6, 0.999, &s->factor);
    (void)value_int(p, "patience", false, 0, 1000000, &s->patience);
    (void)value_int(p, "cooldown", false, 0, 1000000, &s->cooldown);
    (void)value_number(p, "threshold", false, 0, 1, &s->threshold);
    (void)value_number(p, "min_lr", false, 0, 1000, &s->least);
}

static void parse_schedule_fields(const struct place *p, struct schedule *s)
{
    switch (s->kind) {
    case SCHEDULE_STEP:
        s->factor = 0.1;
        s->every = 10;
        (void)value_int(p, "every", false, 1, 1000000, &s->every);
        (void)value_number(p, "factor", false, 1e-6, 1, &s->factor);
        break;
    case SCHEDULE_EXPONENTIAL:
        s->factor = 0.95;
        (void)value_number(p, "factor", false, 1e-6, 1, &s->factor);
        break;
    case SCHEDULE_COSINE:
    case SCHEDULE_LINEAR:
        (void)value_int(p, "epochs", true, 1, 1000000, &s->epochs);
        (void)value_number(p, "floor", false, 0, 1, &s->floor);
        break;
    case SCHEDULE_ONE_CYCLE:
        s->rise = 0.3;
        (void)value_int(p, "epochs", true, 1, 1000000, &s->epochs);
        (void)value_number(p, "rise", false, 0.01, 0.99, &s->rise);
        return; /* it has a rise of its own */
    case SCHEDULE_PLATEAU:
        parse_plateau(p, s);
        break;
    case SCHEDULE_CONSTANT:
    default:
        break;
    }
    (void)value_int(p, "warmup", false, 0, 100000, &s->warmup);
}

static void parse_schedule(struct reader *r, const json_t *v, const char *pointer,
                           struct schedule *s)
{
    static const char *const kinds[] = {"constant", "step",     "exponential", "cosine",
                                        "linear",   "onecycle", "plateau",     NULL};
    static const char *const keys[][9] = {{"type", "warmup", NULL},
                                          {"type", "every", "factor", "warmup", NULL},
                                          {"type", "factor", "warmup", NULL},
                                          {"type", "epochs", "floor", "warmup", NULL},
                                          {"type", "epochs", "floor", "warmup", NULL},
                                          {"type", "epochs", "rise", NULL},
                                          {"type", "metric", "factor", "patience", "cooldown",
                                           "threshold", "min_lr", "warmup", NULL}};
    int kind = 0;
    *s = (struct schedule){0};
    json_t *short_form = json_is_string(v) ? json_pack("{s:O}", "type", v) : NULL;
    struct place p = {
        .reader = r, .object = short_form != NULL ? short_form : v, .pointer = pointer};
    if (!json_is_object(p.object)) {
        mjson_issue(r->issues, pointer, "\"schedule\" must be {\"type\": …}, not %s",
                    mjson_kind(v));
    } else if (value_choice(&p, "type", true, kinds, &kind)) {
        s->kind = (enum schedule_kind)kind;
        mjson_check_keys(p.object, keys[kind], pointer, r->issues);
        parse_schedule_fields(&p, s);
    }
    json_decref(short_form);
}

/* A measure of the validation part needs one. */
static void check_plateau(struct reader *r, const struct training *t, const char *pointer)
{
    if (t->schedule.kind == SCHEDULE_PLATEAU && strncmp(t->schedule.metric, "val_", 4) == 0 &&
        !(t->validation > 0)) {
        mjson_issue(r->issues, pointer,
                    "a plateau of \"%s\" needs a validation part: give \"validation\" above 0, or "
                    "\"metric\": \"train_loss\"",
                    t->schedule.metric);
    }
}

/* ---- augmentation ---- */

static void parse_augmentation(struct reader *r, const json_t *v, const char *pointer,
                               struct augmentation *a)
{
    static const char *const keys[] = {"crop", "flip", "cutout", NULL};
    struct place p = {.reader = r, .object = v, .pointer = pointer};
    if (!json_is_object(v)) {
        mjson_issue(
            r->issues, pointer,
            "\"augmentation\" must be an object such as {\"crop\": 2, \"flip\": true}, not %s",
            mjson_kind(v));
        return;
    }
    mjson_check_keys(v, keys, pointer, r->issues);
    (void)value_int(&p, "crop", false, 0, MODEL_SIDE_MAX, &a->crop);
    (void)value_bool(&p, "flip", &a->flip);
    (void)value_int(&p, "cutout", false, 0, MODEL_SIDE_MAX, &a->cutout);
}

/* Shift and square must leave something of the image. */
static bool fit_augmentation(const struct augmentation *a, const struct shape *s,
                             const char *pointer, struct mjson_issues *is)
{
    int side = s->h < s->w ? s->h : s->w;
    char text[48];
    shape_text(s, text);
    if (s->flat) {
        mjson_issue(is, pointer,
                    "only images can be changed so, but the examples are %s flat values; give "
                    "\"model\" an \"input\": [channels, height, width]",
                    text);
    } else if (a->crop >= side || a->cutout >= side) {
        const char *key = a->crop >= side ? "crop" : "cutout";
        mjson_issue_at(is, pointer, key, "\"%s\" must be below %d for images of %s", key, side,
                       text);
    } else {
        return true;
    }
    return false;
}

/* ---- numbers ---- */

static void parse_numbers(const struct place *p, struct training *t)
{
    struct numbers {
        const char *key;
        double lo, hi;
        float *to;
    } rows[] = {
        {"lr", 0, 1000, &t->update.lr},
        {"momentum", 0, 0.9999, &t->update.momentum},
        {"weight_decay", 0, 1000, &t->update.weight_decay},
        {"beta1", 0, 0.9999, &t->update.beta1},
        {"beta2", 0, 0.999999, &t->update.beta2},
        {"epsilon", 1e-12, 1, &t->update.epsilon},
        {"clip_norm", 0, 1e9, &t->update.clip},
        {"label_smoothing", 0, 0.9, &t->loss.smoothing},
        {"ema", 0, 0.99999, &t->ema},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        double v = 0;
        if (value_number(p, rows[i].key, false, rows[i].lo, rows[i].hi, &v)) {
            *rows[i].to = (float)v;
        }
    }
    (void)value_int(p, "batch_size", false, 1, BACKEND_ROWS_MAX, &t->batch_size);
    (void)value_int(p, "epochs", false, 1, 1000000, &t->epochs);
    (void)value_int(p, "threads", false, 1, BACKEND_THREADS_MAX, &t->threads);
    (void)value_int(p, "prefetch", false, 0, FEED_AHEAD_MAX, &t->prefetch);
    (void)value_number(p, "validation", false, 0, 0.9, &t->validation);
}

/* True when the file names it. */
static bool parse_backend(const struct place *p, struct training *t)
{
    const char *names[8] = {NULL};
    for (int i = 0; i < 7 && backend_known(i) != NULL; i++) {
        names[i] = backend_known(i)->name;
    }
    int k = 0;
    const bool named = value_choice(p, "backend", false, names, &k);
    t->backend = backend_known(k);
    return named;
}

/* What the best backend here lacks, another worker's may have: only a backend that is named is
 * asked. */
static void parse_precision(const struct place *p, bool named, struct training *t)
{
    static const char *const names[] = {"float32", "bf16", "tf32", NULL};
    int k = 0;
    (void)value_choice(p, "precision", false, names, &k);
    t->precision = (enum precision)k;
    unsigned all = t->backend->precisions;
    if (named && all != 0 && (all >> k & 1) == 0) {
        mjson_issue_at(p->reader->issues, p->pointer, "precision",
                       "the backend \"%s\" has no %s; write \"float32\" or \"bf16\"",
                       t->backend->name, names[k]);
    }
}

/* The algorithm and its usual numbers, which the file's own replace. */
static void parse_optimizer(const struct place *p, struct training *t)
{
    static const char *const names[] = {"sgd", "adam", "rmsprop", "adagrad", "lamb", "adamw", NULL};
    static const struct {
        enum optimizer_kind kind;
        float lr, beta2, epsilon;
    } rows[] = {
        {OPTIMIZER_SGD, 0.01f, 0.999f, 1e-8f},    {OPTIMIZER_ADAM, 0.001f, 0.999f, 1e-8f},
        {OPTIMIZER_RMSPROP, 0.01f, 0.99f, 1e-8f}, {OPTIMIZER_ADAGRAD, 0.01f, 0.999f, 1e-10f},
        {OPTIMIZER_LAMB, 0.001f, 0.999f, 1e-6f},  {OPTIMIZER_ADAM, 0.001f, 0.999f, 1e-8f}};
    int k = 0;
    (void)value_choice(p, "optimizer", false, names, &k);
    t->update.kind = rows[k].kind;
    t->update.lr = rows[k].lr;
    t->update.beta2 = rows[k].beta2;
    t->update.epsilon = rows[k].epsilon;
    (void)value_bool(p, "nesterov", &t->update.nesterov);
}

void recipe_training(struct reader *r, const json_t *v, const char *pointer, struct training *t)
{
    static const char *const keys[] = {"optimizer",       "lr",         "momentum",   "nesterov",
                                       "weight_decay",    "beta1",      "beta2",      "epsilon",
                                       "clip_norm",       "batch_size", "epochs",     "loss",
                                       "label_smoothing", "schedule",   "validation", "threads",
                                       "backend",         "ema",        "order",      "precision",
                                       "augmentation",    "prefetch",   NULL};
    static const char *const losses[] = {"cross_entropy", "mse", "logistic", NULL};
    static const char *const orders[] = {"trial", "experiment", NULL};
    *t = (struct training){.batch_size = 64,
                           .epochs = 10,
                           .threads = 1,
                           .prefetch = -1,
                           .validation = 0.1,
                           .backend = backend_registry[0]};
    t->update =
        (struct update){.beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .lr = 0.01f, .scale = 1};
    if (v == NULL) {
        return;
    }
    if (!json_is_object(v)) {
        mjson_issue(r->issues, pointer, "\"training\" must be an object, not %s", mjson_kind(v));
        return;
    }
    struct place p = {.reader = r, .object = v, .pointer = pointer};
    mjson_check_keys(v, keys, pointer, r->issues);
    int k = 0;
    parse_optimizer(&p, t);
    parse_numbers(&p, t);
    t->loss_given = value_choice(&p, "loss", false, losses, &k);
    t->loss.kind = (enum loss_kind)k;
    k = 0;
    (void)value_choice(&p, "order", false, orders, &k);
    t->order = (enum data_order)k;
    parse_precision(&p, parse_backend(&p, t), t);
    if (json_object_get(v, "schedule") != NULL) {
        char *at = mjson_pointer(pointer, "schedule");
        parse_schedule(r, json_object_get(v, "schedule"), at, &t->schedule);
        check_plateau(r, t, at);
        free(at);
    }
    if (json_object_get(v, "augmentation") != NULL) {
        char *at = mjson_pointer(pointer, "augmentation");
        parse_augmentation(r, json_object_get(v, "augmentation"), at, &t->augmentation);
        free(at);
    }
}

bool recipe_training_fit(const struct training *t, const struct shape *input, int n_classes,
                         const char *pointer, struct mjson_issues *is)
{
    int before = is->total;
    if (augment_any(&t->augmentation)) {
        char *at = mjson_pointer(pointer, "augmentation");
        (void)fit_augmentation(&t->augmentation, input, at, is);
        free(at);
    }
    const char *metric = t->schedule.kind == SCHEDULE_PLATEAU ? t->schedule.metric : NULL;
    if (metric != NULL && !measure_there(metric, n_classes, t->loss.kind)) {
        char *at = mjson_pointer(pointer, "schedule");
        mjson_issue_at(is, at, "metric", "with these data there is no \"%s\"; use \"val_loss\"",
                       metric);
        free(at);
    }
    return is->total == before;
}

int training_ahead(const struct training *t, const struct dataset *d, struct backend *b)
{
    if (t->prefetch >= 0) {
        return t->prefetch;
    }
    const bool waits =
        t->backend->waits != NULL && t->backend->waits(b, d, augment_any(&t->augmentation));
    return waits ? 2 : 0;
}

void training_next(const struct training *t, struct update *u)
{
    u->count++;
    u->average_keep = u->count > 1 ? t->ema : 0;
}
