/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/predict.h"

#include "base/alloc.h"
#include "trainer/format.h"
#include "trainer/onnx.h"
#include "trainer/outfile.h"
#include "trainer/prep.h"
#include "trainer/safetensors.h"
#include "trainer/saved.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 256 /* examples at once */

struct job {
    const struct predict *p;
    struct saved *s;
    struct dataset *d;
    int width;   /* outputs of an example */
    float *room; /* outputs of a batch */
    struct outfile file;
    FILE *to;
    /* against the labels, where there are any */
    double squares;
    int64_t right;
};

static int fail(const struct mag_err *err)
{
    (void)fprintf(stderr, "magpie predict: %s\n", err->text);
    return err->code == MAG_IO || err->code == MAG_NOMEM ? 1 : 2;
}

/* ---- the data ---- */

/* DATA may be a whole source ("npz:FILE?input=x"); else the suffix tells the format, and what has
 * none is of the model's. */
static enum mag_status read_source(const struct job *j, struct dataset_source *ret,
                                   struct mag_err *err)
{
    const struct description *m = &j->s->description;
    const char *data = j->p->data;
    const char *colon = strchr(data, ':');
    struct mjson_issues is = {0};
    bool whole = colon != NULL && dataset_format_named(data, (size_t)(colon - data)) != NULL;
    if (whole && !dataset_examples_parse(data, "", &is, ret)) {
        enum mag_status st = mag_fail(err, MAG_INVALID, "%s: %s", data, is.items[0].text);
        mjson_issues_fini(&is);
        return st;
    }
    if (!whole) {
        const struct dataset_format *format = dataset_format_of(data);
        bool other = format == NULL || format->columns != m->source.format->columns;
        *ret = (struct dataset_source){.format = other ? m->source.format : format,
                                       .path = xstrdup(data),
                                       .separator = m->source.separator};
    }
    return MAG_OK;
}

/* Columns hold what they held when the model was trained, unless the source says otherwise. */
static void fit_types(struct dataset_source *s, const struct dataset_source *model)
{
    if (s->n_types == 0) {
        free(s->types);
        s->types = xcalloc((size_t)model->n_types + 1, sizeof(*s->types));
        for (int i = 0; i < model->n_types; i++) {
            s->types[s->n_types++] = (struct typed_column){.name = xstrdup(model->types[i].name),
                                                           .type = model->types[i].type};
        }
    }
    if (s->n_missing == 0) {
        free(s->missing);
        s->missing = xcalloc((size_t)model->n_missing + 1, sizeof(char *));
        for (int i = 0; i < model->n_missing; i++) {
            s->missing[s->n_missing++] = xstrdup(model->missing[i]);
        }
    }
}

/* What the model says of the examples that it takes. */
static enum mag_status fit_source(const struct job *j, struct dataset_source *s,
                                  struct mag_err *err)
{
    const struct description *m = &j->s->description;
    if (s->format->columns != m->source.format->columns) {
        return mag_fail(err, MAG_INVALID, "%s: the model takes %s", j->p->data,
                        m->source.format->columns ? "columns by their names, as in a CSV file"
                                                  : "examples without names, no columns");
    }
    s->label_given = s->label != NULL;
    if (s->label == NULL && m->source.label != NULL && m->source.format->columns) {
        s->label = xstrdup(m->source.label);
    }
    s->separator = s->separator == '\0' ? m->source.separator : s->separator;
    fit_types(s, &m->source);
    s->only = m->source.only;
    s->n_only = m->source.n_only;
    s->regression = m->source.regression;
    s->features = shape_size(&m->model.input);
    if (!m->model.input.flat && s->height == 0) {
        s->height = m->model.input.h;
        s->width = m->model.input.w;
        s->channels = m->model.input.c;
        s->fit = s->fit != FIT_NONE ? s->fit : m->source.fit;
    }
    return MAG_OK;
}

