/* SPDX-License-Identifier: Apache-2.0
 *
 * Extrapolation of a trial's own learning curve, after Domhan et al., IJCAI 2015, with families
 * that are linear in what is fitted: y(t) = c + a x(t), where x is a power t^-b or an exponential
 * exp(-k t / T) of the step, T being the resource's max. Each family's least-squares line predicts
 * y(T) with a Student t distribution; families are weighted by their likelihoods. The trial stops
 * when the mixture's probability to end better than the best completed trial falls below a bound.
 *
 * Sums are kept by Welford's recurrences, so a report costs the same at every step. Residuals of
 * learning curves hang together: no more than EFFECTIVE_MAX points count as independent, and a part
 * of the extrapolated change counts as error of the model itself.
 */
#include "optimizers/early_rule.h"

#include "base/alloc.h"
#include "optimizers/idtab.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#define EFFECTIVE_MAX 20
#define MODEL_ERROR 0.1 /* of the change from the last value to the predicted one */

enum { OPT_PROBABILITY, OPT_MIN_REPORTS, OPT_MIN_STEP };

static const struct opt_option curve_options[] = {
    {"probability", OPT_T_REAL, 0, 0.5, 0.05, NULL,
     "a trial stops when its probability to end better than the best is below this"},
    {"min_reports", OPT_T_INT, 4, 1000, 6, NULL, "reports before a curve is extrapolated"},
    EARLY_MIN_STEP_ROW,
    EARLY_COMBINE_ROW,
    {0},
};

static const double powers[] = {0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3};
static const double rates[] = {1, 2, 4, 8, 16, 32};
enum { POWERS = sizeof(powers) / sizeof(powers[0]), RATES = sizeof(rates) / sizeof(rates[0]) };
enum { FAMILIES = POWERS + RATES };

/* One family's sums: mean of x, and the sums of squares and products around the means. */
struct line {
    double mean, xx, xy;
};

struct sums {
    int64_t n;
    double last, mean, yy;
    struct line lines[FAMILIES];
};

IDTAB(curve_sums, struct sums *)

struct curve_rule {
    struct curve_sums trials;
    int64_t end; /* T */
    double best; /* of the completed trials */
    int64_t best_trial;
};

static double x_of(const struct curve_rule *c, int family, int64_t step)
{
    double t = step > 0 ? (double)step : 0.5; /* step 0 is before the first: a power needs t > 0 */
    return family < POWERS ? pow(t, -powers[family])
                           : exp(-rates[family - POWERS] * t / (double)c->end);
}

static void add_point(const struct curve_rule *c, struct sums *s, int64_t step, double y)
{
    s->n++;
    double dy = y - s->mean;
    s->mean += dy / (double)s->n;
    s->yy += dy * (y - s->mean);
    s->last = y;
    for (int i = 0; i < FAMILIES; i++) {
        struct line *l = &s->lines[i];
        double dx = x_of(c, i, step) - l->mean;
        l->mean += dx / (double)s->n;
        l->xx += dx * (dx - dx / (double)s->n);
        l->xy += dx * (y - s->mean);
    }
}

/* P(X < t) of Student's t with `nu` degrees of freedom: the finite series for whole ones. */
static double student(double t, int nu)
{
    double theta = atan(t / sqrt(nu));
    double c2 = cos(theta) * cos(theta);
    double term = nu % 2 == 1 ? cos(theta) : 1;
    double sum = 0;
    for (int k = nu % 2 == 1 ? 3 : 2; k <= nu; k += 2) {
        sum += term;
        term *= c2 * (k - 1) / k;
    }
    double a = nu % 2 == 1 ? 2 / M_PI * (theta + sin(theta) * sum) : sin(theta) * sum;
    return 0.5 + a / 2;
}

struct forecast {
    double value, sd; /* at T */
    double beats;     /* probability to end better than the best */
};

struct guess {
    double log_weight, value, var;
};

