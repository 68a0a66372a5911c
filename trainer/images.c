/* SPDX-License-Identifier: Apache-2.0
 *
 * Folders of pictures, a folder a class, or files of records (tfimages.h). Pictures of one size are taken as they are; others are
 * brought to the size that the source gives. They are decoded on all cores of the slot.
 */
#include "base/alloc.h"
#include "trainer/folders.h"
#include "trainer/parallel.h"
#include "trainer/pictures.h"
#include "trainer/tfimages.h"

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
    if (st == MAG_OK) {
        st = pictures_shape(s, &first, f->paths[0], d, err);
    }
    picture_fini(&first);
    return st;
}

struct job {
    const struct dataset_source *source;
    const struct class_files *files;
    struct dataset *d;
};

static enum mag_status read_one(void *ctx, uint32_t i, struct mag_err *err)
{
    const struct job *j = ctx;
    struct picture p = {0};
    const char *path = j->files->paths[i];
    enum mag_status st = picture_read(path, j->d->shape.c, &p, err);
    if (st == MAG_OK) {
        st = pictures_put(j->source, &p, path, i, j->d, err);
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
    if (st == MAG_OK && !probe) {
        d->bytes = mag_try_alloc(f->n, width);
        st = d->bytes != NULL ? MAG_OK
                              : mag_fail(err, MAG_NOMEM, "%s: no memory for %u pictures", s->path, f->n);
    }
    struct job j = {.source = s, .files = f, .d = d};
    return st == MAG_OK && !probe ? parallel_each(f->n, parallel_threads(), read_one, &j, err) : st;
}

static enum mag_status images_read(const struct dataset_source *s, enum dataset_how how,
                                   struct dataset *d, struct mag_err *err)
{
    struct class_files f = {0};
    if (tfimages_at(s->path)) {
        return tfimages_read(s, how, d, err);
    }
    if (s->input != NULL || s->label != NULL) {
        return mag_fail(err, MAG_INVALID,
                        "%s: \"input\" and \"label\" are for pictures in TFRecord files; a folder's "
                        "classes are the folders in it",
                        s->path);
    }
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
static const char *const options[] = {"size", "fit", "channels", "input", "label", "test", NULL};
const struct dataset_format dataset_images = {.name = "images",
                                              .example = "images:FOLDER?size=64",
                                              .suffixes = suffixes,
                                              .options = options,
                                              .read = images_read};
