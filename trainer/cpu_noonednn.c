/* SPDX-License-Identifier: Apache-2.0
 *
 * Stands in for cpu_onednn.c in a build without oneDNN: there are no fast convolutions, so im2col
 * does them all.
 */
#include "trainer/cpu.h"

enum mag_status onednn_open(struct backend *b, struct mag_err *err)
{
    (void)b;
    (void)err;
    return MAG_OK;
}

void onednn_close(struct backend *b)
{
    (void)b;
}

enum mag_status onednn_conv_create(struct backend *b, const struct layer *l, int rows, int in_block,
                                   bool want_dx, struct onednn_conv **ret, struct mag_err *err)
{
    (void)b;
    (void)l;
    (void)rows;
    (void)in_block;
    (void)want_dx;
    (void)err;
    *ret = NULL;
    return MAG_OK;
}

void onednn_conv_destroy(struct onednn_conv *c)
{
    (void)c;
}

int onednn_conv_block(const struct onednn_conv *c)
{
    (void)c;
    return 1;
}

bool onednn_conv_has_dw(const struct onednn_conv *c)
{
    (void)c;
    return false;
}

bool onednn_conv_has_dx(const struct onednn_conv *c)
{
    (void)c;
    return false;
}

void onednn_conv_forward(struct onednn_conv *c, const float *x, const float *w, const float *bias,
                         float *y)
{
    (void)c;
    (void)x;
    (void)w;
    (void)bias;
    (void)y;
}

void onednn_conv_dw(struct onednn_conv *c, const float *x, const float *dy, float *dw, float *db)
{
    (void)c;
    (void)x;
    (void)dy;
    (void)dw;
    (void)db;
}

void onednn_conv_dx(struct onednn_conv *c, const float *dy, const float *w, float *dx)
{
    (void)c;
    (void)dy;
    (void)w;
    (void)dx;
}
