/* SPDX-License-Identifier: Apache-2.0 */
#include "simulate/duration.h"

#include "base/json.h"
#include "simulate/call.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    enum sim_model model;
    int args;          /* numbers it takes */
    double least, max; /* of the number */
} models[] = {
    {"constant", SIM_CONSTANT, 0, 0, 0},     {"uniform", SIM_UNIFORM, 1, 0, 1},
    {"lognormal", SIM_LOGNORMAL, 1, 0, 5},   {"exponential", SIM_EXPONENTIAL, 0, 0, 0},
    {"straggler", SIM_STRAGGLER, 1, 0, 100},
};
enum { N_MODELS = sizeof(models) / sizeof(models[0]) };

static enum mag_status unknown(const char *name, struct mag_err *err)
{
    const char *names[N_MODELS + 1] = {NULL};
    for (int i = 0; i < N_MODELS; i++) {
        names[i] = models[i].name;
    }
    const char *near = mjson_nearest(name, names);
    return mag_fail(err, MAG_INVALID,
                    "no duration model \"%.60s\"%s%s%s; there are constant, uniform(0.3), "
                    "lognormal(0.5), exponential and straggler(0.56)",
                    name, near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
                    near != NULL ? "\"?" : "");
}

enum mag_status sim_duration_parse(const char *text, struct sim_duration *ret, struct mag_err *err)
{
    struct sim_call call;
    enum mag_status st = sim_call_parse(text, &call, err);
    if (st != MAG_OK) {
        return st;
    }
    for (int i = 0; i < N_MODELS; i++) {
        if (strcmp(call.name, models[i].name) != 0) {
            continue;
        }
        if (call.n != models[i].args) {
            return mag_fail(err, MAG_INVALID, "\"%s\" takes %s", call.name,
                            models[i].args == 0 ? "no number"
                                                : "one number, as in \"lognormal(0.5)\"");
        }
        if (call.n > 0 && !(call.args[0] >= models[i].least && call.args[0] <= models[i].max)) {
            return mag_fail(err, MAG_INVALID, "the number of \"%s\" must be %g to %g, not %g",
                            call.name, models[i].least, models[i].max, call.args[0]);
        }
        ret->model = models[i].model;
        ret->spread = call.args[0];
        return MAG_OK;
    }
    return unknown(call.name, err);
}

double sim_duration_draw(const struct sim_duration *d, struct pcg64 *g)
{
    switch (d->model) {
    case SIM_CONSTANT:
        break;
    case SIM_UNIFORM:
        return 1 + d->spread * (2 * pcg64_double(g) - 1);
    case SIM_LOGNORMAL:
        return exp(d->spread * pcg64_normal(g) - d->spread * d->spread / 2);
    case SIM_EXPONENTIAL:
        return -log(1 - pcg64_double(g));
    case SIM_STRAGGLER:
        return 1 + fabs(d->spread * pcg64_normal(g));
    }
    return 1;
}

double sim_duration_of_point(const struct sim_duration *d, const struct space *space,
                             const double *point)
{
    double f = 1;
    for (int i = 0; i < d->n_by; i++) {
        int k = space_find(space, d->by[i].name);
        if (k >= 0 && !isnan(point[k])) {
            f *= pow(d->by[i].ratio, param_to_unit(&space->params[k], point[k]));
        }
    }
    return f;
}
