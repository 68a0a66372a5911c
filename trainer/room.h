/* SPDX-License-Identifier: Apache-2.0
 *
 * How much memory a trial takes, worked out before anything is placed, and whether there is as
 * much. The estimate is the backend's own (backend_ops.room) for the net that would be built;
 * tests hold it to what is really allocated: at least 95 % of that, at most 130 %.
 */
#ifndef MAG_TRAINER_ROOM_H
#define MAG_TRAINER_ROOM_H

#include "base/buf.h"
#include "trainer/recipe.h"

/* Where a trial runs. */
struct room_ask {
    const struct recipe *recipe; /* fitted */
    const struct dataset *dataset;
    int lanes;     /* trials side by side; 0 is read as 1 */
    bool shared;   /* all lanes see the same batches */
    int processes; /* ranks on this host, each with a net for its share of a batch; 0 is read as 1
                    */
    bool server;   /* they share a parameter server's weights */
};

/* What one process takes. */
void room_of(const struct room_ask *ask, struct room *ret);
int64_t room_sum(const struct room *r);
/* The most rows of a batch in one process. */
int room_rows(const struct room_ask *ask);
/* "3.2 GB: weights 0.8, gradients 0.8, optimizer state 1.6": in one unit, without what is next to
 * nothing. */
void room_text(const struct room *r, int rows, struct buf *out);
/* {"weights": bytes, …, "total": bytes}, new reference. */
json_t *room_json(const struct room *r);

struct room_verdict {
    int64_t need; /* bytes beside what is held already; of all processes */
    bool never;   /* more than there ever is here */
    bool gpu;     /* of a GPU's memory */
};

/* Is there room for all but the data, which are there already? Of the backend's own memory where it
 * has some, else of the host's, within the control group and MAGPIE_MEMORY_MB. NOMEM names the
 * sizes. */
enum mag_status room_admit(const struct room_ask *ask, struct backend *backend,
                           struct room_verdict *ret, struct mag_err *err) MAG_MUSTCHECK;
/* From here on no large allocation of this process (of any size that a file or an experiment chose)
 * goes beyond what there is; one that the process cannot do without ends it with status 1 and one
 * line that says what was to be done and the sizes. Before there are threads. */
void room_watch(void);
/* What goes on, for that line: "reading csv:…". Copied; NULL: nothing named. */
void room_doing(const char *what);
/* Adds the sizes to a NOMEM that such a request led to. */
void room_explain(struct mag_err *err);

/* How many of ask->lanes fit, at least 1. */
int room_lanes(const struct room_ask *ask, struct backend *backend);

#endif
