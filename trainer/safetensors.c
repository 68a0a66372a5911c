/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/safetensors.h"

#include "base/alloc.h"
#include "trainer/arrays.h"
#include "trainer/outfile.h"
#include "trainer/saved.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "arrays are written as they lie in memory");

/* ---- writing ---- */

struct writer {
    const struct model *model;
    struct buf head;
    FILE *f; /* NULL while the head is made */
    uint64_t at;
};

static enum mag_status each(void *ctx, struct net *net, const struct net_array *a)
{
    struct writer *w = ctx;
    const size_t n = a->n;
    if (w->f != NULL) {
        float *room = xmalloc(n * sizeof(float));
        net->ops->get(a->op, 0, a->p, a->slot, room);
        bool good = fwrite(room, sizeof(float), n, w->f) == n;
        free(room);
        return good ? MAG_OK : MAG_IO;
    }
    int64_t dims[4];
    int n_dims = saved_dims(&a->op->layer, a->p, dims);
    char name[SAVED_NAME_MAX];
    saved_name(w->model, a->op->index, a->p, name);
    buf_addf(&w->head, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[", name);
    for (int i = 0; i < n_dims; i++) {
        buf_addf(&w->head, "%s%lld", i > 0 ? "," : "", (long long)dims[i]);
    }
    uint64_t end = w->at + n * sizeof(float);
    buf_addf(&w->head, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)w->at,
             (unsigned long long)end);
    w->at = end;
    return MAG_OK;
}

static void make_head(struct saved *s, struct writer *w)
{
    char *description = mjson_dump(s->object);
    buf_adds(&w->head, "{\"__metadata__\":{\"format\":\"pt\",\"magpie\":");
    buf_add_json_string(&w->head, description);
    buf_adds(&w->head, "}");
    free(description);
    enum mag_status st = net_each_array(s->net, 0, SLOT_BIT(SLOT_VALUE), each, w);
    MAG_ASSERT(st == MAG_OK, "making the head cannot fail");
    buf_addc(&w->head, '}');
    while (w->head.len % 8 != 0) { /* the arrays lie aligned */
        buf_addc(&w->head, ' ');
    }
}

enum mag_status safetensors_write(struct saved *s, const char *path, struct mag_err *err)
{
    struct writer w = {.model = &s->description.model};
    struct outfile o;
    enum mag_status st = outfile_begin(&o, path, err);
    if (st != MAG_OK) {
        return st;
    }
    make_head(s, &w);
    uint64_t len = w.head.len;
    w.f = o.f;
    if (fwrite(&len, sizeof(len), 1, o.f) != 1 ||
        fwrite(w.head.data, 1, w.head.len, o.f) != w.head.len ||
        net_each_array(s->net, 0, SLOT_BIT(SLOT_VALUE), each, &w) != MAG_OK) {
        st = mag_fail(err, MAG_IO, "cannot write %s: %s", path, strerror(errno));
    }
    buf_fini(&w.head);
    return outfile_end(&o, st, err);
}

/* ---- reading ---- */

struct safetensors {
    FILE *f;
    char *path;
    json_t *head;
    uint64_t start; /* of the arrays */
    uint64_t size;  /* of the file */
    struct mag_err *err;
};

static enum mag_status read_head(struct safetensors *s)
{
    uint64_t len = 0;
    if (fread(&len, sizeof(len), 1, s->f) != 1 || len < 2 || len > SAFETENSORS_HEAD_MAX ||
        len + sizeof(len) > s->size) {
        return mag_fail(s->err, MAG_CORRUPT, "%s: no safetensors file, or a torn one", s->path);
    }
    char *text = xcalloc(len + 1, 1);
    enum mag_status st = MAG_OK;
    if (fread(text, 1, len, s->f) != len) {
        st = mag_fail(s->err, MAG_CORRUPT, "%s: torn: it ends in its head", s->path);
    } else if (mjson_parse(text, len, &s->head, NULL) != MAG_OK || !json_is_object(s->head)) {
        st = mag_fail(s->err, MAG_CORRUPT, "%s: no safetensors file: its head is no JSON object",
                      s->path);
    }
    s->start = len + sizeof(len);
    free(text);
    return st;
}

enum mag_status safetensors_open(const char *path, struct safetensors **ret, struct mag_err *err)
{
    struct safetensors *s = xcalloc(1, sizeof(*s));
    struct stat info;
    *s = (struct safetensors){.path = xstrdup(path), .err = err, .f = fopen(path, "rbe")};
    enum mag_status st = MAG_OK;
    if (s->f == NULL || fstat(fileno(s->f), &info) != 0) {
        st = mag_fail(err, errno == ENOENT ? MAG_NOTFOUND : MAG_IO, "cannot read %s: %s", path,
                      strerror(errno));
    } else {
        s->size = (uint64_t)info.st_size;
        st = read_head(s);
    }
    if (st != MAG_OK) {
        safetensors_close(s);
        return st;
    }
    *ret = s;
    return MAG_OK;
}

void safetensors_close(struct safetensors *s)
{
    if (s == NULL) {
        return;
    }
    if (s->f != NULL) {
        (void)fclose(s->f);
    }
    json_decref(s->head);
    free(s->path);
    free(s);
}

const char *safetensors_metadata(const struct safetensors *s, const char *key)
{
    return json_string_value(json_object_get(json_object_get(s->head, "__metadata__"), key));
}

static bool has_shape(const json_t *shape, const int64_t *dims, int n_dims)
{
    bool same = json_is_array(shape) && json_array_size(shape) == (size_t)n_dims;
    for (int i = 0; same && i < n_dims; i++) {
        same = json_integer_value(json_array_get(shape, (size_t)i)) == dims[i];
    }
    return same;
}

enum mag_status safetensors_take(struct safetensors *s, const char *name, const int64_t *dims,
                                 int n_dims, float *to)
{
    const json_t *o = json_object_get(s->head, name);
    const char *type = json_string_value(json_object_get(o, "dtype"));
    const json_t *offsets = json_object_get(o, "data_offsets");
    json_int_t from = json_integer_value(json_array_get(offsets, 0));
    json_int_t end = json_integer_value(json_array_get(offsets, 1));
    size_t n = 1;
    for (int i = 0; i < n_dims; i++) {
        n *= (size_t)dims[i];
    }
    if (o == NULL || type == NULL || strcmp(type, "F32") != 0 ||
        !has_shape(json_object_get(o, "shape"), dims, n_dims) || from < 0 || end < from ||
        (uint64_t)(end - from) != n * sizeof(float)) {
        return mag_fail(s->err, MAG_CORRUPT, "%s: the array \"%s\" is not there as its model says",
                        s->path, name);
    }
    if ((uint64_t)end > s->size - s->start ||
        fseeko(s->f, (off_t)(s->start + (uint64_t)from), SEEK_SET) != 0 ||
        fread(to, sizeof(float), n, s->f) != n) {
        return mag_fail(s->err, MAG_CORRUPT, "%s: torn: it ends before \"%s\"", s->path, name);
    }
    return MAG_OK;
}

/* ---- arrays of any type ---- */

int safetensors_names(const struct safetensors *s, const char **ret, int max)
{
    const char *name = NULL;
    json_t *o = NULL;
    int n = 0;
    json_object_foreach(s->head, name, o)
    {
        if (n < max && strcmp(name, "__metadata__") != 0) {
            ret[n++] = name;
        }
    }
    return n;
}

/* Where the next bytes of an array lie. */
struct place_in_file {
    struct safetensors *file;
    char *what;
    uint64_t at;
};

static enum mag_status read_place(void *ctx, void *to, size_t n, struct mag_err *err)
{
    struct place_in_file *p = ctx;
    if (fseeko(p->file->f, (off_t)p->at, SEEK_SET) != 0 || fread(to, 1, n, p->file->f) != n) {
        return mag_fail(err, MAG_IO, "%s: cannot be read: %s", p->what, strerror(errno));
    }
    p->at += n;
    return MAG_OK;
}

static bool find_type(const char *name, enum dtype *ret)
{
    static const struct {
        const char *name;
        enum dtype type;
    } rows[] = {{"BOOL", DTYPE_BOOL}, {"U8", DTYPE_U1},   {"U16", DTYPE_U2}, {"U32", DTYPE_U4},
                {"U64", DTYPE_U8},    {"I8", DTYPE_I1},   {"I16", DTYPE_I2}, {"I32", DTYPE_I4},
                {"I64", DTYPE_I8},    {"F16", DTYPE_F2},  {"BF16", DTYPE_BF}, {"F32", DTYPE_F4},
                {"F64", DTYPE_F8}};
    for (size_t i = 0; name != NULL && i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(rows[i].name, name) == 0) {
            *ret = rows[i].type;
            return true;
        }
    }
    return false;
}

