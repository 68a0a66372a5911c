/* SPDX-License-Identifier: Apache-2.0
 *
 * Collectives over a region of memory that all ranks map. A ring of slots, one for each call under
 * way; in a slot each rank has a place for its data and its progress. A sum takes two steps: all
 * have put their data there, then each rank adds up one part of it (in the order of the ranks) into
 * rank 0's place, then all copy the result. A slot is used again when all are done with it. Whoever
 * waits sleeps on one futex, which every step of every rank wakes.
 */
#include "trainer/collective.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLOTS COLLECTIVE_OPEN_MAX
#define WHY_MAX sizeof(((struct mag_err *)0)->text)
#define LOOK_MS 100 /* the longest sleep between two looks at the region */

enum kind { KIND_FLOATS = 0, KIND_DOUBLES = 1, KIND_BROADCAST = 2, KIND_SHARE = 3 };

/* What a rank calls: must be the same for all. */
struct call {
    uint32_t kind;
    uint32_t root;
    uint64_t bytes;
};

/* Numbers of calls, from 1: this rank has come so far in this slot. */
struct progress {
    _Atomic uint64_t posted, added, done;
    struct call call;
};

struct region {
    _Atomic uint32_t wake, sleepers;
    _Atomic uint32_t failed; /* 0, 1 = `why` is being written, 2 = there */
    char why[WHY_MAX];
    uint32_t size;
    struct progress slots[SLOTS][COLLECTIVE_RANKS_MAX];
};

enum state { FREE = 0, POSTED = 1, ADDED = 2 };

struct mine {
    enum state state;
    uint64_t seq;
    void *data;
    struct call call;
};

struct shm {
    struct collective head;
    struct region *region;
    char *room; /* places of the ranks: [slot][rank] */
    size_t mapped;
    int fd;
    uint64_t seq; /* calls begun */
    struct mine mine[SLOTS];
    void *shared;
    size_t shared_bytes;
};

static size_t head_bytes(void)
{
    const size_t page = 4096;
    return (sizeof(struct region) + page - 1) / page * page;
}

static size_t region_bytes(int size)
{
    return head_bytes() + (size_t)SLOTS * (size_t)size * COLLECTIVE_BYTES_MAX;
}

/* ---- for whoever starts the ranks ---- */

enum mag_status collective_shm_create(int size, int *ret_fd, struct mag_err *err)
{
    int fd = memfd_create("magpie-ranks", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)region_bytes(size)) != 0) {
        enum mag_status st =
            mag_fail(err, MAG_IO, "no shared memory for %d ranks: %s", size, strerror(errno));
        if (fd >= 0) {
            (void)close(fd);
        }
        return st;
    }
    const uint32_t n = (uint32_t)size;
    if (pwrite(fd, &n, sizeof(n), (off_t)offsetof(struct region, size)) != sizeof(n)) {
        (void)close(fd);
        return mag_fail(err, MAG_IO, "cannot write shared memory: %s", strerror(errno));
    }
    *ret_fd = fd;
    return MAG_OK;
}

