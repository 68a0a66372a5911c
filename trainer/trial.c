/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/trial.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/pcg.h"
#include "trainer/checkpoint.h"
#include "trainer/describe.h"
#include "trainer/room.h"
#include "trainer/server.h"
#include "trainer/tally.h"
#include "trainer/team.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct run {
    const struct trial_job *job;
    const struct recipe *recipe;
    const struct dataset *d;
    const struct trial_hooks *hooks;
    struct net *net;
    struct team *team;     /* NULL = one process */
    struct server *server; /* NULL = no parameter server */
    int batch_size;        /* of all ranks together */
    struct update update;
    struct plateau plateau;
    struct feed *feed;
    char *signature;
    char *description; /* of the model, for checkpoints */
    uint32_t *order;   /* this epoch's order of training rows */
    int64_t epoch;     /* the one that runs, or the last done */
    int64_t budget;
    bool pause; /* asked for: at the end of the epoch */
    struct trial_result *result;
    struct mag_err *err;
};

/* ---- batches ---- */

void trial_draw_order(const struct trial_job *job, const struct training *t,
                      const struct dataset *d, int64_t epoch, uint32_t *order)
{
    char purpose[64];
    struct pcg64 g;
    memcpy(order, d->train, d->n_train * sizeof(*order));
    if (t->order == ORDER_OF_EXPERIMENT) {
        (void)snprintf(purpose, sizeof(purpose), "shuffle");
    } else {
        (void)snprintf(purpose, sizeof(purpose), "shuffle:%lld", (long long)job->trial);
    }
    pcg_stream(&g, job->seed, purpose, (uint64_t)epoch);
    pcg64_shuffle(&g, order, d->n_train);
}

static enum trial_order poll_order(const struct run *r)
{
    return r->hooks->poll != NULL ? r->hooks->poll(r->hooks->ctx) : ORDER_NONE;
}

struct feed_lane trial_feed_lane(const struct trial_job *job, const struct training *t,
                                 int64_t epoch, const uint32_t *rows)
{
    return (struct feed_lane){
        .rows = rows,
        .augmentation = &t->augmentation,
        .stream = {.seed = job->seed,
                   .owner = t->order == ORDER_OF_EXPERIMENT ? 0 : job->trial,
                   .epoch = epoch}};
}

void trial_watch_plateau(const struct training *t, const struct dataset *d, const struct metrics *m,
                         struct plateau *p)
{
    struct schedule s = t->schedule;
    if (s.kind != SCHEDULE_PLATEAU) {
        return;
    }
    if (d->n_val == 0 && strncmp(s.metric, "val_", 4) == 0) {
        s.metric = "train_loss";
        s.larger = false;
    }
    plateau_step(&s, (double)t->update.lr, metrics_get(m, s.metric), p);
}

enum mag_status trial_diverged(const char *of, int64_t epoch, int64_t updates, struct mag_err *err)
{
    return mag_fail(err, MAG_CONFLICT,
                    "the loss%s is no finite number any more, at step %lld of the optimizer, in "
                    "epoch %lld: a lower \"lr\", \"clip_norm\" or \"warmup\" may help",
                    of, (long long)updates, (long long)epoch);
}

/* True when the trial must end now. */
static bool obey(struct run *r, enum trial_order o)
{
    switch (o) {
    case ORDER_STOP:
        r->result->end = TRIAL_STOPPED;
        return true;
    case ORDER_EXIT:
        r->result->end = TRIAL_EXITED;
        return true;
    case ORDER_PAUSE:
        r->pause = true;
        return false;
    case ORDER_NONE:
    default:
        return false;
    }
}

/* One step on a batch of `whole` rows in all ranks, unless an order ends the trial: *ended. Over
 * several ranks rank 0's order travels with the gradients, so that all obey it at the same batch.
 */
