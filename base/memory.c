/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_ROOM 4352
#define NO_LIMIT ((int64_t)1 << 60) /* version 1 writes about 2^63 where there is none */

/* One hierarchy's names. */
struct kind {
    const char *mounts[3]; /* where it usually is, first one that is there */
    const char *limit, *used;
    const char *cached[2]; /* keys of memory.stat */
};
static const struct kind kinds[] = {
    {{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", NULL},
     "memory.max",
     "memory.current",
     {"inactive_file", "active_file"}},
    {{"/sys/fs/cgroup/memory", NULL},
     "memory.limit_in_bytes",
     "memory.usage_in_bytes",
     {"total_inactive_file", "total_active_file"}},
};

static FILE *open_file(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static FILE *open_file(const char *fmt, ...)
{
    char path[PATH_ROOM];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(path, sizeof(path), fmt, ap);
    va_end(ap);
    return n > 0 && (size_t)n < sizeof(path) ? fopen(path, "re") : NULL;
}

static void close_file(FILE *f)
{
    if (f != NULL) {
        (void)fclose(f);
    }
}

/* The number in a file's first line, -1 = none ("max"). */
static int64_t read_number(const char *folder, const char *name)
{
    long long n = -1;
    FILE *f = open_file("%s/%s", folder, name);
    if (f != NULL && fscanf(f, "%lld", &n) != 1) {
        n = -1;
    }
    close_file(f);
    return n;
}

/* Bytes of files in the group's memory. */
static int64_t read_cached(const char *folder, const struct kind *k)
{
    char line[128];
    char key[64];
    long long value = 0;
    int64_t sum = 0;
    FILE *f = open_file("%s/memory.stat", folder);
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "%63s %lld", key, &value) == 2 &&
            (strcmp(key, k->cached[0]) == 0 || strcmp(key, k->cached[1]) == 0)) {
            sum += value;
        }
    }
    close_file(f);
    return sum;
}

static void take_group(const char *folder, const struct kind *k, struct memory *m)
{
    int64_t limit = read_number(folder, k->limit);
    int64_t used = read_number(folder, k->used);
    if (limit < 0 || limit >= NO_LIMIT || used < 0) {
        return;
    }
    int64_t left = limit - used + read_cached(folder, k);
    left = left < 0 ? 0 : left > limit ? limit : left;
    if (m->free < 0 || left < m->free) {
        m->free = left;
    }
    if (m->total < 0 || limit < m->total) {
        m->total = limit;
        m->total_of = "its control group";
    }
}

/* The group and all above it. In a container the path may be one of outside, which is not there:
 * then what is mounted is the group. */
static void take_groups(const char *root, char *group, const struct kind *k, struct memory *m)
{
    for (int i = 0; i < 3 && k->mounts[i] != NULL; i++) {
        char folder[PATH_ROOM];
        char *slash = group;
        while (slash != NULL) {
            int n = snprintf(folder, sizeof(folder), "%s%s%s", root, k->mounts[i], group);
            if (n > 0 && (size_t)n < sizeof(folder)) {
                take_group(folder, k, m);
            }
            slash = strrchr(group, '/');
            if (slash != NULL) {
                *slash = '\0';
            }
        }
        (void)snprintf(folder, sizeof(folder), "%s%s", root, k->mounts[i]);
        take_group(folder, k, m);
    }
}

/* "0::/a/b" is version 2; "4:memory:/a" version 1, where the middle lists controllers. */
static void look_at_groups(const char *root, struct memory *m)
{
    char line[PATH_ROOM];
    FILE *f = open_file("%s/proc/self/cgroup", root);
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (group == NULL) {
            continue;
        }
        *group++ = '\0';
        controllers++;
        if (strcmp(group, "/") == 0) {
            group[0] = '\0';
        }
        if (controllers[0] == '\0') {
            take_groups(root, group, &kinds[0], m);
        } else if (strcmp(controllers, "memory") == 0 || strstr(controllers, ",memory") != NULL ||
                   strncmp(controllers, "memory,", 7) == 0) {
            take_groups(root, group, &kinds[1], m);
        }
    }
    close_file(f);
}

void memory_look(const char *root, struct memory *ret)
{
    char line[128];
    long long kb = 0;
    *ret = (struct memory){.free = -1, .total = -1, .total_of = "this machine"};
    FILE *f = open_file("%s/proc/meminfo", root);
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "MemTotal: %lld kB", &kb) == 1) {
            ret->total = (int64_t)kb << 10;
        } else if (sscanf(line, "MemAvailable: %lld kB", &kb) == 1) {
            ret->free = (int64_t)kb << 10;
        }
    }
    close_file(f);
    look_at_groups(root, ret);
}

int64_t memory_held(void)
{
    long long size = 0;
    long long resident = 0;
    FILE *f = open_file("/proc/self/statm");
    bool read = f != NULL && fscanf(f, "%lld %lld", &size, &resident) == 2;
    close_file(f);
    return read ? (int64_t)resident * sysconf(_SC_PAGESIZE) : 0;
}
