/* SPDX-License-Identifier: Apache-2.0
 *
 * LIBSVM's text format: a label, then index:value pairs with rising indices. Rows with few values
 * stay sparse; where a quarter of all is there, they become rows of floats.
 */
#include "base/alloc.h"
#include "trainer/format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct svm {
    const struct dataset_source *source;
    struct lines lines;
    struct classes classes;
    struct sparse_rows *rows; /* the data set's */
    uint64_t n, cap;          /* pairs */
    uint32_t row_cap;
    int64_t width;
};

static enum mag_status wrong(const struct svm *v, const char *what, const char *text,
                             struct mag_err *err)
{
    size_t n = strcspn(text, " \t");
    return mag_fail(err, MAG_INVALID, "%s:%d: %s: \"%.*s\"", v->lines.path, v->lines.number, what,
                    n < 60 ? (int)n : 60, text);
}

static enum mag_status grow(struct svm *v, struct dataset *d, struct mag_err *err)
{
    if (d->n_rows == v->row_cap) {
        uint32_t want = v->row_cap > 0 ? v->row_cap * 2 : 256;
        enum mag_status st = dataset_check_size(v->lines.path, want, 1, err);
        if (st != MAG_OK) {
            return st;
        }
        v->row_cap = want;
        v->rows->start = xreallocarray(v->rows->start, (size_t)want + 1, sizeof(*v->rows->start));
        if (v->source->regression) {
            d->targets = xreallocarray(d->targets, want, sizeof(*d->targets));
        } else {
            d->labels = xreallocarray(d->labels, want, sizeof(*d->labels));
        }
    }
    v->rows->start[d->n_rows] = v->n;
    return MAG_OK;
}

static enum mag_status read_label(struct svm *v, char *text, struct dataset *d, struct mag_err *err)
{
    char *end = NULL;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite((float)number)) {
        return wrong(v, "a label must be one number", text, err);
    }
    if (v->source->regression) {
        d->targets[d->n_rows] = (float)number;
        return MAG_OK;
    }
    int k = classes_add(&v->classes, *text == '+' ? text + 1 : text, DATASET_CLASSES_MAX);
    if (k < 0) {
        return mag_fail(err, MAG_LIMIT,
                        "%s:%d: over %d classes; is the label a number (task=regression)?",
                        v->lines.path, v->lines.number, DATASET_CLASSES_MAX);
    }
    d->labels[d->n_rows] = k;
    return MAG_OK;
}

static enum mag_status read_pair(struct svm *v, char *text, int64_t *last, struct mag_err *err)
{
    char *end = NULL;
    long long index = strtoll(text, &end, 10) - (v->source->zero_based ? 0 : 1);
    if (end == text || *end != ':') {
        return wrong(v, "no index:value", text, err);
    }
    char *value = end + 1;
    double number = strtod(value, &end);
    if (end == value || *end != '\0' || !isfinite((float)number)) {
        return wrong(v, "the value is no number", text, err);
    }
    int64_t most = v->source->features > 0 ? v->source->features : DATASET_WIDTH_MAX;
    if (index < 0 || index >= most) {
        return mag_fail(err, index < 0 ? MAG_INVALID : MAG_LIMIT,
                        "%s:%d: index %lld; they run from %d to %lld%s", v->lines.path,
                        v->lines.number, index + (v->source->zero_based ? 0 : 1),
                        v->source->zero_based ? 0 : 1,
                        (long long)most - (v->source->zero_based ? 1 : 0),
                        index < 0 ? " (zero_based=true lets them start at 0)" : "");
    }
    if (index <= *last) {
        return wrong(v, "indices must rise along the line", text, err);
    }
    *last = index;
    v->width = index >= v->width ? index + 1 : v->width;
    if (number == 0) {
        return MAG_OK;
    }
    if (v->n == v->cap) {
        v->cap = v->cap > 0 ? v->cap * 2 : 1024;
        if (v->cap > (uint64_t)DATASET_VALUES_MAX) {
            return mag_fail(err, MAG_LIMIT, "%s: over %lld values", v->lines.path,
                            (long long)DATASET_VALUES_MAX);
        }
        v->rows->index = xreallocarray(v->rows->index, v->cap, sizeof(*v->rows->index));
        v->rows->value = xreallocarray(v->rows->value, v->cap, sizeof(*v->rows->value));
    }
    v->rows->index[v->n] = (uint32_t)index;
    v->rows->value[v->n++] = (float)number;
    return MAG_OK;
}

static enum mag_status read_line(struct svm *v, struct dataset *d, struct mag_err *err)
{
    char *line = v->lines.line;
    line[strcspn(line, "#")] = '\0';
    char *save = NULL;
    char *text = strtok_r(line, " \t", &save);
    if (text == NULL) {
        return MAG_OK; /* a blank line, or a remark */
    }
    enum mag_status st = grow(v, d, err);
    if (st == MAG_OK) {
        st = read_label(v, text, d, err);
    }
    int64_t last = -1;
    while (st == MAG_OK && (text = strtok_r(NULL, " \t", &save)) != NULL) {
        if (strncmp(text, "qid:", 4) != 0) { /* groups of a ranking are not used */
            st = read_pair(v, text, &last, err);
        }
    }
    if (st == MAG_OK) {
        v->rows->start[++d->n_rows] = v->n;
    }
    return st;
}

static enum mag_status finish(struct svm *v, enum dataset_how how, struct dataset *d,
                              struct mag_err *err)
{
    int64_t width = v->source->features > 0 ? v->source->features : v->width;
    if (d->n_rows == 0 || width == 0) {
        return mag_fail(err, MAG_INVALID, "%s: no examples with values", v->lines.path);
    }
    d->shape = (struct shape){.c = (int)width, .h = 1, .w = 1, .flat = true};
    if (!v->source->regression) {
        classes_finish(&v->classes, d);
        if (d->n_classes < 2 && how != DATASET_EXAMPLES) {
            return mag_fail(err, MAG_INVALID, "%s: every row has the same label", v->lines.path);
        }
    }
    return v->n >= (uint64_t)width * d->n_rows / 4 ? dataset_make_dense(d, v->lines.path, err)
                                                   : MAG_OK;
}

static enum mag_status svm_read(const struct dataset_source *s, enum dataset_how how,
                                struct dataset *d, struct mag_err *err)
{
    struct svm v = {.source = s};
    bool more = true;
    d->sparse = v.rows = xcalloc(1, sizeof(*v.rows));
    enum mag_status st = lines_open(&v.lines, s->path, err);
    while (st == MAG_OK) {
        st = lines_next(&v.lines, &more, err);
        if (st != MAG_OK || !more) {
            break;
        }
        st = read_line(&v, d, err);
    }
    if (st == MAG_OK) {
        st = finish(&v, how, d, err);
    }
    lines_close(&v.lines);
    classes_fini(&v.classes);
    return st;
}

static const char *const suffixes[] = {".svm", ".libsvm", ".svmlight", NULL};
static const char *const options[] = {"features", "zero_based", "task", "test", NULL};
const struct dataset_format dataset_libsvm = {.name = "libsvm",
                                              .example = "libsvm:FILE",
                                              .suffixes = suffixes,
                                              .options = options,
                                              .read = svm_read};
