/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/status.h"

#include "cli/ablation.h"

#include "cli/format.h"
#include "cli/term.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool status_is_over(const json_t *experiment)
{
    const char *state = format_string(experiment, "state");
    return strcmp(state, "completed") == 0 || strcmp(state, "cancelled") == 0 ||
           strcmp(state, "failed") == 0;
}

static const char *const states[] = {"completed", "stopped", "failed", "cancelled",
                                     "running",   "paused",  "waiting"};
#define ENDED_STATES 4 /* of those above, the first ones */

static const char *metric_of(const json_t *experiment)
{
    return format_string(json_object_get(experiment, "objective"), "metric");
}

char *status_counts(const json_t *experiment)
{
    const json_t *counts = json_object_get(experiment, "counts");
    struct buf b = {0};
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        int64_t n = format_int(counts, states[i]);
        if (n > 0) {
            buf_addf(&b, "%s%" PRId64 " %s", b.len > 0 ? ", " : "", n, states[i]);
        }
    }
    return buf_take(&b);
}

static void add_best(struct buf *b, const json_t *experiment)
{
    const json_t *best = json_object_get(experiment, "best");
    char number[32];
    if (json_is_object(best)) {
        buf_addf(b, ", best %s %s (trial %" PRId64 ")", metric_of(experiment),
                 format_number(json_object_get(best, "value"), number), format_int(best, "trial"));
    }
}

/* "3/20 points", "3 of 7 trials": points where a point is several trials. */
static void add_done(struct buf *b, const json_t *experiment, bool bar, int64_t done,
                     int64_t created)
{
    bool folds = format_int(experiment, "folds") > 1;
    int64_t limit = format_int(json_object_get(experiment, "limits"), "trials");
    const char *what = folds ? "points" : "trials";
    done = folds ? format_int(experiment, "points_ended") : done;
    created = folds ? format_int(experiment, "points") : created;
    if (bar && limit > 0) {
        char *drawn = term_bar((double)done / (double)limit, 22);
        buf_addf(b, "%s ", drawn);
        free(drawn);
    }
    if (limit > 0) {
        buf_addf(b, "%" PRId64 "/%" PRId64 " %s", done, limit, what);
    } else {
        buf_addf(b, "%" PRId64 " of %" PRId64 " %s", done, created, what);
    }
}

char *status_line(const json_t *experiment, bool bar)
{
    const json_t *counts = json_object_get(experiment, "counts");
    int64_t ended = 0;
    int64_t created = 0;
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        int64_t n = format_int(counts, states[i]);
        ended += i < ENDED_STATES ? n : 0;
        created += n;
    }
    /* A trial that waits at a rung has run as far as it was asked to: it counts as done here. */
    int64_t done = ended + format_int(counts, "paused");
    struct buf b = {0};
    add_done(&b, experiment, bar, done, created);
    buf_addf(&b, ", %" PRId64 " running", format_int(counts, "running"));
    int64_t failed = format_int(counts, "failed");
    if (failed > 0) {
        buf_addf(&b, ", %" PRId64 " failed", failed);
    }
    add_best(&b, experiment);
    const json_t *eta = json_object_get(experiment, "eta");
    if (json_is_number(eta) && json_number_value(eta) >= 0) {
        char text[32];
        buf_addf(&b, ", about %s left", format_duration(json_number_value(eta), text));
    }
    return buf_take(&b);
}

json_t *status_last_metrics(struct client *c, int64_t experiment, int64_t trial)
{
    json_t *answer = NULL;
    if (client_get(c, &answer, NULL, "/api/v1/experiments/%" PRId64 "/trials/%" PRId64 "/metrics",
                   experiment, trial) != MAG_OK) {
        return NULL;
    }
    json_t *last = json_object();
    size_t i = 0;
    const json_t *point = NULL;
    json_array_foreach(json_object_get(answer, "metrics"), i, point)
    {
        (void)json_object_update(last, json_object_get(point, "values"));
    }
    json_decref(answer);
    return last;
}

static void print_best(struct client *c, const json_t *experiment, FILE *f)
{
    const json_t *best = json_object_get(experiment, "best");
    int64_t id = format_int(experiment, "id");
    int64_t trial = format_int(best, "trial");
    char number[32];
    const char *unit =
        format_string(json_object_get(json_object_get(experiment, "spec"), "resource"), "unit");
    (void)fprintf(f, "%sbest: trial %" PRId64 ", %s %s%s", term_on(f, TERM_BOLD), trial,
                  metric_of(experiment), format_number(json_object_get(best, "value"), number),
                  term_off(f));
    char *spread = format_spread(best);
    char *refit = format_refit(best);
    if (spread[0] != '\0') {
        (void)fprintf(f, "%s", spread);
    } else if (format_int(best, "step") > 0) {
        (void)fprintf(f, " at %s %" PRId64, unit[0] != '\0' ? unit : "step",
                      format_int(best, "step"));
    }
    if (refit != NULL) {
        (void)fprintf(f, "\n  %s", refit);
    }
    free(spread);
    free(refit);
    char *params = format_params(json_object_get(best, "params"));
    (void)fprintf(f, "\n  %s\n", params);
    free(params);
    json_t *metrics = status_last_metrics(c, id, trial);
    if (metrics != NULL && json_object_size(metrics) > 1) {
        char *text = format_params(metrics);
        (void)fprintf(f, "  %s\n", text);
        free(text);
    }
    json_decref(metrics);
}

void status_print_end(struct client *c, const json_t *experiment, FILE *f)
{
    char *counts = status_counts(experiment);
    const char *state = format_string(experiment, "state");
    double from = format_time(format_string(experiment, "started"));
    double to = format_time(format_string(experiment, "ended"));
    char text[32];
    (void)fprintf(f, "experiment %" PRId64 " \"%s\" %s%s%s", format_int(experiment, "id"),
                  format_string(experiment, "name"), term_on(f, format_state_colour(state)), state,
                  term_off(f));
    if (from >= 0 && to >= from) {
        (void)fprintf(f, " after %s", format_duration(to - from, text));
    }
    bool rungs = status_is_over(experiment) &&
                 format_int(json_object_get(experiment, "counts"), "paused") > 0;
    (void)fprintf(f, ": %s%s\n", counts[0] != '\0' ? counts : "no trials",
                  rungs ? " (not promoted further)" : "");
    free(counts);
    if (json_is_object(json_object_get(experiment, "best"))) {
        print_best(c, experiment, f);
    } else {
        (void)fprintf(f, "no trial has a value yet\n");
    }
    if (json_object_get(json_object_get(experiment, "spec"), "ablation") != NULL) {
        char key[32];
        json_t *table = NULL;
        (void)snprintf(key, sizeof(key), "%" PRId64, format_int(experiment, "id"));
        if (ablation_fetch(c, key, &table, NULL) == MAG_OK) {
            (void)fprintf(f, "\n");
            ablation_print(table, f);
        }
        json_decref(table);
    }
}
