/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/room.h"

#include "base/alloc.h"
#include "base/fault.h"
#include "base/memory.h"
#include "trainer/net.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WATCH_FROM ((size_t)16 << 20)
#define SPARE 20      /* of what is free, one part in so many stays for others */
#define FAULT_LANES 2 /* the fault point "trainer.room" leaves room for so many */
#define MB ((int64_t)1 << 20)
#define GB ((int64_t)1 << 30)

/* ---- the estimate ---- */

/* Of one that was only probed: what it will be. */
static int64_t data_bytes(const struct dataset *d)
{
    const int64_t rows = d->n_rows;
    const int64_t values = rows * shape_size(&d->shape);
    const bool octets = d->bytes != NULL || (d->values == NULL && d->scale > 0);
    int64_t bytes = rows * (int64_t)(sizeof(*d->labels) + 2 * sizeof(*d->order));
    if (d->sparse != NULL) {
        bytes += (int64_t)d->sparse->start[d->n_rows] *
                     (int64_t)(sizeof(*d->sparse->index) + sizeof(*d->sparse->value)) +
                 rows * (int64_t)sizeof(*d->sparse->start);
    } else {
        bytes += values * (octets ? 1 : (int64_t)sizeof(float));
    }
    return bytes;
}

static int processes_of(const struct room_ask *ask)
{
    return ask->processes > 1 ? ask->processes : 1;
}

int room_rows(const struct room_ask *ask)
{
    const struct dataset *d = ask->dataset;
    const int batch = ask->recipe->training.batch_size;
    const uint32_t most = d->n_train > d->n_test ? d->n_train : d->n_test;
    const int rows = most > 0 && most < (uint32_t)batch ? (int)most : batch;
    const int parts = ask->server ? 1 : processes_of(ask);
    return (rows + parts - 1) / parts;
}

void room_of(const struct room_ask *ask, struct room *ret)
{
    const struct training *t = &ask->recipe->training;
    const struct net_options options = {.rows = room_rows(ask),
                                        .lanes = ask->lanes,
                                        .shared = ask->shared,
                                        .average = t->ema > 0,
                                        .learns = true,
                                        .turns = t->backend->stage != NULL};
    struct net *outline = net_outline(&ask->recipe->model, &options);
    *ret = (struct room){.data = data_bytes(ask->dataset)};
    t->backend->room(outline, t->precision, ret);
    if (processes_of(ask) > 1) { /* what is summed over ranks lies in a row of its own */
        ret->workspace += (ask->server ? 3 : 1) * ret->gradients;
    }
    net_outline_destroy(outline);
}

/* But the data. */
static int64_t net_bytes(const struct room *r)
{
    return r->weights + r->gradients + r->optimizer + r->average + r->values + r->workspace;
}

int64_t room_sum(const struct room *r)
{
    return net_bytes(r) + r->data;
}

json_t *room_json(const struct room *r)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "weights", (json_int_t)r->weights,
                     "gradients", (json_int_t)r->gradients, "optimizer", (json_int_t)r->optimizer,
                     "average", (json_int_t)r->average, "values", (json_int_t)r->values,
                     "workspace", (json_int_t)r->workspace, "data", (json_int_t)r->data, "total",
                     (json_int_t)room_sum(r));
}

/* ---- in words ---- */

static void add_size(struct buf *out, int64_t bytes)
{
    const bool large = bytes >= GB;
    buf_addf(out, "%.1f %s", (double)bytes / (double)(large ? GB : MB), large ? "GB" : "MB");
}

void room_text(const struct room *r, int rows, struct buf *out)
{
    const int64_t sum = room_sum(r);
    const int64_t unit = sum >= GB ? GB : MB;
    const struct {
        int64_t bytes;
        const char *name;
    } parts[] = {{r->weights, "weights"},
                 {r->gradients, "gradients"},
                 {r->optimizer, "optimizer state"},
                 {r->average, "averages of the weights"},
                 {r->values, "values of a batch of"},
                 {r->workspace, "room for kernels"},
                 {r->data, "data"}};
    const char *before = ": ";
    add_size(out, sum);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (parts[i].bytes * 20 < unit) {
            continue;
        }
        buf_addf(out, "%s%s", before, parts[i].name);
        if (i == 4) {
            buf_addf(out, " %d", rows);
        }
        buf_addf(out, " %.1f", (double)parts[i].bytes / (double)unit);
        before = ", ";
    }
}

/* ---- what there is ---- */

struct there {
    int64_t free, total; /* bytes; -1 = not known */
    const char *of;      /* what has them */
    int64_t spare;       /* of `free`: stays for others */
};

static void host(struct there *ret)
{
    struct memory m;
    const char *text = getenv("MAGPIE_MEMORY_MB");
    const int64_t limit = text != NULL ? strtoll(text, NULL, 10) * MB : 0;
    memory_look("", &m);
    *ret = (struct there){.free = m.free, .total = m.total, .of = m.total_of};
    if (limit > 0) {
        const int64_t held = memory_held();
        const int64_t left = limit > held ? limit - held : 0;
        if (ret->free < 0 || left < ret->free) {
            ret->free = left;
        }
        if (ret->total < 0 || limit < ret->total) {
            ret->total = limit;
            ret->of = "limits.memory";
        }
    }
    ret->spare = ret->free / SPARE;
}

