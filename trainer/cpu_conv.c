/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolutions: by oneDNN where it has a fast kernel, and where not by im2col and a matrix product,
 * image by image. Forward, backward weights and backward data choose for themselves.
 */
#include "trainer/cpu.h"

#include <string.h>

/* Values that feed one output: those of a group. */
static size_t patch(const struct layer *l)
{
    return (size_t)layer_fan_in(l);
}

/* Columns of one image: those of all groups. */
static size_t columns_size(const struct layer *l)
{
    return patch(l) * (size_t)l->groups * (size_t)l->out.h * (size_t)l->out.w;
}

static size_t area_out(const struct layer *l)
{
    return (size_t)l->out.h * (size_t)l->out.w;
}

/* One lane's arrays. */
struct lane {
    const float *x;
    int x_block;
    float *y, *pre, *dy, *dx; /* dx NULL: not wanted */
    float *w, *b, *dw, *db;   /* b and db NULL: no bias */
};

static struct lane lane_of(const struct cpu_op *c, int lane, float *dx)
{
    const struct cpu_act *x = cpu_in(c, 0);
    size_t at = cpu_lane(&c->act, lane);
    return (struct lane){.x = x->out + cpu_lane(x, lane),
                         .x_block = x->block,
                         .y = c->act.out + at,
                         .pre = cpu_pre(c, lane),
                         .dy = c->act.grad != NULL ? c->act.grad + at : NULL,
                         .dx = dx != NULL ? dx + cpu_lane(x, lane) : NULL,
                         .w = cpu_param(c, lane, OP_WEIGHTS, SLOT_VALUE),
                         .b = cpu_param(c, lane, OP_BIAS, SLOT_VALUE),
                         .dw = cpu_param(c, lane, OP_WEIGHTS, SLOT_GRAD),
                         .db = cpu_param(c, lane, OP_BIAS, SLOT_GRAD)};
}

static enum mag_status conv_init(struct cpu_op *c, struct mag_err *err)
{
    const struct layer *l = &c->op.layer;
    const int block = cpu_in(c, 0)->block;
    enum mag_status st = winograd_create(c->op.backend, l, c->op.rows, block, c->act.grad != NULL,
                                         &c->winograd, err);
    if (st != MAG_OK || c->winograd != NULL) {
        c->act.block = block;
        return st;
    }
    st = onednn_conv_create(c->op.backend, l, c->op.rows, block, c->op.inputs[0]->flows, &c->onednn,
                            err);
    if (st != MAG_OK) {
        return st;
    }
    c->act.block = c->onednn != NULL ? onednn_conv_block(c->onednn) : 1;
    /* columns; a plain copy of one input image; one of an output image, or the sum of weights'
     * gradients */
    size_t weights = (size_t)op_param_floats(l, OP_WEIGHTS);
    size_t room = (size_t)shape_size(&l->out) > weights ? (size_t)shape_size(&l->out) : weights;
    c->scratch = cpu_alloc(columns_size(l) + (size_t)shape_size(&l->in) + room);
    return c->scratch != NULL ? MAG_OK
                              : mag_fail(err, MAG_NOMEM, "no memory for a convolution's columns");
}

/* The output positions [*from, *to) whose input position i * stride + offset lies inside [0, side).
 */
static void valid_range(int offset, int stride, int side, int out, int *from, int *to)
{
    int first = offset < 0 ? (-offset + stride - 1) / stride : 0;
    int last = offset < side ? (side - 1 - offset) / stride + 1 : 0;
    *to = last < out ? last : out;
    *from = first < *to ? first : *to;
}

/* columns[c k k][oh ow] of one plain image [c][h][w] */
static void im2col(const struct layer *l, const float *x, float *col)
{
    const int k = l->kernel;
    const int ow = l->out.w;
    for (int t = 0; t < l->in.c * k * k; t++, col += area_out(l)) {
        const float *plane = x + (size_t)(t / (k * k)) * (size_t)(l->in.h * l->in.w);
        int dy = t / k % k - l->pad;
        int dx = t % k - l->pad;
        int from = 0;
        int to = 0;
        valid_range(dx, l->stride, l->in.w, ow, &from, &to);
        for (int p = 0; p < l->out.h; p++) {
            float *row = col + (size_t)p * (size_t)ow;
            int h = p * l->stride + dy;
            if (h < 0 || h >= l->in.h) {
                memset(row, 0, (size_t)ow * sizeof(float));
                continue;
            }
            const float *line = plane + (size_t)h * (size_t)l->in.w;
            for (int q = 0; q < from; q++) {
                row[q] = 0;
            }
            if (l->stride == 1) {
                memcpy(row + from, line + from + dx, (size_t)(to - from) * sizeof(float));
            } else {
                for (int q = from; q < to; q++) {
                    row[q] = line[q * l->stride + dx];
                }
            }
            for (int q = to; q < ow; q++) {
                row[q] = 0;
            }
        }
    }
}

