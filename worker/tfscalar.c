/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/tfscalar.h"

#include "base/pbread.h"
#include "base/tfrecord.h"

#include <math.h>
#include <string.h>

#define PIECE 65536 /* bytes that are looked at together */

/* DataType of types.proto. */
enum { DT_FLOAT = 1, DT_DOUBLE = 2, DT_INT32 = 3, DT_INT64 = 9, DT_BFLOAT16 = 14, DT_HALF = 19 };

/* ---- numbers ---- */

static double half(uint64_t bits)
{
    int exponent = (int)(bits >> 10 & 0x1f);
    double fraction = (double)(bits & 0x3ff);
    double v = exponent == 0    ? ldexp(fraction, -24)
               : exponent == 31 ? (fraction > 0 ? (double)NAN : (double)INFINITY)
                                : ldexp(1024 + fraction, exponent - 25);
    return (bits & 0x8000) != 0 ? -v : v;
}

/* The first number in raw bytes of a tensor. */
static bool raw_value(uint64_t dtype, const struct pb_field *f, double *ret)
{
    struct pb_reader r = pb_inside(f);
    uint64_t bits = 0;
    if (dtype == DT_DOUBLE || dtype == DT_INT64) {
        bool ok = pb_number(&r, PB_64, &bits);
        *ret = dtype == DT_DOUBLE ? pb_as_double(bits) : (double)(int64_t)bits;
        return ok;
    }
    if (dtype == DT_FLOAT || dtype == DT_INT32) {
        bool ok = pb_number(&r, PB_32, &bits);
        *ret = dtype == DT_FLOAT ? pb_as_float(bits) : (double)(int32_t)(uint32_t)bits;
        return ok;
    }
    if ((dtype == DT_HALF || dtype == DT_BFLOAT16) && f->len >= 2) {
        bits = (uint64_t)f->bytes[0] | (uint64_t)f->bytes[1] << 8;
        *ret = dtype == DT_HALF ? half(bits) : pb_as_float(bits << 16);
        return true;
    }
    return false;
}

/* The first number of a field "repeated T", packed or not. */
static bool listed_value(const struct pb_field *f, enum pb_type type, uint64_t *ret)
{
    if (f->type == type) {
        *ret = f->value;
        return true;
    }
    struct pb_reader r = f->type == PB_BYTES ? pb_inside(f) : pb_read("", 0);
    return pb_number(&r, type, ret);
}

/* A shape whose dimensions are all 1. */
static bool is_single(const struct pb_field *shape)
{
    struct pb_reader r = pb_inside(shape);
    struct pb_field dim, f;
    while (pb_next(&r, &dim)) {
        struct pb_reader in = dim.type == PB_BYTES ? pb_inside(&dim) : pb_read("", 0);
        uint64_t size = 0;
        while (dim.number == 2 && pb_next(&in, &f)) {
            size = f.number == 1 && f.type == PB_VARINT ? f.value : size;
        }
        if (dim.number != 2 || size != 1) {
            return false;
        }
    }
    return true;
}

static bool field_value(uint64_t dtype, const struct pb_field *f, double *ret)
{
    uint64_t bits = 0;
    bool ok = false;
    switch (f->number) {
    case 4:
        return f->type == PB_BYTES && raw_value(dtype, f, ret);
    case 5:
        ok = listed_value(f, PB_32, &bits);
        *ret = pb_as_float(bits);
        return ok;
    case 6:
        ok = listed_value(f, PB_64, &bits);
        *ret = pb_as_double(bits);
        return ok;
    case 13:
        ok = listed_value(f, PB_VARINT, &bits);
        *ret = dtype == DT_HALF ? half(bits) : pb_as_float(bits << 16);
        return ok;
    case 7:
    case 10:
    case 11:
        ok = listed_value(f, PB_VARINT, &bits);
        *ret = (double)(int64_t)bits;
        return ok;
    case 16:
    case 17:
        ok = listed_value(f, PB_VARINT, &bits);
        *ret = (double)bits;
        return ok;
    default:
        return false;
    }
}

/* TensorProto with one number; TensorFlow leaves a value of 0 out. */
static bool tensor_value(const struct pb_field *tensor, double *ret)
{
    struct pb_reader r = pb_inside(tensor);
    struct pb_field f;
    uint64_t dtype = 0;
    double v = 0;
    bool single = true;
    while (pb_next(&r, &f)) {
        if (f.number == 1 && f.type == PB_VARINT) {
            dtype = f.value;
        } else if (f.number == 2 && f.type == PB_BYTES) {
            single = is_single(&f);
        }
    }
    r = pb_inside(tensor);
    while (pb_next(&r, &f)) {
        if (field_value(dtype, &f, &v)) {
            break;
        }
    }
    bool number = dtype > 0 && dtype != 7 && dtype != 8 && dtype != 18; /* string, complex */
    *ret = v;
    return single && number && dtype < 24;
}

