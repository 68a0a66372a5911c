/* SPDX-License-Identifier: Apache-2.0
 *
 * Random changes to the images of a training batch: a shift with zeros behind it (a random crop of
 * the padded image), a mirror, and a square that is cut out (DeVries and Taylor 2017). What happens
 * to a row is drawn from a stream that its seed, trial, epoch, batch and place name, before any
 * backend sees it; a backend only applies it: on the host by augment_images, on a device by the
 * rule in `struct augment_row`.
 */
#ifndef MAG_TRAINER_AUGMENT_H
#define MAG_TRAINER_AUGMENT_H

#include "trainer/model.h"

#include <stdbool.h>
#include <stdint.h>

struct augmentation {
    int crop;   /* most pixels of the shift, in each direction; 0 = none */
    bool flip;  /* left and right change places in every second image */
    int cutout; /* side of the square; 0 = none */
};

/* out[c][y][x] = 0 where cut_y0 <= y < cut_y1 and cut_x0 <= x < cut_x1, else
 * in[c][y + dy][(flip ? width - 1 - x : x) + dx], which is 0 outside of the image. */
struct augment_row {
    int16_t dy, dx;
    int16_t cut_y0, cut_y1, cut_x0, cut_x1; /* empty where nothing is cut */
    int16_t flip;                           /* 0 or 1 */
};

/* Names the draw of a batch. Trials that share their batches share the stream: then `owner` is what
 * names their order of examples. */
struct augment_stream {
    uint64_t seed;
    int64_t owner; /* the trial */
    int64_t epoch, batch;
    int first_row; /* of the whole batch, where its rows are shared among processes */
};

bool augment_any(const struct augmentation *a);
/* Draws for n rows of images of this shape; two draws of the generator a row. */
void augment_draw(const struct augmentation *a, const struct augment_stream *stream,
                  const struct shape *shape, struct augment_row *rows, int n);
/* Applies them to n images [n][c][h][w], in place. */
void augment_images(const struct augment_row *rows, const struct shape *shape, float *images,
                    int n);

#endif
