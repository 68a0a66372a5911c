/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/fused.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "trainer/checkpoint.h"
#include "trainer/describe.h"
#include "trainer/room.h"
#include "trainer/tally.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Orders are obeyed between blocks: none should take longer than this. Of the processor's time, so
 * that a busy machine, where all takes longer, costs nothing more. */
#define BLOCK_NS (MAG_NS_PER_S / 2)

/* One trial. Its place in run->lanes is its lane in the net. */
struct lane {
    struct trial_lane *t;
    struct update update;
    struct plateau plateau;
    char *description; /* of the model, for checkpoints */
    uint32_t *order;   /* this epoch's order of training rows; NULL = that of the run */
    float *rates;      /* of dropout, by layer; NULL = those of the net */
    int64_t epoch;     /* the one that runs, or the last done */
    int64_t budget;
    bool pause; /* asked for: at the end of the epoch */
    bool ended;
};

/* The next batches of all lanes: as many as the net takes at once, fewer where they take long. */
struct block {
    struct net_step steps[BACKEND_SLOTS_MAX];
    struct pass passes[BACKEND_SLOTS_MAX];
    struct batch batches[BACKEND_SLOTS_MAX][BACKEND_LANES_MAX];
    struct pass_lane lanes[BACKEND_SLOTS_MAX][BACKEND_LANES_MAX];
    struct update updates[BACKEND_SLOTS_MAX][BACKEND_LANES_MAX];
    int taken[BACKEND_LANES_MAX];
    int n;
    int size; /* of the next one */
};

struct run {
    struct lane lanes[BACKEND_LANES_MAX];
    int n;                           /* lanes of the net, of which some may have ended */
    const struct training *training; /* what all have in common; each has its own numbers */
    const struct model *model;
    const struct dataset *d;
    struct backend *backend;
    struct net *net;
    char *signature;
    uint32_t *order; /* where all see the same batches */
    struct feed *feed;
    struct block *block;
};

/* ---- ends ---- */

static void end_lane(struct lane *l, enum mag_status st, enum trial_end end)
{
    struct trial_lane *t = l->t;
    l->ended = true;
    t->status = st;
    t->result->end = end;
    if (t->end != NULL) {
        t->end(t->hooks->ctx, t);
    }
}

static void fail_lane(struct lane *l, enum mag_status st)
{
    end_lane(l, st, TRIAL_STOPPED);
}

/* What failed is the work of all. */
static void fail_all(struct run *r, enum mag_status st, const struct mag_err *err)
{
    for (int i = 0; i < r->n; i++) {
        if (!r->lanes[i].ended) {
            r->lanes[i].t->err = *err;
            fail_lane(&r->lanes[i], st);
        }
    }
}

static int count_live(const struct run *r)
{
    int live = 0;
    for (int i = 0; i < r->n; i++) {
        live += !r->lanes[i].ended;
    }
    return live;
}

/* Obeys orders; some lanes may end. */
static void obey(struct run *r)
{
    for (int i = 0; i < r->n; i++) {
        struct lane *l = &r->lanes[i];
        const struct trial_hooks *h = l->t->hooks;
        enum trial_order o = !l->ended && h->poll != NULL ? h->poll(h->ctx) : ORDER_NONE;
        if (o == ORDER_STOP || o == ORDER_EXIT) {
            end_lane(l, MAG_OK, o == ORDER_STOP ? TRIAL_STOPPED : TRIAL_EXITED);
        }
        l->pause = l->pause || o == ORDER_PAUSE;
    }
}

static void check_backend(struct run *r)
{
    struct mag_err err = {0};
    enum mag_status st = r->net->ops->check(r->net->backend, &err);
    if (st != MAG_OK) {
        fail_all(r, st, &err);
    }
}

/* ---- training ---- */

