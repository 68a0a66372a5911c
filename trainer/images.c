/* SPDX-License-Identifier: Apache-2.0
 *
 * Folders of pictures, a folder a class. Pictures of one size are taken as they are; others are
 * scaled to the size that the source gives.
 */
#include "base/alloc.h"
#include "trainer/folders.h"
#include "trainer/picture.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_picture(const char *name)
{
    static const char *const ends[] = {".jpg", ".jpeg", ".png"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot != NULL && i < sizeof(ends) / sizeof(ends[0]); i++) {
        if (strcasecmp(dot, ends[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* The shape that every picture gets: as the source says, else as the first one has it. */
static enum mag_status find_shape(const struct dataset_source *s, const struct class_files *f,
                                  struct dataset *d, struct mag_err *err)
{
    struct picture first = {0};
    enum mag_status st = picture_read(f->paths[0], s->channels, &first, err);
    if (st != MAG_OK) {
        return st;
    }
    d->shape = (struct shape){.c = first.channels,
                              .h = s->height > 0 ? s->height : first.height,
                              .w = s->width > 0 ? s->width : first.width};
    picture_fini(&first);
    return d->shape.h <= MODEL_SIDE_MAX && d->shape.w <= MODEL_SIDE_MAX
               ? MAG_OK
               : mag_fail(err, MAG_LIMIT, "%s: %dx%d pixels; say size=HEIGHTxWIDTH, at most %d each",
                          f->paths[0], d->shape.w, d->shape.h, MODEL_SIDE_MAX);
}

static enum mag_status read_picture(const struct dataset_source *s, const struct class_files *f,
                                    uint32_t i, struct dataset *d, struct mag_err *err)
{
    struct picture p = {0};
    size_t width = (size_t)shape_size(&d->shape);
    enum mag_status st = picture_read(f->paths[i], d->shape.c, &p, err);
    if (st == MAG_OK && s->height == 0 && (p.width != d->shape.w || p.height != d->shape.h)) {
        st = mag_fail(err, MAG_INVALID,
                      "%s is %dx%d, but %s %dx%d (width x height); say size=HEIGHTxWIDTH to scale all",
                      f->paths[i], p.width, p.height, f->paths[0], d->shape.w, d->shape.h);
    }
    if (st == MAG_OK) {
        picture_scale(&p, d->shape.w, d->shape.h, d->bytes + (size_t)i * width);
    }
    picture_fini(&p);
    return st;
}

static enum mag_status read_all(const struct dataset_source *s, const struct class_files *f,
                                bool probe, struct dataset *d, struct mag_err *err)
{
    enum mag_status st = find_shape(s, f, d, err);
    size_t width = (size_t)shape_size(&d->shape);
    if (st == MAG_OK) {
        st = dataset_check_size(s->path, f->n, width, err);
    }
    d->scale = 1.0f / 255.0f;
    if (st == MAG_OK && !probe) {
        d->bytes = mag_try_alloc(f->n, width);
        st = d->bytes != NULL ? MAG_OK
                              : mag_fail(err, MAG_NOMEM, "%s: no memory for %u pictures", s->path, f->n);
    }
    for (uint32_t i = 0; i < f->n && st == MAG_OK && !probe; i++) {
        st = read_picture(s, f, i, d, err);
    }
    return st;
}

static enum mag_status images_read(const struct dataset_source *s, enum dataset_how how,
                                   struct dataset *d, struct mag_err *err)
{
    struct class_files f = {0};
    enum mag_status st = folders_list(s->path, how, is_picture, &f, err);
    if (st == MAG_OK) {
        d->n_rows = f.n;
        d->n_given_test = f.n_test;
        st = read_all(s, &f, how == DATASET_PROBE, d, err);
    }
    if (st == MAG_OK && f.classes.n > 0) {
        d->labels = xcalloc(f.n, sizeof(*d->labels));
        memcpy(d->labels, f.labels, f.n * sizeof(*d->labels));
        classes_finish(&f.classes, d);
    }
    folders_fini(&f);
    return st;
}

static const char *const suffixes[] = {".jpg", ".jpeg", ".png", NULL};
static const char *const options[] = {"size", "channels", "test", NULL};
const struct dataset_format dataset_images = {.name = "images",
                                              .example = "images:FOLDER?size=64",
                                              .suffixes = suffixes,
                                              .options = options,
                                              .read = images_read};
