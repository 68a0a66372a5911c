/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/cgroup.h"

#include "base/alloc.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define THREADS_EACH 8      /* of a process, before the kernel refuses more */
#define OWN "magpie-worker" /* our own group: one with children may not hold processes itself */

/* ---- their files ---- */

static bool write_value(const char *group, const char *name, const char *value)
{
    char *path = xasprintf("%s/%s", group, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    size_t n = strlen(value);
    bool ok = fd >= 0 && write(fd, value, n) == (ssize_t)n;
    int failed = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    free(path);
    errno = failed;
    return ok;
}

/* The file's text, cut at `size`; "" when it cannot be read. */
static void read_value(const char *group, const char *name, char *out, size_t size)
{
    char *path = xasprintf("%s/%s", group, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, size - 1) : -1;
    out[n > 0 ? n : 0] = '\0';
    if (fd >= 0) {
        (void)close(fd);
    }
    free(path);
}

/* Is the word in a list with blanks between? */
static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = strstr(list, word); p != NULL; p = strstr(p + 1, word)) {
        bool begins = p == list || p[-1] == ' ';
        bool ends = p[n] == '\0' || p[n] == ' ' || p[n] == '\n';
        if (begins && ends) {
            return true;
        }
    }
    return false;
}

static void write_limit(const char *group, const char *name, int64_t value)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "%" PRId64, value);
    if (value > 0 && !write_value(group, name, text)) {
        log_warn("worker", "cgroup", "group=%s %s=%s error=%s", group, name, text,
                 strerror(errno));
    }
}

/* ---- ours ---- */

/* Where version 2 is mounted; NULL = nowhere. */
static char *find_mount(void)
{
    char line[4096];
    char *found = NULL;
    FILE *f = fopen("/proc/self/mountinfo", "re");
    while (f != NULL && found == NULL && fgets(line, sizeof(line), f) != NULL) {
        char at[2048];
        if (strstr(line, " - cgroup2 ") != NULL &&
            sscanf(line, "%*s %*s %*s %*s %2047s", at) == 1) {
            found = xstrdup(at);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return found;
}

/* The folder of the group that we are in; NULL = none. */
static char *find_own(void)
{
    char line[4096];
    char *mount = find_mount();
    char *own = NULL;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (mount != NULL && f != NULL && own == NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "0::", 3) == 0) {
            line[strcspn(line, "\n")] = '\0';
            own = xasprintf("%s%s", mount, line + 3);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    free(mount);
    return own;
}

/* systemd marks what it hands over. */
static bool is_delegated(const char *group)
{
    static const char *const marks[] = {"trusted.delegate", "user.delegate"};
    for (size_t i = 0; i < 2; i++) {
        char v[4];
        if (getxattr(group, marks[i], v, sizeof(v)) == 1 && v[0] == '1') {
            return true;
        }
    }
    return false;
}

/* We leave the group for one below it, and let groups beside that limit what they can. */
static enum mag_status take_over(struct cgroups *cs, const char *root, struct mag_err *err)
{
    char list[512];
    char *own = xasprintf("%s/" OWN, root);
    bool moved = (mkdir(own, 0755) == 0 || errno == EEXIST) && write_value(own, "cgroup.procs", "0");
    enum mag_status st =
        moved ? MAG_OK : mag_fail(err, MAG_IO, "control group %s: %s", own, strerror(errno));
    free(own);
    if (st != MAG_OK) {
        return st;
    }
    read_value(root, "cgroup.controllers", list, sizeof(list));
    cs->memory = has_word(list, "memory") && write_value(root, "cgroup.subtree_control", "+memory");
    cs->pids = has_word(list, "pids") && write_value(root, "cgroup.subtree_control", "+pids");
    cs->root = xstrdup(root);
    log_info("worker", "cgroup", "group=%s memory=%d pids=%d", root, cs->memory, cs->pids);
    return MAG_OK;
}

enum mag_status cgroups_open(struct cgroups *cs, const char *wanted, struct mag_err *err)
{
    *cs = (struct cgroups){0};
    if (wanted != NULL && strcmp(wanted, "none") == 0) {
        return MAG_OK;
    }
    if (wanted != NULL && strcmp(wanted, "auto") != 0) {
        struct stat sb;
        char *procs = xasprintf("%s/cgroup.procs", wanted);
        bool group = stat(procs, &sb) == 0;
        free(procs);
        return group ? take_over(cs, wanted, err)
                     : mag_fail(err, MAG_INVALID, "--cgroup %s: no control group (version 2)",
                                wanted);
    }
    struct mag_err why = {0};
    char *own = find_own();
    if (own != NULL && is_delegated(own) && take_over(cs, own, &why) != MAG_OK) {
        log_warn("worker", "cgroup", "not used: %s", why.text);
    }
    free(own);
    return MAG_OK;
}

/* ---- of one program ---- */

static void drop_old(struct cgroups *cs)
{
    for (size_t i = 0; i < cs->n_old;) {
        if (rmdir(cs->old[i]) == 0 || errno == ENOENT) {
            free(cs->old[i]);
            cs->old[i] = cs->old[--cs->n_old];
        } else {
            i++;
        }
    }
}

char *cgroup_make(struct cgroups *cs, const char *token, const struct spawn_limits *l)
{
    if (cs->root == NULL) {
        return NULL;
    }
    drop_old(cs);
    char *group = xasprintf("%s/trial-%s", cs->root, token);
    if (mkdir(group, 0755) != 0) {
        log_warn("worker", "cgroup", "group=%s error=%s", group, strerror(errno));
        free(group);
        return NULL;
    }
    if (cs->memory && l->memory_mb > 0) {
        write_limit(group, "memory.max", l->memory_mb << 20);
        (void)write_value(group, "memory.swap.max", "0");
        (void)write_value(group, "memory.oom.group", "1");
    }
    if (cs->pids) {
        /* It counts threads too: the worker counts processes, this is for what outruns it. */
        write_limit(group, "pids.max", l->processes * THREADS_EACH);
    }
    return group;
}

bool cgroup_saw_oom(const char *group)
{
    char text[512];
    long long n = 0;
    read_value(group, "memory.events", text, sizeof(text));
    const char *at = strstr(text, "oom_kill ");
    return at != NULL && sscanf(at, "oom_kill %lld", &n) == 1 && n > 0;
}

int64_t cgroup_peak_mb(const char *group)
{
    char text[64];
    read_value(group, "memory.peak", text, sizeof(text));
    return strtoll(text, NULL, 10) >> 20;
}

void cgroup_kill(const char *group)
{
    (void)write_value(group, "cgroup.kill", "1");
}

void cgroup_drop_take(struct cgroups *cs, char *group_take)
{
    if (group_take == NULL) {
        return;
    }
    cgroup_kill(group_take);
    cs->old = xreallocarray(cs->old, cs->n_old + 1, sizeof(*cs->old));
    cs->old[cs->n_old++] = group_take;
    drop_old(cs);
}

void cgroups_close(struct cgroups *cs)
{
    drop_old(cs);
    for (size_t i = 0; i < cs->n_old; i++) {
        free(cs->old[i]);
    }
    free(cs->old);
    free(cs->root);
    *cs = (struct cgroups){0};
}