static void begin_epoch(struct run *r)
{
    bool drawn = false;
    for (int i = 0; i < r->n; i++) {
        struct lane *l = &r->lanes[i];
        const struct training *t = &l->t->recipe->training;
        if (l->ended) {
            continue;
        }
        l->epoch++;
        l->t->result->metrics.n = 0;
        l->update.lr =
            (float)schedule_rate(&t->schedule, &l->plateau, (double)t->update.lr, l->epoch);
        if (l->order != NULL || !drawn) {
            trial_draw_order(l->t->job, t, r->d, l->epoch, l->order != NULL ? l->order : r->order);
            drawn = l->order == NULL;
        }
    }
}

/* The batches of the epoch that has begun: one for all lanes, or each lane's. */
static void begin_feed(struct run *r)
{
    struct feed_lane lanes[BACKEND_LANES_MAX];
    int first = 0;
    while (r->lanes[first].ended) {
        first++;
    }
    for (int i = 0; i < r->n; i++) {
        const struct lane *l = &r->lanes[r->order != NULL ? first : i];
        lanes[i] = trial_feed_lane(l->t->job, &l->t->recipe->training, l->epoch,
                                   r->order != NULL ? r->order : l->order);
    }
    feed_begin(r->feed, lanes, r->order != NULL ? 1 : r->n, r->d->n_train);
    for (int i = 0; i < r->n && r->order == NULL; i++) {
        if (r->lanes[i].ended) {
            feed_drop(r->feed, i);
        }
    }
}

/* Nothing can come of these any more. */
static void end_diverged(struct run *r, const struct score *scores, const char *of)
{
    for (int i = 0; i < r->n; i++) {
        struct lane *l = &r->lanes[i];
        if (!l->ended && !isfinite(scores[i].loss)) {
            fail_lane(l, trial_diverged(of, l->epoch, l->update.count, &l->t->err));
        }
    }
}

/* The next step of every lane on the batches of its number, which are loaded, since the feed's next
 * ones take their place; where lanes share them, the first is all lanes'. */
static void add_step(struct run *r, int64_t number)
{
    struct block *b = r->block;
    const int k = b->n++;
    for (int i = 0; i < r->n; i++) {
        struct lane *l = &r->lanes[i];
        if (!l->ended) {
            training_next(&l->t->recipe->training, &l->update);
        }
        if (r->order != NULL) {
            b->batches[k][i] = b->batches[k][0];
        }
        b->lanes[k][i] = (struct pass_lane){.seed = l->t->job->seed,
                                            .trial = l->t->job->trial,
                                            .epoch = l->epoch,
                                            .batch = number,
                                            .rates = l->rates,
                                            .loss = &l->t->recipe->training.loss,
                                            .idle = l->ended};
        b->updates[k][i] = l->update;
        b->updates[k][i].idle = l->ended;
    }
    b->passes[k] = (struct pass){.training = true, .lanes = b->lanes[k]};
    b->steps[k] = (struct net_step){
        .batches = b->batches[k], .pass = &b->passes[k], .updates = b->updates[k]};
    net_load(r->net, k, &b->steps[k]);
}

static int64_t own_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * MAG_NS_PER_S + t.tv_nsec;
}

/* Computes the block; the next is larger or smaller by the time that this one took. */
static void run_block(struct run *r, struct loss loss, struct score *scores)
{
    struct block *b = r->block;
    const int64_t start = own_ns();
    net_steps(r->net, b->steps, b->n, loss, scores, b->taken);
    const int64_t took = own_ns() - start;
    if (took > BLOCK_NS && b->size > 1) {
        b->size /= 2;
    } else if (took < BLOCK_NS / 4 && b->n == b->size) {
        b->size = 2 * b->size < r->net->ahead ? 2 * b->size : r->net->ahead;
    }
}

