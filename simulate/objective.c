/* SPDX-License-Identifier: Apache-2.0
 *
 * The objectives by name, and the way from a point of any space to a function's value.
 */
#include "simulate/objective.h"

#include "base/alloc.h"
#include "base/pcg.h"
#include "simulate/objective_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PROGRAM_TIMEOUT_MS 30000

struct objective {
    bool maximize;
    struct function_at at;   /* a function; at.f NULL: */
    struct program *program; /* a program */
    double *u;               /* space->n */
    const struct objective_more *more;
    struct function_at *curves; /* of each of `more` */
    int n_more;
};

/* ---- the table ---- */

static const struct function *const tables[] = {objective_curves, objective_plain,
                                                objective_fidelity};

/* The i-th function of all tables, NULL behind the last. */
static const struct function *function_at_index(int i)
{
    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (const struct function *f = tables[t]; f->name != NULL; f++) {
            if (i-- == 0) {
                return f;
            }
        }
    }
    return NULL;
}

static const struct function *find(const char *name)
{
    const struct function *f = NULL;
    for (int i = 0; (f = function_at_index(i)) != NULL && strcmp(f->name, name) != 0; i++) {
    }
    return f;
}

bool objective_describe(int i, const char **ret_form, const char **ret_summary)
{
    const struct function *f = function_at_index(i);
    if (f == NULL) {
        return false;
    }
    *ret_form = f->form;
    *ret_summary = f->summary;
    return true;
}

/* ---- parsing ---- */