static enum mag_status train_batch(struct run *r, const struct batch *batch, int whole,
                                   const struct pass_lane *lane, bool *ended, struct score *score)
{
    const struct loss loss = r->recipe->training.loss;
    const struct pass pass = {.training = true, .lanes = lane};
    int order = (int)poll_order(r);
    enum mag_status st = MAG_OK;
    if (r->team == NULL && obey(r, (enum trial_order)order)) {
        *ended = true;
        return MAG_OK;
    }
    training_next(&r->recipe->training, &r->update);
    if (r->team == NULL) {
        net_train(r->net, batch, loss, &pass, &r->update, score);
        return MAG_OK;
    }
    st = team_train(r->team, batch, whole, loss, lane, &r->update, &order, (int)ORDER_PAUSE, score,
                    r->err);
    *ended = st == MAG_OK && obey(r, (enum trial_order)order);
    return st;
}

/* This rank's part of the epoch, in mini-batches of its own; rank 0's orders reach the others by
 * the server. */
static enum mag_status train_with_server(struct run *r, struct pass_lane *lane, bool *ended,
                                         struct score *score)
{
    uint32_t from = 0;
    uint32_t n_rows = 0;
    team_share(r->team, r->d->n_train, &from, &n_rows);
    lane->batch = (int64_t)(from / (uint32_t)r->batch_size) + r->job->ranks->rank;
    struct feed_lane rows =
        trial_feed_lane(r->job, &r->recipe->training, r->epoch, r->order + from);
    rows.stream.batch = lane->batch;
    feed_begin(r->feed, &rows, 1, n_rows);
    struct batch batch;
    for (int first = 0; feed_next(r->feed, &batch, &first) > 0; lane->batch++) {
        server_order(r->server, (int)poll_order(r));
        if (server_ordered(r->server) > (int)ORDER_PAUSE) {
            break;
        }
        if (fault_hit("trainer.batch")) {
            return mag_fail(r->err, MAG_IO, "a fault was asked for at a batch");
        }
        server_train(r->server, &batch, r->recipe->training.loss, lane, &r->update, score);
    }
    server_flush(r->server, &r->update);
    enum mag_status st = server_settle(r->server, &r->update.count, r->err);
    *ended = st == MAG_OK && obey(r, (enum trial_order)server_ordered(r->server));
    return st;
}

/* The epoch's batches; each is all ranks'. */
static enum mag_status train_batches(struct run *r, struct pass_lane *lane, bool *ended,
                                     struct score *score)
{
    const struct feed_lane rows =
        trial_feed_lane(r->job, &r->recipe->training, r->epoch, r->order);
    struct batch batch;
    feed_begin(r->feed, &rows, 1, r->d->n_train);
    for (int n = 0; (n = feed_next(r->feed, &batch, &lane->first_row)) > 0; lane->batch++) {
        if (fault_hit("trainer.batch")) {
            return mag_fail(r->err, MAG_IO, "a fault was asked for at a batch");
        }
        enum mag_status st = train_batch(r, &batch, n, lane, ended, score);
        if (st != MAG_OK || *ended) {
            return st;
        }
        /* Ranks see only their own rows' losses: they end together, after the epoch. */
        if (r->team == NULL && !isfinite(score->loss)) {
            return trial_diverged("", r->epoch, r->update.count, r->err);
        }
        r->result->batches++;
    }
    return MAG_OK;
}

/* One epoch of training. *ended when an order ended the trial. */
static enum mag_status train_epoch(struct run *r, bool *ended, struct score *score)
{
    const struct training *t = &r->recipe->training;
    struct pass_lane lane = {.seed = r->job->seed, .trial = r->job->trial, .epoch = r->epoch};
    trial_draw_order(r->job, t, r->d, r->epoch, r->order);
    r->update.lr = (float)schedule_rate(&t->schedule, &r->plateau, (double)t->update.lr, r->epoch);
    int64_t start = clock_mono_ns();
    enum mag_status st = r->server != NULL ? train_with_server(r, &lane, ended, score)
                                           : train_batches(r, &lane, ended, score);
    /* Waits for what is queued, and for the scores of it. */
    enum mag_status queued = r->net->ops->check(r->net->backend, st == MAG_OK ? r->err : NULL);
    if (st != MAG_OK || queued != MAG_OK || *ended) {
        return st != MAG_OK ? st : queued;
    }
    r->result->train_seconds += (double)(clock_mono_ns() - start) / (double)MAG_NS_PER_S;
    r->result->train_rows += r->d->n_train;
    return MAG_OK;
}

