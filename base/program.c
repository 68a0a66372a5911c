/* SPDX-License-Identifier: Apache-2.0 */
#include "base/program.h"

#include "base/alloc.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *program_self(void)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    return n > 0 ? xstrndup(path, (size_t)n) : NULL;
}

/* Takes `path`; gives it back when it can be executed, else NULL. */
static char *if_executable(char *path_take)
{
    if (access(path_take, X_OK) == 0) {
        return path_take;
    }
    free(path_take);
    return NULL;
}

char *program_find(const char *name)
{
    const char *libexec = getenv("MAGPIE_LIBEXEC");
    if (libexec != NULL) {
        return if_executable(xasprintf("%s/%s", libexec, name));
    }
    static const char *const places[] = {"", "trainer/", "trainer/cuda/", "worker/", "../libexec/magpie/"};
    char *self = program_self();
    char *slash = self != NULL ? strrchr(self, '/') : NULL;
    char *found = NULL;
    for (size_t i = 0; slash != NULL && found == NULL && i < sizeof(places) / sizeof(places[0]);
         i++) {
        found = if_executable(xasprintf("%.*s/%s%s", (int)(slash - self), self, places[i], name));
    }
    free(self);
    return found;
}
