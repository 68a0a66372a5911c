/* SPDX-License-Identifier: Apache-2.0
 *
 * magpie-trainer-mpi: one rank of a trial, started by mpirun. A program of its own, so that nothing
 * else is linked with MPI.
 */
#include "base/log.h"
#include "trainer/denormal.h"
#include "trainer/rank.h"
#include "trainer/ranks.h"
#include "trainer/room.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    log_init_from_env();
    flush_denormals();
    room_watch();
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("magpie-trainer-mpi %s\n", MAG_VERSION);
        return 0;
    }
    if (argc != 2 || strcmp(argv[1], "--rank") != 0) {
        fprintf(stderr,
                "magpie-trainer-mpi: it is started by magpie-trainer, for an experiment with "
                "\"distribution\": {\"transport\": \"mpi\"}\n");
        return 2;
    }
    const char *folder = ranks_folder_here();
    if (folder != NULL) {
        (void)setenv("OMPI_MCA_btl_vader_backing_directory", folder, 1);
    }
    return rank_run(&collective_mpi);
}
