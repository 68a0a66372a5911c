/* SPDX-License-Identifier: Apache-2.0 */
#include "base/protobuf.h"
#include "base/tfrecord.h"
#include "worker/tfevent.h"
#include "worker/tfscalar.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <string.h>

static void on_scalar(void *arg, int64_t step, const char *tag, double v)
{
    buf_addf(arg, "%" PRId64 " %s %g;", step, tag, v);
}

/* What is heard of the bytes, given in parts of `part`. */
static char *hear(const struct buf *file, size_t part, struct tfscalars *t)
{
    struct buf heard = {0};
    buf_add(&heard, "", 0);
    for (size_t at = 0; at < file->len; at += part) {
        size_t n = file->len - at < part ? file->len - at : part;
        tfscalars_add(t, file->data + at, n, on_scalar, &heard);
    }
    tfscalars_fini(t);
    return buf_take(&heard);
}

static void expect(const struct buf *file, const char *want)
{
    for (size_t part = 1; part <= file->len + 1; part += part < 40 ? 1 : 997) {
        struct tfscalars t = {0};
        char *got = hear(file, part, &t);
        cr_assert_str_eq(got, want, "in parts of %zu", part);
        cr_assert(!t.broken && t.damaged == 0);
        free(got);
    }
}

/* Event{step, Summary{Value{tag, tensor}}} */
static void add_tensor(struct buf *file, int64_t step, const char *tag, struct buf *tensor_take)
{
    struct buf value = {0}, summary = {0}, event = {0};
    pb_text(&value, 1, tag);
    pb_message(&value, 8, tensor_take);
    pb_message(&summary, 1, &value);
    pb_int(&event, 2, step);
    pb_message(&event, 5, &summary);
    tfrecord_add(file, event.data, event.len);
    buf_fini(&event);
}

Test(tfscalar, what_we_write_is_read_in_pieces_of_any_size)
{
    struct buf file = {0};
    json_t *metrics = json_pack("{s:f, s:n}", "acc", 0.5, "gap");
    json_t *params = json_pack("{s:f}", "lr", 0.1);
    tfevent_version(&file, 1);
    tfevent_session_start(&file, 1, params, "trial 1"); /* the hparams plugin's: no scalar */
    tfevent_scalars(&file, 2, 7, metrics);
    tfevent_session_end(&file, 3, TFEVENT_SUCCESS);
    expect(&file, "7 acc 0.5;7 gap nan;");
    json_decref(metrics);
    json_decref(params);
    buf_fini(&file);
}

Test(tfscalar, tensors_with_one_number_are_scalars_of_every_type)
{
    struct buf file = {0};
    struct buf t = {0};
    const double d = 2.5;
    const struct {
        int dtype, field;
        int64_t v;
    } varints[] = {{3, 7, -3}, {9, 10, 1 << 20}, {10, 11, 1}, {19, 13, 0x3e00}, {14, 13, 0x4040}, {22, 16, 5}};
    pb_int(&t, 1, 2);
    pb_bytes(&t, 4, &d, sizeof(d));
    add_tensor(&file, 1, "raw", &t);
    pb_int(&t, 1, 1);
    pb_float(&t, 5, 1.25f);
    add_tensor(&file, 1, "float", &t);
    for (size_t i = 0; i < sizeof(varints) / sizeof(varints[0]); i++) {
        pb_int(&t, 1, varints[i].dtype);
        pb_int(&t, varints[i].field, varints[i].v);
        add_tensor(&file, 1, "v", &t);
    }
    pb_int(&t, 1, 1);
    add_tensor(&file, 1, "zero", &t); /* left out by TensorFlow */
    pb_int(&t, 1, 7);
    pb_text(&t, 8, "words");
    add_tensor(&file, 1, "text", &t);
    expect(&file, "1 raw 2.5;1 float 1.25;1 v -3;1 v 1.04858e+06;1 v 1;1 v 1.5;1 v 3;1 v 5;1 zero 0;");
    buf_fini(&file);
}

Test(tfscalar, a_long_record_is_passed_over_and_a_damaged_one_too)
{
    struct buf file = {0};
    json_t *metrics = json_pack("{s:f}", "a", 1.0);
    struct buf long_one = {0};
    memset(buf_room(&long_one, TFSCALAR_RECORD_MAX + 1), 'x', TFSCALAR_RECORD_MAX + 1);
    tfrecord_add(&file, long_one.data, TFSCALAR_RECORD_MAX + 1);
    tfevent_scalars(&file, 2, 1, metrics);
    size_t second = file.len;
    tfevent_scalars(&file, 2, 2, metrics);
    tfevent_scalars(&file, 2, 3, metrics);
    for (size_t at = second; at < file.len; at++) {
        struct tfscalars t = {0};
        file.data[at] ^= 0x20;
        char *got = hear(&file, 100000, &t);
        cr_assert(strstr(got, "1 a 1;") == got, "byte %zu: %s", at, got);
        cr_assert(t.broken != (t.damaged == 1), "byte %zu", at);
        free(got);
        file.data[at] ^= 0x20;
    }
    json_decref(metrics);
    buf_fini(&long_one);
    buf_fini(&file);
}
