/* SPDX-License-Identifier: Apache-2.0 */
#include "simulate/experiment.h"

#include <string.h>

/* The optimizer object: of the same algorithm the file's options stay. */
static enum mag_status set_algorithm(json_t *doc, const char *algorithm, struct mag_err *err)
{
    json_t *object = NULL;
    if (algorithm[0] == '{') {
        enum mag_status st = mjson_parse(algorithm, strlen(algorithm), &object, err);
        if (st != MAG_OK) {
            return mag_wrap(err, st, "the algorithm");
        }
        (void)json_object_set_new(doc, "optimizer", object);
        return MAG_OK;
    }
    const json_t *given = json_object_get(json_object_get(doc, "optimizer"), "algorithm");
    const char *name = json_string_value(given);
    if (name == NULL || strcmp(name, algorithm) != 0) {
        (void)json_object_set_new(doc, "optimizer", json_pack("{s:s}", "algorithm", algorithm));
    }
    return MAG_OK;
}

/* The object under `key`, made when there is none. */
static json_t *object_at(json_t *doc, const char *key)
{
    if (!json_is_object(json_object_get(doc, key))) {
        (void)json_object_set_new(doc, key, json_object());
    }
    return json_object_get(doc, key);
}

static void limit(json_t *doc, const struct sim_setup *setup, const struct sim_changes *changes,
                  bool natural)
{
    if (changes->trials > 0) {
        (void)json_object_set_new(object_at(doc, "limits"), "trials",
                                  json_integer(changes->trials));
    } else if (natural && setup->time_ms == 0) {
        (void)json_object_set_new(object_at(doc, "limits"), "trials", json_integer(SIM_TRIALS));
    }
    if (changes->max > 0) {
        json_t *r = object_at(doc, "resource");
        (void)json_object_set_new(r, "min", json_integer(changes->min));
        (void)json_object_set_new(r, "max", json_integer(changes->max));
    }
}

enum mag_status sim_experiment(const json_t *file, const struct sim_setup *setup,
                               const struct sim_changes *changes, json_t **ret, struct mag_err *err)
{
    json_t *doc = file != NULL ? json_deep_copy(file) : objective_document(&setup->objective);
    if (doc == NULL) {
        return mag_fail(err, MAG_INVALID,
                        "a program has no search space of its own: give an experiment file");
    }
    limit(doc, setup, changes, file == NULL);
    enum mag_status st = MAG_OK;
    if (changes->algorithm != NULL) {
        st = set_algorithm(doc, changes->algorithm, err);
    }
    const json_t *seed = json_object_get(doc, "seed");
    if (st == MAG_OK && (seed == NULL || json_is_integer(seed))) {
        /* A file without a seed is simulated with the simulation's, so that it can be repeated. */
        json_int_t from = seed != NULL ? json_integer_value(seed) : (json_int_t)setup->seed;
        json_int_t sum = (from + (json_int_t)changes->add_to_seed) & ((INT64_C(1) << 53) - 1);
        (void)json_object_set_new(doc, "seed", json_integer(sum));
    }
    if (st != MAG_OK) {
        json_decref(doc);
        return st;
    }
    *ret = doc;
    return MAG_OK;
}