/* Rows of a part, this rank's share of them; the most urgent order that came meanwhile. */
static void score_rows(struct run *r, const uint32_t *rows, uint32_t n_rows, bool *ended,
                       struct score *score, int *order)
{
    const struct loss loss = {.kind =
                                  r->recipe->training.loss.kind}; /* smoothing is for training */
    for (uint32_t at = 0; at < n_rows && !*ended;) {
        int came = (int)poll_order(r);
        *order = came > *order ? came : *order;
        if (r->team == NULL && obey(r, (enum trial_order) * order)) {
            *ended = true;
            return;
        }
        uint32_t left = n_rows - at;
        int n = left < (uint32_t)r->net->rows ? (int)left : r->net->rows;
        const struct batch batch = {.d = r->d, .rows = rows + at, .n = n};
        net_score(r->net, &batch, NULL, loss, score);
        at += (uint32_t)n;
    }
}

static enum mag_status score_part(struct run *r, int part, const uint32_t *rows, uint32_t n_rows,
                                  bool *ended)
{
    if (n_rows == 0) {
        return MAG_OK;
    }
    struct score score = {.tally = tally_create(r->d->n_classes, n_rows)};
    uint32_t from = 0;
    uint32_t n = 0;
    int order = (int)ORDER_NONE;
    team_share(r->team, n_rows, &from, &n);
    score_rows(r, rows + from, n, ended, &score, &order);
    enum mag_status st = r->net->ops->check(r->net->backend, r->err);
    if (st == MAG_OK && r->team != NULL) {
        st = team_sum_score(r->team, &score, r->d->n_classes, n_rows, &order, r->err);
        *ended = st == MAG_OK && obey(r, (enum trial_order)order);
    }
    if (st == MAG_OK && !*ended) {
        metrics_add_part(&r->result->metrics, part, r->d->n_classes, &score);
    }
    tally_destroy(score.tally);
    if (st == MAG_OK && !*ended && !isfinite(score.loss)) {
        return trial_diverged(part == PART_TEST ? " of the test part" : " of the validation part",
                              r->epoch, r->update.count, r->err);
    }
    return st;
}

/* ---- epochs ---- */

static enum mag_status save(struct run *r)
{
    if (r->job->checkpoint_dir == NULL || (r->job->ranks != NULL && r->job->ranks->rank > 0)) {
        return MAG_OK;
    }
    struct checkpoint_info info = {.signature = r->signature,
                                   .optimizer = r->update.kind,
                                   .step = r->epoch,
                                   .average = r->net->average,
                                   .plateau = r->plateau,
                                   .description = r->description,
                                   .updates = r->update.count};
    char *path = NULL;
    enum mag_status st = checkpoint_save(r->job->checkpoint_dir, &info, r->net, &path, r->err);
    if (st == MAG_OK && r->hooks->checkpoint != NULL) {
        st = r->hooks->checkpoint(r->hooks->ctx, r->epoch, path, r->err);
    }
    free(path);
    return st;
}

static enum mag_status report(struct run *r)
{
    if (fault_hit("trainer.report")) {
        return mag_fail(r->err, MAG_IO, "a fault was asked for at a report");
    }
    r->result->step = r->epoch;
    return r->hooks->report != NULL
               ? r->hooks->report(r->hooks->ctx, r->epoch, &r->result->metrics, r->err)
               : MAG_OK;
}