static enum mag_status open_data(struct job *j, struct mag_err *err)
{
    const struct description *m = &j->s->description;
    struct dataset_source source = {0};
    enum mag_status st = read_source(j, &source, err);
    if (st == MAG_OK) {
        st = fit_source(j, &source, err);
    }
    if (st == MAG_OK) {
        st = dataset_open_examples(&source, &j->d, err);
    }
    if (st == MAG_OK && (m->fitted != NULL || j->d->raw != NULL)) {
        st = prep_apply(j->d, m->fitted, source.path, err);
    }
    if (st == MAG_OK && shape_size(&j->d->shape) != shape_size(&m->model.input)) {
        char want[48];
        char have[48];
        shape_text(&m->model.input, want);
        shape_text(&j->d->shape, have);
        st = mag_fail(err, MAG_INVALID, "%s: its examples are %s, but the model takes %s",
                      source.path, have, want);
    }
    dataset_source_fini(&source);
    return st;
}

/* The number that the model has for the data's label; -1 = it never saw that class. */
static int class_of(const struct job *j, uint32_t row)
{
    const struct description *m = &j->s->description;
    int label = j->d->labels[row];
    if (m->classes == NULL || j->d->class_names == NULL) {
        return label;
    }
    for (int i = 0; i < m->n_classes; i++) {
        if (strcmp(m->classes[i], j->d->class_names[label]) == 0) {
            return i;
        }
    }
    return -1;
}

/* ---- what comes out ---- */

static int largest(const float *v, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++) {
        best = v[i] > v[best] ? i : best;
    }
    return best;
}

static void softmax(float *v, int n)
{
    float most = v[largest(v, n)];
    double sum = 0;
    for (int i = 0; i < n; i++) {
        v[i] = expf(v[i] - most);
        sum += (double)v[i];
    }
    for (int i = 0; i < n; i++) {
        v[i] = (float)((double)v[i] / sum);
    }
}

static void add_class(struct buf *b, const struct job *j, int k, bool json)
{
    const struct description *m = &j->s->description;
    if (m->classes == NULL) {
        buf_add_int(b, k);
    } else if (json) {
        buf_add_json_string(b, m->classes[k]);
    } else if (strpbrk(m->classes[k], ",\"\r\n") == NULL) {
        buf_adds(b, m->classes[k]);
    } else {
        buf_addc(b, '"');
        for (const char *c = m->classes[k]; *c != '\0'; c++) {
            buf_adds(b, *c == '"' ? "\"" : "");
            buf_addc(b, *c);
        }
        buf_addc(b, '"');
    }
}

static void write_head(const struct job *j)
{
    struct buf b = {0};
    buf_adds(&b, "row,prediction");
    for (int i = 0; j->p->probabilities && i < j->s->description.n_classes; i++) {
        buf_addc(&b, ',');
        add_class(&b, j, i, false);
    }
    (void)fprintf(j->to, "%s\n", b.data);
    buf_fini(&b);
}

static void write_csv(const struct job *j, uint32_t row, const float *v, struct buf *b)
{
    int classes = j->s->description.n_classes;
    buf_addf(b, "%u,", row + 1);
    if (classes == 0) {
        buf_addf(b, "%.9g", (double)v[0]);
    } else {
        add_class(b, j, largest(v, classes), false);
    }
    for (int i = 0; j->p->probabilities && i < classes; i++) {
        buf_addf(b, ",%.9g", (double)v[i]);
    }
}

static void write_json(const struct job *j, uint32_t row, const float *v, struct buf *b)
{
    int classes = j->s->description.n_classes;
    buf_addf(b, "{\"row\":%u,\"prediction\":", row + 1);
    if (classes == 0) {
        buf_add_json_number(b, (double)v[0]);
    } else {
        add_class(b, j, largest(v, classes), true);
    }
    if (j->p->probabilities && classes > 0) {
        buf_adds(b, ",\"probabilities\":[");
        for (int i = 0; i < classes; i++) {
            buf_adds(b, i > 0 ? "," : "");
            buf_add_json_number(b, (double)v[i]);
        }
        buf_addc(b, ']');
    }
    buf_addc(b, '}');
}

static void judge(struct job *j, uint32_t row, const float *v)
{
    int classes = j->s->description.n_classes;
    if (classes > 0 && j->d->labels != NULL) {
        j->right += class_of(j, row) == largest(v, classes);
    } else if (classes == 0 && j->d->targets != NULL) {
        double off = (double)v[0] - (double)j->d->targets[row];
        j->squares += off * off;
    }
}

/* ---- the run ---- */

