/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/server.h"

#include "base/alloc.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* What the ranks share; behind it values, first and second moments, `floats` each. */
struct shared {
    pthread_mutex_t lock; /* robust: a rank may die with it */
    _Atomic int64_t updates;
    _Atomic int order;
};

/* One array of parameters in the flat ones. */
struct part {
    struct op *op;
    enum op_param p;
    size_t at, n;
};

struct server {
    struct collective *c;
    const struct distribution *plan;
    struct net *net;
    struct shared *shared;
    float *value, *first, *second; /* of all ranks: others change them meanwhile */
    float *own;                    /* the weights that this rank took */
    float *sum, *room;             /* gradients since the last push */
    int batches;                   /* of which there are so many */
    struct part *parts;
    int n_parts;
    size_t floats;
};

/* ---- the layout ---- */

static void lay_out(struct server *s)
{
    struct net *net = s->net;
    s->parts = xcalloc((size_t)net->n * OP_PARAMS + 1, sizeof(*s->parts));
    for (int i = 0; i < net->n; i++) {
        for (int p = 0; p < OP_PARAMS; p++) {
            size_t n = (size_t)op_param_floats(&net->layers[i]->layer, (enum op_param)p);
            if (n > 0 && op_param_trained((enum op_param)p)) {
                s->parts[s->n_parts++] = (struct part){
                    .op = net->layers[i], .p = (enum op_param)p, .at = s->floats, .n = n};
                s->floats += n;
            }
        }
    }
}

static void from_net(struct server *s, enum op_slot slot, float *to)
{
    for (int i = 0; i < s->n_parts; i++) {
        s->net->ops->get(s->parts[i].op, 0, s->parts[i].p, slot, to + s->parts[i].at);
    }
}

static void into_net(struct server *s, enum op_slot slot, const float *from)
{
    for (int i = 0; i < s->n_parts; i++) {
        s->net->ops->set(s->parts[i].op, 0, s->parts[i].p, slot, from + s->parts[i].at);
    }
}

static void init_lock(pthread_mutex_t *m)
{
    pthread_mutexattr_t a;
    (void)pthread_mutexattr_init(&a);
    (void)pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    (void)pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    (void)pthread_mutex_init(m, &a);
    (void)pthread_mutexattr_destroy(&a);
}

static size_t aligned(size_t n)
{
    return (n + 63) / 64 * 64;
}

enum mag_status server_create(struct collective *c, const struct distribution *plan,
                              struct net *net, int64_t updates, struct server **ret,
                              struct mag_err *err)
{
    if (net->average) {
        return mag_fail(err, MAG_INVALID,
                        "\"ema\" does not go with \"strategy\": \"parameter_server\"");
    }
    struct server *s = xcalloc(1, sizeof(*s));
    *s = (struct server){.c = c, .plan = plan, .net = net};
    lay_out(s);
    size_t row = aligned(s->floats * sizeof(float));
    void *p = NULL;
    enum mag_status st = collective_share(c, aligned(sizeof(struct shared)) + 3 * row, &p, err);
    if (st != MAG_OK) {
        server_destroy(s);
        return st;
    }
    s->shared = p;
    s->value = (float *)((char *)p + aligned(sizeof(struct shared)));
    s->first = (float *)((char *)s->value + row);
    s->second = (float *)((char *)s->first + row);
    s->own = xcalloc(s->floats + 1, sizeof(float));
    s->sum = xcalloc(s->floats + 1, sizeof(float));
    s->room = xcalloc(s->floats + 1, sizeof(float));
    if (c->rank == 0) {
        init_lock(&s->shared->lock);
        atomic_store(&s->shared->updates, updates);
        from_net(s, SLOT_VALUE, s->value);
        from_net(s, SLOT_FIRST, s->first);
        from_net(s, SLOT_SECOND, s->second);
    }
    st = collective_barrier(c, err);
    if (st != MAG_OK) {
        server_destroy(s);
        return st;
    }
    *ret = s;
    return MAG_OK;
}

void server_destroy(struct server *s)
{
    if (s != NULL) {
        free(s->parts);
        free(s->own);
        free(s->sum);
        free(s->room);
        free(s);
    }
}

/* ---- the optimizer's step, on memory that others change too ---- */

static void adam(const struct update *u, float scale, float *g, float *m, float *v, size_t n)
{
    const float c1 = 1 / (float)(1 - pow((double)u->beta1, (double)u->count));
    const float c2 = 1 / (float)(1 - pow((double)u->beta2, (double)u->count));
    for (size_t i = 0; i < n; i++) {
        float x = g[i] * scale;
        m[i] = u->beta1 * m[i] + (1 - u->beta1) * x;
        v[i] = u->beta2 * v[i] + (1 - u->beta2) * x * x;
        g[i] = m[i] * c1 / (sqrtf(v[i] * c2) + u->epsilon);
    }
}

static void sgd(const struct update *u, float scale, float *g, float *m, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float x = g[i] * scale;
        m[i] = u->momentum * m[i] + x;
        g[i] = u->nesterov ? x + u->momentum * m[i] : m[i];
    }
}

