/* SPDX-License-Identifier: Apache-2.0
 *
 * Layers with several inputs: their sum, and all of them one after the other. Inputs may lie in
 * different layouts; where they lie in that of the output, whole arrays are taken at once.
 */
#include "trainer/cpu.h"

#include <string.h>

/* Two images' room, for rows that change their layout. */
static enum mag_status room_init(struct cpu_op *c, struct mag_err *err)
{
    c->scratch = cpu_alloc(2 * cpu_out_size(c));
    return c->scratch != NULL ? MAG_OK : mag_fail(err, MAG_NOMEM, "no memory for a joining layer");
}

static const float *row_of(const struct cpu_act *a, const float *all, int lane, int row)
{
    return all + cpu_lane(a, lane) + (size_t)row * a->row;
}

/* ---- add ---- */

static enum mag_status add_init(struct cpu_op *c, struct mag_err *err)
{
    cpu_act_like(c, cpu_in(c, 0));
    return room_init(c, err);
}

static bool same_layout(const struct cpu_act *a, const struct cpu_act *b)
{
    return a->block == b->block && a->lanes == b->lanes && a->row == b->row && a->lane == b->lane;
}

/* A row of input i in the output's layout: itself, or a copy. */
static const float *row_like_ours(struct cpu_op *c, int i, int lane, int row)
{
    const struct cpu_act *x = cpu_in(c, i);
    const float *from = row_of(x, x->out, lane, row);
    if (x->block == c->act.block) {
        return from;
    }
    cpu_reblock(from, x->block, cpu_image(c->op.inputs[x->block > 1 ? i : 0]), c->scratch,
                c->act.block, c->scratch + cpu_out_size(c));
    return c->scratch;
}

static void add_rows(struct cpu_op *c, int i, int n)
{
    for (int lane = 0; lane < c->op.lanes; lane++) {
        for (int row = 0; row < n; row++) {
            float *to = c->act.out + cpu_lane(&c->act, lane) + (size_t)row * c->act.row;
            const float *from = row_like_ours(c, i, lane, row);
            if (i == 0) {
                memcpy(to, from, cpu_out_size(c) * sizeof(float));
            } else {
                cpu_add(from, to, cpu_out_size(c));
            }
        }
    }
}

static void add_forward(struct cpu_op *c, int n, const struct pass *pass)
{
    (void)pass;
    const size_t size = cpu_act_size(c);
    const struct cpu_act *a = cpu_in(c, 0);
    const struct cpu_act *b = cpu_in(c, c->op.layer.n_inputs - 1);
    if (c->op.layer.n_inputs == 2 && same_layout(a, &c->act) && same_layout(b, &c->act)) {
        cpu_sum(a->out, b->out, c->act.out, size, c->op.layer.act == ACT_RELU);
        if (c->op.layer.act == ACT_RELU) {
            return;
        }
    } else {
        for (int i = 0; i < c->op.layer.n_inputs; i++) {
            add_rows(c, i, n);
        }
    }
    cpu_act_forward(c->act.out, c->pre, size, c->op.layer.act);
}

static void add_backward(struct cpu_op *c, int n, const struct pass *pass, float *const *dx)
{
    (void)pass;
    const int i = c->part;
    const struct cpu_act *x = cpu_in(c, i);
    if (i == 0) {
        cpu_act_backward(c->act.grad, c->act.out, c->pre, cpu_act_size(c), c->op.layer.act);
    }
    if (dx[i] == NULL) {
        return;
    }
    if (same_layout(x, &c->act)) {
        memcpy(dx[i], c->act.grad, cpu_act_size(c) * sizeof(float));
        return;
    }
    const struct shape *image = cpu_image(c->op.inputs[x->block > 1 ? i : 0]);
    for (int lane = 0; lane < c->op.lanes; lane++) {
        for (int row = 0; row < c->op.rows; row++) {
            float *to = dx[i] + cpu_lane(x, lane) + (size_t)row * x->row;
            if (row < n) {
                cpu_reblock(row_of(&c->act, c->act.grad, lane, row), c->act.block, image, to,
                            x->block, c->scratch);
            } else {
                memset(to, 0, cpu_out_size(c) * sizeof(float));
            }
        }
    }
}

const struct cpu_kind cpu_add_kind = {
    .init = add_init, .forward = add_forward, .backward = add_backward};

/* ---- concat ---- */

/* Blocks can stay where each input is made of whole ones. */
static enum mag_status concat_init(struct cpu_op *c, struct mag_err *err)
{
    int block = cpu_in(c, 0)->block;
    for (int i = 0; i < c->op.layer.n_inputs; i++) {
        const struct op *in = c->op.inputs[i];
        bool whole = !in->layer.out.flat && cpu_in(c, i)->block == block;
        block = whole && in->layer.out.c % block == 0 ? block : 1;
    }
    c->act.block = block;
    return room_init(c, err);
}

static void concat_forward(struct cpu_op *c, int n, const struct pass *pass)
{
    (void)pass;
    for (int lane = 0; lane < c->op.lanes; lane++) {
        for (int row = 0; row < n; row++) {
            float *to = c->act.out + cpu_lane(&c->act, lane) + (size_t)row * c->act.row;
            for (int i = 0; i < c->op.layer.n_inputs; i++) {
                const struct cpu_act *x = cpu_in(c, i);
                cpu_reblock(row_of(x, x->out, lane, row), x->block, cpu_image(c->op.inputs[i]), to,
                            c->act.block, c->scratch);
                to += shape_size(&c->op.inputs[i]->layer.out);
            }
        }
    }
}

static void concat_backward(struct cpu_op *c, int n, const struct pass *pass, float *const *dx)
{
    (void)pass;
    const int i = c->part;
    const struct cpu_act *x = cpu_in(c, i);
    const size_t size = (size_t)shape_size(&c->op.inputs[i]->layer.out);
    size_t before = 0;
    for (int k = 0; k < i; k++) {
        before += (size_t)shape_size(&c->op.inputs[k]->layer.out);
    }
    for (int lane = 0; lane < c->op.lanes && dx[i] != NULL; lane++) {
        for (int row = 0; row < c->op.rows; row++) {
            float *to = dx[i] + cpu_lane(x, lane) + (size_t)row * x->row;
            if (row < n) {
                cpu_reblock(row_of(&c->act, c->act.grad, lane, row) + before, c->act.block,
                            cpu_image(c->op.inputs[i]), to, x->block, c->scratch);
            } else {
                memset(to, 0, size * sizeof(float));
            }
        }
    }
}

const struct cpu_kind cpu_concat = {
    .init = concat_init, .forward = concat_forward, .backward = concat_backward};
