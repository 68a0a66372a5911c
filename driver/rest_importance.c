/* SPDX-License-Identifier: Apache-2.0
 *
 * How much each parameter mattered. The loop copies points and values; the reader thread computes.
 */
#include "driver/rest.h"

#include "base/alloc.h"
#include "driver/driver_internal.h"
#include "driver/reader.h"
#include "optimizers/importance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ADVISED 5 /* trials among the best, for figures that say something */

struct job {
    struct reader_job job;
    struct http_call *call; /* NULL: its peer has gone */
    struct space *space;    /* its own: the experiment may be deleted meanwhile */
    double quantile;
    char *metric;
    bool maximize;
    int64_t n, n_best;
    double *points, *losses;
    double *values; /* by parameter */
};

static void job_free(struct job *j)
{
    space_destroy(j->space);
    free(j->metric);
    free(j->points);
    free(j->losses);
    free(j->values);
    free(j);
}

static void on_gone(struct http_call *c)
{
    struct job *j = c->state;
    if (c->req == NULL) {
        j->call = NULL;
        c->state = NULL;
        http_call_free(c);
    }
}

static void run(struct reader_job *job, struct store_reader *store, const struct mag_err *err)
{
    struct job *j = container_of(job, struct job, job);
    (void)store;
    (void)err;
    const struct importance_data d = {
        .space = j->space, .n = j->n, .points = j->points, .losses = j->losses};
    j->n_best = importance_compute(&d, j->quantile, j->values);
}

/* ---- the answer ---- */

static int most_first(const void *a, const void *b, void *arg)
{
    const double *values = arg;
    int x = *(const int *)a;
    int y = *(const int *)b;
    if (values[x] != values[y]) {
        return values[x] < values[y] ? 1 : -1;
    }
    return x - y;
}

static json_t *parameters(const struct job *j)
{
    int n = j->space->n;
    int *order = xcalloc((size_t)n + 1, sizeof(*order));
    double sum = 0;
    for (int i = 0; i < n; i++) {
        order[i] = i;
        sum += j->values[i];
    }
    qsort_r(order, (size_t)n, sizeof(*order), most_first, j->values);
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        double v = j->values[order[i]];
        json_t *share = j->n_best > 0 ? json_real(sum > 0 ? v / sum : 0) : json_null();
        (void)json_array_append_new(list, json_pack("{s:s, s:o, s:f}", "name",
                                                    j->space->params[order[i]].name, "importance",
                                                    share, "divergence", v));
    }
    free(order);
    return list;
}

static json_t *caution(const struct job *j)
{
    const char *text = NULL;
    if (j->n_best == 0) {
        text = "at least two completed trials are needed";
    } else if (j->n_best == j->n) {
        text = "all trials are equally good";
    } else if (j->n_best < ADVISED) {
        text = "few trials are among the best: the figures may change a lot with more of them";
    }
    return text != NULL ? json_string(text) : json_null();
}

static void done(struct reader_job *job)
{
    struct job *j = container_of(job, struct job, job);
    struct http_call *c = j->call;
    if (c != NULL) {
        c->state = NULL;
        json_t *o =
            json_pack("{s:s, s:s, s:s, s:f, s:I, s:I, s:o, s:o}", "metric", j->metric, "direction",
                      j->maximize ? "max" : "min", "method", "ped-anova", "quantile", j->quantile,
                      "trials", (json_int_t)j->n, "best", (json_int_t)j->n_best, "caution",
                      caution(j), "parameters", parameters(j));
        rest_add_json(&c->out, o);
        json_decref(o);
        http_reply(c);
    }
    job_free(j);
}

/* ---- gathering ---- */

/* Completed points with a finite value of the objective; with folds their mean. */
static void gather(struct job *j, const struct study *s, int objective)
{
    int64_t n = study_trials(s);
    int dims = j->space->n;
    j->points = xcalloc((size_t)n * (size_t)dims + 1, sizeof(double));
    j->losses = xcalloc((size_t)n + 1, sizeof(double));
    j->values = xcalloc((size_t)dims + 1, sizeof(double));
    for (int64_t id = 1; id <= n; id++) {
        const struct trial *t = study_trial(s, id);
        double v = NAN;
        if (t->id == t->point_of && !trial_is_refit(t) &&
            study_point_state(s, t) == TRIAL_COMPLETED) {
            v = study_measure(s, t, objective);
        }
        if (isfinite(v)) {
            memcpy(j->points + j->n * dims, t->point, (size_t)dims * sizeof(double));
            j->losses[j->n++] = j->maximize ? -v : v;
        }
    }
}

static int find_objective(const struct spec *spec, const char *name)
{
    for (int i = 0; name != NULL && i < spec->n_objectives; i++) {
        if (strcmp(spec->measures[i].name, name) == 0) {
            return i;
        }
    }
    return name == NULL ? 0 : -1;
}

static bool read_quantile(const struct http_call *c, double *ret)
{
    const char *text = http_query(c, "quantile");
    char *end = NULL;
    *ret = text != NULL ? strtod(text, &end) : IMPORTANCE_QUANTILE;
    return *ret > 0 && *ret < 1 && (text == NULL || (end != text && *end == '\0'));
}

void rest_experiment_importance(struct http_call *c)
{
    double quantile = 0;
    if (rest_refuse_broken(c)) {
        return;
    }
    const struct spec *spec = study_spec(c->x->study);
    const char *name = http_query(c, "objective");
    int objective = find_objective(spec, name);
    if (objective < 0) {
        http_problem(c, 422, "objective: \"%.100s\" is no objective of this experiment", name);
        return;
    }
    if (!read_quantile(c, &quantile)) {
        http_problem(c, 422, "quantile: must be a number above 0 and below 1");
        return;
    }
    struct job *j = xcalloc(1, sizeof(*j));
    struct mjson_issues is = {0};
    json_t *space = space_to_json(spec->space);
    j->job = (struct reader_job){.run = run, .done = done};
    j->space = space_parse(space, "/searchspace", &is);
    MAG_ASSERT(j->space != NULL && j->space->n == spec->space->n, "a space that parsed");
    mjson_issues_fini(&is);
    json_decref(space);
    j->quantile = quantile;
    j->metric = xstrdup(spec->measures[objective].name);
    j->maximize = spec->measures[objective].maximize;
    gather(j, c->x->study, objective);
    j->call = c;
    c->state = j;
    http_keep(c, on_gone);
    if (!reader_push(c->d->reader, &j->job)) {
        c->state = NULL;
        job_free(j);
        http_problem(c, 503, "too many reads are waiting; try again");
    }
}
