/* SPDX-License-Identifier: Apache-2.0
 *
 * One thread for work that blocks: publishing checkpoints, verifying them, writing results, sending
 * logs. Tasks run in the order they came; `done` runs on the loop thread afterwards.
 */
#ifndef MAG_WORKER_BACKGROUND_H
#define MAG_WORKER_BACKGROUND_H

#include "base/list.h"

#include <event2/event.h>
#include <stdbool.h>

struct task {
    struct list_node node;
    void (*work)(struct task *t); /* on the thread; touches nothing but its own task */
    void (*done)(struct task *t); /* on the loop; frees the task */
};

struct background;
struct background *background_start(struct event_base *base);
void background_submit(struct background *b, struct task *t);
/* The same for what can wait: such tasks run in their order while there are no others. */
void background_submit_low(struct background *b, struct task *t);
/* Tasks submitted and not yet done. */
int background_pending(const struct background *b);
/* Runs every submitted task to its end, `done` included. NULL is allowed. */
void background_stop(struct background *b);

#endif
