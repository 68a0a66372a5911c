/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/augment.h"

#include "base/alloc.h"
#include "base/pcg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool augment_any(const struct augmentation *a)
{
    return a->crop > 0 || a->flip || a->cutout > 0;
}

/* Uniform in [0, n) from 32 random bits; n is far below what would make the bias visible. */
static int below(uint64_t bits, int n)
{
    return (int)((bits & 0xffffffff) * (uint64_t)n >> 32);
}

/* The part of [0, side) that a square covers whose middle is `at`. */
static void cut(int at, int square, int side, int16_t *from, int16_t *to)
{
    int start = at - square / 2;
    int end = start + square;
    *from = (int16_t)(start > 0 ? start : 0);
    *to = (int16_t)(end < side ? end : side);
}

void augment_draw(const struct augmentation *a, const struct augment_stream *stream,
                  const struct shape *shape, struct augment_row *rows, int n)
{
    char purpose[80];
    struct pcg64 g;
    (void)snprintf(purpose, sizeof(purpose), "augment:%lld:%lld", (long long)stream->owner,
                   (long long)stream->epoch);
    pcg_stream(&g, stream->seed, purpose, (uint64_t)stream->batch);
    pcg64_skip(&g, 2 * (uint64_t)stream->first_row);
    for (int i = 0; i < n; i++) {
        uint64_t shift = pcg64_next(&g);
        uint64_t rest = pcg64_next(&g); /* 32 bits, 31 bits and one */
        rows[i] =
            (struct augment_row){.dy = (int16_t)(below(shift, 2 * a->crop + 1) - a->crop),
                                 .dx = (int16_t)(below(shift >> 32, 2 * a->crop + 1) - a->crop),
                                 .flip = a->flip && rest >> 63 != 0};
        if (a->cutout > 0) {
            cut(below(rest, shape->h), a->cutout, shape->h, &rows[i].cut_y0, &rows[i].cut_y1);
            cut(below(rest >> 32 << 1, shape->w), a->cutout, shape->w, &rows[i].cut_x0,
                &rows[i].cut_x1);
        }
    }
}

/* One line of an image: `from` shifted by dx, then mirrored. */
static void change_line(const struct augment_row *r, const float *from, float *to, int w)
{
    int start = r->dx < 0 ? -r->dx : 0; /* columns that lie inside `from` */
    int end = r->dx > 0 ? w - r->dx : w;
    memset(to, 0, (size_t)w * sizeof(float));
    for (int x = start; x < end; x++) {
        to[r->flip != 0 ? w - 1 - x : x] = from[x + r->dx];
    }
}

static void change_image(const struct augment_row *r, const struct shape *s, const float *from,
                         float *to)
{
    for (int line = 0; line < s->c * s->h; line++) {
        int y = line % s->h;
        float *out = to + (size_t)line * (size_t)s->w;
        if (y + r->dy < 0 || y + r->dy >= s->h) {
            memset(out, 0, (size_t)s->w * sizeof(float));
            continue;
        }
        change_line(r, from + (ptrdiff_t)(line + r->dy) * s->w, out, s->w);
        if (y >= r->cut_y0 && y < r->cut_y1 && r->cut_x0 < r->cut_x1) {
            memset(out + r->cut_x0, 0, (size_t)(r->cut_x1 - r->cut_x0) * sizeof(float));
        }
    }
}

void augment_images(const struct augment_row *rows, const struct shape *shape, float *images, int n)
{
    size_t size = (size_t)shape_size(shape);
    float *room = xmalloc(size * sizeof(float));
    for (int i = 0; i < n; i++) {
        float *image = images + (size_t)i * size;
        memcpy(room, image, size * sizeof(float));
        change_image(&rows[i], shape, room, image);
    }
    free(room);
}
