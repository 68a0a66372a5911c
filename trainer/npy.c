/* SPDX-License-Identifier: Apache-2.0
 *
 * NumPy's .npy files: a magic word, a version, a Python dictionary as text, then the values. And
 * the data sets made of them: one file of examples and one of labels.
 */
#include "trainer/npy.h"

#include "base/alloc.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the head ---- */

static const char *skip(const char *p)
{
    while (isspace((unsigned char)*p)) {
        p++;
    }
    return p;
}

/* Behind the value of `key`'s colon in the dictionary; NULL = there is no such key. */
static const char *value_of(const char *text, const char *key)
{
    char quoted[2][32];
    (void)snprintf(quoted[0], sizeof(quoted[0]), "'%s'", key);
    (void)snprintf(quoted[1], sizeof(quoted[1]), "\"%s\"", key);
    for (int i = 0; i < 2; i++) {
        const char *at = strstr(text, quoted[i]);
        if (at != NULL) {
            at = skip(at + strlen(quoted[i]));
            return *at == ':' ? skip(at + 1) : NULL;
        }
    }
    return NULL;
}

static const struct {
    char name[3];
    enum dtype type;
} types[] = {{"b1", DTYPE_BOOL}, {"u1", DTYPE_U1}, {"u2", DTYPE_U2}, {"u4", DTYPE_U4},
             {"u8", DTYPE_U8},   {"i1", DTYPE_I1}, {"i2", DTYPE_I2}, {"i4", DTYPE_I4},
             {"i8", DTYPE_I8},   {"f2", DTYPE_F2}, {"f4", DTYPE_F4}, {"f8", DTYPE_F8}};

static enum mag_status read_descr(const char *p, struct array *a, struct mag_err *err)
{
    char text[24] = {0};
    size_t n = 0;
    if (p != NULL && (*p == '\'' || *p == '"')) {
        n = strcspn(p + 1, "'\"");
        (void)snprintf(text, sizeof(text), "%.*s", n < 20 ? (int)n : 20, p + 1);
    }
    for (size_t i = 0; n == 3 && i < sizeof(types) / sizeof(types[0]); i++) {
        if (strchr("<>=|", text[0]) != NULL && memcmp(text + 1, types[i].name, 2) == 0) {
            a->type = types[i].type;
            a->swap = text[0] == '>';
            return MAG_OK;
        }
    }
    return mag_fail(err, MAG_UNSUPPORTED,
                    "%s: values of type %.60s%.20s; numbers are read: b1, u1 to u8, i1 to i8, f2, f4 "
                    "and f8",
                    a->what, n > 0 ? "" : "that is no single number", text);
}

static bool read_shape(const char *p, struct array *a)
{
    if (p == NULL || *p++ != '(') {
        return false;
    }
    for (p = skip(p); *p != ')'; p = skip(p)) {
        char *end = NULL;
        if (!isdigit((unsigned char)*p) || a->n_dims > ARRAY_DIMS_MAX) {
            return false;
        }
        unsigned long long v = strtoull(p, &end, 10);
        if (a->n_dims < ARRAY_DIMS_MAX) {
            a->dims[a->n_dims] = v;
        }
        a->n_dims++;
        p = skip(*end == 'L' ? end + 1 : end);
        if (*p != ',' && *p != ')') {
            return false;
        }
        p += *p == ',';
    }
    return a->n_dims <= ARRAY_DIMS_MAX;
}

static enum mag_status read_dictionary(const char *text, struct array *a, struct mag_err *err)
{
    enum mag_status st = read_descr(value_of(text, "descr"), a, err);
    const char *order = value_of(text, "fortran_order");
    if (st != MAG_OK) {
        return st;
    }
    a->fortran = order != NULL && strncmp(order, "True", 4) == 0;
    if (order == NULL || (!a->fortran && strncmp(order, "False", 5) != 0)) {
        return mag_fail(err, MAG_CORRUPT, "%s: its head names no order of the values", a->what);
    }
    return read_shape(value_of(text, "shape"), a)
               ? MAG_OK
               : mag_fail(err, MAG_INVALID, "%s: its shape cannot be read, or has over %d dimensions",
                          a->what, ARRAY_DIMS_MAX);
}

