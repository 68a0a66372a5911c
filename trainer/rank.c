/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/rank.h"

#include "trainer/executor.h"
#include "trainer/ranks.h"

#include <fcntl.h>
#include <stdio.h>

int rank_run(const struct collective_ops *ops)
{
    struct collective_place place;
    struct collective *c = NULL;
    struct mag_err err = {0};
    int fd = -1;
    bool is_rank = false;
    enum mag_status st = ranks_place(&place, &fd, &is_rank, &err);
    if (st == MAG_OK && !is_rank) {
        st = mag_fail(&err, MAG_INVALID,
                      "--rank is for processes that a trainer starts: an experiment with "
                      "\"distribution\" has them");
    }
    if (st == MAG_OK) {
        st = collective_open(ops, &place, &c, &err);
    }
    if (st == MAG_OK && ops->region) {
        (void)fcntl(place.fd, F_SETFD, FD_CLOEXEC);
    } else if (st == MAG_OK && c->rank == 0) {
        st = ranks_connect(&fd, &err);
    }
    if (st != MAG_OK) {
        fprintf(stderr, "magpie-trainer: %s\n", err.text);
        if (c != NULL) {
            collective_abort(c, err.text);
        }
        collective_close(c);
        return st == MAG_INVALID ? 2 : RANKS_LOST_STATUS;
    }
    int status = executor_run(fd, c);
    collective_close(c);
    return status;
}