static void rmsprop(const struct update *u, float scale, float *g, float *m, float *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float x = g[i] * scale;
        v[i] = u->beta2 * v[i] + (1 - u->beta2) * x * x;
        m[i] = u->momentum * m[i] + x / (sqrtf(v[i]) + u->epsilon);
        g[i] = m[i];
    }
}

static void adagrad(const struct update *u, float scale, float *g, float *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float x = g[i] * scale;
        v[i] += x * x;
        g[i] = x / (sqrtf(v[i]) + u->epsilon);
    }
}

/* Makes steps of the gradients (backend.h has the formulas). */
static void steps(const struct update *u, float scale, float *g, float *m, float *v, size_t n)
{
    switch (u->kind) {
    case OPTIMIZER_SGD:
        sgd(u, scale, g, m, n);
        break;
    case OPTIMIZER_RMSPROP:
        rmsprop(u, scale, g, m, v, n);
        break;
    case OPTIMIZER_ADAGRAD:
        adagrad(u, scale, g, v, n);
        break;
    case OPTIMIZER_ADAM:
    case OPTIMIZER_LAMB:
    default:
        adam(u, scale, g, m, v, n);
        break;
    }
}

static void step_part(struct server *s, const struct part *p, const struct update *u, float scale)
{
    float *w = s->value + p->at;
    float *g = s->sum + p->at;
    const bool weights = p->p == OP_WEIGHTS;
    double w2 = 0;
    double s2 = 0;
    steps(u, scale, g, s->first + p->at, s->second + p->at, p->n);
    for (size_t i = 0; i < p->n && weights; i++) {
        g[i] += u->weight_decay * w[i];
        w2 += (double)w[i] * (double)w[i];
        s2 += (double)g[i] * (double)g[i];
    }
    float rate = u->lr;
    if (u->kind == OPTIMIZER_LAMB && weights && w2 > 0 && s2 > 0) {
        rate *= (float)(sqrt(w2) / sqrt(s2));
    }
    for (size_t i = 0; i < p->n; i++) {
        w[i] -= rate * g[i];
    }
}

/* ---- taking and pushing ---- */

static void take_lock(struct server *s)
{
    if (s->plan->lock && pthread_mutex_lock(&s->shared->lock) == EOWNERDEAD) {
        /* A rank died while it changed them: all ranks will end soon. */
        (void)pthread_mutex_consistent(&s->shared->lock);
    }
}

static void give_lock(struct server *s)
{
    if (s->plan->lock) {
        (void)pthread_mutex_unlock(&s->shared->lock);
    }
}

static void pull(struct server *s)
{
    take_lock(s);
    memcpy(s->own, s->value, s->floats * sizeof(float));
    give_lock(s);
    into_net(s, SLOT_VALUE, s->own);
}

/* Of the mean gradient of the batches since the last push. */
static float scale_of(const struct server *s, const struct update *u)
{
    const float mean = 1 / (float)s->batches;
    double square = 0;
    for (size_t i = 0; i < s->floats && u->clip > 0; i++) {
        square += (double)s->sum[i] * (double)s->sum[i];
    }
    double norm = sqrt(square) * (double)mean;
    return u->clip > 0 && norm > (double)u->clip ? mean * (float)((double)u->clip / norm) : mean;
}

void server_flush(struct server *s, const struct update *update)
{
    if (s->batches == 0) {
        return;
    }
    struct update u = *update;
    const float scale = scale_of(s, &u);
    take_lock(s);
    u.count = atomic_fetch_add(&s->shared->updates, 1) + 1;
    for (int i = 0; i < s->n_parts; i++) {
        step_part(s, &s->parts[i], &u, scale);
    }
    give_lock(s);
    memset(s->sum, 0, s->floats * sizeof(float));
    s->batches = 0;
}

void server_train(struct server *s, const struct batch *batch, struct loss loss,
                  const struct pass_lane *lane, const struct update *update, struct score *add)
{
    const struct pass pass = {.training = true, .lanes = lane};
    struct net *net = s->net;
    pull(s);
    net_forward(net, batch, &pass);
    net->ops->score(net->layers[net->n - 1], batch, &pass, loss, true, add);
    net_backward(net, batch->n, &pass, NULL, NULL);
    from_net(s, SLOT_GRAD, s->room);
    for (size_t i = 0; i < s->floats; i++) {
        s->sum[i] += s->room[i];
    }
    s->batches++;
    if (s->batches >= s->plan->push_every) {
        server_flush(s, update);
    }
}

/* ---- together ---- */

void server_order(struct server *s, int order)
{
    if (order > atomic_load(&s->shared->order)) {
        atomic_store(&s->shared->order, order);
    }
}

int server_ordered(const struct server *s)
{
    return atomic_load(&s->shared->order);
}

enum mag_status server_settle(struct server *s, int64_t *ret_updates, struct mag_err *err)
{
    enum mag_status st = collective_barrier(s->c, err);
    if (st != MAG_OK) {
        return st;
    }
    into_net(s, SLOT_VALUE, s->value);
    if (s->c->rank == 0) {
        into_net(s, SLOT_FIRST, s->first);
        into_net(s, SLOT_SECOND, s->second);
    }
    *ret_updates = atomic_load(&s->shared->updates);
    return MAG_OK;
}
