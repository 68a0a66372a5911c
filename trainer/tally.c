/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/tally.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct tally *tally_create(int n_classes, int64_t rows)
{
    struct tally *t = xcalloc(1, sizeof(*t));
    if (n_classes > 0) {
        t->hits = xcalloc((size_t)n_classes, sizeof(*t->hits));
        t->said = xcalloc((size_t)n_classes, sizeof(*t->said));
        t->are = xcalloc((size_t)n_classes, sizeof(*t->are));
    }
    if (n_classes == 2) {
        t->margin = xcalloc((size_t)rows + 1, sizeof(*t->margin));
        t->positive = xcalloc((size_t)rows + 1, sizeof(*t->positive));
    }
    return t;
}

void tally_destroy(struct tally *t)
{
    if (t == NULL) {
        return;
    }
    free(t->hits);
    free(t->said);
    free(t->are);
    free(t->margin);
    free(t->positive);
    free(t);
}

double tally_f1(const struct tally *t, int n_classes)
{
    double sum = 0;
    int n = 0;
    for (int k = 0; k < n_classes; k++) {
        int64_t both = t->said[k] + t->are[k];
        if (both > 0) {
            sum += 2.0 * (double)t->hits[k] / (double)both;
            n++;
        }
    }
    return n > 0 ? sum / n : NAN;
}

struct ranked {
    float margin;
    uint8_t positive;
};

static int by_margin(const void *a, const void *b)
{
    const struct ranked *x = a;
    const struct ranked *y = b;
    return x->margin < y->margin ? -1 : x->margin > y->margin;
}

/* The rank sum of Wilcoxon, Mann and Whitney; equal margins share their mean rank. */
double tally_auc(const struct tally *t, int64_t rows)
{
    struct ranked *r = xcalloc((size_t)rows + 1, sizeof(*r));
    double ranks = 0;
    int64_t positives = 0;
    bool finite = true;
    for (int64_t i = 0; i < rows; i++) {
        r[i] = (struct ranked){t->margin[i], t->positive[i]};
        positives += t->positive[i];
        finite = finite && isfinite(t->margin[i]);
    }
    qsort(r, (size_t)rows, sizeof(*r), by_margin);
    for (int64_t i = 0; i < rows;) {
        int64_t end = i;
        int64_t ours = 0;
        while (end < rows && r[end].margin == r[i].margin) {
            ours += r[end++].positive;
        }
        ranks += (double)ours * ((double)(i + end - 1) / 2 + 1);
        i = end > i ? end : i + 1;
    }
    free(r);
    int64_t negatives = rows - positives;
    if (positives == 0 || negatives == 0 || !finite) {
        return NAN;
    }
    return (ranks - (double)positives * (double)(positives + 1) / 2) /
           ((double)positives * (double)negatives);
}

/* ---- names ---- */

const char *const measure_names[] = {"val_accuracy",
                                     "val_loss",
                                     "val_f1",
                                     "val_auc",
                                     "val_top5_accuracy",
                                     "val_rmse",
                                     "train_accuracy",
                                     "train_loss",
                                     "val_r2",
                                     "val_brier",
                                     NULL};

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name);
    size_t k = strlen(end);
    return n >= k && strcmp(name + n - k, end) == 0;
}

bool measure_larger(const char *name)
{
    return !ends_with(name, "_loss") && !ends_with(name, "_rmse") && !ends_with(name, "_brier");
}

bool measure_there(const char *name, int n_classes, enum loss_kind loss)
{
    if (ends_with(name, "_loss")) {
        return true;
    }
    if (ends_with(name, "_rmse") || ends_with(name, "_r2")) {
        return n_classes == 0;
    }
    if (ends_with(name, "_brier")) {
        return n_classes == 2 && loss != LOSS_MSE;
    }
    return ends_with(name, "_top5_accuracy") ? n_classes > 5
           : ends_with(name, "_auc")         ? n_classes == 2
                                             : n_classes > 0;
}