static struct guess guess_of(const struct curve_rule *c, const struct sums *s, int family)
{
    const struct line *l = &s->lines[family];
    double n = (double)s->n;
    double slope = l->xx > 0 ? l->xy / l->xx : 0;
    double dx = x_of(c, family, c->end) - l->mean;
    double rss = fmax(s->yy - slope * l->xy, 0) + 1e-12 * s->yy + DBL_MIN;
    double m = s->mean + slope * dx;
    double lever = l->xx > 0 ? dx * dx / l->xx : 0;
    double error = MODEL_ERROR * (m - s->last);
    return (struct guess){.log_weight = -fmin(n, EFFECTIVE_MAX) / 2 * log(rss),
                          .value = m,
                          .var = rss / (n - 2) * (1 + 1 / n + lever) + error * error};
}

static struct forecast forecast_of(const struct curve_rule *c, const struct sums *s)
{
    struct guess g[FAMILIES];
    struct forecast f = {0};
    double top = -INFINITY;
    double weights = 0;
    double square = 0;
    int nu = s->n < EFFECTIVE_MAX ? (int)s->n - 2 : EFFECTIVE_MAX - 2;
    for (int i = 0; i < FAMILIES; i++) {
        g[i] = guess_of(c, s, i);
        top = fmax(top, g[i].log_weight);
    }
    for (int i = 0; i < FAMILIES; i++) {
        double w = exp(g[i].log_weight - top);
        double sd = sqrt(g[i].var) + 1e-12 * (fabs(g[i].value) + fabs(c->best)) + DBL_MIN;
        weights += w;
        f.value += w * g[i].value;
        square += w * (g[i].var + (g[i].value - s->last) * (g[i].value - s->last));
        f.beats += w * student((c->best - g[i].value) / sd, nu);
    }
    f.value /= weights;
    f.beats /= weights;
    f.sd = sqrt(fmax(square / weights - (f.value - s->last) * (f.value - s->last), 0));
    return f;
}

/* ---- the rule ---- */

static enum mag_status init(void *self, const struct early_config *cfg, const char **ret_pointer,
                            struct mag_err *err)
{
    struct curve_rule *c = self;
    c->end = cfg->resource.max;
    return MAG_OK;
}

static bool report(void *self, const struct early_config *cfg, int64_t trial, int64_t step,
                   double value, char **ret_why)
{
    struct curve_rule *c = self;
    struct sums **s = curve_sums_of(&c->trials, trial);
    if (*s == NULL) {
        *s = xcalloc(1, sizeof(**s));
    }
    add_point(c, *s, step, value);
    if ((*s)->n < (int64_t)cfg->values[OPT_MIN_REPORTS] ||
        step < (int64_t)cfg->values[OPT_MIN_STEP] || step >= c->end || c->best_trial == 0) {
        return false;
    }
    struct forecast f = forecast_of(c, *s);
    if (f.beats >= cfg->values[OPT_PROBABILITY]) {
        return false;
    }
    *ret_why = xasprintf("at step %lld its curve leads to %.6g (standard deviation %.3g) at step "
                         "%lld: its chance to beat %.6g of trial %lld is %.3g, below %.6g",
                         (long long)step, early_shown(cfg, f.value), f.sd, (long long)c->end,
                         early_shown(cfg, c->best), (long long)c->best_trial, f.beats,
                         cfg->values[OPT_PROBABILITY]);
    return true;
}

static void finish(void *self, int64_t trial, enum opt_outcome outcome, const struct opt_result *r)
{
    struct curve_rule *c = self;
    struct sums **s = curve_sums_of(&c->trials, trial);
    free(*s);
    *s = NULL;
    if (outcome == OPT_COMPLETED && r != NULL &&
        (c->best_trial == 0 || r->value < c->best ||
         (r->value == c->best && trial < c->best_trial))) {
        c->best = r->value;
        c->best_trial = trial;
    }
}

static void fini(void *self)
{
    struct curve_rule *c = self;
    for (int64_t i = 0; i < c->trials.n; i++) {
        free(c->trials.at[i]);
    }
    free(c->trials.at);
}

const struct early_rule early_curve = {
    .name = "curve",
    .version = 1,
    .summary = "stops a trial whose learning curve will hardly lead below the best",
    .paper = "Domhan et al., Speeding up Automatic Hyperparameter Optimization of Deep Neural "
             "Networks by Extrapolation of Learning Curves, IJCAI 2015",
    .options = curve_options,
    .of_curve = true,
    .needs_resource = true,
    .state_size = sizeof(struct curve_rule),
    .init = init,
    .fini = fini,
    .report = report,
    .finish = finish,
};
