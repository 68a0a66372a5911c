/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/distribution.h"

#include "base/clock.h"
#include "trainer/collective.h"

#include <string.h>

#define TIMEOUT_MS 300000
#define TIMEOUT_MS_MIN 1000
#define TIMEOUT_MS_MAX 86400000
#define PUSH_EVERY_MAX 10000

const struct distribution distribution_none = {
    .ranks = 1, .min_ranks = 1, .timeout_ms = TIMEOUT_MS, .push_every = 1};

static int read_int(const json_t *o, const char *pointer, const char *key, int most, int absent,
                    struct mjson_issues *is)
{
    const json_t *v = json_object_get(o, key);
    if (v == NULL) {
        return absent;
    }
    json_int_t n = json_integer_value(v);
    if (!json_is_integer(v) || n < 1 || n > most) {
        mjson_issue_at(is, pointer, key, "must be a whole number from 1 to %d", most);
        return 1;
    }
    return (int)n;
}

/* Which of the two names; 0 when absent. */
static int read_name(const json_t *o, const char *pointer, const char *key,
                     const char *const *names, struct mjson_issues *is)
{
    const json_t *v = json_object_get(o, key);
    const char *text = json_string_value(v);
    if (v == NULL || (text != NULL && strcmp(text, names[0]) == 0)) {
        return 0;
    }
    if (text == NULL || strcmp(text, names[1]) != 0) {
        mjson_issue_at(is, pointer, key, "must be \"%s\" or \"%s\"", names[0], names[1]);
        return 0;
    }
    return 1;
}

static int64_t read_timeout(const json_t *o, const char *pointer, struct mjson_issues *is)
{
    const json_t *v = json_object_get(o, "timeout");
    int64_t ms = json_is_number(v) && json_number_value(v) < TIMEOUT_MS_MAX
                     ? (int64_t)(json_number_value(v) * 1000)
                     : -1;
    if (v == NULL) {
        return TIMEOUT_MS;
    }
    if (json_is_string(v) && duration_parse(json_string_value(v), &ms) != MAG_OK) {
        ms = -1;
    }
    if (ms < TIMEOUT_MS_MIN || ms > TIMEOUT_MS_MAX) {
        mjson_issue_at(is, pointer, "timeout", "must be one second to one day, such as \"5m\"");
    }
    return ms;
}

bool distribution_parse(const json_t *o, const char *pointer, struct mjson_issues *is,
                        struct distribution *ret)
{
    static const char *const keys[] = {"strategy", "ranks",      "min_ranks", "transport",
                                       "timeout",  "push_every", "lock",      NULL};
    static const char *const strategies[] = {"allreduce", "parameter_server"};
    static const char *const transports[] = {"shm", "mpi"};
    const int before = is->total;
    *ret = distribution_none;
    if (o == NULL || json_is_null(o)) {
        return true;
    }
    if (!json_is_object(o)) {
        mjson_issue(is, pointer, "must be an object, not %s", mjson_kind(o));
        return false;
    }
    mjson_check_keys(o, keys, pointer, is);
    ret->strategy = read_name(o, pointer, "strategy", strategies, is) == 1 ? STRATEGY_SERVER
                                                                           : STRATEGY_ALLREDUCE;
    ret->transport =
        read_name(o, pointer, "transport", transports, is) == 1 ? TRANSPORT_MPI : TRANSPORT_SHM;
    ret->ranks = read_int(o, pointer, "ranks", COLLECTIVE_RANKS_MAX, 1, is);
    ret->min_ranks = read_int(o, pointer, "min_ranks", COLLECTIVE_RANKS_MAX, 1, is);
    ret->push_every = read_int(o, pointer, "push_every", PUSH_EVERY_MAX, 1, is);
    ret->timeout_ms = read_timeout(o, pointer, is);
    ret->lock = json_is_true(json_object_get(o, "lock"));
    if (ret->min_ranks > ret->ranks) {
        mjson_issue_at(is, pointer, "min_ranks", "must not be above \"ranks\"");
    }
    return is->total == before;
}
