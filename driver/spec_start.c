/* SPDX-License-Identifier: Apache-2.0
 *
 * What a search starts from: the points to try first.
 */
#include "driver/spec_read.h"

#include "base/alloc.h"

#include <stdlib.h>

#define POINTS_MAX 10000 /* enqueued points */

/* Missing parameters are drawn here, once: the resolved file has whole points. */
void spec_read_points(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    json_t *points = json_object_get(doc, "points");
    if (points == NULL) {
        return;
    }
    if (!json_is_array(points) || json_array_size(points) > POINTS_MAX) {
        mjson_issue(is, "/points",
                    "must be a list of at most %d points, each an object of parameters",
                    POINTS_MAX);
        return;
    }
    if (s->limits.trials > 0 && (int64_t)json_array_size(points) > s->limits.trials) {
        mjson_issue(is, "/points", "%zu points, but limits.trials allows only %lld trials",
                    json_array_size(points), (long long)s->limits.trials);
    }
    if (s->space == NULL) {
        return;
    }
    double *point = xcalloc((size_t)s->space->n, sizeof(*point));
    s->points = json_array();
    for (size_t i = 0; i < json_array_size(points); i++) {
        char *at = mjson_pointer_index("/points", i);
        if (space_point_from_part(s->space, json_array_get(points, i), at, s->seed, "points", i, is,
                                  point)) {
            (void)json_array_append_new(s->points, space_point_to_json(s->space, point));
        }
        free(at);
    }
    free(point);
}
