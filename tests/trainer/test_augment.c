/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes to the images of a batch: what is drawn, what comes of it, and who sees it.
 */
#include "support.h"

#include "base/alloc.h"
#include "trainer/augment.h"
#include "trainer/net.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 4000

static const struct shape image = {2, 5, 7, false};

static struct augment_row *draw(struct augmentation a, struct augment_stream s, int n)
{
    struct augment_row *rows = xcalloc((size_t)n, sizeof(*rows));
    augment_draw(&a, &s, &image, rows, n);
    return rows;
}

Test(augment, every_shift_is_as_likely_and_half_are_mirrored)
{
    struct augment_row *rows =
        draw((struct augmentation){.crop = 2, .flip = true, .cutout = 3},
             (struct augment_stream){.seed = 3, .owner = 1, .epoch = 2, .batch = 5}, ROWS);
    int shifts[5][5] = {{0}};
    int flips = 0;
    int whole = 0;
    for (int i = 0; i < ROWS; i++) {
        const struct augment_row *r = &rows[i];
        cr_assert(r->dy >= -2 && r->dy <= 2 && r->dx >= -2 && r->dx <= 2);
        cr_assert(r->cut_y0 >= 0 && r->cut_y0 < r->cut_y1 && r->cut_y1 <= image.h);
        cr_assert(r->cut_x0 >= 0 && r->cut_x0 < r->cut_x1 && r->cut_x1 <= image.w);
        cr_assert(r->cut_y1 - r->cut_y0 <= 3 && r->cut_x1 - r->cut_x0 <= 3);
        shifts[r->dy + 2][r->dx + 2]++;
        flips += r->flip;
        whole += r->cut_y1 - r->cut_y0 == 3 && r->cut_x1 - r->cut_x0 == 3;
    }
    for (int i = 0; i < 25; i++) {
        cr_expect(abs(shifts[i / 5][i % 5] - ROWS / 25) < 60, "%d", shifts[i / 5][i % 5]);
    }
    cr_expect(abs(flips - ROWS / 2) < 150, "%d", flips);
    cr_expect(abs(whole - ROWS * 3 * 5 / 35) < 150, "the square's middle is anywhere: %d", whole);
    free(rows);
}

Test(augment, a_draw_depends_on_its_name_and_place_alone)
{
    const struct augmentation a = {.crop = 2, .flip = true, .cutout = 3};
    const struct augment_stream s = {.seed = 3, .owner = 1, .epoch = 2, .batch = 5};
    struct augment_row *all = draw(a, s, 64);
    struct augment_stream part = s;
    part.first_row = 23;
    struct augment_row *some = draw(a, part, 41);
    cr_expect_arr_eq(all + 23, some, 41 * sizeof(*all));
    free(some);
    const struct augment_stream others[] = {
        {4, 1, 2, 5, 0}, {3, 2, 2, 5, 0}, {3, 1, 3, 5, 0}, {3, 1, 2, 6, 0}};
    for (size_t i = 0; i < 4; i++) {
        some = draw(a, others[i], 64);
        cr_expect(memcmp(all, some, 64 * sizeof(*all)) != 0, "stream %zu", i);
        free(some);
    }
    free(all);
}

/* The rule of augment.h, word by word. */
static float rule(const struct augment_row *r, const float *in, int c, int y, int x)
{
    int from_y = y + r->dy;
    int from_x = (r->flip ? image.w - 1 - x : x) + r->dx;
    bool gone = y >= r->cut_y0 && y < r->cut_y1 && x >= r->cut_x0 && x < r->cut_x1;
    bool inside = from_y >= 0 && from_y < image.h && from_x >= 0 && from_x < image.w;
    return gone || !inside ? 0 : in[(c * image.h + from_y) * image.w + from_x];
}

Test(augment, both_backends_load_what_the_rule_says)
{
    static const struct backend_ops *const backends[] = {&backend_ref, &backend_cpu};
    const size_t size = (size_t)shape_size(&image);
    struct dataset *d = toy_dataset(image, 3, 100);
    struct augment_row *rows = draw((struct augmentation){.crop = 4, .flip = true, .cutout = 2},
                                    (struct augment_stream){.seed = 1}, 48);
    struct model m = model_of("[{\"type\":\"dense\",\"units\":3}]", image);
    float *got = xcalloc(48 * size, sizeof(float));
    uint8_t *bytes = xcalloc(100 * size, 1);
    for (size_t i = 0; i < 100 * size; i++) {
        bytes[i] = (uint8_t)(1 + i * 7 % 251);
    }
    for (int k = 0; k < 4; k++) {
        const struct backend_ops *ops = backends[k / 2];
        struct backend *b = NULL;
        struct net *net = NULL;
        struct dataset as_bytes = *d;
        as_bytes.bytes = bytes;
        as_bytes.scale = 1.0f / 255;
        as_bytes.values = NULL;
        const struct batch batch = {
            .d = k % 2 == 0 ? d : &as_bytes, .rows = d->train, .n = 48, .augment = rows};
        cr_assert_eq(ops->open(&(struct backend_options){.threads = 1}, &b, NULL), MAG_OK);
        cr_assert_eq(net_create(ops, b, &m, &(struct net_options){.rows = 50}, &net, NULL), MAG_OK);
        ops->load(net->input, 0, &batch);
        ops->read(net->input, 0, false, 48, got);
        for (size_t i = 0; i < 48 * size; i++) {
            float in[70];
            size_t row = d->train[i / size];
            for (size_t v = 0; v < size; v++) {
                in[v] = k % 2 == 0 ? d->values[row * size + v] : (float)bytes[row * size + v] / 255;
            }
            size_t at = i % size;
            float want =
                rule(&rows[i / size], in, (int)(at / 35), (int)(at / 7 % 5), (int)(at % 7));
            cr_assert_float_eq(got[i], want, 1e-6f, "%s: row %zu, value %zu", ops->name, i / size,
                               at);
        }
        net_destroy(net);
        ops->close(b);
    }
    free(bytes);
    free(got);
    free(rows);
    dataset_destroy(d);
}
