/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/exif.h"

#include <stdbool.h>
#include <string.h>

#define TAG_ORIENTATION 0x0112
#define TYPE_SHORT 3

/* A TIFF structure, in either byte order; reads outside of it give 0. */
struct tiff {
    const uint8_t *at;
    size_t n;
    bool big;
};

static uint32_t number(const struct tiff *t, size_t at, size_t bytes)
{
    uint32_t v = 0;
    for (size_t i = 0; at < t->n && bytes <= t->n - at && i < bytes; i++) {
        v |= (uint32_t)t->at[at + i] << 8 * (t->big ? bytes - 1 - i : i);
    }
    return v;
}

/* From the first directory, where the picture itself is described. */
static int tag_of(const uint8_t *at, size_t n)
{
    struct tiff t = {.at = at, .n = n, .big = n >= 2 && memcmp(at, "MM", 2) == 0};
    if (n < 8 || (!t.big && memcmp(at, "II", 2) != 0) || number(&t, 2, 2) != 42) {
        return 1;
    }
    const size_t directory = number(&t, 4, 4);
    const uint32_t entries = number(&t, directory, 2);
    for (uint32_t i = 0; i < entries && directory + 14 + 12 * (size_t)i <= n; i++) {
        const size_t entry = directory + 2 + 12 * (size_t)i;
        if (number(&t, entry, 2) == TAG_ORIENTATION && number(&t, entry + 2, 2) == TYPE_SHORT) {
            const uint32_t v = number(&t, entry + 8, 2);
            return v >= 1 && v <= 8 ? (int)v : 1;
        }
    }
    return 1;
}

int exif_orientation(const uint8_t *jpeg, size_t n)
{
    size_t at = 2; /* behind the start of the image */
    while (at + 4 <= n && jpeg[at] == 0xff) {
        const uint8_t marker = jpeg[at + 1];
        if (marker == 0xff) { /* a fill byte */
            at++;
            continue;
        }
        const size_t len = (size_t)jpeg[at + 2] << 8 | jpeg[at + 3]; /* with these two bytes */
        if (marker == 0xda || marker == 0xd9 || len < 2 || len > n - at - 2) {
            break; /* the pixels, the end, or a damaged file */
        }
        if (marker == 0xe1 && len >= 8 && memcmp(jpeg + at + 4, "Exif\0", 6) == 0) {
            return tag_of(jpeg + at + 10, len - 8);
        }
        at += 2 + len;
    }
    return 1;
}

void exif_turn(int orientation, const uint8_t *from, int width, int height, int channels,
               uint8_t *to)
{
    const int out_w = exif_turns(orientation) ? height : width;
    const int out_h = exif_turns(orientation) ? width : height;
    for (int y = 0; y < out_h; y++) {
        for (int x = 0; x < out_w; x++, to += channels) {
            int row = exif_turns(orientation) ? x : y;
            int column = exif_turns(orientation) ? y : x;
            if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7) {
                row = height - 1 - row;
            }
            if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) {
                column = width - 1 - column;
            }
            memcpy(to, from + ((size_t)row * (size_t)width + (size_t)column) * (size_t)channels,
                   (size_t)channels);
        }
    }
}
