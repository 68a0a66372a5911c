/* SPDX-License-Identifier: Apache-2.0
 *
 * IDX, the format of MNIST and its kin: two zero bytes, a type, the number of dimensions, their
 * sizes as big-endian 32-bit numbers, then the values. zlib reads plain and .gz files alike.
 */
#include "base/alloc.h"
#include "trainer/format.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define IDX_DIMS_MAX 4
#define IDX_U8 0x08
#define IDX_F32 0x0d

struct idx_file {
    char path[DATASET_PATH_MAX];
    gzFile gz;
    int type;
    int n_dims;
    uint32_t dims[IDX_DIMS_MAX];
};

static void idx_close(struct idx_file *f)
{
    if (f->gz != NULL) {
        (void)gzclose(f->gz);
        f->gz = NULL;
    }
}

/* Reads exactly n bytes; CORRUPT names what was missing. */
static enum mag_status read_bytes(struct idx_file *f, void *to, size_t n, struct mag_err *err)
{
    size_t got = 0;
    while (got < n) {
        unsigned want = n - got > (1u << 30) ? 1u << 30 : (unsigned)(n - got);
        int r = gzread(f->gz, (char *)to + got, want);
        if (r < 0) {
            int code = 0;
            const char *why = gzerror(f->gz, &code);
            return mag_fail(err, MAG_CORRUPT, "%s: damaged: %s", f->path,
                            code == Z_ERRNO ? strerror(errno) : why);
        }
        if (r == 0) {
            return mag_fail(err, MAG_CORRUPT, "%s: ends after %zu of %zu bytes of its %s", f->path,
                            got, n, n < 64 ? "header" : "values");
        }
        got += (size_t)r;
    }
    return MAG_OK;
}

static enum mag_status read_header(struct idx_file *f, struct mag_err *err)
{
    unsigned char head[4];
    enum mag_status st = read_bytes(f, head, 4, err);
    if (st != MAG_OK) {
        return st;
    }
    if (head[0] != 0 || head[1] != 0 || head[3] < 1 || head[3] > IDX_DIMS_MAX) {
        return mag_fail(err, MAG_CORRUPT, "%s: not an IDX file (it starts %02x %02x %02x %02x)",
                        f->path, head[0], head[1], head[2], head[3]);
    }
    f->type = head[2];
    f->n_dims = head[3];
    if (f->type != IDX_U8 && f->type != IDX_F32) {
        return mag_fail(
            err, MAG_UNSUPPORTED,
            "%s: values of IDX type 0x%02x; unsigned bytes (0x08) and floats (0x0d) are read",
            f->path, f->type);
    }
    for (int i = 0; i < f->n_dims; i++) {
        uint32_t be = 0;
        st = read_bytes(f, &be, 4, err);
        if (st != MAG_OK) {
            return st;
        }
        f->dims[i] = ntohl(be);
        uint32_t max = i == 0                     ? DATASET_ROWS_MAX
                       : i == 1 && f->n_dims == 2 ? MODEL_UNITS_MAX
                                                  : MODEL_SIDE_MAX;
        if (f->dims[i] == 0 || f->dims[i] > max) {
            return mag_fail(err, MAG_CORRUPT, "%s: dimension %d is %u; 1 to %u are read", f->path,
                            i + 1, f->dims[i], max);
        }
    }
    return MAG_OK;
}

/* Opens FOLDER/<part>-<what>, plain or .gz. NOTFOUND when there is neither. */
static enum mag_status idx_open(const char *folder, const char *part, const char *what,
                                struct idx_file *f, struct mag_err *err)
{
    *f = (struct idx_file){0};
    static const char *const ends[] = {"", ".gz"};
    for (int i = 0; i < 2; i++) {
        (void)snprintf(f->path, sizeof(f->path), "%s/%s-%s%s", folder, part, what, ends[i]);
        f->gz = gzopen(f->path, "rbe");
        if (f->gz != NULL) {
            (void)gzbuffer(f->gz, 1 << 18);
            enum mag_status st = read_header(f, err);
            if (st != MAG_OK) {
                idx_close(f);
            }
            return st;
        }
        if (errno != ENOENT) {
            return mag_fail(err, MAG_IO, "%s: %s", f->path, strerror(errno));
        }
    }
    if (access(folder, F_OK) != 0) {
        return mag_fail(err, MAG_NOTFOUND, "no folder %s; an idx data set is a folder of IDX files",
                        folder);
    }
    return mag_fail(err, MAG_NOTFOUND, "no file %s (or without .gz)", f->path);
}

