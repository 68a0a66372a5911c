/* SPDX-License-Identifier: Apache-2.0
 *
 * Dropout. The mask is drawn in the canonical order; behind a blocked image it is brought into that
 * layout, so that every backend drops the same values. It lies packed, [lanes][rows][values].
 */
#include "trainer/cpu.h"

#include <string.h>

static enum mag_status dropout_init(struct cpu_op *c, struct mag_err *err)
{
    cpu_act_like(c, cpu_in(c, 0));
    c->mask = cpu_alloc(cpu_act_size(c));
    return c->mask != NULL && cpu_need_spare(c->op.backend, cpu_out_size(c) * (size_t)c->op.rows)
               ? MAG_OK
               : mag_fail(err, MAG_NOMEM, "no memory for a dropout layer");
}

static float *mask_of(struct cpu_op *c, int lane)
{
    return c->mask + (size_t)lane * (size_t)c->op.rows * cpu_out_size(c);
}

static void draw_mask(struct cpu_op *c, int lane, int n, const struct pass *pass)
{
    size_t size = cpu_out_size(c);
    float *mask = mask_of(c, lane);
    float *plain = c->act.block == 1 ? mask : c->op.backend->spare;
    const struct shape *s = cpu_image(&c->op);
    backend_dropout_mask(&pass->lanes[lane], c->op.index, pass_rate(pass, lane, &c->op),
                         (int64_t)size, plain, (int64_t)size * n);
    for (int i = 0; i < n && c->act.block > 1; i++) {
        cpu_to_blocked(plain + (size_t)i * size, s->c, s->h * s->w, c->act.block,
                       mask + (size_t)i * size);
    }
}

/* to = from, times the mask where there is one; rows of `size` that lie apart. */
static void copy_rows(const float *from, size_t from_row, const float *mask, float *to,
                      size_t to_row, int n, size_t size)
{
    if (from_row == size && to_row == size) {
        size *= (size_t)n;
        n = 1;
    }
    for (int i = 0; i < n; i++, from += from_row, to += to_row) {
        if (mask != NULL) {
            cpu_multiply(from, mask + (size_t)i * size, to, size);
        } else {
            memcpy(to, from, size * sizeof(float));
        }
    }
}

static void clear_rest(float *to, size_t row, size_t size, int n, int rows)
{
    for (int i = n; i < rows; i++) {
        memset(to + (size_t)i * row, 0, size * sizeof(float));
    }
}

static void dropout_forward(struct cpu_op *c, int n, const struct pass *pass)
{
    const struct cpu_act *x = cpu_in(c, 0);
    for (int lane = 0; lane < c->op.lanes; lane++) {
        float *to = c->act.out + cpu_lane(&c->act, lane);
        if (cpu_idle(c, lane, pass)) {
            continue;
        }
        if (pass->training) {
            draw_mask(c, lane, n, pass);
        }
        copy_rows(x->out + cpu_lane(x, lane), x->row, pass->training ? mask_of(c, lane) : NULL, to,
                  c->act.row, n, cpu_out_size(c));
        clear_rest(to, c->act.row, cpu_out_size(c), n, c->op.rows);
    }
}

static void dropout_backward(struct cpu_op *c, int n, const struct pass *pass, float *const *dx)
{
    const struct cpu_act *x = cpu_in(c, 0);
    for (int lane = 0; lane < c->op.lanes && dx[0] != NULL; lane++) {
        float *to = dx[0] + cpu_lane(x, lane);
        if (!cpu_idle(c, lane, pass)) {
            copy_rows(c->act.grad + cpu_lane(&c->act, lane), c->act.row, mask_of(c, lane), to,
                      x->row, n, cpu_out_size(c));
            clear_rest(to, x->row, cpu_out_size(c), n, c->op.rows);
        }
    }
}

const struct cpu_kind cpu_dropout = {
    .init = dropout_init, .forward = dropout_forward, .backward = dropout_backward};