/* The next block of training. False: the epoch is over. */
static bool train_block(struct run *r, int64_t *number, struct score *scores)
{
    struct block *b = r->block;
    struct mag_err err = {0};
    bool fault = false;
    int first = 0;
    for (b->n = 0; b->n < b->size && feed_next(r->feed, b->batches[b->n], &first) > 0; ++*number) {
        add_step(r, *number);
        fault = fault_hit("trainer.batch") || fault;
    }
    if (fault) {
        check_backend(r);
        fail_all(r, mag_fail(&err, MAG_IO, "a fault was asked for at a batch"), &err);
        return false;
    }
    if (b->n == 0) {
        return false;
    }
    run_block(r, r->training->loss, scores);
    for (int i = 0; i < r->n; i++) {
        struct lane *l = &r->lanes[i];
        if (!l->ended) {
            l->t->result->batches += b->taken[i];
            l->update.count = b->updates[b->taken[i] - 1][i].count;
        }
    }
    return true;
}

/* One epoch of training of all that have not ended. */
static void train_epoch(struct run *r)
{
    struct score scores[BACKEND_LANES_MAX] = {0};
    int64_t start = clock_mono_ns();
    int64_t number = 0;
    begin_feed(r);
    do {
        end_diverged(r, scores, "");
        obey(r);
        if (count_live(r) == 0) {
            check_backend(r); /* nothing that is queued may come to these scores later */
            return;
        }
    } while (train_block(r, &number, scores));
    check_backend(r);
    double seconds = (double)(clock_mono_ns() - start) / (double)MAG_NS_PER_S;
    for (int i = 0; i < r->n; i++) {
        struct trial_result *result = r->lanes[i].t->result;
        if (!r->lanes[i].ended) {
            result->train_seconds += seconds;
            result->train_rows += r->d->n_train;
            metrics_add_part(&result->metrics, PART_TRAIN, r->d->n_classes, &scores[i]);
        }
    }
}

/* ---- measuring ---- */

/* The lanes that take part in measuring this part of the data. */
static bool measures(const struct lane *l, int part)
{
    return !l->ended && (part != PART_TEST || l->epoch >= l->budget);
}

/* Measures a block of the rows from `at` on; where the next begins. */
static uint32_t score_block(struct run *r, int part, const uint32_t *rows, uint32_t n_rows,
                            uint32_t at, struct score *scores)
{
    struct block *b = r->block;
    for (b->n = 0; b->n < b->size && at < n_rows; b->n++) {
        uint32_t left = n_rows - at;
        int n = left < (uint32_t)r->net->rows ? (int)left : r->net->rows;
        for (int i = 0; i < r->n; i++) {
            b->batches[b->n][i] = (struct batch){.d = r->d, .rows = rows + at, .n = n};
            b->lanes[b->n][i] = (struct pass_lane){.idle = !measures(&r->lanes[i], part)};
        }
        b->passes[b->n] = (struct pass){.training = false, .lanes = b->lanes[b->n]};
        b->steps[b->n] = (struct net_step){.batches = b->batches[b->n], .pass = &b->passes[b->n]};
        net_load(r->net, b->n, &b->steps[b->n]);
        at += (uint32_t)n;
    }
    /* Smoothing is for training. */
    run_block(r, (struct loss){.kind = r->training->loss.kind}, scores);
    return at;
}

static void score_part(struct run *r, int part, const uint32_t *rows, uint32_t n_rows)
{
    struct score scores[BACKEND_LANES_MAX] = {0};
    int wanted = 0;
    for (int i = 0; i < r->n; i++) {
        bool mine = measures(&r->lanes[i], part);
        scores[i].tally = mine ? tally_create(r->d->n_classes, n_rows) : NULL;
        wanted += mine;
    }
    for (uint32_t at = 0; at < n_rows && wanted > 0;) {
        obey(r);
        if (count_live(r) == 0) {
            break;
        }
        at = score_block(r, part, rows, n_rows, at, scores);
    }
    check_backend(r);
    end_diverged(r, scores, part == PART_TEST ? " of the test part" : " of the validation part");
    for (int i = 0; i < r->n; i++) {
        if (n_rows > 0 && scores[i].tally != NULL && !r->lanes[i].ended) {
            metrics_add_part(&r->lanes[i].t->result->metrics, part, r->d->n_classes, &scores[i]);
        }
        tally_destroy(scores[i].tally);
    }
}