static void wake_all(struct region *g)
{
    atomic_fetch_add(&g->wake, 1);
    if (atomic_load(&g->sleepers) > 0) {
        (void)syscall(SYS_futex, &g->wake, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    }
}

static void fail_region(struct region *g, const char *why)
{
    uint32_t none = 0;
    if (atomic_compare_exchange_strong(&g->failed, &none, 1)) {
        (void)snprintf(g->why, sizeof(g->why), "%s", why);
        atomic_store(&g->failed, 2);
    }
    wake_all(g);
}

void collective_shm_fail(int fd, const char *why)
{
    void *p = mmap(NULL, head_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED) {
        fail_region(p, why);
        (void)munmap(p, head_bytes());
    }
}

bool collective_shm_why(int fd, char *why, size_t size)
{
    void *p = mmap(NULL, head_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        return false;
    }
    struct region *g = p;
    bool failed = atomic_load(&g->failed) == 2;
    if (failed) {
        (void)snprintf(why, size, "%s", g->why);
    }
    (void)munmap(p, head_bytes());
    return failed;
}

/* ---- the steps of a call ---- */

static struct progress *at(const struct shm *s, uint64_t seq, int rank)
{
    return &s->region->slots[seq % SLOTS][rank];
}

static char *place(const struct shm *s, uint64_t seq, int rank)
{
    return s->room +
           ((seq % SLOTS) * (size_t)s->head.size + (size_t)rank) * (size_t)COLLECTIVE_BYTES_MAX;
}

static bool all_posted(const struct shm *s, uint64_t seq)
{
    for (int r = 0; r < s->head.size; r++) {
        if (atomic_load(&at(s, seq, r)->posted) < seq) {
            return false;
        }
    }
    return true;
}

static bool all_added(const struct shm *s, uint64_t seq)
{
    for (int r = 0; r < s->head.size; r++) {
        if (atomic_load(&at(s, seq, r)->added) < seq) {
            return false;
        }
    }
    return true;
}

/* The slot's call before this one is over for everybody. */
static bool is_clear(const struct shm *s, uint64_t seq)
{
    for (int r = 0; r < s->head.size && seq > SLOTS; r++) {
        if (atomic_load(&at(s, seq, r)->done) < seq - SLOTS) {
            return false;
        }
    }
    return true;
}

static const char *kind_name(uint32_t k)
{
    static const char *const names[] = {"sum of floats", "sum of doubles", "broadcast",
                                        "shared memory"};
    return k < sizeof(names) / sizeof(names[0]) ? names[k] : "call";
}

static enum mag_status check_calls(const struct shm *s, const struct mine *m, struct mag_err *err)
{
    for (int r = 0; r < s->head.size; r++) {
        const struct call *c = &at(s, m->seq, r)->call;
        if (c->kind != m->call.kind || c->root != m->call.root || c->bytes != m->call.bytes) {
            return mag_fail(err, MAG_CONFLICT,
                            "the ranks do not agree: rank %d calls a %s of %llu bytes, rank %d a "
                            "%s of %llu bytes",
                            s->head.rank, kind_name(m->call.kind),
                            (unsigned long long)m->call.bytes, r, kind_name(c->kind),
                            (unsigned long long)c->bytes);
        }
    }
    return MAG_OK;
}

static void add_floats(const struct shm *s, uint64_t seq, size_t from, size_t to)
{
    float *sum = (float *)place(s, seq, 0);
    for (int r = 1; r < s->head.size; r++) {
        const float *v = (const float *)place(s, seq, r);
        for (size_t i = from; i < to; i++) {
            sum[i] += v[i];
        }
    }
}

static void add_doubles(const struct shm *s, uint64_t seq, size_t from, size_t to)
{
    double *sum = (double *)place(s, seq, 0);
    for (int r = 1; r < s->head.size; r++) {
        const double *v = (const double *)place(s, seq, r);
        for (size_t i = from; i < to; i++) {
            sum[i] += v[i];
        }
    }
}

/* This rank's part of the sum. */
static void add_part(const struct shm *s, const struct mine *m)
{
    const size_t one = m->call.kind == KIND_FLOATS ? sizeof(float) : sizeof(double);
    const size_t n = m->call.bytes / one;
    const size_t from = n * (size_t)s->head.rank / (size_t)s->head.size;
    const size_t to = n * ((size_t)s->head.rank + 1) / (size_t)s->head.size;
    if (m->call.kind == KIND_FLOATS) {
        add_floats(s, m->seq, from, to);
    } else {
        add_doubles(s, m->seq, from, to);
    }
}

static void finish(struct shm *s, struct mine *m, int source)
{
    if (m->data != NULL && m->call.bytes > 0 && m->call.kind != KIND_SHARE) {
        memcpy(m->data, place(s, m->seq, source), m->call.bytes);
    }
    m->state = FREE;
    atomic_store(&at(s, m->seq, s->head.rank)->done, m->seq);
    wake_all(s->region);
}

/* Moves one call on as far as it goes. */
static enum mag_status step(struct shm *s, struct mine *m, struct mag_err *err)
{
    if (m->state == POSTED && all_posted(s, m->seq)) {
        enum mag_status st = check_calls(s, m, err);
        if (st != MAG_OK) {
            return st;
        }
        if (m->call.kind == KIND_BROADCAST || m->call.kind == KIND_SHARE) {
            finish(s, m, (int)m->call.root);
            return MAG_OK;
        }
        add_part(s, m);
        m->state = ADDED;
        atomic_store(&at(s, m->seq, s->head.rank)->added, m->seq);
        wake_all(s->region);
    }
    if (m->state == ADDED && all_added(s, m->seq)) {
        finish(s, m, 0);
    }
    return MAG_OK;
}

/* All that is under way, oldest first. */
static enum mag_status step_all(struct shm *s, struct mag_err *err)
{
    if (atomic_load(&s->region->failed) == 2) {
        return mag_fail(err, MAG_CLOSED, "%s", s->region->why);
    }
    for (uint64_t q = s->seq >= SLOTS ? s->seq - SLOTS + 1 : 1; q <= s->seq; q++) {
        struct mine *m = &s->mine[q % SLOTS];
        if (m->state != FREE && m->seq == q) {
            enum mag_status st = step(s, m, err);
            if (st != MAG_OK) {
                fail_region(s->region, err != NULL ? err->text : "the ranks do not agree");
                return st;
            }
        }
    }
    return MAG_OK;
}

/* ---- waiting ---- */

static void nap(struct region *g, uint32_t seen)
{
    const struct timespec ts = {.tv_nsec = LOOK_MS * MAG_NS_PER_MS};
    atomic_fetch_add(&g->sleepers, 1);
    (void)syscall(SYS_futex, &g->wake, FUTEX_WAIT, seen, &ts, NULL, 0);
    atomic_fetch_sub(&g->sleepers, 1);
}

/* Who has not come, for the message. */
static void add_absent(const struct shm *s, uint64_t seq, char *to, size_t room)
{
    size_t n = 0;
    to[0] = '\0';
    for (int r = 0; r < s->head.size; r++) {
        if (atomic_load(&at(s, seq, r)->posted) < seq && n + 16 < room) {
            n += (size_t)snprintf(to + n, room - n, "%s%d", n > 0 ? ", " : "", r);
        }
    }
}

static enum mag_status too_long(struct shm *s, uint64_t seq, int64_t timeout_ms,
                                struct mag_err *err)
{
    char absent[128];
    add_absent(s, seq, absent, sizeof(absent));
    enum mag_status st = mag_fail(err, MAG_TIMEOUT, "rank %s did not answer within %g s",
                                  absent[0] != '\0' ? absent : "(some)", (double)timeout_ms / 1000);
    fail_region(s->region, err != NULL ? err->text : "a rank did not answer in time");
    return st;
}

/* Until the call `seq` is over (`begin` false) or its slot is clear (true). */
static enum mag_status wait_for(struct shm *s, uint64_t seq, bool begin, int64_t timeout_ms,
                                struct mag_err *err)
{
    int64_t start = 0;
    for (;;) {
        uint32_t seen = atomic_load(&s->region->wake);
        enum mag_status st = step_all(s, err);
        const struct mine *m = &s->mine[seq % SLOTS];
        if (st != MAG_OK) {
            return st;
        }
        if (begin ? m->state == FREE && is_clear(s, seq) : m->state == FREE || m->seq != seq) {
            return MAG_OK;
        }
        int64_t now = clock_mono_ns();
        start = start == 0 ? now : start;
        if (timeout_ms != COLLECTIVE_FOREVER && now - start > timeout_ms * MAG_NS_PER_MS) {
            return too_long(s, begin ? seq - SLOTS : seq, timeout_ms, err);
        }
        nap(s->region, seen);
    }
}

static enum mag_status begin(struct shm *s, struct call call, void *data, uint64_t *ret_seq,
                             int64_t timeout_ms, struct mag_err *err)
{
    const uint64_t seq = s->seq + 1;
    enum mag_status st = wait_for(s, seq, true, timeout_ms, err);
    if (st != MAG_OK) {
        return st;
    }
    s->seq = seq;
    struct progress *p = at(s, seq, s->head.rank);
    p->call = call;
    bool mine = call.kind <= KIND_DOUBLES ||
                (call.kind == KIND_BROADCAST && (int)call.root == s->head.rank);
    if (mine && call.bytes > 0) {
        memcpy(place(s, seq, s->head.rank), data, call.bytes);
    }
    s->mine[seq % SLOTS] = (struct mine){.state = POSTED, .seq = seq, .data = data, .call = call};
    atomic_store(&p->posted, seq);
    wake_all(s->region);
    *ret_seq = seq;
    return MAG_OK;
}

/* ---- the table ---- */

static enum mag_status shm_sum_start(struct collective *c, struct collective_sum *sum,
                                     struct mag_err *err)
{
    struct shm *s = (struct shm *)c;
    bool floats = sum->type == COLLECTIVE_FLOAT;
    const struct call call = {.kind = floats ? KIND_FLOATS : KIND_DOUBLES,
                              .bytes = sum->n * (floats ? sizeof(float) : sizeof(double))};
    return begin(s, call, sum->data, &sum->seq, c->timeout_ms, err);
}

static enum mag_status shm_sum_wait(struct collective *c, struct collective_sum *sum,
                                    struct mag_err *err)
{
    return wait_for((struct shm *)c, sum->seq, false, c->timeout_ms, err);
}

static enum mag_status shm_poke(struct collective *c, struct mag_err *err)
{
    return step_all((struct shm *)c, err);
}

static enum mag_status shm_broadcast(struct collective *c, void *data, size_t bytes, int root,
                                     int64_t timeout_ms, struct mag_err *err)
{
    struct shm *s = (struct shm *)c;
    uint64_t seq = 0;
    const struct call call = {.kind = KIND_BROADCAST, .root = (uint32_t)root, .bytes = bytes};
    enum mag_status st = begin(s, call, data, &seq, c->timeout_ms, err);
    return st == MAG_OK ? wait_for(s, seq, false, timeout_ms, err) : st;
}

static void shm_abort(struct collective *c, const char *why)
{
    fail_region(((struct shm *)c)->region, why);
}

/* Rank 0 makes the region longer, all map what is behind its end. */
static enum mag_status shm_share(struct collective *c, size_t bytes, void **ret,
                                 struct mag_err *err)
{
    struct shm *s = (struct shm *)c;
    const size_t from = region_bytes(c->size);
    uint64_t seq = 0;
    if (s->shared != NULL) {
        (void)munmap(s->shared, s->shared_bytes);
        s->shared = NULL;
    }
    enum mag_status st = collective_barrier(c, err); /* nobody maps the old one any more */
    if (st == MAG_OK && c->rank == 0 &&
        (ftruncate(s->fd, (off_t)from) != 0 || ftruncate(s->fd, (off_t)(from + bytes)) != 0)) {
        st = mag_fail(err, MAG_NOMEM, "no shared memory for %zu bytes: %s", bytes, strerror(errno));
        fail_region(s->region, "rank 0 found no shared memory");
    }
    const struct call call = {.kind = KIND_SHARE, .bytes = bytes};
    if (st == MAG_OK) {
        st = begin(s, call, NULL, &seq, c->timeout_ms, err);
    }
    if (st == MAG_OK) {
        st = wait_for(s, seq, false, c->timeout_ms, err);
    }
    if (st != MAG_OK) {
        return st;
    }
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, (off_t)from);
    if (p == MAP_FAILED) {
        return mag_fail(err, MAG_NOMEM, "cannot map %zu bytes: %s", bytes, strerror(errno));
    }
    s->shared = p;
    s->shared_bytes = bytes;
    *ret = p;
    return MAG_OK;
}

