/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/orphans.h"

#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The pids of our children, from the kernel's list for this process's threads. */
static void each_child(void (*visit)(const struct orphans_test *test, pid_t pid),
                       const struct orphans_test *test)
{
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        char path[64];
        if (!isdigit((unsigned char)e->d_name[0])) {
            continue;
        }
        (void)snprintf(path, sizeof(path), "/proc/self/task/%.20s/children", e->d_name);
        FILE *f = fopen(path, "re");
        long pid = 0;
        while (f != NULL && fscanf(f, "%ld", &pid) == 1) {
            visit(test, (pid_t)pid);
        }
        if (f != NULL) {
            (void)fclose(f);
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
}

/* The value of ORPHANS_VARIABLE in the process's environment; false when it has none. */
static bool read_token(pid_t pid, char out[64])
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%ld/environ", (long)pid);
    FILE *f = fopen(path, "re");
    char *entry = NULL;
    size_t cap = 0;
    bool found = false;
    const size_t n = strlen(ORPHANS_VARIABLE);
    while (f != NULL && !found && getdelim(&entry, &cap, '\0', f) > 0) {
        if (strncmp(entry, ORPHANS_VARIABLE, n) == 0 && entry[n] == '=') {
            (void)snprintf(out, 64, "%s", entry + n + 1);
            found = true;
        }
    }
    free(entry);
    if (f != NULL) {
        (void)fclose(f);
    }
    return found;
}

static void look_at(const struct orphans_test *test, pid_t pid)
{
    char token[64];
    if (test->is_leader(test->arg, pid)) {
        return;
    }
    /* One without a token emptied its environment: it is nobody's, and nothing but trials' programs
     * can come to us. */
    if (!read_token(pid, token) || !test->is_live(test->arg, token)) {
        (void)kill(pid, SIGKILL);
    }
}

void orphans_kill(const struct orphans_test *test)
{
    each_child(look_at, test);
}