/* The measures of this epoch, of the weights' averages where there are any: of the test part for
 * those at their budget. */
static void measure(struct run *r)
{
    net_swap_average(r->net);
    score_part(r, PART_VALIDATION, r->d->val, r->d->n_val);
    score_part(r, PART_TEST, r->d->test, r->d->n_test);
    net_swap_average(r->net);
}

/* ---- the end of an epoch ---- */

static enum mag_status save(struct run *r, struct lane *l)
{
    const struct trial_hooks *h = l->t->hooks;
    const char *dir = l->t->job->checkpoint_dir;
    if (dir == NULL) {
        return MAG_OK;
    }
    struct checkpoint_info info = {.signature = r->signature,
                                   .optimizer = l->update.kind,
                                   .step = l->epoch,
                                   .average = l->t->recipe->training.ema > 0,
                                   .plateau = l->plateau,
                                   .description = l->description,
                                   .updates = l->update.count,
                                   .lane = (int)(l - r->lanes)};
    char *path = NULL;
    enum mag_status st = checkpoint_save(dir, &info, r->net, &path, &l->t->err);
    if (st == MAG_OK && h->checkpoint != NULL) {
        st = h->checkpoint(h->ctx, l->epoch, path, &l->t->err);
    }
    free(path);
    return st;
}

static enum mag_status report(struct lane *l)
{
    const struct trial_hooks *h = l->t->hooks;
    struct trial_result *result = l->t->result;
    if (fault_hit("trainer.report")) {
        return mag_fail(&l->t->err, MAG_IO, "a fault was asked for at a report");
    }
    result->step = l->epoch;
    return h->report != NULL ? h->report(h->ctx, l->epoch, &result->metrics, &l->t->err) : MAG_OK;
}

/* Reports and saves; perhaps the trial ends here. */
static void end_epoch(struct run *r, struct lane *l)
{
    trial_watch_plateau(&l->t->recipe->training, r->d, &l->t->result->metrics, &l->plateau);
    const int64_t every = l->t->job->checkpoint_every;
    const bool last = l->epoch == l->budget;
    const bool ends = last || l->pause;
    enum mag_status st = report(l);
    if (st == MAG_OK && (ends || (every > 0 && l->epoch % every == 0))) {
        st = save(r, l);
    }
    if (st != MAG_OK) {
        fail_lane(l, st);
    } else if (ends) {
        end_lane(l, MAG_OK, last ? TRIAL_COMPLETED : TRIAL_PAUSED);
    }
}

/* ---- the net ---- */

/* A lane that wants none has averages that are its weights. */
static bool any_average(const struct run *r)
{
    bool any = false;
    for (int i = 0; i < r->n; i++) {
        any = any || r->lanes[i].t->recipe->training.ema > 0;
    }
    return any;
}

static enum mag_status make_net(const struct run *r, int lanes, struct net **ret,
                                struct mag_err *err)
{
    uint32_t most = r->d->n_train > r->d->n_test ? r->d->n_train : r->d->n_test;
    int batch = r->training->batch_size;
    const struct net_options options = {.rows = (uint32_t)batch < most ? batch : (int)most,
                                        .lanes = lanes,
                                        .shared = r->order != NULL,
                                        .average = any_average(r),
                                        .learns = true,
                                        .turns = r->training->backend->stage != NULL};
    return net_create(r->training->backend, r->backend, r->model, &options, ret, err);
}

struct mover {
    struct net *to;
    int lane;
    float *room;
};

static enum mag_status move_array(void *ctx, struct net *from, const struct net_array *a)
{
    struct mover *m = ctx;
    int lane = m->lane;
    struct op *op = net_op(m->to, a->op->index, &lane);
    from->ops->get(a->op, a->lane, a->p, a->slot, m->room);
    m->to->ops->set(op, lane, a->p, a->slot, m->room);
    return MAG_OK;
}

static void lane_fini(struct lane *l)
{
    free(l->description);
    free(l->order);
    free(l->rates);
}