static void unknown(const char *name, const char *pointer, struct mjson_issues *is)
{
    const char *names[32] = {NULL};
    struct buf all = {0};
    for (int i = 0; i < 31 && function_at_index(i) != NULL; i++) {
        names[i] = function_at_index(i)->name;
        buf_addf(&all, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    const char *near = mjson_nearest(name, names);
    mjson_issue(is, pointer, "no objective \"%.60s\"%s%s%s; there are %s, and your own program as a "
                "list of words",
                name, near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
                near != NULL ? "\"?" : "", all.data);
    buf_fini(&all);
}

static void parse_call(const char *text, const char *pointer, struct objective_spec *ret,
                       struct mjson_issues *is)
{
    struct mag_err err = {0};
    if (sim_call_parse(text, &ret->call, &err) != MAG_OK) {
        mjson_issue(is, pointer, "%s", err.text);
        return;
    }
    const struct function *f = find(ret->call.name);
    if (f == NULL) {
        unknown(ret->call.name, pointer, is);
        return;
    }
    if (ret->call.n > f->n_args) {
        mjson_issue(is, pointer, "too many numbers: the form is %s", f->form);
        return;
    }
    for (int i = 0; i < f->n_args; i++) {
        double v = i < ret->call.n ? ret->call.args[i] : f->args[i];
        if (!(v >= f->least[i] && v <= f->most[i])) {
            mjson_issue(is, pointer, "number %d of %s must be %g to %g, not %g", i + 1, f->form,
                        f->least[i], f->most[i], v);
        }
        ret->call.args[i] = v;
    }
    ret->call.n = f->n_args;
}

static void parse_program(const json_t *words, const char *pointer, struct objective_spec *ret,
                          struct mjson_issues *is)
{
    size_t n = json_array_size(words);
    if (n == 0 || n >= OBJECTIVE_ARGV_MAX) {
        mjson_issue(is, pointer, "a program is a list of 1 to %d words, such as [\"python3\", "
                    "\"objective.py\"]",
                    OBJECTIVE_ARGV_MAX - 1);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const char *word = json_string_value(json_array_get(words, i));
        if (word == NULL) {
            mjson_issue(is, pointer, "word %zu of the program is %s, not a string", i,
                        mjson_kind(json_array_get(words, i)));
            return;
        }
        ret->argv[i] = xstrdup(word);
    }
}

void objective_spec_parse(const json_t *value, const char *pointer, struct objective_spec *ret,
                          struct mjson_issues *is)
{
    *ret = (struct objective_spec){.timeout_ms = PROGRAM_TIMEOUT_MS};
    if (json_is_string(value)) {
        parse_call(json_string_value(value), pointer, ret, is);
    } else if (json_is_array(value)) {
        parse_program(value, pointer, ret, is);
    } else {
        mjson_issue(is, pointer,
                    "must be a name such as \"branin\", or a program as a list of words, not %s",
                    mjson_kind(value));
    }
}

void objective_spec_fini(struct objective_spec *s)
{
    for (int i = 0; i < OBJECTIVE_ARGV_MAX; i++) {
        free(s->argv[i]);
        s->argv[i] = NULL;
    }
}

json_t *objective_document(const struct objective_spec *s)
{
    const struct function *f = s->argv[0] == NULL ? find(s->call.name) : NULL;
    if (f == NULL) {
        return NULL;
    }
    json_t *doc = json_pack("{s:s, s:{s:s,s:s}, s:o}", "name", f->name, "objective", "metric",
                            f->is_error ? "error" : "value", "direction", "min", "searchspace",
                            f->space(f, s->call.args));
    if (f->max > 0) {
        (void)json_object_set_new(doc, "resource",
                                  json_pack("{s:s, s:I, s:I}", "unit", f->unit, "min",
                                            (json_int_t)f->min, "max", (json_int_t)f->max));
    }
    return doc;
}

/* ---- one objective ---- */

static enum mag_status create_function(struct objective *o, const struct objective_spec *s,
                                       const struct objective_for *what, struct mag_err *err)
{
    const struct function *f = find(s->call.name);
    int n = what->space->n;
    if (f->dims > 0 && n != f->dims) {
        return mag_fail(err, MAG_INVALID,
                        "the objective %s has %d parameters, the search space has %d; \"curve\" "
                        "suits any space",
                        f->name, f->dims, n);
    }
    o->at = (struct function_at){.f = f,
                                 .space = what->space,
                                 .min = what->min,
                                 .max = what->max,
                                 .seed = what->seed,
                                 .noise = what->noise};
    memcpy(o->at.args, s->call.args, sizeof(o->at.args));
    o->u = xcalloc((size_t)n + 1, sizeof(*o->u));
    o->at.data = f->setup != NULL ? f->setup(&o->at) : NULL;
    return MAG_OK;
}

/* Further metrics are curves, each with a surface of its own. */
static void create_more(struct objective *o, const struct objective_for *what)
{
    o->curves = xcalloc((size_t)what->n_more + 1, sizeof(*o->curves));
    o->more = what->more;
    o->n_more = what->n_more;
    for (int i = 0; i < what->n_more; i++) {
        struct pcg64 g;
        struct function_at *at = &o->curves[i];
        *at = o->at;
        at->f = &objective_curves[0];
        memcpy(at->args, at->f->args, sizeof(at->args));
        pcg_stream(&g, what->seed, what->more[i].name, 0);
        at->seed = pcg64_next(&g);
        at->noise = what->noise ^ at->seed;
        at->data = at->f->setup(at);
    }
}

enum mag_status objective_create(const struct objective_spec *s, const struct objective_for *what,
                                 struct objective **ret, struct mag_err *err)
{
    struct objective *o = xcalloc(1, sizeof(*o));
    o->maximize = what->maximize;
    enum mag_status st = s->argv[0] != NULL ? program_start(s, what, &o->program, err)
                                            : create_function(o, s, what, err);
    if (st != MAG_OK) {
        objective_destroy(o);
        return st;
    }
    if (o->program == NULL) {
        create_more(o, what);
    }
    *ret = o;
    return MAG_OK;
}

void objective_destroy(struct objective *o)
{
    if (o == NULL) {
        return;
    }
    program_destroy(o->program);
    for (int i = 0; o->curves != NULL && i < o->n_more; i++) {
        free(o->curves[i].data);
    }
    free(o->curves);
    free(o->at.data);
    free(o->u);
    free(o);
}

/* In the user's sign. */
static double turned(const struct objective *o, double v)
{
    if (!o->maximize) {
        return v;
    }
    return o->at.f->is_error ? 1 - v : 0 - v;
}

static double function_value(const struct objective *o, const struct function_ask *ask)
{
    space_to_unit(o->at.space, ask->point, o->u);
    return turned(o, o->at.f->value(&o->at, ask));
}

/* From an error of 0 to 1: a bound is kept by errors below a half. */
static double more_value(const struct objective_more *m, double error)
{
    if (isfinite(m->hi)) {
        return m->hi + (m->hi != 0 ? fabs(m->hi) : 1) * (error - 0.5);
    }
    if (isfinite(m->lo)) {
        return m->lo + (m->lo != 0 ? fabs(m->lo) : 1) * (0.5 - error);
    }
    return m->maximize ? 1 - error : error;
}

enum mag_status objective_value(struct objective *o, const struct objective_ask *ask, double *ret,
                                double *ret_seconds, struct mag_err *err)
{
    if (o->program != NULL) {
        return program_value(o->program, ask, ret, ret_seconds, err);
    }
    struct function_ask q = {.u = o->u, .point = ask->point, .trial = ask->trial, .noisy = true};
    q.z = ask->step > 0 ? ask->step : (ask->budget > 0 ? ask->budget : 1);
    ret[0] = function_value(o, &q);
    for (int i = 0; i < o->n_more; i++) {
        ret[1 + i] = more_value(&o->more[i], o->curves[i].f->value(&o->curves[i], &q));
    }
    return MAG_OK;
}

double objective_truth(const struct objective *o, const double *point)
{
    if (o->program != NULL) {
        return NAN;
    }
    struct function_ask q = {.u = o->u, .point = point, .z = o->at.max > 0 ? o->at.max : 1};
    return function_value(o, &q);
}

double objective_optimum(const struct objective *o)
{
    if (o->program != NULL || o->at.f->optimum == NULL) {
        return NAN;
    }
    return turned(o, o->at.f->optimum(&o->at));
}
