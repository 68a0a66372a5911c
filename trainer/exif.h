/* SPDX-License-Identifier: Apache-2.0
 *
 * Which way up a JPEG file is to be seen: cameras store what their sensor saw and say by a tag of
 * Exif how it has to be turned.
 */
#ifndef MAG_TRAINER_EXIF_H
#define MAG_TRAINER_EXIF_H

#include <stddef.h>
#include <stdint.h>

/* 1 (as it is stored) to 8, as Exif counts them; 1 too where the file says nothing, or nonsense. */
int exif_orientation(const uint8_t *jpeg, size_t n);

/* Whether that exchanges width and height. */
static inline int exif_turns(int orientation)
{
    return orientation >= 5;
}

/* Puts the pixels of `from`, width x height of so many channels each, into `to` as they are to be
 * seen. */
void exif_turn(int orientation, const uint8_t *from, int width, int height, int channels,
               uint8_t *to);

#endif
