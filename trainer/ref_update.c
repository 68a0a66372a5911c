/* SPDX-License-Identifier: Apache-2.0
 *
 * The optimizer's step, from the formulas in backend.h.
 */
#include "trainer/ref.h"

#include <math.h>

/* The step s of one value; moments are kept in m and v. */
static double step_of(const struct update *u, double g, float *m, float *v)
{
    double c1 = 1 - pow((double)u->beta1, (double)u->count);
    double c2 = 1 - pow((double)u->beta2, (double)u->count);
    switch (u->kind) {
    case OPTIMIZER_SGD:
        *m = (float)((double)u->momentum * (double)*m + g);
        return u->nesterov ? g + (double)u->momentum * (double)*m : (double)*m;
    case OPTIMIZER_RMSPROP:
        *v = (float)((double)u->beta2 * (double)*v + (1 - (double)u->beta2) * g * g);
        *m =
            (float)((double)u->momentum * (double)*m + g / (sqrt((double)*v) + (double)u->epsilon));
        return (double)*m;
    case OPTIMIZER_ADAGRAD:
        *v = (float)((double)*v + g * g);
        return g / (sqrt((double)*v) + (double)u->epsilon);
    case OPTIMIZER_ADAM:
    case OPTIMIZER_LAMB:
    default:
        *m = (float)((double)u->beta1 * (double)*m + (1 - (double)u->beta1) * g);
        *v = (float)((double)u->beta2 * (double)*v + (1 - (double)u->beta2) * g * g);
        return ((double)*m / c1) / (sqrt((double)*v / c2) + (double)u->epsilon);
    }
}

/* Of one lane's array, whose slots those are. */
static void update_array(float *const slots[OP_SLOTS], size_t n, const struct update *u,
                         float decay, bool weights)
{
    double scale = u->scale > 0 ? (double)u->scale : 1;
    double trust = 1;
    double w2 = 0;
    double s2 = 0;
    float *w = slots[SLOT_VALUE];
    float *step = slots[SLOT_GRAD]; /* of no use afterwards */
    for (size_t i = 0; i < n; i++) {
        double g = scale * (double)slots[SLOT_GRAD][i];
        double s = step_of(u, g, &slots[SLOT_FIRST][i], &slots[SLOT_SECOND][i]);
        s += (double)decay * (double)w[i];
        w2 += (double)w[i] * (double)w[i];
        s2 += s * s;
        step[i] = (float)s;
    }
    if (u->kind == OPTIMIZER_LAMB && weights && w2 > 0 && s2 > 0) {
        trust = sqrt(w2) / sqrt(s2);
    }
    for (size_t i = 0; i < n; i++) {
        w[i] = (float)((double)w[i] - (double)u->lr * trust * (double)step[i]);
    }
}

static void update_average(struct ref_op *r, int lane, float keep)
{
    for (int p = 0; p < OP_PARAMS; p++) {
        float *average = r->params[p][SLOT_AVERAGE];
        size_t n = (size_t)op_param_floats(&r->op.layer, (enum op_param)p);
        const float *value = ref_param(r, lane, (enum op_param)p, SLOT_VALUE);
        for (size_t i = 0; average != NULL && i < n; i++) {
            float *a = &average[(size_t)lane * n + i];
            const double moved = (double)*a + (1 - (double)keep) * ((double)value[i] - (double)*a);
            *a = keep > 0 ? (float)moved : value[i];
        }
    }
}

void ref_update(struct op *op, const struct update *lanes)
{
    struct ref_op *r = ref_of(op);
    for (int lane = 0; lane < op->lanes && layer_learns(&op->layer); lane++) {
        const struct update *u = &lanes[lane];
        for (int p = OP_WEIGHTS; p <= OP_BIAS && !u->idle; p++) {
            float *slots[OP_SLOTS];
            bool decays = op_param_decays(&op->layer, (enum op_param)p);
            size_t n = (size_t)op_param_floats(&op->layer, (enum op_param)p);
            for (int s = 0; s <= SLOT_SECOND && n > 0; s++) {
                slots[s] = r->params[p][s] + (size_t)lane * n;
            }
            if (n == 0) {
                continue;
            }
            update_array(slots, n, u, decays ? u->weight_decay : 0, decays);
        }
        if (!u->idle) {
            update_average(r, lane, u->average_keep);
        }
    }
}
