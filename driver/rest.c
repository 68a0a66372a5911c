/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of routes. It drives dispatch, 405 answers and /openapi.json; a test compares them. The
 * hot ones come first.
 */
#include "driver/rest.h"

#define API "/api/v1"
#define EXPERIMENT API "/experiments/{id}"
#define TRIAL EXPERIMENT "/trials/{trial}"
#define ON_X HTTP_F_EXPERIMENT
#define ON_T (HTTP_F_EXPERIMENT | HTTP_F_TRIAL)
#define BODY HTTP_F_BODY
#define NUMBERS (HTTP_F_BODY | HTTP_F_NAN)

const struct http_route rest_routes[] = {
    {HTTP_POST, EXPERIMENT "/ask", rest_ask, ON_X | BODY | HTTP_F_HOLDS, "ask",
     "Take trials to run"},
    {HTTP_POST, TRIAL "/tell", rest_tell, ON_X | NUMBERS, "tell", "End a trial"},
    {HTTP_POST, TRIAL "/report", rest_report, ON_X | NUMBERS, "report",
     "Report metrics of a running trial"},
    {HTTP_POST, EXPERIMENT "/tell", rest_tell_many, ON_X | NUMBERS, "tellMany",
     "End several trials in one commit"},
    {HTTP_POST, EXPERIMENT "/report", rest_report_many, ON_X | NUMBERS, "reportMany",
     "Report metrics of several trials in one commit"},

    {HTTP_POST, API "/experiments", rest_experiments_post, BODY, "createExperiment",
     "Start an experiment"},
    {HTTP_GET, API "/experiments", rest_experiments_list, 0, "listExperiments", "List experiments"},
    {HTTP_GET, EXPERIMENT, rest_experiment_get, ON_X, "getExperiment", "One experiment"},
    {HTTP_DELETE, EXPERIMENT, rest_experiment_delete, ON_X, "deleteExperiment",
     "Delete an ended experiment"},
    {HTTP_POST, EXPERIMENT ":pause", rest_experiment_pause, ON_X | BODY, "pauseExperiment",
     "Give no new trials; running ones finish, or stop at their next checkpoint"},
    {HTTP_POST, EXPERIMENT ":resume", rest_experiment_resume, ON_X | BODY, "resumeExperiment",
     "Go on after a pause"},
    {HTTP_POST, EXPERIMENT ":cancel", rest_experiment_cancel, ON_X | BODY, "cancelExperiment",
     "End an experiment and its open trials"},
    {HTTP_POST, EXPERIMENT ":extend", rest_experiment_extend, ON_X | BODY, "extendExperiment",
     "More trials, more time, another target; reopens a completed experiment"},
    {HTTP_POST, EXPERIMENT ":note", rest_experiment_note, ON_X | BODY, "noteExperiment",
     "Set tags and notes"},
    {HTTP_POST, EXPERIMENT ":fork", rest_experiment_fork, ON_X | BODY, "forkExperiment",
     "Start a copy with changes (a JSON merge patch)"},
    {HTTP_POST, EXPERIMENT ":repeat", rest_experiment_repeat, ON_X | BODY, "repeatBest",
     "Run the best k trials again with n seeds each, as new experiments"},
    {HTTP_GET, EXPERIMENT "/best", rest_experiment_best, ON_X, "getBest", "The best trial"},
    {HTTP_GET, EXPERIMENT "/result", rest_experiment_result, ON_X, "getResult",
     "What the experiment found"},
    {HTTP_GET, EXPERIMENT "/importance", rest_experiment_importance, ON_X, "getImportance",
     "How much each parameter explains of the objective"},
    {HTTP_GET, EXPERIMENT "/pareto", rest_experiment_pareto, ON_X, "getPareto",
     "The best trade-offs of several objectives"},
    {HTTP_GET, EXPERIMENT "/ablation", rest_experiment_ablation, ON_X, "getAblation",
     "What the objective becomes without each component"},

    {HTTP_GET, EXPERIMENT "/curves", rest_experiment_curves, ON_X, "getCurves",
     "The objective of many trials over their steps"},

    {HTTP_GET, EXPERIMENT "/trials", rest_trials_list, ON_X, "listTrials", "List trials"},
    {HTTP_POST, EXPERIMENT "/trials", rest_trials_enqueue, ON_X | BODY, "enqueueTrial",
     "Enqueue a point of one's own"},
    {HTTP_GET, TRIAL, rest_trial_get, ON_T, "getTrial", "One trial"},
    {HTTP_POST, TRIAL ":cancel", rest_trial_cancel, ON_X | BODY, "cancelTrial", "Take a trial out"},
    {HTTP_POST, TRIAL ":retry", rest_trial_retry, ON_X | BODY, "retryTrial",
     "Run a trial again under a new id"},
    {HTTP_POST, TRIAL ":note", rest_trial_note, ON_X | BODY, "noteTrial", "Set a trial's notes"},
    {HTTP_GET, TRIAL "/metrics", rest_trial_metrics, ON_T, "getTrialMetrics",
     "What a trial reported"},
    {HTTP_GET, TRIAL "/log", rest_trial_log, ON_T, "getTrialLog",
     "The output of a trial's program"},

    {HTTP_GET, API "/workers", rest_workers_list, HTTP_F_AT_ONCE, "listWorkers", "List workers"},
    {HTTP_POST, API "/workers/{worker}:drain", rest_worker_drain, BODY, "drainWorker",
     "A worker takes no new trial, finishes those it has and goes"},
    {HTTP_GET, API "/storage", rest_storage_get, 0, "getStorage",
     "What experiments hold in shared storage"},
    {HTTP_POST, API "/storage:gc", rest_storage_gc, BODY, "collectGarbage",
     "Remove from storage what nothing needs any more"},
    {HTTP_GET, API "/events", rest_events, HTTP_F_AT_ONCE, "events",
     "What happens, as server-sent events"},

    {HTTP_GET, "/metrics", rest_prometheus, HTTP_F_AT_ONCE, "metrics", "Figures for Prometheus"},
    {HTTP_GET, "/healthz", rest_healthz, HTTP_F_AT_ONCE | HTTP_F_PUBLIC, "healthz",
     "Is the driver alive?"},
    {HTTP_GET, "/readyz", rest_readyz, HTTP_F_AT_ONCE | HTTP_F_PUBLIC, "readyz",
     "Does it take writes?"},
    {HTTP_GET, "/openapi.json", rest_openapi, HTTP_F_AT_ONCE | HTTP_F_PUBLIC, "openapi",
     "This description"},
    {HTTP_GET, "/schema/experiment.json", rest_schema, HTTP_F_AT_ONCE | HTTP_F_PUBLIC,
     "experimentSchema", "JSON Schema of the experiment file"},
    {HTTP_GET, "/debug/digest", rest_debug_digest, 0, "digest",
     "Digest of every experiment's state, for tests"},
    {.path = NULL},
};
