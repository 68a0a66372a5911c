/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizers/journal.h"

#include "base/alloc.h"
#include "optimizers/idtab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum told { TOLD_TRIAL = 0, TOLD_RESUME = 1, TOLD_REPORT = 2, TOLD_FINISH = 3 };

/* As in the JSON: [what, trial, a, b, c, numbers …]. TRIAL: budget, parent, parent_step, the point.
 * RESUME: budget. REPORT: step, then values and violation. FINISH: outcome, then them or nothing.
 */
struct journal_row {
    enum told what;
    int64_t trial, a, b, c;
    int n_numbers;
    double *numbers;
};

void journal_fini(struct journal *j)
{
    for (size_t i = 0; i < j->n; i++) {
        free(j->rows[i].numbers);
    }
    free(j->rows);
}

static struct journal_row *add(struct journal *j, enum told what, int64_t trial, int n_numbers)
{
    if (j->n == j->cap) {
        j->cap = j->cap > 0 ? 2 * j->cap : 64;
        j->rows = xreallocarray(j->rows, j->cap, sizeof(*j->rows));
    }
    struct journal_row *row = &j->rows[j->n++];
    *row = (struct journal_row){.what = what, .trial = trial, .n_numbers = n_numbers};
    row->numbers = n_numbers > 0 ? xcalloc((size_t)n_numbers, sizeof(double)) : NULL;
    return row;
}

void journal_adopt(struct journal *j, const struct opt_suggestion *s)
{
    bool creates = s->answer == OPT_TRIAL;
    struct journal_row *row =
        add(j, creates ? TOLD_TRIAL : TOLD_RESUME, s->trial, creates ? j->space->n : 0);
    row->a = s->budget;
    if (creates) {
        row->b = s->parent;
        row->c = s->parent_step;
        memcpy(row->numbers, s->point, (size_t)j->space->n * sizeof(double));
    }
}

static void put_result(const struct journal *j, struct journal_row *row, const struct opt_result *r)
{
    memcpy(row->numbers, r->values, (size_t)j->objectives * sizeof(double));
    row->numbers[j->objectives] = r->violation;
}

void journal_report(struct journal *j, int64_t trial, int64_t step, const struct opt_result *r)
{
    struct journal_row *row = add(j, TOLD_REPORT, trial, j->objectives + 1);
    row->a = step;
    put_result(j, row, r);
}

void journal_finish(struct journal *j, int64_t trial, enum opt_outcome outcome,
                    const struct opt_result *r)
{
    struct journal_row *row = add(j, TOLD_FINISH, trial, r != NULL ? j->objectives + 1 : 0);
    row->a = (int64_t)outcome;
    if (r != NULL) {
        put_result(j, row, r);
    }
}

/* ---- JSON ---- */

json_t *journal_save(const struct journal *j, int version)
{
    json_t *told = json_array();
    for (size_t i = 0; i < j->n; i++) {
        const struct journal_row *row = &j->rows[i];
        json_t *v = json_pack("[i,I,I,I,I]", (int)row->what, (json_int_t)row->trial,
                              (json_int_t)row->a, (json_int_t)row->b, (json_int_t)row->c);
        for (int k = 0; k < row->n_numbers; k++) {
            (void)json_array_append_new(v, isnan(row->numbers[k]) ? json_null()
                                                                  : json_real(row->numbers[k]));
        }
        (void)json_array_append_new(told, v);
    }
    return json_pack("{s:i, s:o}", "version", version, "told", told);
}

/* Fills the row and `numbers`; false when it is none of ours. */
static bool read_row(const struct journal *j, const json_t *v, struct journal_row *row,
                     double *numbers)
{
    int64_t head[5];
    for (size_t i = 0; i < 5; i++) {
        const json_t *x = json_array_get(v, i);
        if (!json_is_integer(x)) {
            return false;
        }
        head[i] = json_integer_value(x);
    }
    if (head[0] < TOLD_TRIAL || head[0] > TOLD_FINISH || head[1] < 1 || head[1] > IDTAB_ID_MAX) {
        return false;
    }
    *row = (struct journal_row){.what = (enum told)head[0],
                                .trial = head[1],
                                .a = head[2],
                                .b = head[3],
                                .c = head[4],
                                .n_numbers = (int)json_array_size(v) - 5};
    bool result = row->n_numbers == j->objectives + 1;
    bool fits = row->what == TOLD_TRIAL    ? row->n_numbers == j->space->n
                : row->what == TOLD_RESUME ? row->n_numbers == 0
                : row->what == TOLD_REPORT ? result
                                           : result || row->n_numbers == 0;
    if (!fits || (row->what == TOLD_FINISH && (row->a < OPT_COMPLETED || row->a > OPT_CANCELLED))) {
        return false;
    }
    for (int i = 0; i < row->n_numbers; i++) {
        const json_t *x = json_array_get(v, (size_t)i + 5);
        bool hole = json_is_null(x) && row->what == TOLD_TRIAL;
        if (!json_is_number(x) && !hole) {
            return false;
        }
        numbers[i] = hole ? (double)NAN : json_number_value(x);
    }
    return row->what != TOLD_TRIAL || space_normalize(j->space, numbers);
}

static void tell(const struct journal *j, const struct journal_row *row, double *numbers,
                 const struct optimizer_ops *ops, void *self)
{
    struct opt_result r = {
        .value = numbers[0], .values = numbers, .violation = numbers[j->objectives]};
    struct opt_suggestion s = {.answer = row->what == TOLD_TRIAL ? OPT_TRIAL : OPT_RESUME,
                               .trial = row->trial,
                               .point = numbers,
                               .budget = row->a,
                               .parent = row->b,
                               .parent_step = row->c};
    switch (row->what) {
    case TOLD_TRIAL:
    case TOLD_RESUME:
        ops->adopt(self, &s);
        break;
    case TOLD_REPORT:
        (void)ops->report(self, row->trial, row->a, &r);
        break;
    case TOLD_FINISH:
        ops->finish(self, row->trial, (enum opt_outcome)row->a, row->n_numbers > 0 ? &r : NULL);
        break;
    }
}

enum mag_status journal_load(const struct journal *j, const json_t *state, int version,
                             const struct optimizer_ops *ops, void *self, struct mag_err *err)
{
    const json_t *told = json_object_get(state, "told");
    size_t i = 0;
    json_t *v = NULL;
    if (json_integer_value(json_object_get(state, "version")) != version) {
        return mag_fail(err, MAG_UNSUPPORTED, "state of another version");
    }
    if (!json_is_array(told)) {
        return mag_fail(err, MAG_CORRUPT, "the state has no record of what was told");
    }
    double *numbers = xcalloc((size_t)(j->space->n + j->objectives) + 2, sizeof(*numbers));
    enum mag_status st = MAG_OK;
    json_array_foreach(told, i, v)
    {
        struct journal_row row;
        if (!read_row(j, v, &row, numbers)) {
            st = mag_fail(err, MAG_CORRUPT, "row %zu of the state's record is wrong", i);
            break;
        }
        tell(j, &row, numbers, ops, self);
    }
    free(numbers);
    return st;
}