static enum mag_status shm_open_region(const struct collective_place *p, struct collective **ret,
                                       struct mag_err *err)
{
    struct stat sb;
    if (p->size < 1 || p->size > COLLECTIVE_RANKS_MAX || p->rank < 0 || p->rank >= p->size) {
        return mag_fail(err, MAG_INVALID, "rank %d of %d: 1 to %d ranks", p->rank, p->size,
                        COLLECTIVE_RANKS_MAX);
    }
    if (fstat(p->fd, &sb) != 0 || (size_t)sb.st_size < region_bytes(p->size)) {
        return mag_fail(err, MAG_INVALID, "descriptor %d is no region for %d ranks", p->fd,
                        p->size);
    }
    size_t bytes = region_bytes(p->size);
    void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
    if (m == MAP_FAILED) {
        return mag_fail(err, MAG_NOMEM, "cannot map the ranks' memory: %s", strerror(errno));
    }
    if (((struct region *)m)->size != (uint32_t)p->size) {
        enum mag_status st = mag_fail(err, MAG_INVALID, "the region is for %u ranks, not for %d",
                                      ((struct region *)m)->size, p->size);
        (void)munmap(m, bytes);
        return st;
    }
    struct shm *s = xcalloc(1, sizeof(*s));
    s->head = (struct collective){
        .ops = &collective_shm, .rank = p->rank, .size = p->size, .timeout_ms = p->timeout_ms};
    s->region = m;
    s->room = (char *)m + head_bytes();
    s->mapped = bytes;
    s->fd = p->fd;
    enum mag_status st = collective_barrier(&s->head, err);
    if (st != MAG_OK) {
        collective_close(&s->head);
        return st;
    }
    *ret = &s->head;
    return MAG_OK;
}

static void shm_close(struct collective *c)
{
    struct shm *s = (struct shm *)c;
    if (s->shared != NULL) {
        (void)munmap(s->shared, s->shared_bytes);
    }
    (void)munmap(s->region, s->mapped);
    (void)close(s->fd);
    free(s);
}

const struct collective_ops collective_shm = {
    .name = "shm",
    .region = true,
    .open = shm_open_region,
    .close = shm_close,
    .sum_start = shm_sum_start,
    .sum_wait = shm_sum_wait,
    .poke = shm_poke,
    .broadcast = shm_broadcast,
    .abort = shm_abort,
    .share = shm_share,
};