static void look(const struct backend_ops *ops, struct backend *backend, struct there *ret)
{
    if (ops->memory != NULL) {
        *ret = (struct there){.of = "the GPU"}; /* who shares it is the worker's to see to */
        ret->free = ops->memory(backend, &ret->total);
    } else {
        host(ret);
    }
}

/* Of what is free, all may be had but a part that stays for others. */
static int64_t usable(const struct there *t)
{
    return t->free - t->spare;
}

/* ---- admission ---- */

static enum mag_status refuse(const struct room_ask *ask, const struct room *r,
                              const struct there *t, const struct room_verdict *v,
                              struct mag_err *err)
{
    struct room net = *r;
    struct buf b = {0};
    const int n = processes_of(ask);
    net.data = 0;
    buf_addf(&b, "out of memory: the model needs ");
    room_text(&net, room_rows(ask), &b);
    if (n > 1) {
        buf_addf(&b, ", in each of %d processes", n);
    }
    buf_adds(&b, v->never ? "; of " : "; ");
    if (v->never) {
        buf_addf(&b, "%s's ", t->of);
        add_size(&b, t->total);
        buf_adds(&b, ", ");
    }
    add_size(&b, t->free);
    buf_addf(&b, " are free%s; smaller layers or a smaller batch_size would fit",
             t->spare > 0 ? " (5 % are left to others)" : "");
    enum mag_status st = mag_fail(err, MAG_NOMEM, "%s", b.data);
    buf_fini(&b);
    return st;
}

enum mag_status room_admit(const struct room_ask *ask, struct backend *backend,
                           struct room_verdict *ret, struct mag_err *err)
{
    const struct backend_ops *ops = ask->recipe->training.backend;
    struct room r;
    struct there t;
    room_of(ask, &r);
    *ret = (struct room_verdict){.need = net_bytes(&r) * processes_of(ask),
                                 .gpu = ops->memory != NULL};
    look(ops, backend, &t);
    if (t.free >= 0 && ret->need > usable(&t) && ops->memory == NULL) {
        (void)malloc_trim(0); /* what the trial before left behind is ours to use */
        look(ops, backend, &t);
    }
    if (t.free < 0 || ret->need <= usable(&t)) {
        return MAG_OK;
    }
    ret->never = t.total >= 0 && ret->need > t.total;
    return refuse(ask, &r, &t, ret, err);
}

int room_lanes(const struct room_ask *ask, struct backend *backend)
{
    struct room_ask alone = *ask;
    struct room one;
    struct room two;
    struct there t;
    if (ask->lanes > FAULT_LANES && fault_hit("trainer.room")) {
        return FAULT_LANES;
    }
    if (ask->lanes <= 1) {
        return 1;
    }
    look(ask->recipe->training.backend, backend, &t);
    alone.lanes = 1;
    room_of(&alone, &one);
    alone.lanes = 2;
    room_of(&alone, &two);
    const int64_t each = net_bytes(&two) - net_bytes(&one);
    const int64_t left = usable(&t) - net_bytes(&one);
    if (t.free < 0 || each <= 0) {
        return ask->lanes;
    }
    const int64_t fit = left > 0 ? 1 + left / each : 1;
    return fit < ask->lanes ? (int)fit : ask->lanes;
}

/* ---- every other allocation ---- */

static char doing[512];
static size_t refused; /* bytes of the last request that was not permitted; 0 = none lately */

void room_doing(const char *what)
{
    refused = 0;
    (void)snprintf(doing, sizeof(doing), "%s", what != NULL ? what : "");
}

static bool permits(size_t bytes)
{
    struct there t;
    host(&t);
    if (t.free >= 0 && (int64_t)bytes > usable(&t)) {
        (void)malloc_trim(0);
        host(&t);
    }
    bool may = t.free < 0 || (int64_t)bytes <= usable(&t);
    refused = may ? refused : bytes;
    return may;
}

static void add_piece(struct buf *out, size_t bytes)
{
    struct there t;
    host(&t);
    add_size(out, (int64_t)bytes);
    buf_addf(out, " in one piece are needed; of %s's ", t.of);
    add_size(out, t.total);
    buf_adds(out, ", ");
    add_size(out, t.free);
    buf_adds(out, " are free (5 % are left to others)");
}

void room_explain(struct mag_err *err)
{
    struct buf b = {0};
    if (err != NULL && err->code == MAG_NOMEM && refused > 0) {
        buf_addf(&b, "%.300s: ", err->text);
        add_piece(&b, refused);
        *err = (struct mag_err){0};
        (void)mag_fail(err, MAG_NOMEM, "%s", b.data);
        buf_fini(&b);
    }
}

static void failed(size_t bytes)
{
    struct buf b = {0};
    buf_addf(&b, "magpie-trainer: out of memory%s%s: ", doing[0] != '\0' ? " while " : "", doing);
    add_piece(&b, bytes);
    (void)fprintf(stderr, "%s\n", b.data);
    (void)fflush(NULL);
    _exit(1);
}

void room_watch(void)
{
    static const struct alloc_watch watch = {
        .from = WATCH_FROM, .permits = permits, .failed = failed};
    alloc_watch(&watch);
}
