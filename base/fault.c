/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"

#ifdef MAG_FAULTS
#include "base/alloc.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FAULT_POINTS_MAX 16

struct point {
    char name[64];
    char action[16];
    long left;
    bool sticky;
};

static struct point points[FAULT_POINTS_MAX];
static int n_points;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool armed;

static void parse_one(char *item)
{
    struct point *p = &points[n_points];
    char *eq = strchr(item, '=');
    if (eq == NULL || n_points == FAULT_POINTS_MAX) {
        return;
    }
    *eq = '\0';
    char *colon = strchr(item, ':');
    p->left = 1;
    if (colon != NULL) {
        *colon = '\0';
        p->left = strtol(colon + 1, NULL, 10);
    }
    (void)snprintf(p->name, sizeof(p->name), "%s", item);
    (void)snprintf(p->action, sizeof(p->action), "%s", eq + 1);
    size_t n = strlen(p->action);
    if (n > 0 && p->action[n - 1] == '*') {
        p->sticky = true;
        p->action[n - 1] = '\0';
    }
    n_points++;
}

static void parse_all(void)
{
    const char *env = getenv("MAGPIE_FAULTS");
    if (env == NULL) {
        return;
    }
    char *copy = xstrdup(env);
    char *save = NULL;
    for (char *item = strtok_r(copy, ",", &save); item != NULL; item = strtok_r(NULL, ",", &save)) {
        parse_one(item);
    }
    free(copy);
    atomic_store(&armed, n_points > 0);
}

static bool act(const char *action)
{
    if (strcmp(action, "kill") == 0) {
        (void)kill(getpid(), SIGKILL);
    } else if (strcmp(action, "stop") == 0) {
        (void)kill(getpid(), SIGSTOP);
    } else if (strcmp(action, "abort") == 0) {
        abort();
    } else if (strcmp(action, "exit") == 0) {
        _exit(3);
    } else if (strncmp(action, "sleep", 5) == 0) {
        (void)poll(NULL, 0, (int)strtol(action + 5, NULL, 10));
    }
    return strcmp(action, "fail") == 0;
}

bool fault_hit(const char *name)
{
    (void)pthread_once(&once, parse_all);
    if (!atomic_load_explicit(&armed, memory_order_relaxed)) {
        return false;
    }
    bool fire = false;
    const char *action = "";
    (void)pthread_mutex_lock(&lock);
    for (int i = 0; i < n_points; i++) {
        struct point *p = &points[i];
        if (strcmp(p->name, name) == 0 && (p->left > 1 || p->left == 1 || p->sticky)) {
            p->left--;
            if (p->left == 0 || (p->left < 0 && p->sticky)) {
                fire = true;
                action = p->action;
            }
        }
    }
    (void)pthread_mutex_unlock(&lock);
    return fire && act(action);
}
#endif
