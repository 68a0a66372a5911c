/* SPDX-License-Identifier: Apache-2.0
 *
 * What of a trial is kept and how much of it: "checkpoint" and "logs".
 */
#include "driver/spec_read.h"

#include "base/alloc.h"
#include "base/pattern.h"
#include "base/size.h"

#include <stdlib.h>
#include <string.h>

int64_t spec_bytes(const json_t *o, const char *pointer, const char *key, int64_t lo, int64_t hi,
                   int64_t def, struct mjson_issues *is)
{
    const json_t *v = json_object_get(o, key);
    if (v == NULL) {
        return def;
    }
    int64_t n = json_is_integer(v) ? json_integer_value(v) : -1;
    if (json_is_string(v) && size_parse(json_string_value(v), &n) != MAG_OK) {
        n = -1;
    }
    if (n < lo || n > hi) {
        mjson_issue_at(is, pointer, key,
                       "must be a number of bytes from %lld to %lld, or a text such as \"64MB\"",
                       (long long)lo, (long long)hi);
        return def;
    }
    return n;
}

static void check_mask(const json_t *list, size_t i, struct mjson_issues *is)
{
    char *at = mjson_pointer_index("/logs/mask", i);
    const json_t *v = json_array_get(list, i);
    regex_t re;
    struct mag_err why = {0};
    if (!json_is_string(v) || json_string_length(v) == 0 || json_string_length(v) > SPEC_MASK_MAX) {
        mjson_issue(is, at, "must be a regular expression of 1 to %d bytes", SPEC_MASK_MAX);
    } else if (pattern_compile(json_string_value(v), &re, &why) == MAG_OK) {
        regfree(&re);
    } else {
        mjson_issue(is, at, "%s", why.text);
    }
    free(at);
}

static void read_logs(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    static const char *const keys[] = {"limit", "mask", NULL};
    const json_t *o = json_object_get(doc, "logs");
    if (spec_object(o, "/logs", is)) {
        mjson_check_keys(o, keys, "/logs", is);
    }
    int64_t limit = spec_bytes(o, "/logs", "limit", SPEC_LOG_MIN, SPEC_LOG_MAX, SPEC_LOG, is);
    const json_t *mask = json_object_get(o, "mask");
    if (mask != NULL && (!json_is_array(mask) || json_array_size(mask) > SPEC_MASKS_MAX)) {
        mjson_issue(is, "/logs/mask", "must be a list of at most %d regular expressions",
                    SPEC_MASKS_MAX);
    }
    for (size_t i = 0; i < json_array_size(mask) && i < SPEC_MASKS_MAX; i++) {
        check_mask(mask, i, is);
    }
    s->logs = json_pack("{s:I, s:o}", "limit", (json_int_t)limit, "mask",
                        json_is_array(mask) ? json_deep_copy(mask) : json_array());
}

void spec_read_keep(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    static const char *const keys[] = {"every", "keep", "best", NULL};
    const json_t *o = json_object_get(doc, "checkpoint");
    if (spec_object(o, "/checkpoint", is)) {
        mjson_check_keys(o, keys, "/checkpoint", is);
    }
    s->checkpoint_every = spec_int(o, "/checkpoint", "every", 1, INT64_C(1) << 53, 1, is);
    s->checkpoint_keep = spec_int(o, "/checkpoint", "keep", 1, 1000, 2, is);
    const json_t *best = json_object_get(o, "best");
    if (best != NULL && !json_is_boolean(best)) {
        mjson_issue_at(is, "/checkpoint", "best", "must be true or false, not %s",
                       mjson_kind(best));
    }
    s->checkpoint_best = json_is_true(best);
    read_logs(s, doc, is);
}

void spec_write_keep(const struct spec *s, json_t *out)
{
    (void)json_object_set_new(out, "checkpoint",
                              json_pack("{s:I, s:I, s:b}", "every", (json_int_t)s->checkpoint_every,
                                        "keep", (json_int_t)s->checkpoint_keep, "best",
                                        s->checkpoint_best));
    (void)json_object_set(out, "logs", s->logs);
}
