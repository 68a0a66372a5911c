/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/team.h"

#include "base/alloc.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define PIECE (COLLECTIVE_BYTES_MAX / sizeof(float)) /* floats of one sum */

struct team {
    struct collective *c;
    const struct distribution *plan;
    struct net *net;
    /* Rank 0's order, then the gradients of all ops, the last op's first. */
    float *flat;
    size_t n_flat;
    size_t filled;  /* values that backward has left here */
    size_t started; /* values of which the sum is under way */
    struct collective_sum *sums;
    size_t n_sums;
    float weight;        /* of this rank's mean gradient in the batch's */
    enum mag_status st;  /* the first failure inside backward */
    struct mag_err *err; /* of the call that runs */
};

/* Gradients that lie on a GPU are summed there, where the ranks can; else on the host. */
static enum mag_status choose_way(struct team *t, struct mag_err *err)
{
    if (t->plan->strategy != STRATEGY_ALLREDUCE || t->net->ops->grad_device == NULL) {
        return MAG_OK;
    }
    enum mag_status st = collective_device_open(t->c, err);
    if (st == MAG_OK) {
        t->net->ranks = t->c;
    } else if (st == MAG_UNSUPPORTED) {
        if (t->c->rank == 0) {
            log_warn("trainer", "gradients-through-host", "reason=%s", log_quote(err->text));
        }
        *err = (struct mag_err){0};
        return MAG_OK;
    }
    return st;
}

enum mag_status team_create(struct collective *c, const struct distribution *plan, struct net *net,
                            struct team **ret, struct mag_err *err)
{
    struct team *t = xcalloc(1, sizeof(*t));
    *t = (struct team){.c = c, .plan = plan, .net = net, .n_flat = 1};
    enum mag_status st = choose_way(t, err);
    if (st != MAG_OK) {
        free(t);
        return st;
    }
    for (int i = 0; i < net->n; i++) {
        if (layer_learns(&net->layers[i]->layer)) {
            t->n_flat += (size_t)net->ops->grad_pack(net->layers[i], 0, NULL);
        }
    }
    t->flat = xcalloc(t->n_flat, sizeof(*t->flat));
    t->sums = xcalloc(t->n_flat / PIECE + 1, sizeof(*t->sums));
    *ret = t;
    return MAG_OK;
}

void team_destroy(struct team *t)
{
    if (t != NULL) {
        free(t->flat);
        free(t->sums);
        free(t);
    }
}

/* ---- shares ---- */

void team_share(const struct team *t, uint32_t n, uint32_t *ret_from, uint32_t *ret_n)
{
    if (t == NULL) {
        *ret_from = 0;
        *ret_n = n;
        return;
    }
    uint64_t rank = (uint64_t)t->c->rank;
    uint64_t size = (uint64_t)t->c->size;
    *ret_from = (uint32_t)(n * rank / size);
    *ret_n = (uint32_t)(n * (rank + 1) / size) - *ret_from;
}

int team_rows(const struct collective *c, int n)
{
    return (n + c->size - 1) / c->size;
}

/* ---- gradients ---- */

/* Begins the sums of whole pieces, or of all that is left. */
static void start_sums(struct team *t, bool rest)
{
    while (t->st == MAG_OK &&
           (t->filled - t->started >= PIECE || (rest && t->filled > t->started))) {
        size_t n = t->filled - t->started < PIECE ? t->filled - t->started : PIECE;
        t->st = collective_sum_start(t->c, &t->sums[t->n_sums], COLLECTIVE_FLOAT,
                                     t->flat + t->started, n, t->err);
        t->n_sums++;
        t->started += n;
    }
}

/* Backward has completed the gradients of an op. */
static void on_done(void *ctx, struct op *op)
{
    struct team *t = ctx;
    float *to = t->flat + t->filled;
    size_t n = (size_t)t->net->ops->grad_pack(op, 0, to);
    for (size_t i = 0; i < n && t->weight != 1; i++) {
        to[i] *= t->weight;
    }
    t->filled += n;
    start_sums(t, false);
    collective_poke(t->c);
}

