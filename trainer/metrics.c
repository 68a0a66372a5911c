/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/metrics.h"

#include "base/json.h"
#include "trainer/tally.h"

#include <math.h>
#include <string.h>

static void add_metric(struct metrics *m, const char *name, double value)
{
    MAG_ASSERT(m->n < TRIAL_METRICS_MAX, "%s", name);
    m->items[m->n++] = (struct metric){name, value};
}

double metrics_get(const struct metrics *m, const char *name)
{
    for (int i = 0; i < m->n; i++) {
        if (strcmp(m->items[i].name, name) == 0) {
            return m->items[i].value;
        }
    }
    return NAN;
}

void metrics_json(const struct metrics *m, struct buf *out)
{
    buf_addc(out, '{');
    for (int i = 0; i < m->n; i++) {
        buf_adds(out, i > 0 ? "," : "");
        buf_add_json_string(out, m->items[i].name);
        buf_addc(out, ':');
        buf_add_json_number(out, m->items[i].value);
    }
    buf_addc(out, '}');
}

enum measure { M_LOSS, M_ACCURACY, M_TOP5, M_F1, M_AUC, M_BRIER, M_RMSE, M_R2, MEASURES };
static const char *const part_names[3][MEASURES] = {
    {"train_loss", "train_accuracy", NULL, NULL, NULL, NULL, NULL, NULL},
    {"val_loss", "val_accuracy", "val_top5_accuracy", "val_f1", "val_auc", "val_brier", "val_rmse",
     "val_r2"},
    {"test_loss", "test_accuracy", "test_top5_accuracy", "test_f1", "test_auc", "test_brier",
     "test_rmse", "test_r2"}};

static void add_class_measures(struct metrics *m, int part, int n_classes, const struct score *s)
{
    const struct tally *t = s->tally;
    if (n_classes > 5) {
        add_metric(m, part_names[part][M_TOP5], (double)t->top5 / (double)s->rows);
    }
    add_metric(m, part_names[part][M_F1], tally_f1(t, n_classes));
    if (n_classes == 2) {
        add_metric(m, part_names[part][M_AUC], tally_auc(t, s->rows));
    }
    if (n_classes == 2 && isfinite(t->brier)) { /* NaN: MSE's outputs are no probabilities */
        add_metric(m, part_names[part][M_BRIER], t->brier / (double)s->rows);
    }
}

static void add_number_measures(struct metrics *m, int part, const struct score *s)
{
    const struct tally *t = s->tally;
    double spread = t->squares - t->targets * t->targets / (double)s->rows;
    add_metric(m, part_names[part][M_RMSE], sqrt(s->loss / (double)s->rows));
    add_metric(m, part_names[part][M_R2], spread > 0 ? 1 - s->loss / spread : NAN);
}

void metrics_add_part(struct metrics *m, int part, int n_classes, const struct score *s)
{
    add_metric(m, part_names[part][M_LOSS], s->loss / (double)s->rows);
    if (n_classes > 0) {
        add_metric(m, part_names[part][M_ACCURACY], (double)s->correct / (double)s->rows);
    }
    if (s->tally != NULL && n_classes > 0) {
        add_class_measures(m, part, n_classes, s);
    } else if (s->tally != NULL) {
        add_number_measures(m, part, s);
    }
}
