/* SPDX-License-Identifier: Apache-2.0
 *
 * What a search will do before anything is spent. Rows come from the algorithm's own schedule; one
 * without a schedule runs every trial to the end. "epochs" counts resource units that are really
 * run: a promoted trial goes on from its checkpoint.
 */
#include "driver/spec.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One row for a search without a schedule: every trial to the whole budget. */
static void add_flat_row(const struct spec *s, int64_t budget, json_t *rows)
{
    if (s->limits.trials == 0) {
        return;
    }
    json_t *row = json_pack("{s:i, s:i, s:I, s:I, s:I}", "bracket", 0, "rung", 0, "budget",
                            (json_int_t)budget, "trials", (json_int_t)s->limits.trials, "epochs",
                            (json_int_t)(s->limits.trials * budget));
    (void)json_array_append_new(rows, row);
}

/* New trials: those of the first row of each bracket; the others are promoted ones. */
static void sum_rows(const json_t *rows, double *ret_trials, double *ret_epochs)
{
    json_int_t bracket = -1;
    size_t i = 0;
    json_t *row = NULL;
    *ret_trials = 0;
    *ret_epochs = 0;
    json_array_foreach(rows, i, row)
    {
        json_int_t b = json_integer_value(json_object_get(row, "bracket"));
        double round = fmax(json_number_value(json_object_get(row, "rounds")), 1);
        if (b != bracket) {
            *ret_trials += round * json_number_value(json_object_get(row, "trials"));
        }
        bracket = b;
        *ret_epochs += round * json_number_value(json_object_get(row, "epochs"));
    }
}

static json_t *whole_or_null(double v, bool known)
{
    return known && v <= SPACE_WHOLE_MAX ? json_integer((json_int_t)v) : json_null();
}

static void note(json_t *notes, char *text_take)
{
    (void)json_array_append_new(notes, json_string(text_take));
    free(text_take);
}

static json_t *make_notes(const struct spec *s, const struct optimizer_ops *ops, bool known,
                          double trials)
{
    json_t *notes = json_array();
    const struct spec_limits *l = &s->limits;
    if (!known) {
        note(
            notes,
            xstrdup(
                l->time_ms > 0 || l->has_target
                    ? "no limit of trials: the search runs until its time or its target"
                    : "no limit of trials, time or target: the search runs until it is cancelled"));
    } else if (l->trials > 0 && trials < (double)l->trials) {
        note(notes, xasprintf("the schedule ends after %.0f of at most %lld trials", trials,
                              (long long)l->trials));
    }
    if ((ops->caps & OPT_CAP_ESTIMATE) != 0) {
        note(notes, xstrdup("promotions are decided as reports arrive: the higher rungs may get "
                            "some trials more or fewer"));
    }
    if (l->time_ms > 0) {
        note(notes, xasprintf("ends after %.15g s of running time at the latest",
                              (double)l->time_ms / 1000));
    }
    if (l->has_target) {
        note(notes, xasprintf("ends when %s reaches %.15g", s->metric, l->target));
    }
    if (s->early_stopping != NULL) {
        note(notes, xstrdup("the early-stopping rule may end trials before their budget"));
    }
    if (s->points != NULL) {
        note(notes, xasprintf("%zu enqueued points run first and count as trials",
                              json_array_size(s->points)));
    }
    if (s->warm_start != NULL) {
        note(notes, spec_warm_pending(s)
                        ? xstrdup("results of earlier experiments are read when it is submitted")
                        : xasprintf("%d earlier results are known from the start", s->n_observed));
    }
    json_t *fuse = spec_fuse_notes(s);
    (void)json_array_extend(notes, fuse);
    json_decref(fuse);
    return notes;
}

json_t *spec_plan(const struct spec *s)
{
    struct mjson_issues is = {0};
    struct opt_setup setup = spec_opt_setup(s);
    struct optimizer *o = optimizer_create(s->optimizer, "", &setup, &is, NULL);
    MAG_ASSERT(o != NULL, "the optimizer of a parsed spec");
    json_t *rows = json_array();
    double trials = 0;
    double epochs = 0;
    optimizer_plan(o, s->limits.trials, rows);
    if (optimizer_ops_of(o)->plan == NULL) {
        add_flat_row(s, s->resource.present ? s->resource.max : 0, rows);
    }
    sum_rows(rows, &trials, &epochs);
    bool known = trials > 0;
    json_t *plan = json_pack(
        "{s:s, s:s, s:o, s:o, s:o, s:o}", "algorithm", optimizer_ops_of(o)->name, "why",
        s->auto_why != NULL ? s->auto_why : "as the experiment file says", "trials",
        whole_or_null(trials, known), "epochs", whole_or_null(epochs, known && s->resource.present),
        "table", rows, "notes", make_notes(s, optimizer_ops_of(o), known, trials));
    optimizer_destroy(o);
    mjson_issues_fini(&is);
    return plan;
}