/* The measures of the weights' averages, where there are any: of the test part at the budget. */
static enum mag_status measure(struct run *r, bool *ended)
{
    net_swap_average(r->net);
    enum mag_status st = score_part(r, 1, r->d->val, r->d->n_val, ended);
    if (st == MAG_OK && !*ended && r->epoch >= r->budget) {
        st = score_part(r, 2, r->d->test, r->d->n_test, ended);
    }
    net_swap_average(r->net);
    return st;
}

/* What the ranks counted and measured each on its own rows. */
static enum mag_status share_epoch(struct run *r, struct score *score, bool *ended)
{
    int order = (int)poll_order(r);
    enum mag_status st =
        team_sum_score(r->team, score, r->d->n_classes, r->d->n_train, &order, r->err);
    if (st == MAG_OK) {
        *ended = obey(r, (enum trial_order)order);
        st = team_mean_statistics(r->team, r->err);
    }
    return st;
}

/* Training, then the measures of this epoch: of the test part at the budget. */
static enum mag_status train_and_measure(struct run *r, bool *ended)
{
    struct score score = {0};
    r->result->metrics.n = 0;
    enum mag_status st = train_epoch(r, ended, &score);
    if (st == MAG_OK && !*ended && r->team != NULL) {
        st = share_epoch(r, &score, ended);
    }
    if (st == MAG_OK && !*ended && !isfinite(score.loss)) {
        return trial_diverged("", r->epoch, r->update.count, r->err);
    }
    if (st == MAG_OK && !*ended) {
        metrics_add_part(&r->result->metrics, PART_TRAIN, r->d->n_classes, &score);
        st = measure(r, ended);
    }
    return st;
}

/* Trains, measures, reports and saves one epoch. */
static enum mag_status run_epoch(struct run *r, bool *ended)
{
    enum mag_status st = train_and_measure(r, ended);
    if (st != MAG_OK || *ended) {
        return st;
    }
    trial_watch_plateau(&r->recipe->training, r->d, &r->result->metrics, &r->plateau);
    const int64_t every = r->job->checkpoint_every;
    const bool last = r->epoch == r->budget;
    const bool ends = last || r->pause;
    st = report(r);
    if (st == MAG_OK && (ends || (every > 0 && r->epoch % every == 0))) {
        st = save(r);
    }
    if (st == MAG_OK && ends) {
        r->result->end = last ? TRIAL_COMPLETED : TRIAL_PAUSED;
        *ended = true;
    }
    return st;
}

static enum mag_status load(struct run *r)
{
    struct checkpoint_info info = {.signature = r->signature, .optimizer = r->update.kind};
    enum mag_status st = checkpoint_load(r->job->resume_path, &info, r->net, r->err);
    if (st == MAG_OK) {
        r->epoch = info.step;
        r->update.count = info.updates;
        r->plateau = info.plateau;
    }
    return st;
}

/* Rank 0 reads the checkpoint, which may lie on its host alone. */
static enum mag_status load_and_spread(struct run *r)
{
    const unsigned slots = SLOT_BIT(SLOT_VALUE) | SLOT_BIT(SLOT_FIRST) | SLOT_BIT(SLOT_SECOND) |
                           (r->net->average ? SLOT_BIT(SLOT_AVERAGE) : 0);
    enum mag_status own = r->job->ranks->rank == 0 ? load(r) : MAG_OK;
    int64_t told[8] = {(int64_t)own,     r->epoch,       r->update.count,
                       r->plateau.begun, r->plateau.bad, r->plateau.cooling};
    memcpy(&told[6], &r->plateau.best, sizeof(double));
    memcpy(&told[7], &r->plateau.rate, sizeof(double));
    enum mag_status st = team_tell(r->team, told, 8, r->err);
    if (own != MAG_OK || st != MAG_OK) {
        return own != MAG_OK ? own : st;
    }
    if (told[0] != MAG_OK) {
        return mag_fail(r->err, (enum mag_status)told[0], "rank 0 could not read its checkpoint");
    }
    r->epoch = told[1];
    r->update.count = told[2];
    r->plateau =
        (struct plateau){.begun = told[3] != 0, .bad = (int)told[4], .cooling = (int)told[5]};
    memcpy(&r->plateau.best, &told[6], sizeof(double));
    memcpy(&r->plateau.rate, &told[7], sizeof(double));
    return team_spread(r->team, slots, r->err);
}