/* The gradients of this rank's rows on their way; none where it has none of a small batch. */
static void begin_gradients(struct team *t, const struct batch *share, struct loss loss,
                            const struct pass_lane *lane, struct score *add)
{
    const struct pass pass = {.training = true, .lanes = lane};
    struct net *net = t->net;
    if (share->n > 0) {
        net_forward(net, share, &pass);
        net->ops->score(net->layers[net->n - 1], share, &pass, loss, true, add);
        net_backward(net, share->n, &pass, on_done, t);
    } else {
        memset(t->flat + 1, 0, (t->n_flat - 1) * sizeof(*t->flat));
        t->filled = t->n_flat;
    }
    start_sums(t, true);
}

static enum mag_status end_gradients(struct team *t)
{
    for (size_t i = 0; i < t->n_sums && t->st == MAG_OK; i++) {
        t->st = collective_sum_wait(t->c, &t->sums[i], t->err);
    }
    return t->st;
}

static void take_step(struct team *t, const struct update *update)
{
    struct net *net = t->net;
    const float *from = t->flat + 1;
    for (int i = net->n - 1; i >= 0; i--) {
        if (layer_learns(&net->layers[i]->layer)) {
            from += net->ops->grad_unpack(net->layers[i], 0, from);
        }
    }
    net_update(net, update);
}

/* The sums are a part of the backend's step; the order goes ahead of them. */
static enum mag_status train_on_device(struct team *t, const struct batch *share, int whole,
                                       struct loss loss, const struct pass_lane *lane,
                                       const struct update *update, struct score *add)
{
    const struct pass pass = {.training = true, .lanes = lane};
    t->net->whole = whole;
    net_train(t->net, share, loss, &pass, update, add);
    return collective_device_check(t->c, 0, t->err);
}

static enum mag_status agree_on_order(struct team *t, int *order)
{
    double said = t->c->rank == 0 ? *order : 0;
    enum mag_status st = collective_sum(t->c, COLLECTIVE_DOUBLE, &said, 1, t->err);
    if (st == MAG_OK) {
        *order = (int)said;
    }
    return st;
}

enum mag_status team_train(struct team *t, const struct batch *share, int whole, struct loss loss,
                           const struct pass_lane *lane, const struct update *update, int *order,
                           int ends, struct score *add, struct mag_err *err)
{
    t->err = err;
    if (t->net->ranks != NULL) {
        enum mag_status went = agree_on_order(t, order);
        return went != MAG_OK || *order > ends
                   ? went
                   : train_on_device(t, share, whole, loss, lane, update, add);
    }
    t->flat[0] = t->c->rank == 0 ? (float)*order : 0;
    t->filled = 1;
    t->started = t->n_sums = 0;
    t->weight = (float)((double)share->n / (double)whole);
    t->st = MAG_OK;
    begin_gradients(t, share, loss, lane, add);
    enum mag_status st = end_gradients(t);
    t->err = NULL;
    if (st != MAG_OK) {
        return st;
    }
    *order = (int)t->flat[0];
    if (*order <= ends) {
        take_step(t, update);
    }
    return MAG_OK;
}

/* ---- measures ---- */

/* Every count in a row, in or out. */
static size_t move_counts(struct score *s, int n_classes, double *v, bool in)
{
    size_t n = 0;
#define MOVE(field, type) (in ? (void)((field) = (type)v[n]) : (void)(v[n] = (double)(field)), n++)
    MOVE(s->loss, double);
    MOVE(s->correct, int64_t);
    MOVE(s->rows, int64_t);
    if (s->tally != NULL) {
        struct tally *t = s->tally;
        MOVE(t->top5, int64_t);
        MOVE(t->targets, double);
        MOVE(t->squares, double);
        MOVE(t->brier, double);
        for (int k = 0; k < n_classes && t->hits != NULL; k++) {
            MOVE(t->hits[k], int64_t);
            MOVE(t->said[k], int64_t);
            MOVE(t->are[k], int64_t);
        }
    }
#undef MOVE
    return n;
}

