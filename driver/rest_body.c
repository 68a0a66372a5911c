/* SPDX-License-Identifier: Apache-2.0
 *
 * Values out of request bodies; every fault becomes an issue with its pointer.
 */
#include "driver/rest.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool rest_refuse_broken(struct http_call *c)
{
    if (c->x->broken != NULL) {
        http_problem(c, 409, "the experiment's record cannot be replayed: %s", c->x->broken);
        return true;
    }
    return false;
}

int64_t body_int(const json_t *body, const char *key, int64_t lo, int64_t hi, int64_t def,
                 struct mjson_issues *is)
{
    const json_t *v = json_object_get(body, key);
    if (v == NULL) {
        return def;
    }
    if (!json_is_integer(v) || json_integer_value(v) < lo || json_integer_value(v) > hi) {
        mjson_issue_at(is, "", key, "must be a whole number from %lld to %lld", (long long)lo,
                       (long long)hi);
        return def;
    }
    return json_integer_value(v);
}

bool body_bool(const json_t *body, const char *key, bool def, struct mjson_issues *is)
{
    const json_t *v = json_object_get(body, key);
    if (v == NULL) {
        return def;
    }
    if (!json_is_boolean(v)) {
        mjson_issue_at(is, "", key, "is %s, expected true or false", mjson_kind(v));
        return def;
    }
    return json_is_true(v);
}

const char *body_text(const json_t *body, const char *key, size_t max, struct mjson_issues *is)
{
    const json_t *v = json_object_get(body, key);
    if (v == NULL || json_is_null(v)) {
        return NULL;
    }
    if (!json_is_string(v)) {
        mjson_issue_at(is, "", key, "is %s, expected a string", mjson_kind(v));
        return NULL;
    }
    if (json_string_length(v) > max) {
        mjson_issue_at(is, "", key, "has %zu bytes, %zu are allowed", json_string_length(v), max);
        return NULL;
    }
    return json_string_value(v);
}

int64_t body_duration(const json_t *body, const char *key, int64_t max_ms, int64_t def,
                      struct mjson_issues *is)
{
    const json_t *v = json_object_get(body, key);
    if (v == NULL || json_is_null(v)) {
        return def;
    }
    int64_t ms = -1;
    if (json_is_number(v) && json_number_value(v) >= 0 &&
        json_number_value(v) <= (double)max_ms / 1000) {
        ms = llround(json_number_value(v) * 1000);
    } else if (json_is_string(v) && duration_parse(json_string_value(v), &ms) != MAG_OK) {
        ms = -1;
    }
    if (ms < 0 || ms > max_ms) {
        mjson_issue_at(is, "", key,
                       "must be seconds or a duration such as \"30s\", at most %lld seconds",
                       (long long)(max_ms / 1000));
        return def;
    }
    return ms;
}

bool body_number(const json_t *v, double *ret)
{
    if (json_is_number(v)) {
        *ret = json_number_value(v);
        return true;
    }
    if (json_is_null(v)) {
        *ret = NAN;
        return true;
    }
    static const char *const words[] = {"nan",  "-nan",     "inf",       "-inf",
                                        "+inf", "infinity", "-infinity", "+infinity"};
    for (size_t i = 0; json_is_string(v) && i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcasecmp(json_string_value(v), words[i]) == 0) {
            *ret = NAN;
            return true;
        }
    }
    return false;
}

void body_hash(const json_t *body, char out[33])
{
    char *text = mjson_dump(body);
    const unsigned __int128 prime = ((unsigned __int128)1 << 88) | 0x13b;
    unsigned __int128 h = ((unsigned __int128)0x6c62272e07bb0142ULL << 64) | 0x62b821756295c58dULL;
    for (const char *p = text; *p != '\0'; p++) {
        h = (h ^ (unsigned char)*p) * prime;
    }
    free(text);
    (void)snprintf(out, 33, "%016llx%016llx", (unsigned long long)(h >> 64), (unsigned long long)h);
}

void body_request(struct http_call *c, const json_t *body, struct event *ev,
                  struct mjson_issues *is)
{
    const char *client = body_text(body, "client", EVENT_CLIENT_MAX, is);
    const char *request = body_text(body, "request", EVENT_REQUEST_MAX, is);
    if (client != NULL && strchr(client, '\n') != NULL) {
        mjson_issue_at(is, "", "client", "holds a line break");
    }
    if (request != NULL && (request[0] == '\0' || strchr(request, '\n') != NULL)) {
        mjson_issue_at(is, "", "request", "is empty or holds a line break");
    }
    /* Client and request together name a request; one without a client is everybody's. */
    ev->holder = client != NULL ? xstrdup(client) : request != NULL ? xstrdup("anonymous") : NULL;
    if (request != NULL) {
        char hash[33];
        body_hash(body, hash);
        ev->request = xstrdup(request);
        ev->body_hash = xstrdup(hash);
    }
}
