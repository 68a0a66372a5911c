/* SPDX-License-Identifier: Apache-2.0
 *
 * What a trainer process keeps between trials: the data set last used and an open backend, so that
 * the next trial of the same experiment starts at once.
 */
#ifndef MAG_TRAINER_SESSION_H
#define MAG_TRAINER_SESSION_H

#include "trainer/room.h"
#include "trainer/trial.h"

struct session {
    char *source_key; /* of `dataset`; NULL = none */
    struct dataset *dataset;
    const struct backend_ops *ops; /* of `backend` */
    struct backend *backend;
    int threads;
    enum precision precision;
    int processes;               /* of this host that run the trial together; 0 is read as 1 */
    bool server;                 /* with a parameter server */
    bool asks; /* session_prepare leaves it to session_admit to see whether there is memory */
    struct room_verdict verdict; /* of the recipe prepared last */
    int device;                  /* of those that there are: a rank has the one of its number */
};

void session_fini(struct session *s);

/* Makes data set and backend ready for the recipe, keeping those of the last trial where they fit,
 * splits the data (by `part`, where its folds are above 0), works out the model's shapes and sees
 * that there is memory for it (NOMEM, and s->verdict). Adds issues below `pointer` (INVALID), or
 * fills `err`. */
enum mag_status session_prepare(struct session *s, struct recipe *r, uint64_t seed,
                                const struct dataset_part *part, const char *pointer,
                                struct mjson_issues *is, struct mag_err *err) MAG_MUSTCHECK;

/* Is there memory for the recipe that was prepared last? NOMEM, and s->verdict. */
enum mag_status session_admit(struct session *s, const struct recipe *r,
                              struct mag_err *err) MAG_MUSTCHECK;

#endif
