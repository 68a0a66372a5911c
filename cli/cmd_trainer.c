/* SPDX-License-Identifier: Apache-2.0 */
#include "base/program.h"
#include "cli/cmd.h"
#include "cli/commands.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* The trainer is a program of its own, so that this one links no oneDNN, CUDA or MPI. */
int cmd_trainer(int argc, char **argv)
{
    char *trainer = program_find("magpie-trainer");
    if (trainer == NULL) {
        return cmd_failf(CMD_FAILED,
                         "magpie trainer: this installation has no magpie-trainer beside it, in "
                         "trainer/ or in ../libexec/magpie/");
    }
    argv[0] = trainer;
    (void)execv(trainer, argv);
    return cmd_failf(CMD_FAILED, "magpie trainer: %s: %s", trainer, strerror(errno));
}
