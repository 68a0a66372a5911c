/* SPDX-License-Identifier: Apache-2.0
 *
 * "distribution": one trial of the built-in trainer over several processes. Each is a rank and
 * takes a slot of one worker.
 */
#include "driver/spec_read.h"

#include "base/clock.h"

#include <string.h>

#define TIMEOUT_MS_MIN 1000
#define TIMEOUT_MS_MAX 86400000
#define TIMEOUT_MS 300000
#define PUSH_EVERY_MAX 10000

static const char *const strategies[] = {"allreduce", "parameter_server", NULL};
static const char *const transports[] = {"shm", "mpi", NULL};

/* One of the names; the first one when absent or wrong. */
static const char *read_name(const json_t *o, const char *key, const char *const *names,
                             struct mjson_issues *is)
{
    const json_t *v = json_object_get(o, key);
    for (int i = 0; names[i] != NULL && json_is_string(v); i++) {
        if (strcmp(names[i], json_string_value(v)) == 0) {
            return names[i];
        }
    }
    if (v != NULL) {
        mjson_issue_at(is, "/distribution", key, "must be \"%s\" or \"%s\"", names[0], names[1]);
    }
    return names[0];
}

static int64_t read_timeout(const json_t *o, struct mjson_issues *is)
{
    if (json_object_get(o, "timeout") == NULL) {
        return TIMEOUT_MS;
    }
    int before = is->total;
    int64_t ms = spec_duration(o, "/distribution", "timeout", is);
    if (is->total == before && (ms < TIMEOUT_MS_MIN || ms > TIMEOUT_MS_MAX)) {
        mjson_issue(is, "/distribution/timeout", "must be one second to one day");
    }
    return ms;
}

/* What only a parameter server has. */
static void read_server(const json_t *o, bool server, json_t *out, struct mjson_issues *is)
{
    const json_t *lock = json_object_get(o, "lock");
    if (lock != NULL && !json_is_boolean(lock)) {
        mjson_issue(is, "/distribution/lock", "must be true or false, not %s", mjson_kind(lock));
    }
    int64_t every = spec_int(o, "/distribution", "push_every", 1, PUSH_EVERY_MAX, 1, is);
    if (server) {
        (void)json_object_set_new(out, "lock", json_boolean(json_is_true(lock)));
        (void)json_object_set_new(out, "push_every", json_integer(every));
        return;
    }
    for (const char *const *k = (const char *const[]){"lock", "push_every", NULL}; *k != NULL;
         k++) {
        if (json_object_get(o, *k) != NULL) {
            mjson_issue_at(is, "/distribution", *k,
                           "goes with \"strategy\": \"parameter_server\" only");
        }
    }
}

void spec_read_distribution(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    static const char *const keys[] = {"strategy", "ranks",      "min_ranks", "transport",
                                       "timeout",  "push_every", "lock",      NULL};
    const json_t *o = json_object_get(doc, "distribution");
    if (!spec_object(o, "/distribution", is)) {
        return;
    }
    mjson_check_keys(o, keys, "/distribution", is);
    const char *strategy = read_name(o, "strategy", strategies, is);
    const char *transport = read_name(o, "transport", transports, is);
    if (json_object_get(o, "ranks") == NULL) {
        mjson_issue(is, "/distribution",
                    "\"ranks\" is missing: how many processes train one trial");
    }
    int64_t ranks = spec_int(o, "/distribution", "ranks", 1, SPEC_RANKS_MAX, 1, is);
    int64_t least = spec_int(o, "/distribution", "min_ranks", 1, SPEC_RANKS_MAX, 1, is);
    if (least > ranks) {
        mjson_issue(is, "/distribution/min_ranks", "must not be above \"ranks\"");
    }
    int64_t timeout_ms = read_timeout(o, is);
    if (json_object_get(doc, "trial") != NULL && s->program != SPEC_BUILTIN) {
        mjson_issue(is, "/distribution",
                    "is for the built-in trainer (\"program\": \"builtin\"); a program of your own "
                    "starts its processes itself: say with \"requires\": {\"cores\": n} what they "
                    "need");
    } else if (json_object_get(doc, "trial") == NULL) {
        mjson_issue(is, "/distribution", "needs \"trial\": {\"program\": \"builtin\", …}");
    }
    if (ranks > 1 && s->fuse != 0 && s->fuse != 1) {
        mjson_issue(is, "/distribution",
                    "spreads one trial over several processes, \"fuse\" puts several trials into "
                    "one: have one of them");
    }
    s->distribution = json_pack("{s:s, s:I, s:I, s:s, s:I}", "strategy", strategy, "ranks",
                                (json_int_t)ranks, "min_ranks", (json_int_t)least, "transport",
                                transport, "timeout", (json_int_t)(timeout_ms / 1000));
    if (timeout_ms % 1000 != 0) {
        (void)json_object_set_new(s->distribution, "timeout", json_real((double)timeout_ms / 1000));
    }
    read_server(o, strcmp(strategy, "parameter_server") == 0, s->distribution, is);
    s->requires_.slots = ranks;
}
