/* SPDX-License-Identifier: Apache-2.0
 *
 * The ordered record of what an optimizer was told. Saving writes it and loading tells it again, so
 * an optimizer that keeps one has no save and load of its own, and a loaded one is equal to the
 * saved one by construction. It grows with the history: for algorithms of some thousand trials.
 */
#ifndef MAG_OPTIMIZERS_JOURNAL_H
#define MAG_OPTIMIZERS_JOURNAL_H

#include "optimizers/optimizer.h"

/* Private, embedded only; zeroed is empty. */
struct journal {
    const struct space *space; /* borrowed; set by the owner's init */
    int objectives;
    struct journal_row *rows;
    size_t n, cap;
};

void journal_fini(struct journal *j);
void journal_adopt(struct journal *j, const struct opt_suggestion *s);
void journal_report(struct journal *j, int64_t trial, int64_t step, const struct opt_result *r);
void journal_finish(struct journal *j, int64_t trial, enum opt_outcome outcome,
                    const struct opt_result *r);
/* {"version", "told"}, new reference. */
json_t *journal_save(const struct journal *j, int version);
/* Calls adopt, report and finish of `ops` on `self`, whose journal (empty so far) is `j`. */
enum mag_status journal_load(const struct journal *j, const json_t *state, int version,
                             const struct optimizer_ops *ops, void *self,
                             struct mag_err *err) MAG_MUSTCHECK;

#endif
