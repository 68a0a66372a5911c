/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the files of the experiment-file parser; nobody else includes it. Each reader checks one
 * part of the document, adds every fault to `is`, and fills its part of the spec.
 */
#ifndef MAG_DRIVER_SPEC_READ_H
#define MAG_DRIVER_SPEC_READ_H

#include "driver/spec.h"

/* One member of `o` (at `pointer`): a whole number, a text or a duration; the default when absent.
 */
int64_t spec_int(const json_t *o, const char *pointer, const char *key, int64_t lo, int64_t hi,
                 int64_t def, struct mjson_issues *is);
/* A string of 1 (0 when `may_be_empty`) to max bytes without control characters (line breaks and
 * tabs pass when may_be_empty); `def` (NULL = required) when absent. malloc'ed, NULL on a fault. */
char *spec_text(const json_t *o, const char *pointer, const char *key, size_t max,
                bool may_be_empty, const char *def, struct mjson_issues *is);
int64_t spec_duration(const json_t *o, const char *pointer, const char *key,
                      struct mjson_issues *is);
/* MiB: a whole number, or a text such as "16GB", "512 MB" (powers of 1024); 0 when absent. */
int64_t spec_memory(const json_t *o, const char *pointer, const char *key, struct mjson_issues *is);
/* Is the value an object? A fault otherwise; absent is false without one. */
bool spec_object(const json_t *v, const char *pointer, struct mjson_issues *is);

/* spec_goals.c: objective, objectives, outcome_constraints; and, after all else is read, what does
 * not go with several objectives. */
void spec_read_goals(struct spec *s, const json_t *doc, struct mjson_issues *is);
void spec_check_goals(const struct spec *s, const json_t *doc, struct mjson_issues *is);
void spec_write_goals(const struct spec *s, json_t *out);

/* A number of bytes, or a text such as "64MB" (powers of 1024). */
int64_t spec_bytes(const json_t *o, const char *pointer, const char *key, int64_t lo, int64_t hi,
                   int64_t def, struct mjson_issues *is);

/* spec_keep.c: checkpoint, logs; called by spec_extra.c */
void spec_read_keep(struct spec *s, const json_t *doc, struct mjson_issues *is);
void spec_write_keep(const struct spec *s, json_t *out);

/* spec_extra.c: requires, metrics, project, tags, notes, notify, and those of spec_keep.c */
void spec_read_extra(struct spec *s, const json_t *doc, struct mjson_issues *is);
/* Their resolved form into `out`. */
void spec_write_extra(const struct spec *s, json_t *out);

/* spec_start.c: "points"; after space, limits and seed. */
void spec_read_points(struct spec *s, const json_t *doc, struct mjson_issues *is);

/* spec_warm.c: "warm_start"; after space, resource and goals. */
void spec_read_warm(struct spec *s, const json_t *doc, struct mjson_issues *is);

/* spec_validation.c: "validation"; after seed and limits, before the search. */
void spec_read_validation(struct spec *s, const json_t *doc, struct mjson_issues *is);
void spec_write_validation(const struct spec *s, json_t *out);

/* spec_ablation.c: the document with what "ablation" stands for written out, new reference; NULL
 * without it. The second, after space and trial, checks what it names. */
json_t *spec_expand_ablation(const json_t *doc, struct mjson_issues *is);
void spec_read_ablation(struct spec *s, const json_t *doc, struct mjson_issues *is);

/* spec_distribution.c: "distribution"; after trial and requires. */
void spec_read_distribution(struct spec *s, const json_t *doc, struct mjson_issues *is);

/* spec_trial.c: "trial"; s->space may be NULL when it had faults. */
void spec_read_trial(struct spec *s, const json_t *doc, struct mjson_issues *is);

#endif
