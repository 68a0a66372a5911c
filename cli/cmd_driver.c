/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/datadir.h"
#include "driver/driver.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_signal(evutil_socket_t number, short what, void *arg)
{
    (void)number;
    (void)what;
    driver_stop(arg);
}

/* Runs until a signal; the ready line is out before the first turn of the loop. */
static int serve(struct driver *d, const char *dir)
{
    struct event *term = evsignal_new(driver_base(d), SIGTERM, on_signal, d);
    struct event *intr = evsignal_new(driver_base(d), SIGINT, on_signal, d);
    int status = CMD_FAILED;
    if (term != NULL && intr != NULL && event_add(term, NULL) == 0 && event_add(intr, NULL) == 0) {
        datadir_note_address(dir, driver_http_url(d), driver_nng_url(d));
        (void)printf("ready http=%s nng=%s\n", driver_http_url(d), driver_nng_url(d));
        (void)fflush(stdout);
        status = driver_run(d);
        datadir_forget_address(dir);
    }
    if (term != NULL) {
        event_free(term);
    }
    if (intr != NULL) {
        event_free(intr);
    }
    return status;
}

static int start(struct driver_config *cfg)
{
    struct mag_err err = {0};
    char *own = cfg->data_dir == NULL ? cmd_default_data_dir() : NULL;
    char *dir = NULL;
    struct driver *d = NULL;
    int status = CMD_FAILED;
    enum mag_status st = datadir_make(cfg->data_dir != NULL ? cfg->data_dir : own, &dir, &err);
    if (st == MAG_OK) {
        cfg->data_dir = dir;
        st = driver_start(&d, cfg, &err);
    }
    if (st == MAG_OK) {
        status = serve(d, dir);
        driver_destroy(d);
    } else {
        status = cmd_fail(&err);
    }
    free(dir);
    free(own);
    return status;
}

int cmd_driver(int argc, char **argv)
{
    static const char *const durabilities[] = {"full", "normal", NULL};
    struct driver_config cfg = {0};
    const char *durability = NULL;
    const struct flag flags[] = {
        FLAG(FLAG_TEXT, "data", &cfg.data_dir, "DIR",
             "folder of store, token and logs [$XDG_DATA_HOME/magpie]"),
        FLAG(FLAG_TEXT, "store", &cfg.store_url, "URL",
             "the record: sqlite:PATH [sqlite:DIR/magpie.db]"),
        FLAG(FLAG_TEXT, "http", &cfg.http_addr, "ADDR:PORT", "REST and board; port 0 = any",
             .fallback = "127.0.0.1:8470"),
        FLAG(FLAG_TEXT, "listen", &cfg.listen_urls, "URL[,URL]",
             "where workers connect: tcp://, tls+tcp:// (with --tls-cert), ipc://; port 0 = any",
             .fallback = "tcp://127.0.0.1:8471"),
        FLAG(FLAG_TEXT, "storage", &cfg.storage_url, "URL",
             "checkpoints and outputs: a folder, s3://, swift:// or hdfs:// "
             "(docs/STORAGE.md) [file:DIR/storage]"),
        FLAG(FLAG_TEXT, "durability", &durability, "MODE",
             "full: synced before an acknowledgement; normal: survives kill -9, may lose the last "
             "seconds on power loss",
             .fallback = "full", .choices = durabilities),
        FLAG(FLAG_DURATION, "heartbeat", &cfg.heartbeat_ms, "TIME", "how often workers report",
             .fallback = "2s", .min = 20, .max = 600000),
        FLAG(FLAG_DURATION, "lease", &cfg.lease_ms, "TIME",
             "silence after which a trial goes to another worker", .fallback = "15s", .min = 100,
             .max = 86400000),
        FLAG(FLAG_DURATION, "gc", &cfg.gc_ms, "TIME",
             "how often garbage in storage is collected; 0 = only by 'magpie gc'", .fallback = "1h",
             .min = 0, .max = 31536000000),
        FLAG(FLAG_SIZE, "storage-quota", &cfg.quota_bytes, "SIZE",
             "bytes of storage after which workers get no new trials, such as 500GB; 0 = no quota",
             .fallback = "0"),
        FLAG(FLAG_TEXT, "allow-host", &cfg.allow_hosts, "NAME[,NAME]",
             "further names that browsers may call this host by"),
        FLAG(FLAG_BOOL, "require-token", &cfg.require_token, NULL,
             "ask for the token on loopback too"),
        FLAG(FLAG_TEXT, "tls-cert", &cfg.tls_cert, "FILE",
             "certificate chain (PEM): serves HTTPS, and workers on tls+tcp://"),
        FLAG(FLAG_TEXT, "tls-key", &cfg.tls_key, "FILE", "its private key (PEM)"),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie driver",
        .args = "",
        .flags = flags,
        .summary = "The service: owns experiments, the trial queue and the record; serves REST and "
                   "the board.",
        .detail =
            "When both sockets accept it prints one line on standard output:\n"
            "  ready http=http://127.0.0.1:8470 nng=tcp://127.0.0.1:8471\n"
            "SIGTERM and Ctrl-C drain: no new trials, the last turn is committed, exit status 0.\n"
            "Killed at any time, it goes on from its record when started again."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    if (cfg.lease_ms < 2 * cfg.heartbeat_ms) {
        return cmd_failf(
            CMD_USAGE, "--lease must be at least twice --heartbeat, or every delay costs a trial");
    }
    if ((cfg.tls_cert == NULL) != (cfg.tls_key == NULL)) {
        return cmd_failf(CMD_USAGE, "--tls-cert and --tls-key go together");
    }
    cfg.durability = strcmp(durability, "normal") == 0 ? STORE_NORMAL : STORE_FULL;
    return start(&cfg);
}
