/* SPDX-License-Identifier: Apache-2.0
 *
 * The stack machine of conditions. A truth value is the pair (distance to true, distance to false):
 * true is (0, > 0), false (> 0, 0), and (0, 0) is "cannot be told", Kleene's third value. `and`
 * adds the distances to true and takes the lesser to false, `or` the reverse, `not` swaps: so one
 * walk gives both the verdict and the measure that repair descends along.
 */
#include "space/expr_impl.h"

#include "base/alloc.h"
#include "base/pcg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TOLERANCE 1e-12 /* relative: rounding of a few operations */
#define APART 1e-9      /* a broken condition is at least so far from being met */

#define CALIBRATION_POINTS 64

/* A number: x, and in y the size of what it was computed from (its rounding error is a fraction of
 * that); known = false when it read an inactive parameter. A truth value: x to true, y to false. */
struct cell {
    double x, y;
    bool known;
};

static bool nearly_equal(const struct cell *a, const struct cell *b)
{
    if (a->x == b->x) {
        return true;
    }
    if (a->x == floor(a->x) && b->x == floor(b->x)) {
        return false; /* whole numbers are exact */
    }
    double size = fmax(a->y, b->y);
    return isfinite(size) && fabs(a->x - b->x) <= TOLERANCE * size;
}

/* How far two numbers are apart, in units of what is usual for this comparison. */
static double apart(const struct cell *a, const struct cell *b, double scale)
{
    double d = fabs(a->x - b->x) / scale;
    return isfinite(d) ? APART + d : 4;
}

static struct cell truth(bool is, double to_true, double to_false)
{
    return (struct cell){.x = is ? 0 : to_true, .y = is ? to_false : 0, .known = true};
}

static struct cell compare(enum expr_code code, const struct cell *a, const struct cell *b,
                           double scale)
{
    if (!a->known || !b->known) {
        return (struct cell){.known = true};
    }
    if (isnan(a->x) || isnan(b->x)) {
        return truth(code == EX_NE, 4, 4);
    }
    bool same = nearly_equal(a, b);
    bool less = !same && a->x < b->x;
    bool is = code == EX_EQ   ? same
              : code == EX_NE ? !same
              : code == EX_LT ? less
              : code == EX_LE ? less || same
              : code == EX_GT ? !less && !same
                              : !less;
    double d = apart(a, b, scale);
    return truth(is, d, d);
}

static struct cell arithmetic(enum expr_code code, const struct cell *a, const struct cell *b)
{
    struct cell r = {.known = a->known && b->known};
    if (code == EX_ADD || code == EX_SUB) {
        r.x = code == EX_ADD ? a->x + b->x : a->x - b->x;
        r.y = fmax(a->y, b->y);
    } else if (code == EX_MUL) {
        r.x = a->x * b->x;
        r.y = fmax(fabs(a->x) * b->y, a->y * fabs(b->x));
    } else if (code == EX_DIV) {
        r.x = a->x / b->x;
        r.y = a->y / fabs(b->x);
    } else if (code == EX_MOD) {
        r.x = a->x - b->x * floor(a->x / b->x); /* the sign of the divisor */
        r.y = a->y;
        /* 0.3 % 0.1 is 0, not 0.09999999999999998 */
        r.x = fabs(r.x - b->x) <= TOLERANCE * a->y ? 0 : r.x;
    } else if (code == EX_POW) {
        r.x = pow(a->x, b->x);
    } else {
        bool first = isnan(a->x) || (code == EX_MIN ? a->x <= b->x : a->x >= b->x);
        r.x = first ? a->x : b->x;
        r.y = fmax(a->y, b->y);
    }
    r.y = fmax(r.y, fabs(r.x));
    return r;
}

static struct cell function(enum expr_code code, const struct cell *a)
{
    struct cell r = *a;
    if (code == EX_NEG) {
        r.x = -a->x;
    } else if (code == EX_ABS) {
        r.x = fabs(a->x);
    } else {
        r.x = code == EX_LOG ? log(a->x) : code == EX_EXP ? exp(a->x) : sqrt(a->x);
        r.y = fabs(r.x);
    }
    return r;
}

static struct cell logic(enum expr_code code, const struct cell *a, const struct cell *b)
{
    struct cell left = *a;
    if (code == EX_IMPLIES) { /* not a or b */
        left.x = a->y;
        left.y = a->x;
    }
    return code == EX_AND
               ? (struct cell){.x = left.x + b->x, .y = fmin(left.y, b->y), .known = true}
               : (struct cell){.x = fmin(left.x, b->x), .y = left.y + b->y, .known = true};
}