/* Adds columns back to the plain image they came from. */
static void col2im(const struct layer *l, const float *col, float *x)
{
    const int k = l->kernel;
    memset(x, 0, (size_t)shape_size(&l->in) * sizeof(float));
    for (int t = 0; t < l->in.c * k * k; t++, col += area_out(l)) {
        float *plane = x + (size_t)(t / (k * k)) * (size_t)(l->in.h * l->in.w);
        int dy = t / k % k - l->pad;
        int dx = t % k - l->pad;
        int from = 0;
        int to = 0;
        valid_range(dx, l->stride, l->in.w, l->out.w, &from, &to);
        for (int p = 0; p < l->out.h; p++) {
            int h = p * l->stride + dy;
            for (int q = from; h >= 0 && h < l->in.h && q < to; q++) {
                plane[h * l->in.w + q * l->stride + dx] += col[p * l->out.w + q];
            }
        }
    }
}

/* One input or output image in the plain layout: itself, or a copy in scratch. */
static const float *plain_image(struct cpu_op *c, const float *all, const struct shape *s,
                                int block, int row, float *room)
{
    const float *image = all + (size_t)row * (size_t)shape_size(s);
    if (block == 1) {
        return image;
    }
    cpu_to_plain(image, s->c, s->h * s->w, block, room);
    return room;
}

static float *room_in(struct cpu_op *c)
{
    return c->scratch + columns_size(&c->op.layer);
}

static float *room_out(struct cpu_op *c)
{
    return room_in(c) + shape_size(&c->op.layer.in);
}

/* ---- im2col versions; the output is plain unless oneDNN made it ---- */

/* Filters of a group, as the products below take them. */
static int group_filters(const struct layer *l)
{
    return l->filters / l->groups;
}

static void columns_forward(struct cpu_op *c, const struct lane *v, int n)
{
    const struct layer *l = &c->op.layer;
    const int p = (int)area_out(l);
    const int k = (int)patch(l);
    const int filters = group_filters(l);
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * cpu_out_size(c);
        float *y = v->y + at;
        im2col(l, plain_image(c, v->x, &l->in, v->x_block, i, room_in(c)), c->scratch);
        for (int g = 0; g < l->groups; g++) {
            cpu_matmul(c->op.backend, false, false, filters, p, k, v->w + g * filters * k, k,
                       c->scratch + (size_t)g * (size_t)k * (size_t)p, p, 0, y + g * filters * p,
                       p);
        }
        for (int f = 0; f < l->filters && v->b != NULL; f++) {
            float b = v->b[f];
            for (int q = 0; q < p; q++) {
                y[f * p + q] += b;
            }
        }
        cpu_act_forward(y, v->pre != NULL ? v->pre + at : NULL, cpu_out_size(c), l->act);
    }
}

/* One image's share of dW and db, from plain gradients. */
static void columns_dw_plain(struct cpu_op *c, const struct lane *v, int row, const float *dy)
{
    const struct layer *l = &c->op.layer;
    const int p = (int)area_out(l);
    const int k = (int)patch(l);
    const int filters = group_filters(l);
    for (int g = 0; g < l->groups; g++) {
        cpu_matmul(c->op.backend, false, true, filters, k, p, dy + g * filters * p, p,
                   c->scratch + (size_t)g * (size_t)k * (size_t)p, p, row == 0 ? 0 : 1,
                   v->dw + g * filters * k, k);
    }
    for (int f = 0; f < l->filters && v->db != NULL; f++) {
        float sum = 0;
        for (int q = 0; q < p; q++) {
            sum += dy[f * p + q];
        }
        v->db[f] += sum;
    }
}

/* The same from blocked gradients of one group, without bringing them into order: for each block of
 * filters
 * dW'[patch][B] = columns[patch][area] dY[area][B], kept apart in `room` until the last image. */
static void columns_dw_blocked(struct cpu_op *c, const struct lane *v, int row, float *room)
{
    const struct layer *l = &c->op.layer;
    const int p = (int)area_out(l);
    const int k = (int)patch(l);
    const int block = c->act.block;
    const float *dy = v->dy + (size_t)row * cpu_out_size(c);
    for (int f = 0; f < l->filters; f += block, dy += p * block, room += k * block) {
        float sums[16];
        cpu_matmul(c->op.backend, false, false, k, block, p, c->scratch, p, dy, block,
                   row == 0 ? 0 : 1, room, block);
        cpu_sum_rows(dy, p, block, sums);
        for (int j = 0; j < block && v->db != NULL; j++) {
            v->db[f + j] += sums[j];
        }
    }
}

