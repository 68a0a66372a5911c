/* SPDX-License-Identifier: Apache-2.0
 *
 * magpie-guard PARENT PROGRAM [ARGUMENT…]: becomes PROGRAM, which the kernel kills when the process
 * PARENT, its worker, dies. Without it a program that does not talk to its worker would run on
 * beside the attempt that takes its trial over. posix_spawn cannot ask the kernel for this itself.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 3) {
        (void)fprintf(stderr, "usage: magpie-guard PARENT PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    pid_t parent = (pid_t)strtol(argv[1], NULL, 10);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent) {
        return 1; /* it died before the kernel knew of our wish */
    }
    (void)execvp(argv[2], argv + 2);
    (void)fprintf(stderr, "cannot start \"%s\": %s\n", argv[2], strerror(errno));
    return 127;
}