static struct cell parameter(const struct space *s, int j, const double *point)
{
    const struct param *p = &s->params[j];
    if (isnan(point[j])) {
        return (struct cell){0};
    }
    double v = p->type == PARAM_DISCRETE ? p->values[(uint32_t)point[j]] : point[j];
    return (struct cell){.x = v, .y = fabs(v), .known = true};
}

static struct cell same_label(const struct space *s, const struct expr_op *op, const double *point)
{
    int a = op->arg / SPACE_PARAMS_MAX;
    int b = op->arg % SPACE_PARAMS_MAX;
    if (isnan(point[a]) || isnan(point[b])) {
        return (struct cell){.known = true};
    }
    bool same = strcmp(s->params[a].labels[(uint32_t)point[a]],
                       s->params[b].labels[(uint32_t)point[b]]) == 0;
    return truth(same == (op->code == EX_SAME), 1, 1);
}

/* The least distance to any of n values: their `or`. */
static struct cell member(const struct cell *v, const struct cell *list, int n, double scale)
{
    struct cell r = {.x = INFINITY, .y = 0, .known = true};
    for (int i = 0; i < n; i++) {
        struct cell one = compare(EX_EQ, v, &list[i], scale);
        r = logic(EX_OR, &r, &one);
    }
    return r;
}

static bool is_comparison(const struct expr_op *op)
{
    return op->code == EX_IN || (op->code >= EX_LT && op->code <= EX_NE);
}

/* `spread`, where not NULL, gets what each comparison has before it: |left - right| is added up. */
static double run(const struct expr *e, const struct space *s, const double *point, double *spread)
{
    struct cell stack[EXPR_STACK_MAX];
    int n = 0;
    for (int i = 0; i < e->n; i++) {
        const struct expr_op *op = &e->ops[i];
        if (spread != NULL && is_comparison(op)) {
            const struct cell *left = &stack[n - 1 - (op->code == EX_IN ? op->arg : 1)];
            double d = fabs(left->x - stack[n - 1].x);
            spread[i] += left->known && stack[n - 1].known && isfinite(d) ? d : 0;
        }
        if (op->code == EX_NUMBER) {
            stack[n++] = (struct cell){.x = op->num, .y = fabs(op->num), .known = true};
        } else if (op->code == EX_PARAM) {
            stack[n++] = parameter(s, op->arg, point);
        } else if (op->code == EX_ACTIVE) {
            stack[n++] = truth(!isnan(point[op->arg]), 1, 1);
        } else if (op->code == EX_SAME || op->code == EX_DIFFER) {
            n -= 1;
            stack[n - 1] = same_label(s, op, point);
        } else if (op->code == EX_IN) {
            n -= op->arg;
            stack[n - 1] = member(&stack[n - 1], &stack[n], op->arg, op->num);
        } else if (op->code == EX_NOT) {
            struct cell *c = &stack[n - 1];
            *c = (struct cell){.x = c->y, .y = c->x, .known = true};
        } else if (op->code == EX_NEG || (op->code >= EX_ABS && op->code <= EX_SQRT)) {
            stack[n - 1] = function(op->code, &stack[n - 1]);
        } else {
            n--;
            const struct cell *a = &stack[n - 1];
            stack[n - 1] = op->code >= EX_AND  ? logic(op->code, a, &stack[n])
                           : op->code >= EX_LT ? compare(op->code, a, &stack[n], op->num)
                                               : arithmetic(op->code, a, &stack[n]);
        }
    }
    return stack[0].x;
}

double expr_violation(const struct expr *e, const struct space *s, const double *point)
{
    return run(e, s, point, NULL);
}

void expr_calibrate(struct expr *e, const struct space *s)
{
    double *spread = xcalloc((size_t)e->n, sizeof(*spread));
    double *point = xcalloc((size_t)s->n, sizeof(*point));
    struct pcg64 g;
    pcg_stream(&g, 0, "calibrate", 0);
    for (int i = 0; i < e->n; i++) {
        e->ops[i].num = is_comparison(&e->ops[i]) ? 1 : e->ops[i].num;
    }
    for (int k = 0; k < CALIBRATION_POINTS; k++) {
        for (int j = 0; j < s->n; j++) { /* every parameter active: the more is known */
            point[j] = param_from_unit(&s->params[j], pcg64_double(&g));
        }
        (void)run(e, s, point, spread);
    }
    for (int i = 0; i < e->n; i++) {
        if (is_comparison(&e->ops[i]) && spread[i] > 0 && isfinite(spread[i])) {
            e->ops[i].num = spread[i] / CALIBRATION_POINTS;
        }
    }
    free(point);
    free(spread);
}
