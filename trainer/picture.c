/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/picture.h"

#include "base/alloc.h"
#include "base/json.h"
#include "trainer/exif.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(MAG_IMAGES)
#include <png.h>
#include <turbojpeg.h>
#endif

void picture_fini(struct picture *p)
{
    free(p->pixels);
    *p = (struct picture){0};
}

#if defined(MAG_IMAGES)

static enum mag_status alloc_pixels(struct picture *p, const char *what, struct mag_err *err)
{
    if (p->width < 1 || p->height < 1 || p->width > PICTURE_SIDE_MAX || p->height > PICTURE_SIDE_MAX ||
        (int64_t)p->width * p->height > PICTURE_PIXELS_MAX) {
        return mag_fail(err, MAG_LIMIT, "%s: %dx%d pixels; at most %d of them are read", what,
                        p->width, p->height, PICTURE_PIXELS_MAX);
    }
    p->pixels = mag_try_alloc((size_t)p->width * (size_t)p->height, (size_t)p->channels);
    return p->pixels != NULL ? MAG_OK
                             : mag_fail(err, MAG_NOMEM, "%s: no memory for its pixels", what);
}

/* Turns the pixels as the file says that they are to be seen. */
static enum mag_status turn(struct picture *p, int orientation, const char *what,
                            struct mag_err *err)
{
    if (orientation == 1) {
        return MAG_OK;
    }
    struct picture turned = {.width = exif_turns(orientation) ? p->height : p->width,
                             .height = exif_turns(orientation) ? p->width : p->height,
                             .channels = p->channels};
    enum mag_status st = alloc_pixels(&turned, what, err);
    if (st == MAG_OK) {
        exif_turn(orientation, p->pixels, p->width, p->height, p->channels, turned.pixels);
        picture_fini(p);
        *p = turned;
    }
    return st;
}

static enum mag_status decode_jpeg(const void *bytes, size_t n, int channels, const char *what,
                                   struct picture *ret, struct mag_err *err)
{
    struct picture p = {0};
    int sampling = 0;
    int colours = 0;
    tjhandle h = tjInitDecompress();
    if (h == NULL) {
        return mag_fail(err, MAG_NOMEM, "%s: no memory to decode it", what);
    }
    enum mag_status st = MAG_OK;
    if (tjDecompressHeader3(h, bytes, (unsigned long)n, &p.width, &p.height, &sampling, &colours) != 0) {
        st = mag_fail(err, MAG_CORRUPT, "%s: damaged JPEG: %s", what, tjGetErrorStr2(h));
    } else if (colours == TJCS_CMYK || colours == TJCS_YCCK) {
        st = mag_fail(err, MAG_UNSUPPORTED, "%s: a JPEG in CMYK; convert it to RGB", what);
    }
    p.channels = channels > 0 ? channels : colours == TJCS_GRAY ? 1 : 3;
    if (st == MAG_OK) {
        st = alloc_pixels(&p, what, err);
    }
    if (st == MAG_OK && tjDecompress2(h, bytes, (unsigned long)n, p.pixels, p.width, 0, p.height,
                                      p.channels == 1 ? TJPF_GRAY : TJPF_RGB, 0) != 0) {
        st = mag_fail(err, MAG_CORRUPT, "%s: damaged JPEG: %s", what, tjGetErrorStr2(h));
    }
    (void)tjDestroy(h);
    if (st == MAG_OK) {
        st = turn(&p, exif_orientation(bytes, n), what, err);
    }
    if (st != MAG_OK) {
        picture_fini(&p);
        return st;
    }
    *ret = p;
    return MAG_OK;
}

static enum mag_status decode_png(const void *bytes, size_t n, int channels, const char *what,
                                  struct picture *ret, struct mag_err *err)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    static const png_color black = {0, 0, 0};
    struct picture p = {0};
    if (png_image_begin_read_from_memory(&image, bytes, n) == 0) {
        return mag_fail(err, MAG_CORRUPT, "%s: damaged PNG: %s", what, image.message);
    }
    bool grey = (image.format & PNG_FORMAT_FLAG_COLOR) == 0;
    p.channels = channels > 0 ? channels : grey ? 1 : 3;
    p.width = image.width <= PICTURE_SIDE_MAX ? (int)image.width : -1;
    p.height = image.height <= PICTURE_SIDE_MAX ? (int)image.height : -1;
    image.format = p.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
    enum mag_status st = alloc_pixels(&p, what, err);
    if (st == MAG_OK && png_image_finish_read(&image, &black, p.pixels, 0, NULL) == 0) {
        st = mag_fail(err, MAG_CORRUPT, "%s: damaged PNG: %s", what, image.message);
    }
    png_image_free(&image);
    if (st != MAG_OK) {
        picture_fini(&p);
        return st;
    }
    *ret = p;
    return MAG_OK;
}

enum mag_status picture_decode(const void *bytes, size_t n, int channels, const char *what,
                               struct picture *ret, struct mag_err *err)
{
    if (n >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0) {
        return decode_jpeg(bytes, n, channels, what, ret, err);
    }
    if (n >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0) {
        return decode_png(bytes, n, channels, what, ret, err);
    }
    return mag_fail(err, MAG_CORRUPT, "%s: neither a JPEG nor a PNG file", what);
}

