/* SPDX-License-Identifier: Apache-2.0
 *
 * The REST interface: its table of routes and its handlers, one file a noun. Everything a handler
 * shows or does goes through driver.h; nothing here keeps state of its own beyond held asks.
 */
#ifndef MAG_DRIVER_REST_H
#define MAG_DRIVER_REST_H

#include "driver/http.h"

#define REST_LIMIT_DEFAULT 100 /* entries of a list */
#define REST_LIMIT_MAX 1000

/* Every route, ended by a NULL path. */
extern const struct http_route rest_routes[];

/* ---- held asks (rest_ask.c), called by the loop ---- */
void rest_serve_waiters(struct driver *d, struct experiment *x);
/* The experiment goes, or the driver ends: held asks are answered now. */
void rest_drop_waiters(struct driver *d, struct experiment *x);
/* The study was brought back to what is stored: an ask that was half answered is refused. */
void rest_fail_begun(struct driver *d, struct experiment *x);

/* ---- JSON (rest_json.c) ---- */
/* The parts of a trial or experiment as design says. `full` adds the resolved spec and limits. */
void rest_add_experiment(struct buf *out, struct driver *d, const struct experiment *x, bool full);
/* As rest_add_trial, by what its point counts: with folds `value` is their mean. */
void rest_add_best(struct buf *out, struct driver *d, const struct experiment *x,
                   const struct trial *t);
void rest_add_trial(struct buf *out, struct driver *d, const struct experiment *x,
                    const struct trial *t);
void rest_add_params(struct buf *out, const struct space *s, const double *point);
/* "2026-…" or null for 0. */
void rest_add_time(struct buf *out, int64_t wall_ms);
void rest_add_json(struct buf *out, const json_t *value);
/* {"code":…,"text":…} or null. */
void rest_add_why(struct buf *out, const char *code, const char *text);

/* ---- reading bodies (rest_body.c) ---- */
/* True when the call's experiment cannot be replayed: the problem was sent. */
bool rest_refuse_broken(struct http_call *c);
/* Each adds an issue under "/key" when the value is wrong; absent keys leave the default. */
int64_t body_int(const json_t *body, const char *key, int64_t lo, int64_t hi, int64_t def,
                 struct mjson_issues *is);
bool body_bool(const json_t *body, const char *key, bool def, struct mjson_issues *is);
/* Borrowed from the body; NULL when absent or null. */
const char *body_text(const json_t *body, const char *key, size_t max, struct mjson_issues *is);
/* Milliseconds of a duration ("30s", 30); 0 and "0" are 0. */
int64_t body_duration(const json_t *body, const char *key, int64_t max_ms, int64_t def,
                      struct mjson_issues *is);
/* A number as trials send it: null, "NaN" and "inf" become NaN. */
bool body_number(const json_t *value, double *ret);
/* "client" and "request" of an idempotent POST and the hash of its body, into the event. */
void body_request(struct http_call *c, const json_t *body, struct event *ev,
                  struct mjson_issues *is);
/* FNV-1a 128 of the body's canonical text, 32 hex digits. */
void body_hash(const json_t *body, char out[33]);

/* ---- handlers ---- */
void rest_experiments_post(struct http_call *c);
void rest_experiments_list(struct http_call *c);
void rest_experiment_get(struct http_call *c);
void rest_experiment_delete(struct http_call *c);
void rest_experiment_pause(struct http_call *c);
void rest_experiment_resume(struct http_call *c);
void rest_experiment_cancel(struct http_call *c);
void rest_experiment_extend(struct http_call *c);
void rest_experiment_note(struct http_call *c);
void rest_experiment_fork(struct http_call *c);
void rest_experiment_repeat(struct http_call *c);
void rest_experiment_best(struct http_call *c);
void rest_experiment_result(struct http_call *c);
void rest_experiment_importance(struct http_call *c);
void rest_experiment_pareto(struct http_call *c);
void rest_experiment_ablation(struct http_call *c);
void rest_ask(struct http_call *c);
void rest_report(struct http_call *c);
void rest_tell(struct http_call *c);
void rest_report_many(struct http_call *c);
void rest_tell_many(struct http_call *c);
void rest_trials_list(struct http_call *c);
void rest_trial_get(struct http_call *c);
void rest_trials_enqueue(struct http_call *c);
void rest_trial_cancel(struct http_call *c);
void rest_trial_retry(struct http_call *c);
void rest_trial_note(struct http_call *c);
void rest_trial_metrics(struct http_call *c);
void rest_experiment_curves(struct http_call *c);
void rest_trial_log(struct http_call *c);
void rest_storage_get(struct http_call *c);
void rest_storage_gc(struct http_call *c);
void rest_workers_list(struct http_call *c);
void rest_worker_drain(struct http_call *c);
void rest_events(struct http_call *c);
void rest_prometheus(struct http_call *c);
void rest_healthz(struct http_call *c);
void rest_readyz(struct http_call *c);
void rest_openapi(struct http_call *c);
void rest_schema(struct http_call *c);
void rest_debug_digest(struct http_call *c);
/* Answers a GET of one of the board's files; false = there is none at this path. */
bool rest_asset(struct http_call *c, const char *path);

#endif