/* ---- events ---- */

/* Summary metadata name the plugin that the value is for; none or "scalars" is ours. */
static bool is_for_scalars(const struct pb_field *metadata)
{
    struct pb_reader r = pb_inside(metadata);
    struct pb_field data, f;
    while (pb_next(&r, &data)) {
        struct pb_reader in = data.type == PB_BYTES ? pb_inside(&data) : pb_read("", 0);
        while (data.number == 1 && pb_next(&in, &f)) {
            if (f.number == 1 && f.type == PB_BYTES && f.len > 0 &&
                !(f.len == 7 && memcmp(f.bytes, "scalars", 7) == 0)) {
                return false;
            }
        }
    }
    return true;
}

static void use_value(const struct pb_field *value, int64_t step, tfscalar_fn fn, void *arg)
{
    struct pb_reader r = pb_inside(value);
    struct pb_field f;
    char tag[TFSCALAR_TAG_MAX + 1] = "";
    double v = 0;
    bool has = false;
    bool ours = true;
    while (pb_next(&r, &f)) {
        if (f.number == 1 && f.type == PB_BYTES && f.len <= TFSCALAR_TAG_MAX) {
            memcpy(tag, f.bytes, f.len);
            tag[f.len] = '\0';
        } else if (f.number == 2 && f.type == PB_32) {
            v = pb_as_float(f.value);
            has = true;
        } else if (f.number == 8 && f.type == PB_BYTES) {
            has = tensor_value(&f, &v);
        } else if (f.number == 9 && f.type == PB_BYTES) {
            ours = is_for_scalars(&f);
        }
    }
    if (has && ours && tag[0] != '\0') {
        fn(arg, step, tag, v);
    }
}

static void use_event(const char *bytes, size_t n, tfscalar_fn fn, void *arg)
{
    struct pb_reader r = pb_read(bytes, n);
    struct pb_field f, value;
    int64_t step = 0;
    while (pb_next(&r, &f)) {
        if (f.number == 2 && f.type == PB_VARINT) {
            step = (int64_t)f.value;
        }
    }
    r = pb_read(bytes, n);
    while (step >= 0 && pb_next(&r, &f)) {
        struct pb_reader in = f.type == PB_BYTES ? pb_inside(&f) : pb_read("", 0);
        while (f.number == 5 && pb_next(&in, &value)) {
            if (value.number == 1 && value.type == PB_BYTES) {
                use_value(&value, step, fn, arg);
            }
        }
    }
}

/* ---- records ---- */

/* How many of the n bytes the record at their front takes, which is used; 0 = it is not there whole. */
static size_t use_record(struct tfscalars *t, const char *at, size_t n, tfscalar_fn fn, void *arg)
{
    uint64_t len = 0;
    if (n < TFRECORD_HEAD) {
        return 0;
    }
    if (!tfrecord_head(at, &len) || len > INT64_MAX) {
        t->broken = true;
        return 0;
    }
    uint64_t whole = len + TFRECORD_HEAD + TFRECORD_FOOT;
    if (len > TFSCALAR_RECORD_MAX) {
        size_t here = whole < n ? (size_t)whole : n;
        t->skip = whole - here;
        return here;
    }
    if (whole > n) {
        return 0;
    }
    const char *bytes = at + TFRECORD_HEAD;
    if (tfrecord_sound(bytes, (size_t)len, bytes + len)) {
        use_event(bytes, (size_t)len, fn, arg);
    } else {
        t->damaged++;
    }
    return (size_t)whole;
}

static void use_records(struct tfscalars *t, tfscalar_fn fn, void *arg)
{
    size_t used = 0;
    size_t n = 1;
    while (n > 0 && t->skip == 0 && !t->broken) {
        n = use_record(t, t->partial.data + used, t->partial.len - used, fn, arg);
        used += n;
    }
    buf_shift(&t->partial, used);
}

void tfscalars_add(struct tfscalars *t, const char *bytes, size_t n, tfscalar_fn fn, void *arg)
{
    while (n > 0 && !t->broken) {
        size_t part = n < PIECE ? n : PIECE;
        if (t->skip > 0) {
            part = t->skip < n ? (size_t)t->skip : n;
            t->skip -= part;
        } else {
            buf_add(&t->partial, bytes, part);
            use_records(t, fn, arg);
        }
        bytes += part;
        n -= part;
    }
}

void tfscalars_fini(struct tfscalars *t)
{
    buf_fini(&t->partial);
}