/* The most rows that this rank has in a batch. */
static int rows_here(const struct run *r)
{
    bool shared = r->job->ranks != NULL && r->job->plan->strategy == STRATEGY_ALLREDUCE;
    return shared ? team_rows(r->job->ranks, r->batch_size) : r->batch_size;
}

/* What the epochs are trained on; of ranks with a server each has batches of its own. */
static struct feed *make_feed(const struct run *r, struct backend *backend)
{
    const struct training *t = &r->recipe->training;
    const bool shares = r->team != NULL && r->job->plan->strategy == STRATEGY_ALLREDUCE;
    const struct feed_options o = {.d = r->d,
                                   .shape = r->recipe->model.input,
                                   .batch_size = r->batch_size,
                                   .lanes = 1,
                                   .ahead = training_ahead(t, r->d, backend),
                                   .team = shares ? r->team : NULL};
    return feed_create(&o);
}

/* New weights, or those of the checkpoint. */
static enum mag_status prepare(struct run *r, struct backend *backend)
{
    const struct training *t = &r->recipe->training;
    uint32_t most = r->d->n_train > r->d->n_test ? r->d->n_train : r->d->n_test;
    r->batch_size = (uint32_t)t->batch_size < most ? t->batch_size : (int)most;
    const struct net_options options = {
        .rows = rows_here(r), .average = t->ema > 0, .learns = true};
    enum mag_status st =
        net_create(t->backend, backend, &r->recipe->model, &options, &r->net, r->err);
    if (st != MAG_OK) {
        room_explain(r->err);
        return st;
    }
    if (r->job->ranks != NULL) {
        st = team_create(r->job->ranks, r->job->plan, r->net, &r->team, r->err);
        if (st != MAG_OK) {
            return st;
        }
    }
    r->update = t->update;
    r->signature = model_signature(&r->recipe->model);
    if (r->job->checkpoint_dir != NULL) {
        json_t *description = description_make(r->recipe, r->d);
        r->description = mjson_dump(description);
        json_decref(description);
    }
    r->order = xcalloc(r->d->n_train, sizeof(*r->order));
    r->feed = make_feed(r, backend);
    if (r->job->resume_path == NULL) {
        net_init_weights(r->net, 0, r->job->seed, (uint64_t)r->job->trial);
    } else {
        st = r->team != NULL ? load_and_spread(r) : load(r);
    }
    if (st == MAG_OK && r->team != NULL && r->job->plan->strategy == STRATEGY_SERVER) {
        st =
            server_create(r->job->ranks, r->job->plan, r->net, r->update.count, &r->server, r->err);
    }
    return st;
}

enum mag_status trial_run(const struct trial_job *job, const struct recipe *recipe,
                          const struct dataset *d, struct backend *backend,
                          const struct trial_hooks *hooks, struct trial_result *ret,
                          struct mag_err *err)
{
    *ret = (struct trial_result){0};
    struct run r = {.job = job,
                    .recipe = recipe,
                    .d = d,
                    .hooks = hooks,
                    .result = ret,
                    .err = err,
                    .budget = job->budget > 0 ? job->budget : recipe->training.epochs};
    enum mag_status st = prepare(&r, backend);
    if (st == MAG_OK && r.epoch >= r.budget) {
        /* Resumed where it should end: nothing to train, but its measures are asked for. */
        bool ended = false;
        ret->step = r.epoch;
        st = measure(&r, &ended);
        goto out;
    }
    for (bool ended = false; st == MAG_OK && !ended;) {
        r.epoch++;
        st = run_epoch(&r, &ended);
    }
out:
    feed_destroy(r.feed);
    server_destroy(r.server);
    team_destroy(r.team);
    net_destroy(r.net);
    free(r.order);
    free(r.signature);
    free(r.description);
    return st;
}