static void columns_dw(struct cpu_op *c, const struct lane *v, int n)
{
    const struct layer *l = &c->op.layer;
    const int k = (int)patch(l);
    const int block = l->groups == 1 ? c->act.block : 1;
    float *room = room_out(c);
    if (v->db != NULL) {
        memset(v->db, 0, (size_t)l->filters * sizeof(float));
    }
    for (int i = 0; i < n; i++) {
        im2col(l, plain_image(c, v->x, &l->in, v->x_block, i, room_in(c)), c->scratch);
        if (block == 1) {
            columns_dw_plain(c, v, i, plain_image(c, v->dy, &l->out, c->act.block, i, room));
        } else {
            columns_dw_blocked(c, v, i, room);
        }
    }
    for (int f = 0; f < l->filters && block > 1; f++) {
        const float *from = room + f / block * k * block + f % block;
        for (int t = 0; t < k; t++) {
            v->dw[f * k + t] = from[t * block];
        }
    }
}

static void columns_dx(struct cpu_op *c, const struct lane *v, int n)
{
    const struct layer *l = &c->op.layer;
    const int p = (int)area_out(l);
    const int k = (int)patch(l);
    const int filters = group_filters(l);
    for (int i = 0; i < n; i++) {
        const float *dy = plain_image(c, v->dy, &l->out, c->act.block, i, room_out(c));
        float *dx = v->dx + (size_t)i * (size_t)shape_size(&l->in);
        for (int g = 0; g < l->groups; g++) {
            cpu_matmul(c->op.backend, true, false, k, p, filters, v->w + g * filters * k, k,
                       dy + g * filters * p, p, 0, c->scratch + (size_t)g * (size_t)k * (size_t)p,
                       p);
        }
        col2im(l, c->scratch, v->x_block == 1 ? dx : room_in(c));
        if (v->x_block != 1) {
            cpu_to_blocked(room_in(c), l->in.c, l->in.h * l->in.w, v->x_block, dx);
        }
    }
    memset(v->dx + (size_t)n * (size_t)shape_size(&l->in), 0,
           (size_t)(c->op.rows - n) * (size_t)shape_size(&l->in) * sizeof(float));
}

/* ---- choosing ---- */

/* What a convolution of whole batches takes, as the precision has it. */
static const float *images_of(const struct cpu_op *c, const struct lane *v)
{
    size_t n = (size_t)shape_size(&c->op.layer.in) * (size_t)c->op.rows;
    return cpu_factor(c->op.backend, 0, v->x, n);
}

static const float *weights_of(const struct cpu_op *c, const struct lane *v)
{
    return cpu_factor(c->op.backend, 1, v->w, (size_t)op_param_floats(&c->op.layer, OP_WEIGHTS));
}

static void forward_lane(struct cpu_op *c, const struct lane *v, int n)
{
    enum activation act = c->op.layer.act;
    if (c->winograd != NULL) {
        winograd_forward(c->winograd, images_of(c, v), weights_of(c, v), v->b, act == ACT_RELU, n,
                         v->y);
    } else if (c->onednn != NULL) {
        onednn_conv_forward(c->onednn, images_of(c, v), weights_of(c, v), v->b, v->y);
    } else {
        columns_forward(c, v, n);
        return;
    }
    if (act != ACT_RELU) {
        cpu_act_forward(v->y, v->pre, cpu_out_size(c) * (size_t)n, act);
    }
}

static void backward_lane(struct cpu_op *c, const struct lane *v, int n)
{
    cpu_act_backward(v->dy, v->y, v->pre, cpu_out_size(c) * (size_t)n, c->op.layer.act);
    cpu_round_grad(c->op.backend, v->dy, cpu_out_size(c) * (size_t)n);
    if (c->winograd != NULL) {
        winograd_backward(c->winograd, images_of(c, v), v->dy, weights_of(c, v), n, v->dw, v->db,
                          v->dx);
        return;
    }
    if (c->onednn != NULL && onednn_conv_has_dw(c->onednn)) {
        onednn_conv_dw(c->onednn, images_of(c, v), v->dy, v->dw, v->db);
    } else {
        columns_dw(c, v, n);
    }
    if (v->dx != NULL && c->onednn != NULL && onednn_conv_has_dx(c->onednn)) {
        onednn_conv_dx(c->onednn, v->dy, weights_of(c, v), v->dx);
    } else if (v->dx != NULL) {
        columns_dx(c, v, n);
    }
}

static void conv_forward(struct cpu_op *c, int n, const struct pass *pass)
{
    for (int lane = 0; lane < c->op.lanes; lane++) {
        const struct lane v = lane_of(c, lane, NULL);
        if (!cpu_idle(c, lane, pass)) {
            forward_lane(c, &v, n);
        }
    }
}

static void conv_backward(struct cpu_op *c, int n, const struct pass *pass, float *const *dx)
{
    for (int lane = 0; lane < c->op.lanes; lane++) {
        const struct lane v = lane_of(c, lane, dx[0]);
        if (!cpu_idle(c, lane, pass)) {
            backward_lane(c, &v, n);
        }
    }
}

const struct cpu_kind cpu_conv = {
    .init = conv_init, .forward = conv_forward, .backward = conv_backward};
