/* SPDX-License-Identifier: Apache-2.0
 *
 * Pictures in files: JPEG by libjpeg-turbo, PNG by libpng.
 */
#ifndef MAG_TRAINER_PICTURE_H
#define MAG_TRAINER_PICTURE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PICTURE_FILE_MAX (256 << 20) /* bytes of a file */
#define PICTURE_SIDE_MAX 32768
#define PICTURE_PIXELS_MAX (1 << 28)

struct picture {
    int width, height;
    int channels;    /* 1 grey, 3 red, green, blue */
    uint8_t *pixels; /* row by row, the channels of a pixel together */
};

/* Decodes a file in memory; `channels` 0 = as it is stored, grey or colour. Transparency lies on
 * black; a JPEG is turned as its Exif tag says. `what` names the file. UNSUPPORTED: neither JPEG nor PNG, or a build without them. */
enum mag_status picture_decode(const void *bytes, size_t n, int channels, const char *what,
                               struct picture *ret, struct mag_err *err) MAG_MUSTCHECK;
/* The same of a file. */
enum mag_status picture_read(const char *path, int channels, struct picture *ret,
                             struct mag_err *err) MAG_MUSTCHECK;
void picture_fini(struct picture *p);

/* How a picture of other proportions comes to a size: stretched; or scaled until its short side
 * fits, and the middle cut out of the long one; or until its long side fits, with zeros around. */
enum picture_fit { FIT_NONE = 0 /* nothing was said: as FIT_STRETCH */, FIT_STRETCH, FIT_CROP, FIT_PAD };

/* Puts the picture, brought to width x height, channel by channel into `to`. Each pixel is the mean
 * of those that it covers, with a triangle's weights (as Pillow's BILINEAR). */
void picture_fit(const struct picture *p, enum picture_fit fit, int width, int height, uint8_t *to);

#endif