/* With half of the lanes at an end the others move into a net of their own, which does not compute
 * what nobody wants. */
static void compact(struct run *r)
{
    int live = count_live(r);
    struct net *to = NULL;
    if (live == 0 || 2 * live > r->n || make_net(r, live, &to, NULL) != MAG_OK) {
        return;
    }
    const unsigned slots = SLOT_BIT(SLOT_VALUE) | SLOT_BIT(SLOT_FIRST) | SLOT_BIT(SLOT_SECOND) |
                           (to->average ? SLOT_BIT(SLOT_AVERAGE) : 0);
    struct mover m = {
        .to = to,
        .room = xmalloc((net_array_floats(to, SLOT_BIT(SLOT_VALUE)) + 1) * sizeof(float))};
    for (int i = 0; i < r->n; i++) {
        if (r->lanes[i].ended) {
            lane_fini(&r->lanes[i]);
            continue;
        }
        enum mag_status st = net_each_array(r->net, i, slots, move_array, &m);
        MAG_ASSERT(st == MAG_OK, "moving cannot fail");
        r->lanes[m.lane++] = r->lanes[i];
    }
    free(m.room);
    net_destroy(r->net);
    r->net = to;
    r->n = live;
    r->block->size = 1;
}

/* ---- beginning ---- */

/* New weights, or those of the checkpoint. */
static enum mag_status fill_lane(struct run *r, struct lane *l)
{
    const struct trial_job *job = l->t->job;
    const int lane = (int)(l - r->lanes);
    if (job->resume_path == NULL) {
        net_init_weights(r->net, lane, job->seed, (uint64_t)job->trial);
        return MAG_OK;
    }
    struct checkpoint_info info = {
        .signature = r->signature, .optimizer = l->update.kind, .lane = lane};
    enum mag_status st = checkpoint_load(job->resume_path, &info, r->net, &l->t->err);
    if (st == MAG_OK) {
        l->epoch = info.step;
        l->update.count = info.updates;
        l->plateau = info.plateau;
    }
    return st;
}

static void open_lane(struct run *r, struct lane *l)
{
    const struct recipe *recipe = l->t->recipe;
    l->budget = l->t->job->budget > 0 ? l->t->job->budget : recipe->training.epochs;
    l->update = recipe->training.update;
    if (l->t->job->checkpoint_dir != NULL) {
        json_t *description = description_make(recipe, r->d);
        l->description = mjson_dump(description);
        json_decref(description);
    }
    if (r->order == NULL) {
        l->order = xcalloc(r->d->n_train + 1, sizeof(*l->order));
    }
    if (r->n > 1) {
        l->rates = xcalloc((size_t)recipe->model.n + 1, sizeof(*l->rates));
        for (int i = 0; i < recipe->model.n; i++) {
            l->rates[i] = recipe->model.layers[i].rate;
        }
    }
}

static bool same_changes(const struct augmentation *a, const struct augmentation *b)
{
    return a->crop == b->crop && a->flip == b->flip && a->cutout == b->cutout;
}

/* Batches are shared where the order is the experiment's, images change alike and all are at the
 * same epoch. */
static bool may_share(const struct trial_lane *lanes, int n)
{
    bool same = lanes[0].recipe->training.order == ORDER_OF_EXPERIMENT;
    for (int i = 1; i < n && same; i++) {
        same = (lanes[i].job->resume_path == NULL) == (lanes[0].job->resume_path == NULL) &&
               lanes[i].resume_step == lanes[0].resume_step &&
               lanes[i].job->seed == lanes[0].job->seed &&
               same_changes(&lanes[i].recipe->training.augmentation,
                            &lanes[0].recipe->training.augmentation);
    }
    return same;
}

