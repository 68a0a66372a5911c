/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/pictures.h"

enum mag_status pictures_shape(const struct dataset_source *s, const struct picture *first,
                               const char *what, struct dataset *d, struct mag_err *err)
{
    d->scale = 1.0f / 255.0f;
    d->shape = (struct shape){.c = first->channels,
                              .h = s->height > 0 ? s->height : first->height,
                              .w = s->width > 0 ? s->width : first->width};
    if (s->fit != FIT_NONE && s->height == 0) {
        return mag_fail(err, MAG_INVALID,
                        "%s: \"fit\" is how pictures come to a \"size\"; say size=HEIGHTxWIDTH too",
                        s->path);
    }
    return d->shape.h <= MODEL_SIDE_MAX && d->shape.w <= MODEL_SIDE_MAX
               ? MAG_OK
               : mag_fail(err, MAG_LIMIT,
                          "%s: %dx%d pixels; say size=HEIGHTxWIDTH, at most %d each", what,
                          d->shape.w, d->shape.h, MODEL_SIDE_MAX);
}

enum mag_status pictures_put(const struct dataset_source *s, const struct picture *p,
                             const char *what, uint32_t i, struct dataset *d, struct mag_err *err)
{
    if (s->height == 0 && (p->width != d->shape.w || p->height != d->shape.h)) {
        return mag_fail(err, MAG_INVALID,
                        "%s is %dx%d, but the first one %dx%d (width x height); say "
                        "size=HEIGHTxWIDTH to scale all",
                        what, p->width, p->height, d->shape.w, d->shape.h);
    }
    picture_fit(p, s->fit, d->shape.w, d->shape.h,
                d->bytes + (size_t)i * (size_t)shape_size(&d->shape));
    return MAG_OK;
}