static size_t row_values(const struct idx_file *f)
{
    size_t n = 1;
    for (int i = 1; i < f->n_dims; i++) {
        n *= f->dims[i];
    }
    return n;
}

static struct shape image_shape(const struct idx_file *f)
{
    const uint32_t *d = f->dims;
    switch (f->n_dims) {
    case 4:
        return (struct shape){.c = (int)d[1], .h = (int)d[2], .w = (int)d[3]};
    case 3:
        return (struct shape){.c = 1, .h = (int)d[1], .w = (int)d[2]};
    case 2:
        return (struct shape){.c = (int)d[1], .h = 1, .w = 1, .flat = true};
    default:
        return (struct shape){.c = 1, .h = 1, .w = 1, .flat = true};
    }
}

/* Appends the file's values after row `at`. */
static enum mag_status read_values(struct idx_file *f, uint32_t at, struct dataset *d,
                                   struct mag_err *err)
{
    size_t width = row_values(f);
    size_t n = width * f->dims[0];
    if (f->type == IDX_U8) {
        return read_bytes(f, d->bytes + at * width, n, err);
    }
    float *to = d->values + at * width;
    enum mag_status st = read_bytes(f, to, n * 4, err);
    for (size_t i = 0; st == MAG_OK && i < n; i++) {
        uint32_t be = 0;
        memcpy(&be, to + i, 4);
        be = ntohl(be);
        memcpy(to + i, &be, 4);
    }
    return st;
}

static enum mag_status read_labels(struct idx_file *f, uint32_t at, struct dataset *d,
                                   struct mag_err *err)
{
    if (f->type != IDX_U8 || f->n_dims != 1) {
        return mag_fail(err, MAG_CORRUPT, "%s: labels must be unsigned bytes in one dimension",
                        f->path);
    }
    uint8_t *labels = mag_try_alloc(f->dims[0], 1);
    if (labels == NULL) {
        return mag_fail(err, MAG_NOMEM, "%s: no memory for %u labels", f->path, f->dims[0]);
    }
    enum mag_status st = read_bytes(f, labels, f->dims[0], err);
    for (uint32_t i = 0; st == MAG_OK && i < f->dims[0]; i++) {
        d->labels[at + i] = labels[i];
        if (labels[i] >= d->n_classes) {
            d->n_classes = labels[i] + 1;
        }
    }
    free(labels);
    return st;
}

/* The four files; `test` may be absent (gz NULL). */
struct idx_set {
    struct idx_file images[2], labels[2]; /* training, test */
    int n;
};

static enum mag_status open_set(const char *folder, struct idx_set *s, struct mag_err *err)
{
    enum mag_status st = idx_open(folder, "train", "images-idx3-ubyte", &s->images[0], err);
    if (st == MAG_OK) {
        st = idx_open(folder, "train", "labels-idx1-ubyte", &s->labels[0], err);
    }
    if (st != MAG_OK) {
        return st;
    }
    s->n = 1;
    struct mag_err none = {0};
    st = idx_open(folder, "t10k", "images-idx3-ubyte", &s->images[1], &none);
    if (st == MAG_NOTFOUND) {
        return MAG_OK; /* then a part of the training files is kept for the test */
    }
    if (st != MAG_OK) {
        return mag_fail(err, st, "%s", none.text);
    }
    s->n = 2;
    return idx_open(folder, "t10k", "labels-idx1-ubyte", &s->labels[1], err);
}

static enum mag_status check_set(struct idx_set *s, struct mag_err *err)
{
    for (int i = 0; i < s->n; i++) {
        struct idx_file *x = &s->images[i];
        struct idx_file *y = &s->labels[i];
        if (x->dims[0] != y->dims[0]) {
            return mag_fail(err, MAG_CORRUPT, "%s holds %u examples, but %s %u labels", x->path,
                            x->dims[0], y->path, y->dims[0]);
        }
        if (x->type != s->images[0].type || x->n_dims != s->images[0].n_dims ||
            memcmp(x->dims + 1, s->images[0].dims + 1, sizeof(x->dims) - sizeof(x->dims[0])) != 0) {
            return mag_fail(err, MAG_CORRUPT,
                            "%s: its examples have another shape than those of %s", x->path,
                            s->images[0].path);
        }
    }
    return MAG_OK;
}

