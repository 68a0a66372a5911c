/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks a built-in trial before anything is spent: the recipe's keys and ranges, the data set, the
 * model's shapes for the extremes of every parameter of the searchspace, and the objective's name.
 */
#ifndef MAG_TRAINER_CHECK_H
#define MAG_TRAINER_CHECK_H

#include "base/json.h"
#include "trainer/room.h"

#define CHECK_POINTS_MAX 2000 /* corners of the searchspace that are tried one by one */

struct check_summary {
    int64_t most_weights;
    struct room room; /* of the corner that takes the most memory */
    int rows;         /* of a batch there */
    json_t *largest;  /* its parameters; owned */
    int points; /* tried */
    char shape[48];
    int n_classes;
    uint32_t n_rows;
};

/* `doc` is an experiment (an object with a "trial") or a trial object. False exactly when issues
 * were added. */
bool check_document(const json_t *doc, struct mjson_issues *is, struct check_summary *ret);
void check_summary_fini(struct check_summary *s);
/* {"examples", "input", "classes", "weights", "corners", "memory": {bytes as room_json, "batch",
 * "of": parameters, "text"}}, new reference. */
json_t *check_summary_json(const struct check_summary *s);

#endif
