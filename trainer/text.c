/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts: a file of lines, each a label, a tab and the text, or a folder with a folder a class and a
 * file a text. They become one column, "text".
 */
#include "base/alloc.h"
#include "base/json.h"
#include "trainer/folders.h"
#include "trainer/frame.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct texts {
    const struct dataset_source *source;
    enum dataset_how how;
    struct dataset *d;
    struct classes classes;
    struct buf bytes;
    uint64_t *start;
    uint32_t cap;
    bool labelled;
};

static enum mag_status add_text(struct texts *t, const char *text, size_t n, struct mag_err *err)
{
    struct dataset *d = t->d;
    if (d->n_rows == t->cap) {
        t->cap = t->cap > 0 ? t->cap * 2 : 256;
        enum mag_status st = dataset_check_size(t->source->path, t->cap, 1, err);
        if (st != MAG_OK) {
            return st;
        }
        t->start = xreallocarray(t->start, (size_t)t->cap + 1, sizeof(*t->start));
        if (t->source->regression) {
            d->targets = xreallocarray(d->targets, t->cap, sizeof(*d->targets));
        } else {
            d->labels = xreallocarray(d->labels, t->cap, sizeof(*d->labels));
        }
    }
    if ((long long)(t->bytes.len + n) > FRAME_TEXT_MAX) {
        return mag_fail(err, MAG_LIMIT, "%s: over %lld bytes of text", t->source->path,
                        FRAME_TEXT_MAX);
    }
    t->start[d->n_rows] = t->bytes.len;
    buf_add(&t->bytes, text, n);
    t->start[++d->n_rows] = t->bytes.len;
    return MAG_OK;
}

/* The label of the last text. */
static enum mag_status add_label(struct texts *t, const char *label, int line, struct mag_err *err)
{
    uint32_t row = t->d->n_rows - 1;
    if (!t->source->regression) {
        t->d->labels[row] = classes_add(&t->classes, label, DATASET_CLASSES_MAX);
        return t->d->labels[row] >= 0
                   ? MAG_OK
                   : mag_fail(err, MAG_LIMIT, "%s:%d: over %d classes", t->source->path, line,
                              DATASET_CLASSES_MAX);
    }
    char *end = NULL;
    t->d->targets[row] = strtof(label, &end);
    return end != label && *end == '\0' && isfinite(t->d->targets[row])
               ? MAG_OK
               : mag_fail(err, MAG_INVALID, "%s:%d: \"%.60s\" before the tab is no number",
                          t->source->path, line, label);
}

static enum mag_status read_line(struct texts *t, struct lines *l, struct mag_err *err)
{
    char *tab = strchr(l->line, '\t');
    if (l->number == 1 && t->how == DATASET_EXAMPLES && tab == NULL) {
        t->labelled = false; /* nothing but texts */
    }
    if (!t->labelled) {
        return add_text(t, l->line, l->len, err);
    }
    if (strspn(l->line, " \t") == l->len) {
        return MAG_OK;
    }
    if (tab == NULL) {
        return mag_fail(err, MAG_INVALID, "%s:%d: no tab; a line is a label, a tab and the text",
                        l->path, l->number);
    }
    *tab = '\0';
    enum mag_status st = add_text(t, tab + 1, l->len - (size_t)(tab + 1 - l->line), err);
    return st == MAG_OK ? add_label(t, l->line, l->number, err) : st;
}

static enum mag_status read_file(struct texts *t, struct mag_err *err)
{
    struct lines lines;
    bool more = true;
    enum mag_status st = lines_open(&lines, t->source->path, err);
    while (st == MAG_OK) {
        st = lines_next(&lines, &more, err);
        if (st != MAG_OK || !more) {
            break;
        }
        st = read_line(t, &lines, err);
    }
    lines_close(&lines);
    return st;
}

static bool any_file(const char *name)
{
    (void)name;
    return true;
}

static enum mag_status read_folder(struct texts *t, struct mag_err *err)
{
    struct class_files f = {0};
    enum mag_status st =
        t->source->regression
            ? mag_fail(err, MAG_INVALID, "%s: folders are classes; a number needs a file of lines",
                       t->source->path)
            : folders_list(t->source->path, t->how, any_file, &f, err);
    for (uint32_t i = 0; i < f.n && st == MAG_OK; i++) {
        char *text = NULL;
        size_t n = 0;
        st = mjson_read_file(f.paths[i], DATASET_LINE_MAX, &text, &n, err);
        if (st == MAG_OK) {
            st = add_text(t, text, n, err);
        }
        if (st == MAG_OK) {
            t->d->labels[i] = f.labels[i];
        }
        free(text);
    }
    t->labelled = f.classes.n > 0;
    t->d->n_given_test = f.n_test;
    classes_fini(&t->classes);
    t->classes = f.classes;
    f.classes = (struct classes){0};
    folders_fini(&f);
    return st;
}

static enum mag_status finish(struct texts *t, struct mag_err *err)
{
    struct dataset *d = t->d;
    if (d->n_rows == 0) {
        return mag_fail(err, MAG_INVALID, "%s: no texts", t->source->path);
    }
    if (!t->labelled) {
        free(d->labels);
        free(d->targets);
        d->labels = NULL;
        d->targets = NULL;
    } else if (!t->source->regression) {
        classes_finish(&t->classes, d);
        if (d->n_classes < 2 && t->how != DATASET_EXAMPLES) {
            return mag_fail(err, MAG_INVALID, "%s: every text has the same label", t->source->path);
        }
    }
    d->shape = (struct shape){.c = 1, .h = 1, .w = 1, .flat = true};
    d->raw = xcalloc(1, sizeof(*d->raw));
    d->raw->columns.n_rows = d->n_rows;
    struct column *c = frame_add(&d->raw->columns, "text", COLUMN_TEXT);
    c->bytes = buf_take(&t->bytes);
    c->start = t->start;
    t->start = NULL;
    return MAG_OK;
}

static enum mag_status text_read(const struct dataset_source *s, enum dataset_how how,
                                 struct dataset *d, struct mag_err *err)
{
    struct texts t = {.source = s, .how = how, .d = d, .labelled = true};
    struct stat info;
    bool folder = stat(s->path, &info) == 0 && S_ISDIR(info.st_mode);
    enum mag_status st = folder ? read_folder(&t, err) : read_file(&t, err);
    if (st == MAG_OK) {
        st = finish(&t, err);
    }
    buf_fini(&t.bytes);
    free(t.start);
    classes_fini(&t.classes);
    return st;
}

static const char *const suffixes[] = {".txt", NULL};
static const char *const options[] = {"task", "test", NULL};
const struct dataset_format dataset_text = {.name = "text",
                                            .example = "text:FILE",
                                            .suffixes = suffixes,
                                            .options = options,
                                            .columns = true,
                                            .read = text_read};
