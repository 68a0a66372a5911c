/* SPDX-License-Identifier: Apache-2.0
 *
 * The processes that are the ranks of a trial: started here, watched here, ended here. Over shared
 * memory they are this program again, once for each rank; over MPI `mpirun` starts
 * magpie-trainer-mpi, which alone is linked with it (inside a Slurm allocation mpirun starts them
 * by srun, on its hosts). Rank 0 speaks the trial protocol over `channel`.
 *
 * A rank dies with whoever started it; who kills one of them here sees `ranks_death`.
 */
#ifndef MAG_TRAINER_RANKS_H
#define MAG_TRAINER_RANKS_H

#include "base/err.h"
#include "trainer/channel.h"
#include "trainer/collective.h"
#include "trainer/distribution.h"

#include <stdbool.h>
#include <sys/types.h>

#define RANKS_LOST_STATUS 75 /* exit status of a rank that has lost the others: none of its fault  \
                              */

struct ranks {
    int n; /* ranks; 0 = none run */
    enum transport transport;
    int64_t timeout_ms;
    struct channel channel; /* to rank 0 */
    int listener;           /* mpi: where rank 0 will connect, -1 once it has */
    char *folder;           /* mpi: of ranks_folder_make, or NULL */
    int region;             /* shm, else -1 */
    int n_pids;             /* n with shm; 1, mpirun, with mpi */
    pid_t pids[COLLECTIVE_RANKS_MAX];
    int pidfds[COLLECTIVE_RANKS_MAX]; /* readable when it has ended; -1 = reaped */
};

enum ranks_event {
    RANKS_LINE = 0,  /* rank 0 has something to say, or has closed its end */
    RANKS_OTHER = 1, /* `other` is readable */
    RANKS_DEATH = 2, /* a process has ended: ranks_death */
    RANKS_TIMEOUT = 3,
};

/* Starts n ranks. INVALID: this installation cannot (no mpirun, say). On failure nothing runs. */
enum mag_status ranks_start(struct ranks *r, int n, const struct distribution *d,
                            struct mag_err *err) MAG_MUSTCHECK;
/* Waits for the first of: a line, `other` (-1 = none), an end, timeout_ms (-1 = none). */
enum ranks_event ranks_wait(struct ranks *r, int other, int timeout_ms);
/* Reaps one that has ended, tells the other ranks, and says what happened ("rank 2 was killed by
 * signal 9 (Killed)"); false when none has. */
bool ranks_death(struct ranks *r, char *text, size_t size);
/* Ends them all: `politely` asks rank 0 first and gives them a few seconds. */
void ranks_stop(struct ranks *r, bool politely);

/* ---- in a rank ---- */
/* True when the environment says that this process is a rank; fills place and the channel's
 * descriptor (-1 but in rank 0), and makes sure that it dies with the process that started it. */
enum mag_status ranks_place(struct collective_place *place, int *ret_fd, bool *ret_is_rank,
                            struct mag_err *err) MAG_MUSTCHECK;
/* MPI: a folder for what must not outlive the ranks; NULL where this host has none. Borrowed. */
const char *ranks_folder_here(void);
/* MPI: rank 0's descriptor. */
enum mag_status ranks_connect(int *ret_fd, struct mag_err *err) MAG_MUSTCHECK;
/* Dies with the parent. */
void ranks_bind_to_parent(void);

#endif