/* The net for as many as have room; the others are told so. */
static enum mag_status open_net(struct run *r, struct trial_lane *lanes, int n, struct mag_err *err)
{
    const struct room_ask ask = {
        .recipe = lanes[0].recipe, .dataset = r->d, .lanes = n, .shared = r->order != NULL};
    int most = room_lanes(&ask, r->backend);
    enum mag_status st = make_net(r, most, &r->net, err);
    while (st == MAG_NOMEM && most > 1) {
        most = (most + 1) / 2;
        st = make_net(r, most, &r->net, err);
    }
    r->n = st == MAG_OK ? most : n;
    for (int i = r->n; i < n; i++) {
        lanes[i].status = MAG_LIMIT;
        if (lanes[i].decline != NULL) {
            lanes[i].decline(lanes[i].hooks->ctx, most);
        }
    }
    return st;
}

static void open_run(struct run *r, struct trial_lane *lanes, int n)
{
    struct mag_err err = {0};
    r->signature = model_signature(r->model);
    if (may_share(lanes, n)) {
        r->order = xcalloc(r->d->n_train + 1, sizeof(*r->order));
    }
    for (int i = 0; i < n; i++) {
        *lanes[i].result = (struct trial_result){0};
        r->lanes[i].t = &lanes[i];
    }
    enum mag_status st = open_net(r, lanes, n, &err);
    if (st != MAG_OK) {
        fail_all(r, st, &err);
        return;
    }
    const struct feed_options o = {.d = r->d,
                                   .shape = r->model->input,
                                   .batch_size = r->net->rows,
                                   .lanes = r->order != NULL ? 1 : r->n,
                                   .ahead = training_ahead(r->training, r->d, r->backend)};
    r->feed = feed_create(&o);
    for (int i = 0; i < r->n; i++) {
        open_lane(r, &r->lanes[i]);
        st = fill_lane(r, &r->lanes[i]);
        if (st == MAG_OK && r->order != NULL && r->lanes[i].epoch != r->lanes[0].epoch) {
            st = mag_fail(&lanes[i].err, MAG_CORRUPT,
                          "its checkpoint is of epoch %lld, that of trial %lld, which runs with "
                          "it, of epoch %lld",
                          (long long)r->lanes[i].epoch, (long long)lanes[0].job->trial,
                          (long long)r->lanes[0].epoch);
        }
        if (st != MAG_OK) {
            fail_lane(&r->lanes[i], st);
        }
    }
}

/* Resumed where they should end: nothing to train, but their measures are asked for. */
static void end_those_at_budget(struct run *r)
{
    bool others[BACKEND_LANES_MAX];
    int n = 0;
    for (int i = 0; i < r->n; i++) {
        struct lane *l = &r->lanes[i];
        others[i] = l->ended || l->epoch < l->budget;
        n += !others[i];
        l->ended = l->ended || others[i];
    }
    if (n > 0) {
        measure(r);
    }
    for (int i = 0; i < r->n; i++) {
        struct lane *l = &r->lanes[i];
        if (others[i]) {
            l->ended = l->t->status != MAG_OK;
        } else if (!l->ended) {
            l->t->result->step = l->epoch;
            end_lane(l, MAG_OK, TRIAL_COMPLETED);
        }
    }
}

void fused_run(struct trial_lane *lanes, int n, const struct dataset *d, struct backend *backend)
{
    struct run *r = xcalloc(1, sizeof(*r));
    *r = (struct run){.n = n,
                      .training = &lanes[0].recipe->training,
                      .model = &lanes[0].recipe->model,
                      .d = d,
                      .backend = backend,
                      .block = xcalloc(1, sizeof(*r->block))};
    r->block->size = 1;
    open_run(r, lanes, n);
    if (r->net != NULL) {
        end_those_at_budget(r);
    }
    while (count_live(r) > 0) {
        begin_epoch(r);
        train_epoch(r);
        measure(r);
        for (int i = 0; i < r->n; i++) {
            if (!r->lanes[i].ended) {
                end_epoch(r, &r->lanes[i]);
            }
        }
        compact(r);
    }
    for (int i = 0; i < r->n; i++) {
        lane_fini(&r->lanes[i]);
    }
    feed_destroy(r->feed);
    net_destroy(r->net);
    free(r->order);
    free(r->signature);
    free(r->block);
    free(r);
}
