/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/picture.h"

#include "base/alloc.h"
#include "base/json.h"

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

void picture_scale(const struct picture *p, int width, int height, uint8_t *to)
{
    size_t c = (size_t)p->channels;
    size_t longest = (size_t)(p->width > p->height ? p->width : p->height);
    struct window w = {.weights = xcalloc(longest + 2, sizeof(double))};
    float *across = xcalloc((size_t)p->height * (size_t)width * c, sizeof(float));
    for (int x = 0; x < width; x++) {
        make_window(&w, x, p->width, width);
        for (int y = 0; y < p->height; y++) {
            const uint8_t *line = p->pixels + ((size_t)y * (size_t)p->width + (size_t)w.first) * c;
            for (size_t k = 0; k < c; k++) {
                double sum = 0;
                for (int i = 0; i < w.n; i++) {
                    sum += w.weights[i] * line[(size_t)i * c + k];
                }
                across[((size_t)y * (size_t)width + (size_t)x) * c + k] = (float)to_byte(sum);
            }
        }
    }
    for (int y = 0; y < height; y++) {
        make_window(&w, y, p->height, height);
        for (size_t i = 0; i < (size_t)width * c; i++) {
            double sum = 0;
            for (int j = 0; j < w.n; j++) {
                sum += w.weights[j] * (double)across[(size_t)(w.first + j) * (size_t)width * c + i];
            }
            to[(i % c * (size_t)height + (size_t)y) * (size_t)width + i / c] = to_byte(sum);
        }
    }
    free(across);
    free(w.weights);
}