static enum mag_status alloc_rows(const struct idx_set *s, bool probe, struct dataset *d,
                                  struct mag_err *err)
{
    const struct idx_file *x = &s->images[0];
    uint64_t rows = (uint64_t)x->dims[0] + (s->n == 2 ? s->images[1].dims[0] : 0);
    uint64_t width = row_values(x);
    if (rows > DATASET_ROWS_MAX || rows * width > DATASET_VALUES_MAX) {
        return mag_fail(err, MAG_LIMIT, "%s: over %lld values; use a smaller data set", x->path,
                        (long long)DATASET_VALUES_MAX);
    }
    d->n_rows = (uint32_t)rows;
    d->n_given_test = s->n == 2 ? s->images[1].dims[0] : 0;
    d->shape = image_shape(x);
    d->labels = mag_try_alloc(rows, sizeof(*d->labels));
    d->scale = x->type == IDX_U8 ? 1.0f / 255.0f : 0;
    if (!probe && x->type == IDX_U8) {
        d->bytes = mag_try_alloc(rows, width);
    } else if (!probe) {
        d->values = mag_try_alloc(rows, width * sizeof(float));
    }
    if (d->labels == NULL || (!probe && d->bytes == NULL && d->values == NULL)) {
        return mag_fail(err, MAG_NOMEM, "%s: no memory for %llu examples", x->path,
                        (unsigned long long)rows);
    }
    return MAG_OK;
}

/* One file of images, by its own name. */
static enum mag_status open_images(const char *path, struct idx_set *s, struct mag_err *err)
{
    struct idx_file *f = &s->images[0];
    s->n = 1;
    (void)snprintf(f->path, sizeof(f->path), "%s", path);
    f->gz = gzopen(path, "rbe");
    if (f->gz == NULL) {
        return mag_fail(err, errno == ENOENT ? MAG_NOTFOUND : MAG_IO, "%s: %s", path,
                        strerror(errno));
    }
    return read_header(f, err);
}

/* A folder's test files, or where it has none its training files, as the only part. */
static enum mag_status open_part(const char *folder, struct idx_set *s, struct mag_err *err)
{
    enum mag_status st = open_set(folder, s, err);
    if (st == MAG_OK && s->n == 2) {
        idx_close(&s->images[0]);
        idx_close(&s->labels[0]);
        s->images[0] = s->images[1];
        s->labels[0] = s->labels[1];
        s->images[1] = (struct idx_file){0};
        s->labels[1] = (struct idx_file){0};
        s->n = 1;
    }
    return st;
}

static enum mag_status read_examples(const char *path, struct dataset *d, struct mag_err *err)
{
    struct stat info;
    struct idx_set *s = xcalloc(1, sizeof(*s));
    bool folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    enum mag_status st = folder ? open_part(path, s, err) : open_images(path, s, err);
    if (st == MAG_OK && folder) {
        st = check_set(s, err);
    }
    if (st == MAG_OK) {
        st = alloc_rows(s, false, d, err);
    }
    if (st == MAG_OK) {
        st = read_values(&s->images[0], 0, d, err);
    }
    if (st == MAG_OK && folder) {
        st = read_labels(&s->labels[0], 0, d, err);
    } else {
        free(d->labels);
        d->labels = NULL;
    }
    for (int i = 0; i < 2; i++) {
        idx_close(&s->images[i]);
        idx_close(&s->labels[i]);
    }
    free(s);
    return st;
}

static enum mag_status read_folder(const char *folder, bool probe, struct dataset *d,
                                   struct mag_err *err)
{
    struct idx_set *s = xcalloc(1, sizeof(*s));
    enum mag_status st = open_set(folder, s, err);
    if (st == MAG_OK) {
        st = check_set(s, err);
    }
    if (st == MAG_OK) {
        st = alloc_rows(s, probe, d, err);
    }
    uint32_t at = 0;
    for (int i = 0; st == MAG_OK && i < s->n; i++) {
        st = probe ? MAG_OK : read_values(&s->images[i], at, d, err);
        if (st == MAG_OK) {
            st = read_labels(&s->labels[i], at, d, err);
        }
        at += s->images[i].dims[0];
    }
    for (int i = 0; i < 2; i++) {
        idx_close(&s->images[i]);
        idx_close(&s->labels[i]);
    }
    free(s);
    return st;
}

static enum mag_status idx_read(const struct dataset_source *s, enum dataset_how how,
                                struct dataset *d, struct mag_err *err)
{
    return how == DATASET_EXAMPLES ? read_examples(s->path, d, err)
                                   : read_folder(s->path, how == DATASET_PROBE, d, err);
}

static const char *const suffixes[] = {"-ubyte", ".idx", NULL};
static const char *const options[] = {NULL};
const struct dataset_format dataset_idx = {.name = "idx",
                                           .example = "idx:FOLDER",
                                           .suffixes = suffixes,
                                           .options = options,
                                           .read = idx_read};
