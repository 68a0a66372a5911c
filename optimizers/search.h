/* SPDX-License-Identifier: Apache-2.0
 *
 * A whole optimizer made of one sampler: every trial runs to its end, its value is what it ended
 * with. An algorithm is its sampler, an init of one line and the macro:
 *
 *   static enum mag_status tpe_init(void *self, const struct opt_config *cfg,
 *                                   const char **ret_pointer, struct mag_err *err)
 *   {
 *       return search_init(self, &tpe_sampler, cfg, ret_pointer, err);
 *   }
 *   const struct optimizer_ops tpe_ops = {.name = "tpe", …, .init = tpe_init, SEARCH_OPS};
 */
#ifndef MAG_OPTIMIZERS_SEARCH_H
#define MAG_OPTIMIZERS_SEARCH_H

#include "optimizers/sampler.h"

struct search {
    struct sampler *sampler;
    int64_t budget;
};

/* The algorithm's options are the sampler's. */
enum mag_status search_init(struct search *s, const struct sampler_ops *ops,
                            const struct opt_config *cfg, const char **ret_pointer,
                            struct mag_err *err) MAG_MUSTCHECK;
void search_fini(void *self);
void search_suggest(const void *self, const struct opt_ask *ask, struct opt_suggestion *out);
void search_adopt(void *self, const struct opt_suggestion *s);
void search_observe(void *self, const double *point, int64_t budget, const struct opt_result *r);
enum opt_action search_report(void *self, int64_t trial, int64_t step, const struct opt_result *r);
void search_finish(void *self, int64_t trial, enum opt_outcome outcome, const struct opt_result *r);
json_t *search_save(const void *self);
enum mag_status search_load(void *self, const json_t *state, struct mag_err *err);

#define SEARCH_OPS                                                                                 \
    .state_size = sizeof(struct search), .fini = search_fini, .suggest = search_suggest,           \
    .adopt = search_adopt, .observe = search_observe, .report = search_report,                     \
    .finish = search_finish, .save = search_save, .load = search_load

#endif