enum mag_status safetensors_array(struct safetensors *s, const char *name, struct array *a,
                                  struct mag_err *err)
{
    const json_t *o = json_object_get(s->head, name);
    const json_t *shape = json_object_get(o, "shape");
    const json_t *offsets = json_object_get(o, "data_offsets");
    const char *type = json_string_value(json_object_get(o, "dtype"));
    json_int_t from = json_integer_value(json_array_get(offsets, 0));
    json_int_t end = json_integer_value(json_array_get(offsets, 1));
    if (!find_type(type, &a->type)) {
        return mag_fail(err, MAG_UNSUPPORTED, "%s: values of type %.20s are not read", a->what,
                        type != NULL ? type : "?");
    }
    if (!json_is_array(shape) || json_array_size(shape) > ARRAY_DIMS_MAX) {
        return mag_fail(err, MAG_INVALID, "%s: no shape, or over %d dimensions", a->what,
                        ARRAY_DIMS_MAX);
    }
    for (a->n_dims = 0; a->n_dims < (int)json_array_size(shape); a->n_dims++) {
        json_int_t v = json_integer_value(json_array_get(shape, (size_t)a->n_dims));
        a->dims[a->n_dims] = v > 0 ? (uint64_t)v : 0;
    }
    if (from < 0 || end < from || (uint64_t)end > s->size - s->start ||
        (uint64_t)(end - from) != array_values(a) * dtype_size(a->type)) {
        return mag_fail(err, MAG_CORRUPT, "%s: the file is torn, or its head is wrong", a->what);
    }
    struct place_in_file *p = xcalloc(1, sizeof(*p));
    *p = (struct place_in_file){
        .file = s, .what = a->what, .at = s->start + (uint64_t)from};
    a->read = read_place;
    a->ctx = p;
    return MAG_OK;
}

void safetensors_array_close(struct array *a)
{
    free(a->ctx);
    a->ctx = NULL;
}
