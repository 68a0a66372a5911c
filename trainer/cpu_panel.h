/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to the CPU backend: the three products of a dense layer whose weights lie in panels of 16
 * outputs, [out / 16][in][16] (the last panel as narrow as it is), so that none of them has to pack
 * or transpose weights:
 *
 *     forward  Y = X W'      a tile of 6 rows by one panel, summed over the inputs
 *     dw       dW = dY' X    a tile of 6 inputs by one panel, summed over the rows
 *     dx       dX = dY W     a tile of 6 inputs by 16 rows, summed over the outputs
 *
 * Each tile is 12 sums of 8 floats in registers. Every sum is taken in one order, whatever the
 * other rows and columns are. Needs AVX2 and FMA.
 */
#ifndef MAG_TRAINER_CPU_PANEL_H
#define MAG_TRAINER_CPU_PANEL_H

#include "trainer/backend.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PANEL 16
#define TILE 6

/* What layers, of one net or of all lanes, read of one batch X [n][in], looked through once:
 * columns that are zero in all rows of a tile add nothing to it, nor do rows that are zero in all
 * its columns. Pictures and words are mostly zeros. */
struct cpu_sheet {
    int n, in;
    bool counted;      /* what is not zero */
    bool may_pay;      /* there are zeros enough */
    bool made[2];      /* keys, columns */
    bool pays[2];      /* are enough of them left out? */
    uint16_t *order;   /* rows, those alike beside one another: tile t has 6 from 6 t on */
    uint32_t *keys;    /* of each tile of rows in turn, the columns that count */
    uint32_t *keys_at; /* where those of a tile begin, and one more */
    float *columns;    /* of each tile of columns in turn, the rows that count: 6 values of each */
    uint16_t *rows;    /* which rows these are */
    uint32_t *rows_at; /* where those of a tile begin, and one more */
    uint64_t *sort;    /* room */
    uint32_t *used;
};

struct cpu_operand {
    const float *x; /* [n][in], rows `row` apart */
    size_t row;
    int n, in;
    const struct cpu_sheet *sheet; /* of x; NULL = none */
};

/* Does the processor have what the kernels need, and no wider vectors, which the library's products
 * have kernels for? */
bool cpu_panels_run(void);
/* Where the weight of output o and input i lies. */
static inline size_t cpu_panel_at(int o, int i, int out, int in)
{
    int first = o / PANEL * PANEL;
    int width = out - first < PANEL ? out - first : PANEL;
    return (size_t)first * (size_t)in + (size_t)i * (size_t)width + (size_t)(o - first);
}

/* Floats of room that the calls below need for up to `rows` rows. */
size_t cpu_panel_room(int rows, int out, int in);
/* Y, without a bias. */
void cpu_panel_forward(const struct cpu_operand *x, const float *w, int out, float *y, size_t y_row,
                       float *room);
void cpu_panel_dx(const float *dy, size_t dy_row, int n, const float *w, int out, int in, float *dx,
                  size_t dx_row, float *room);

struct cpu_step_of {
    const float *dy; /* [n][out] */
    size_t dy_row;
    int out;
    float *const *slots;    /* the weights' arrays */
    const struct update *u; /* NULL: only the gradient, into its slot */
    float *room;
};
/* Can the step be taken with the product: is it plain SGD or Adam, with gradients as they are? */
bool cpu_can_fuse(const struct update *u);
/* dW, and with it the optimizer's step: gradients then never see memory. */
void cpu_panel_dw(const struct cpu_operand *x, const struct cpu_step_of *s);

/* ---- sheets (cpu_sheet.c) ---- */

/* For up to `rows` rows of `in` values. NULL: no memory. */
struct cpu_sheet *cpu_sheet_create(int rows, int in);
void cpu_sheet_destroy(struct cpu_sheet *s); /* NULL allowed */
/* There are n new rows. */
void cpu_sheet_forget(struct cpu_sheet *s, int n);
/* Looks through them, unless that was done: keys, or with `dw` columns. */
void cpu_sheet_make(struct cpu_sheet *s, const float *x, bool dw);

#endif