#else

enum mag_status picture_decode(const void *bytes, size_t n, int channels, const char *what,
                               struct picture *ret, struct mag_err *err)
{
    (void)bytes;
    (void)n;
    (void)channels;
    (void)ret;
    return mag_fail(err, MAG_UNSUPPORTED,
                    "%s: this build reads no pictures: it was made without libjpeg-turbo and libpng "
                    "(libturbojpeg0-dev, libpng-dev)",
                    what);
}

#endif

enum mag_status picture_read(const char *path, int channels, struct picture *ret, struct mag_err *err)
{
    char *bytes = NULL;
    size_t n = 0;
    enum mag_status st = mjson_read_file(path, PICTURE_FILE_MAX, &bytes, &n, err);
    if (st == MAG_OK) {
        st = picture_decode(bytes, n, channels, path, ret, err);
    }
    free(bytes);
    return st;
}

/* ---- scaling ---- */

/* The pixels of one line that make pixel `at` of the scaled line, and their weights. */
struct window {
    int first, n;
    double *weights;
};

static void make_window(struct window *w, int at, int from, int to)
{
    double scale = (double)from / to;
    double reach = scale > 1 ? scale : 1;
    double centre = (at + 0.5) * scale;
    int first = (int)floor(centre - reach);
    int end = (int)ceil(centre + reach);
    first = first < 0 ? 0 : first;
    end = end > from ? from : end;
    double sum = 0;
    w->first = first;
    w->n = end - first;
    for (int i = 0; i < w->n; i++) {
        double off = fabs(first + i + 0.5 - centre) / reach;
        w->weights[i] = off < 1 ? 1 - off : 0;
        sum += w->weights[i];
    }
    for (int i = 0; i < w->n; i++) {
        w->weights[i] /= sum;
    }
}

static uint8_t to_byte(double v)
{
    return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)(v + 0.5);
}

/* A rectangle of pixels. */
struct area {
    int x, y, width, height;
};

/* Scales `from` of the picture into `in` of `to`, which is [channels][height][width]. */
static void scale_area(const struct picture *p, const struct area *from, const struct area *in,
                       int width, int height, uint8_t *to)
{
    const size_t c = (size_t)p->channels;
    const size_t line_out = (size_t)in->width * c;
    size_t longest = (size_t)(from->width > from->height ? from->width : from->height);
    struct window w = {.weights = xcalloc(longest + 2, sizeof(double))};
    float *across = xcalloc((size_t)from->height * line_out, sizeof(float));
    for (int x = 0; x < in->width; x++) {
        make_window(&w, x, from->width, in->width);
        for (int y = 0; y < from->height; y++) {
            size_t at = (size_t)(from->y + y) * (size_t)p->width + (size_t)(from->x + w.first);
            const uint8_t *line = p->pixels + at * c;
            for (size_t k = 0; k < c; k++) {
                double sum = 0;
                for (int i = 0; i < w.n; i++) {
                    sum += w.weights[i] * line[(size_t)i * c + k];
                }
                across[(size_t)y * line_out + (size_t)x * c + k] = (float)to_byte(sum);
            }
        }
    }
    for (int y = 0; y < in->height; y++) {
        make_window(&w, y, from->height, in->height);
        for (size_t i = 0; i < line_out; i++) {
            double sum = 0;
            for (int j = 0; j < w.n; j++) {
                sum += w.weights[j] * (double)across[(size_t)(w.first + j) * line_out + i];
            }
            size_t row = i % c * (size_t)height + (size_t)(in->y + y);
            to[row * (size_t)width + (size_t)in->x + i / c] = to_byte(sum);
        }
    }
    free(across);
    free(w.weights);
}

/* The side that belongs to `other` of `to` when `from` belongs to `to`; 1 to `most`. */
static int in_ratio(int from, int other, int to, int most)
{
    double side = floor((double)from * other / to + 0.5);
    return side < 1 ? 1 : side < most ? (int)side : most;
}

void picture_fit(const struct picture *p, enum picture_fit fit, int width, int height, uint8_t *to)
{
    struct area from = {0, 0, p->width, p->height};
    struct area in = {0, 0, width, height};
    const bool wide = (int64_t)p->width * height > (int64_t)p->height * width;
    if (fit == FIT_CROP && wide) {
        from.width = in_ratio(p->height, width, height, p->width);
        from.x = (p->width - from.width) / 2;
    } else if (fit == FIT_CROP) {
        from.height = in_ratio(p->width, height, width, p->height);
        from.y = (p->height - from.height) / 2;
    } else if (fit == FIT_PAD && wide) {
        in.height = in_ratio(p->height, width, p->width, height);
        in.y = (height - in.height) / 2;
    } else if (fit == FIT_PAD) {
        in.width = in_ratio(p->width, height, p->height, width);
        in.x = (width - in.width) / 2;
    }
    if (fit == FIT_PAD) {
        memset(to, 0, (size_t)p->channels * (size_t)width * (size_t)height);
    }
    scale_area(p, &from, &in, width, height, to);
}
