/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/tree.h"

#include "base/alloc.h"

#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KILL_ROUNDS 100

struct pids {
    pid_t *items;
    size_t n;
};

void tree_children(pid_t pid, void (*visit)(void *arg, pid_t child), void *arg)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%ld/task", (long)pid);
    DIR *d = opendir(path);
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        char list[96];
        long child = 0;
        if (!isdigit((unsigned char)e->d_name[0])) {
            continue;
        }
        (void)snprintf(list, sizeof(list), "%s/%.20s/children", path, e->d_name);
        FILE *f = fopen(list, "re");
        while (f != NULL && fscanf(f, "%ld", &child) == 1) {
            visit(arg, (pid_t)child);
        }
        if (f != NULL) {
            (void)fclose(f);
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
}

void tree_token(pid_t pid, char out[64])
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%ld/environ", (long)pid);
    FILE *f = fopen(path, "re");
    char *entry = NULL;
    size_t cap = 0;
    const size_t n = strlen(TREE_VARIABLE);
    out[0] = '\0';
    while (f != NULL && out[0] == '\0' && getdelim(&entry, &cap, '\0', f) > 0) {
        if (strncmp(entry, TREE_VARIABLE, n) == 0 && entry[n] == '=') {
            (void)snprintf(out, 64, "%s", entry + n + 1);
        }
    }
    free(entry);
    if (f != NULL) {
        (void)fclose(f);
    }
}

/* ---- finding ---- */

static void add(void *arg, pid_t pid)
{
    struct pids *p = arg;
    if (p->n < TREE_MAX) {
        p->items = xreallocarray(p->items, p->n + 1, sizeof(*p->items));
        p->items[p->n++] = pid;
    }
}

struct looking {
    bool (*is_leader)(void *arg, pid_t pid);
    void *arg;
    struct tree_left *found;
};

static void look_at(void *arg, pid_t pid)
{
    const struct looking *l = arg;
    struct tree_left *f = l->found;
    if (f->n < TREE_MAX && !l->is_leader(l->arg, pid)) {
        f->items = xreallocarray(f->items, f->n + 1, sizeof(*f->items));
        f->items[f->n].pid = pid;
        tree_token(pid, f->items[f->n++].token);
    }
}

void tree_find_left(bool (*is_leader)(void *arg, pid_t pid), void *arg, struct tree_left *ret)
{
    struct looking l = {.is_leader = is_leader, .arg = arg, .found = ret};
    *ret = (struct tree_left){0};
    tree_children(getpid(), look_at, &l);
}

static void find(pid_t leader, const char *token, const struct tree_left *left, struct pids *ret)
{
    add(ret, leader);
    for (size_t i = 0; i < left->n; i++) {
        if (strcmp(left->items[i].token, token) == 0) {
            add(ret, left->items[i].pid);
        }
    }
    for (size_t i = 0; i < ret->n; i++) {
        tree_children(ret->items[i], add, ret);
    }
}

/* ---- measuring ---- */

static int64_t resident_kb(pid_t pid)
{
    char path[64];
    long long all = 0;
    long long resident = 0;
    (void)snprintf(path, sizeof(path), "/proc/%ld/statm", (long)pid);
    FILE *f = fopen(path, "re");
    bool ok = f != NULL && fscanf(f, "%lld %lld", &all, &resident) == 2;
    if (f != NULL) {
        (void)fclose(f);
    }
    return ok ? resident * (sysconf(_SC_PAGESIZE) / 1024) : 0;
}

/* Its share of what it has resident; -1 = the kernel does not tell. */
static int64_t share_kb(pid_t pid)
{
    char path[64];
    char line[256];
    long long kb = -1;
    (void)snprintf(path, sizeof(path), "/proc/%ld/smaps_rollup", (long)pid);
    FILE *f = fopen(path, "re");
    while (f != NULL && kb < 0 && fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "Pss: %lld kB", &kb) != 1) {
            kb = -1;
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return kb;
}

static int64_t sum_kb(const struct pids *p, bool exact)
{
    int64_t sum = 0;
    for (size_t i = 0; i < p->n; i++) {
        int64_t kb = exact ? share_kb(p->items[i]) : -1;
        sum += kb >= 0 ? kb : resident_kb(p->items[i]);
    }
    return sum;
}

void tree_measure(pid_t leader, const char *token, const struct tree_left *left,
                  int64_t exact_above_mb, struct tree *ret)
{
    struct pids p = {0};
    find(leader, token, left, &p);
    int64_t mb = sum_kb(&p, false) >> 10;
    if (mb > exact_above_mb && p.n > 1) {
        mb = sum_kb(&p, true) >> 10;
    }
    *ret = (struct tree){.processes = (int64_t)p.n, .memory_mb = mb};
    free(p.items);
}

/* ---- killing ---- */

/* Stopped first, so that none of them starts another while the others are killed. */
static bool is_it(void *arg, pid_t pid)
{
    return *(const pid_t *)arg == pid;
}

void tree_kill(pid_t leader, const char *token)
{
    size_t before = 0;
    for (int round = 0; round < KILL_ROUNDS; round++) {
        struct pids p = {0};
        struct tree_left left;
        (void)kill(-leader, SIGSTOP);
        tree_find_left(is_it, &leader, &left);
        find(leader, token, &left, &p);
        free(left.items);
        for (size_t i = 0; i < p.n; i++) {
            (void)kill(p.items[i], SIGSTOP);
        }
        size_t n = p.n;
        bool last = n == before || round + 1 == KILL_ROUNDS;
        for (size_t i = 0; last && i < n; i++) {
            (void)kill(p.items[i], SIGKILL);
        }
        free(p.items);
        if (last) {
            break;
        }
        before = n;
    }
    (void)kill(-leader, SIGKILL);
}
