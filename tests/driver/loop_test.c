/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver on a disk whose power fails (power_vfs.h): no reply is released before the sync of its
 * commit, and whatever sync the power fails at, a driver that starts on what is left has every
 * acknowledged trial, and at most the one commit more that was in flight. A plain program that
 * speaks TAP: Criterion and nng do not go into one binary.
 */
#include "base/log.h"
#include "driver/driver.h"
#include "tests/driver/power_vfs.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROUNDS 12
#define GRANTS 3 /* trials of one ask: one event, one commit */

static const char spec[] = "{\"objective\":{\"metric\":\"m\",\"direction\":\"min\"},"
                           "\"searchspace\":{\"x\":{\"type\":\"DOUBLE\",\"range\":[0,1]}},"
                           "\"optimizer\":{\"algorithm\":\"random\"},\"seed\":1}";

static int failures;

static void check(bool ok, const char *what, int at)
{
    if (!ok) {
        failures++;
        (void)printf("# %s (power failed at sync %d)\n", what, at);
    }
}

struct session {
    struct driver *d;
    struct deferred df;
    struct event *next;
    int64_t experiment;
    int rounds;       /* asked */
    int acknowledged; /* released with ok */
    bool dark;        /* a commit failed */
    bool early;       /* a reply was released while bytes were not synced */
};

static void on_released(struct deferred *df, bool ok)
{
    struct session *s = container_of(df, struct session, df);
    s->early = s->early || (ok && power_unsynced() > 0);
    s->acknowledged += ok;
    s->dark = !ok;
    if (!ok || s->rounds == ROUNDS) {
        driver_stop(s->d);
    } else {
        event_active(s->next, EV_TIMEOUT, 0);
    }
}

static void ask(evutil_socket_t fd, short what, void *arg)
{
    struct session *s = arg;
    struct mag_err err = {0};
    enum mag_status st = MAG_OK;
    if (s->experiment == 0) {
        struct experiment *x = NULL;
        struct mjson_issues is = {0};
        st = driver_submit(s->d, spec, sizeof(spec) - 1, NULL, &x, &is, &err);
        s->experiment = st == MAG_OK ? x->id : 0;
    } else {
        struct event ev;
        event_init(&ev, EV_ASK);
        ev.count = GRANTS;
        st = driver_apply(s->d, driver_experiment(s->d, s->experiment), &ev, &err);
        event_fini(&ev);
        s->rounds++;
    }
    check(st == MAG_OK, err.text, 0);
    s->df.fn = on_released;
    driver_after_commit(s->d, &s->df);
}

static struct driver *start(const char *folder, struct mag_err *err)
{
    struct driver_config cfg = {
        .data_dir = folder, .http_addr = "127.0.0.1:0", .durability = STORE_FULL};
    struct driver *d = NULL;
    return driver_start(&d, &cfg, err) == MAG_OK ? d : NULL;
}

/* Runs rounds until the power fails. */
static struct session run(const char *folder)
{
    struct session s = {0};
    s.d = start(folder, NULL);
    if (s.d == NULL) {
        s.dark = true;
        return s;
    }
    s.next = event_new(driver_base(s.d), -1, 0, ask, &s);
    event_active(s.next, EV_TIMEOUT, 0);
    (void)driver_run(s.d);
    event_free(s.next);
    driver_destroy(s.d);
    return s;
}

static int remove_one(const char *path, const struct stat *sb, int kind, struct FTW *w)
{
    return remove(path);
}

/* A driver on what the disk may hold. */
static void check_image(const struct session *s, int at, enum power_loss loss)
{
    char image[] = "/tmp/magpie-loop-XXXXXX";
    struct mag_err err = {0};
    check(mkdtemp(image) != NULL, "mkdtemp", at);
    power_image(image, loss, (uint64_t)at);
    power_reset(0);
    struct driver *d = start(image, &err);
    check(d != NULL, err.text, at);
    if (d != NULL) {
        struct experiment *x = driver_next(d, NULL);
        int64_t trials = x != NULL ? study_trials(x->study) : 0;
        /* The first acknowledgement is the experiment's. */
        int64_t least = s->acknowledged > 0 ? (int64_t)(s->acknowledged - 1) * GRANTS : 0;
        check(s->acknowledged == 0 || x != NULL, "an acknowledged experiment is gone", at);
        check(trials >= least, "an acknowledged trial is gone", at);
        check(trials <= least + GRANTS && trials % GRANTS == 0, "part of a commit is there", at);
        driver_destroy(d);
    }
    (void)nftw(image, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int fail_everywhere(void)
{
    int points = 0;
    for (bool dark = true; dark; points++) {
        for (int loss = 0; loss < POWER_LOSSES && dark; loss++) {
            char folder[] = "/tmp/magpie-loop-XXXXXX";
            check(mkdtemp(folder) != NULL, "mkdtemp", points + 1);
            power_reset(points + 1);
            struct session s = run(folder);
            dark = power_failed();
            check(!s.early, "a reply left before the sync of its commit", points + 1);
            check(dark || s.acknowledged == ROUNDS + 1, "a reply never came", points + 1);
            check_image(&s, points + 1, (enum power_loss)loss);
            (void)nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
        }
    }
    return points - 1;
}

int main(void)
{
    log_set_level(LOG_ERROR + 1);
    power_install();
    int points = fail_everywhere();
    check(points >= ROUNDS, "too few sync points", points);
    (void)printf("%s 1 - acknowledged_trials_survive_a_power_failure_at_any_of_%d_syncs\n1..1\n",
                 failures == 0 ? "ok" : "not ok", points);
    return failures == 0 ? 0 : 1;
}
