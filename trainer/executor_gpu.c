/* SPDX-License-Identifier: Apache-2.0
 *
 * A GPU that several programs share: the worker is told what a trial needs and what is free there,
 * and says when it may begin.
 */
#include "trainer/executor_impl.h"

#include <string.h>

#define MEASURED_AT 4 /* steps, after which everything that a trial places lies there */

static void add_memory(struct executor *e, struct buf *b)
{
    int64_t total = 0;
    int64_t left = e->session.ops->memory(e->session.backend, &total);
    buf_addf(b, ",\"free_mb\":%lld,\"total_mb\":%lld}", (long long)(left >> 20),
             (long long)(total >> 20));
}

static void send_needs(struct executor *e, int64_t trial, const struct room *r)
{
    struct buf b = {0};
    const int64_t net = room_sum(r) - r->data;
    const bool there = e->placed == e->session.dataset->serial; /* since a trial before */
    buf_addf(&b, "{\"type\":\"needs\",\"trial\":%lld,\"need_mb\":%lld,\"data_mb\":%lld",
             (long long)trial, (long long)(net >> 20) + 1,
             (long long)(there ? 0 : (r->data >> 20) + 1));
    add_memory(e, &b);
    e->exit = executor_send(e, &b) != MAG_OK || e->exit;
}

/* False when it is over: told to exit, or nobody is left that would begin. */
static bool obey(struct executor *e, const struct gpu_ask *ask, const char *type, int64_t trial)
{
    if (strcmp(type, "exit") == 0) {
        e->exit = true;
    } else if (strcmp(type, "start") == 0) {
        executor_error(e, trial, "program", "this program runs another trial");
    } else if (strcmp(type, "stop") == 0 || strcmp(type, "pause") == 0) {
        return ask->order(ask->ctx, trial, strcmp(type, "stop") == 0 ? ORDER_STOP : ORDER_PAUSE);
    }
    return !e->exit;
}

bool executor_may_begin(struct executor *e, const struct gpu_ask *ask)
{
    struct room r;
    if (!e->session.asks || e->session.ops->memory == NULL) {
        return true;
    }
    const struct room_ask what = {.recipe = ask->recipe,
                                  .dataset = e->session.dataset,
                                  .lanes = ask->lanes,
                                  .shared = ask->recipe->training.order == ORDER_OF_EXPERIMENT};
    room_of(&what, &r);
    send_needs(e, ask->trial, &r);
    e->steps_to_measure = MEASURED_AT * ask->lanes;
    while (!e->exit) {
        size_t len = 0;
        const char *type = NULL;
        char *line = channel_next(&e->channel, true, &len);
        json_t *m = line != NULL ? executor_parse_line(line, len, &type) : NULL;
        if (line == NULL) {
            e->exit = true;
        } else if (m != NULL && strcmp(type, "go") == 0) {
            json_decref(m);
            e->placed = e->session.dataset->serial;
            return true;
        } else if (m != NULL && strcmp(type, "memory") == 0) {
            send_needs(e, ask->trial, &r);
        } else if (m != NULL &&
                   !obey(e, ask, type, json_integer_value(json_object_get(m, "trial")))) {
            json_decref(m);
            return false;
        }
        json_decref(m);
    }
    return false;
}

void executor_measure(struct executor *e, int64_t trial, bool now)
{
    if (e->steps_to_measure <= 0 || (--e->steps_to_measure > 0 && !now)) {
        return;
    }
    struct buf b = {0};
    e->steps_to_measure = 0;
    buf_addf(&b, "{\"type\":\"memory\",\"trial\":%lld", (long long)trial);
    add_memory(e, &b);
    e->exit = executor_send(e, &b) != MAG_OK || e->exit;
}