static enum mag_status run_batches(struct job *j, struct mag_err *err)
{
    struct net *net = j->s->net;
    const struct description *m = &j->s->description;
    bool probable = m->n_classes > 0 && m->loss != LOSS_MSE;
    uint32_t rows[ROWS];
    struct buf line = {0};
    for (uint32_t at = 0; at < j->d->n_rows; at += ROWS) {
        int n = j->d->n_rows - at < ROWS ? (int)(j->d->n_rows - at) : ROWS;
        for (int i = 0; i < n; i++) {
            rows[i] = at + (uint32_t)i;
        }
        const struct batch batch = {.d = j->d, .rows = rows, .n = n};
        net_apply(net, &batch, j->room);
        for (int i = 0; i < n; i++) {
            float *v = j->room + (size_t)i * (size_t)j->width;
            float two[2] = {0, v[0]}; /* logistic: sigmoids are the softmax of 0 and the output */
            v = m->loss == LOSS_LOGISTIC ? two : v;
            if (probable) {
                softmax(v, m->n_classes);
            }
            judge(j, rows[i], v);
            buf_reset(&line);
            (j->p->json ? write_json : write_csv)(j, rows[i], v, &line);
            (void)fprintf(j->to, "%s\n", line.data);
        }
    }
    buf_fini(&line);
    enum mag_status st = net->ops->check(net->backend, err);
    if (st == MAG_OK && (fflush(j->to) != 0 || ferror(j->to) != 0)) {
        st = mag_fail(err, MAG_IO, "cannot write the predictions: %s", strerror(errno));
    }
    return st;
}

static void summarize(const struct job *j)
{
    uint32_t n = j->d->n_rows;
    if (j->s->description.n_classes > 0 && j->d->labels != NULL) {
        (void)fprintf(stderr, "%u examples, accuracy %.4f\n", n, (double)j->right / n);
    } else if (j->s->description.n_classes == 0 && j->d->targets != NULL) {
        (void)fprintf(stderr, "%u examples, root mean squared error %.6g\n", n,
                      sqrt(j->squares / n));
    } else {
        (void)fprintf(stderr, "%u examples\n", n);
    }
}

static enum mag_status predict(struct job *j, struct mag_err *err)
{
    enum mag_status st = saved_open(j->p->model, ROWS, &j->s, err);
    if (st == MAG_OK) {
        st = open_data(j, err);
    }
    if (st != MAG_OK) {
        return st;
    }
    const struct model *m = &j->s->description.model;
    j->width = (int)shape_size(&m->layers[m->n - 1].out);
    j->room = xcalloc((size_t)ROWS * (size_t)j->width, sizeof(float));
    j->to = stdout;
    if (j->p->output != NULL) {
        st = outfile_begin(&j->file, j->p->output, err);
        j->to = j->file.f;
    }
    if (st != MAG_OK) {
        return st;
    }
    if (!j->p->json) {
        write_head(j);
    }
    st = run_batches(j, err);
    return j->p->output != NULL ? outfile_end(&j->file, st, err) : st;
}

int predict_run(const struct predict *p)
{
    struct job j = {.p = p};
    struct mag_err err = {0};
    enum mag_status st = predict(&j, &err);
    if (st == MAG_OK) {
        summarize(&j);
    }
    dataset_destroy(j.d);
    saved_close(j.s);
    free(j.room);
    return st == MAG_OK ? 0 : fail(&err);
}

/* ---- for others ---- */

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text);
    size_t k = strlen(end);
    return n > k && strcmp(text + n - k, end) == 0;
}

int export_run(const char *model, const char *output)
{
    struct mag_err err = {0};
    struct saved *s = NULL;
    bool onnx = ends_in(output, ".onnx");
    enum mag_status st = MAG_OK;
    if (!onnx && !ends_in(output, ".safetensors")) {
        st = mag_fail(&err, MAG_INVALID, "%s: the suffix names the format: .onnx or .safetensors",
                      output);
    }
    if (st == MAG_OK) {
        st = saved_open(model, 1, &s, &err);
    }
    if (st == MAG_OK) {
        st = onnx ? onnx_write(s, output, &err) : safetensors_write(s, output, &err);
    }
    saved_close(s);
    if (st != MAG_OK) {
        (void)fprintf(stderr, "magpie model: %s\n", err.text);
        return err.code == MAG_IO || err.code == MAG_NOMEM ? 1 : 2;
    }
    return 0;
}
