/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/orphans.h"

#include "worker/tree.h"

#include <signal.h>
#include <stdint.h>
#include <unistd.h>

static void look_at(void *arg, pid_t pid)
{
    const struct orphans_test *test = arg;
    char token[64];
    if (test->is_leader(test->arg, pid)) {
        return;
    }
    /* One without a token emptied its environment: it is nobody's, and nothing but trials' programs
     * can come to us. */
    tree_token(pid, token);
    if (!test->is_live(test->arg, token)) {
        (void)kill(pid, SIGKILL);
    }
}

void orphans_kill(const struct orphans_test *test)
{
    tree_children(getpid(), look_at, (void *)(uintptr_t)test);
}