enum mag_status npy_read_head(struct array *a, uint64_t *ret_size, struct mag_err *err)
{
    unsigned char head[12];
    enum mag_status st = a->read(a->ctx, head, 8, err);
    if (st != MAG_OK) {
        return st;
    }
    if (memcmp(head, "\x93NUMPY", 6) != 0 || head[6] < 1 || head[6] > 3) {
        return mag_fail(err, MAG_CORRUPT, "%s: no .npy file (versions 1 to 3 are read)", a->what);
    }
    size_t len_size = head[6] == 1 ? 2 : 4;
    st = a->read(a->ctx, head + 8, len_size, err);
    uint64_t len = (uint64_t)head[8] | (uint64_t)head[9] << 8;
    len |= len_size == 4 ? (uint64_t)head[10] << 16 | (uint64_t)head[11] << 24 : 0;
    if (st == MAG_OK && len > NPY_HEAD_MAX) {
        st = mag_fail(err, MAG_LIMIT, "%s: a head of over %d bytes", a->what, NPY_HEAD_MAX);
    }
    if (st != MAG_OK) {
        return st;
    }
    char *text = xcalloc(len + 1, 1);
    st = a->read(a->ctx, text, len, err);
    if (st == MAG_OK) {
        st = read_dictionary(text, a, err);
    }
    free(text);
    *ret_size = 8 + len_size + len;
    return st;
}

/* ---- files ---- */

struct npy_file {
    FILE *f;
    struct array a;
};

static enum mag_status read_file(void *ctx, void *to, size_t n, struct mag_err *err)
{
    struct npy_file *f = ctx;
    if (fread(to, 1, n, f->f) == n) {
        return MAG_OK;
    }
    return ferror(f->f) != 0
               ? mag_fail(err, MAG_IO, "%s: %s", f->a.what, strerror(errno))
               : mag_fail(err, MAG_CORRUPT, "%s: torn: it ends before its values do", f->a.what);
}

static enum mag_status open_file(const char *path, struct npy_file *f, struct mag_err *err)
{
    struct stat info;
    uint64_t head = 0;
    f->a = (struct array){.what = xstrdup(path), .read = read_file, .ctx = f};
    f->f = fopen(path, "rbe");
    if (f->f == NULL || fstat(fileno(f->f), &info) != 0) {
        return mag_fail(err, errno == ENOENT ? MAG_NOTFOUND : MAG_IO, "%s: %s", path,
                        strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        return mag_fail(err, MAG_INVALID, "%s: not a file; an npy data set is npy:FILE?label=FILE",
                        path);
    }
    enum mag_status st = npy_read_head(&f->a, &head, err);
    if (st == MAG_OK && array_values(&f->a) * dtype_size(f->a.type) > (uint64_t)info.st_size - head) {
        st = mag_fail(err, MAG_CORRUPT, "%s: torn: it ends before its values do", path);
    }
    return st;
}

static enum mag_status npy_read(const struct dataset_source *s, enum dataset_how how,
                                struct dataset *d, struct mag_err *err)
{
    const char *paths[4] = {s->path, s->label, s->test_input, s->test_label};
    struct npy_file files[4] = {0};
    struct array *arrays[4] = {NULL};
    enum mag_status st = MAG_OK;
    for (int i = 0; st == MAG_OK && i < 4; i++) {
        if (paths[i] != NULL) {
            st = open_file(paths[i], &files[i], err);
            arrays[i] = &files[i].a;
        }
    }
    if (st == MAG_OK) {
        const struct array_set set = {arrays[0], arrays[1], arrays[2], arrays[3]};
        st = arrays_read(&set, s, how, d, err);
    }
    for (int i = 0; i < 4; i++) {
        free(files[i].a.what);
        if (files[i].f != NULL) {
            (void)fclose(files[i].f);
        }
    }
    return st;
}

static const char *const suffixes[] = {".npy", NULL};
static const char *const options[] = {"label", "test_input", "test_label", "layout",
                                      "task",  "test",       NULL};
const struct dataset_format dataset_npy = {.name = "npy",
                                           .example = "npy:FILE?label=FILE",
                                           .suffixes = suffixes,
                                           .options = options,
                                           .labelled = true,
                                           .label_is_file = true,
                                           .read = npy_read};