/* Each rank's rows stand at the start of its arrays; in the whole they stand where its share does.
 */
static enum mag_status sum_margins(struct team *t, struct tally *own, uint32_t n_rows,
                                   struct mag_err *err)
{
    uint32_t from = 0;
    uint32_t n = 0;
    team_share(t, n_rows, &from, &n);
    float *all = xcalloc(2 * (size_t)n_rows + 1, sizeof(*all));
    for (uint32_t i = 0; i < n; i++) {
        all[from + i] = own->margin[i];
        all[n_rows + from + i] = own->positive[i];
    }
    enum mag_status st = collective_sum(t->c, COLLECTIVE_FLOAT, all, 2 * (size_t)n_rows, err);
    for (uint32_t i = 0; i < n_rows && st == MAG_OK; i++) {
        own->margin[i] = all[i];
        own->positive[i] = all[n_rows + i] > 0;
    }
    free(all);
    return st;
}

enum mag_status team_sum_score(struct team *t, struct score *s, int n_classes, uint32_t n_rows,
                               int *order, struct mag_err *err)
{
    double *v = xcalloc(9 + 3 * (size_t)n_classes, sizeof(*v));
    v[0] = t->c->rank == 0 ? *order : 0;
    size_t n = 1 + move_counts(s, n_classes, v + 1, false);
    enum mag_status st = collective_sum(t->c, COLLECTIVE_DOUBLE, v, n, err);
    if (st == MAG_OK) {
        *order = (int)v[0];
        (void)move_counts(s, n_classes, v + 1, true);
    }
    free(v);
    if (st == MAG_OK && s->tally != NULL && s->tally->margin != NULL) {
        st = sum_margins(t, s->tally, n_rows, err);
    }
    return st;
}

/* ---- whole arrays ---- */

struct walk {
    struct team *t;
    float *room;
    struct mag_err *err;
};

static enum mag_status mean_array(void *ctx, struct net *net, const struct net_array *a)
{
    struct walk *w = ctx;
    if (op_param_trained(a->p)) {
        return MAG_OK;
    }
    net->ops->get(a->op, a->lane, a->p, a->slot, w->room);
    enum mag_status st = collective_sum(w->t->c, COLLECTIVE_FLOAT, w->room, a->n, w->err);
    for (size_t i = 0; i < a->n; i++) {
        w->room[i] /= (float)w->t->c->size;
    }
    if (st == MAG_OK) {
        net->ops->set(a->op, a->lane, a->p, a->slot, w->room);
    }
    return st;
}

static enum mag_status spread_array(void *ctx, struct net *net, const struct net_array *a)
{
    struct walk *w = ctx;
    net->ops->get(a->op, a->lane, a->p, a->slot, w->room);
    enum mag_status st = collective_broadcast(w->t->c, w->room, a->n * sizeof(float), 0,
                                              w->t->c->timeout_ms, w->err);
    if (st == MAG_OK) {
        net->ops->set(a->op, a->lane, a->p, a->slot, w->room);
    }
    return st;
}

static enum mag_status walk(struct team *t, unsigned slots, net_visit visit, struct mag_err *err)
{
    size_t most = net_array_floats(t->net, SLOT_BIT(SLOT_VALUE)) + 1;
    struct walk w = {.t = t, .err = err, .room = xmalloc(most * sizeof(float))};
    enum mag_status st = net_each_array(t->net, 0, slots, visit, &w);
    free(w.room);
    return st;
}

enum mag_status team_mean_statistics(struct team *t, struct mag_err *err)
{
    return walk(t, SLOT_BIT(SLOT_VALUE) | (t->net->average ? SLOT_BIT(SLOT_AVERAGE) : 0),
                mean_array, err);
}

enum mag_status team_spread(struct team *t, unsigned slots, struct mag_err *err)
{
    return walk(t, slots, spread_array, err);
}

enum mag_status team_tell(struct team *t, int64_t *numbers, size_t n, struct mag_err *err)
{
    return collective_broadcast(t->c, numbers, n * sizeof(*numbers), 0, t->c->timeout_ms, err);
}
