/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/parse.h"

#include <stdlib.h>
#include <string.h>

static void parse_input(struct reader *r, const json_t *v, const char *pointer, struct recipe *ret)
{
    int side[3] = {0};
    bool good = json_is_array(v) && (json_array_size(v) == 1 || json_array_size(v) == 3);
    for (size_t i = 0; good && i < json_array_size(v); i++) {
        json_int_t n = json_integer_value(json_array_get(v, i));
        good = n >= 1 && n <= (json_array_size(v) == 1 ? MODEL_UNITS_MAX : MODEL_SIDE_MAX);
        side[i] = (int)n;
    }
    if (!good) {
        mjson_issue_at(r->issues, pointer, "input",
                       "\"input\" must be [channels, height, width] or [values], each 1 to %d",
                       MODEL_SIDE_MAX);
        return;
    }
    ret->input_given = true;
    ret->model.input = json_array_size(v) == 1 ? (struct shape){side[0], 1, 1, true}
                                               : (struct shape){side[0], side[1], side[2], false};
}

static void parse_list(struct reader *r, const json_t *layers, const char *pointer,
                       struct recipe *ret)
{
    if (!json_is_array(layers) || json_array_size(layers) == 0) {
        mjson_issue_at(r->issues, pointer, "layers",
                       "\"layers\" must be a list of one layer or more, not %s",
                       json_is_array(layers) ? "an empty one" : mjson_kind(layers));
        return;
    }
    int before = r->issues->total;
    char *at = mjson_pointer(pointer, "layers");
    struct builder b = {
        .reader = r, .model = &ret->model, .base = strlen(pointer), .from = MODEL_INPUT};
    parse_layers(&b, layers, at);
    if (ret->model.n == 0 && r->issues->total == before) {
        mjson_issue(r->issues, at,
                    "no layer is left once inactive ones and \"repeat\": 0 are taken out");
    }
    free(at);
}

void parse_model(struct reader *r, const json_t *v, const char *pointer, struct recipe *ret)
{
    static const char *const keys[] = {"input", "layers", "family", NULL};
    if (!json_is_object(v)) {
        mjson_issue(r->issues, pointer, "\"model\" must be {\"layers\": [...]} or {\"family\": …}, not %s",
                    mjson_kind(v));
        return;
    }
    if (json_object_get(v, "input") != NULL) {
        parse_input(r, json_object_get(v, "input"), pointer, ret);
    }
    if (json_object_get(v, "family") != NULL) {
        parse_family(r, v, pointer, ret);
        return;
    }
    mjson_check_keys(v, keys, pointer, r->issues);
    parse_list(r, json_object_get(v, "layers"), pointer, ret);
}
