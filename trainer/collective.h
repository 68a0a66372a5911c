/* SPDX-License-Identifier: Apache-2.0
 *
 * What the ranks of one trial say to each other: sums over all ranks, broadcasts, barriers. A rank
 * is a process; every rank makes the same calls in the same order, with the same sizes. Where one
 * does not, where one is gone or is silent for longer than the deadline, the others get an error:
 * no call ever hangs. After an error nothing more works but collective_abort and collective_close.
 *
 * Sums are added in an order that depends on nothing but the number of ranks, and every rank gets
 * the same bits. One thread of a rank uses its handle. Waiting ranks sleep.
 *
 * Ranks with a GPU each may also sum what lies in the memory of those GPUs: collective_device_sum.
 */
#ifndef MAG_TRAINER_COLLECTIVE_H
#define MAG_TRAINER_COLLECTIVE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COLLECTIVE_RANKS_MAX 64
#define COLLECTIVE_BYTES_MAX (1u << 20) /* of one sum or piece of a broadcast */
#define COLLECTIVE_OPEN_MAX 4           /* sums under way at once; one more waits for the oldest */
#define COLLECTIVE_FOREVER 0            /* as a deadline: wait until the others come or fail */
#define COLLECTIVE_SPANS_MAX 64         /* of one sum in device memory */

enum collective_type { COLLECTIVE_FLOAT = 0, COLLECTIVE_DOUBLE = 1 };

/* Who we are, as whoever started the ranks says it. */
struct collective_place {
    int rank, size;     /* mpi: not read, the library knows */
    int64_t timeout_ms; /* deadline of every call */
    int fd;             /* shm, nccl: the region of collective_shm_create, taken; else -1 */
};

struct collective_ops;

/* Head of every backend's handle. */
struct collective {
    const struct collective_ops *ops;
    int rank, size;
    int64_t timeout_ms;
    bool broken; /* an error was returned */
};

/* A sum under way; the caller's, untouched until it was waited for. */
struct collective_sum {
    void *data;
    size_t n;
    enum collective_type type;
    uint64_t seq;
};

/* Floats in device memory. */
struct collective_span {
    float *data;
    size_t n;
};

struct collective_ops {
    const char *name;
    bool region; /* open takes place.fd */
    enum mag_status (*open)(const struct collective_place *place, struct collective **ret,
                            struct mag_err *err);
    void (*close)(struct collective *c);
    enum mag_status (*sum_start)(struct collective *c, struct collective_sum *s,
                                 struct mag_err *err);
    enum mag_status (*sum_wait)(struct collective *c, struct collective_sum *s,
                                struct mag_err *err);
    enum mag_status (*poke)(struct collective *c, struct mag_err *err);
    /* At most COLLECTIVE_BYTES_MAX. */
    enum mag_status (*broadcast)(struct collective *c, void *data, size_t bytes, int root,
                                 int64_t timeout_ms, struct mag_err *err);
    void (*abort)(struct collective *c, const char *why);
    /* Zeroed memory that all ranks see; NULL slot: not with this backend. */
    enum mag_status (*share)(struct collective *c, size_t bytes, void **ret, struct mag_err *err);
    /* Sums in device memory; NULL slots: not with this backend. */
    enum mag_status (*device_open)(struct collective *c, struct mag_err *err);
    enum mag_status (*device_sum)(struct collective *c, const struct collective_span *spans, int n,
                                  void *stream, struct mag_err *err);
    enum mag_status (*device_join)(struct collective *c, void *stream, struct mag_err *err);
    enum mag_status (*device_check)(struct collective *c, int64_t waited_ms, struct mag_err *err);
};

/* One rank: every call returns at once. */
extern const struct collective_ops collective_self;
/* Processes of one host, over shared memory. */
extern const struct collective_ops collective_shm;
/* MPI; only in magpie-trainer-mpi, which alone links it. */
extern const struct collective_ops collective_mpi;
/* Processes of one host with a GPU each, over shared memory and NCCL; only in magpie-trainer-cuda.
 */
extern const struct collective_ops collective_nccl;
/* What the ranks of this program meet by, when it starts them itself. */
extern const struct collective_ops *const collective_here;

/* Meets the other ranks. */
enum mag_status collective_open(const struct collective_ops *ops,
                                const struct collective_place *place, struct collective **ret,
                                struct mag_err *err) MAG_MUSTCHECK;
/* NULL allowed. Nothing may be under way unless an error came. */
void collective_close(struct collective *c);

/* Begins to replace the n values at `data` by their sums over all ranks; `data` and `s` are not to
 * be touched until the wait. n values are at most COLLECTIVE_BYTES_MAX bytes. */
enum mag_status collective_sum_start(struct collective *c, struct collective_sum *s,
                                     enum collective_type type, void *data, size_t n,
                                     struct mag_err *err) MAG_MUSTCHECK;
enum mag_status collective_sum_wait(struct collective *c, struct collective_sum *s,
                                    struct mag_err *err) MAG_MUSTCHECK;
/* Moves on what is under way, without waiting: call it between pieces of work. What has failed is
 * told by the next wait. */
void collective_poke(struct collective *c);
/* The two in one, for any n. */
enum mag_status collective_sum(struct collective *c, enum collective_type type, void *data,
                               size_t n, struct mag_err *err) MAG_MUSTCHECK;
/* `root`'s bytes to all, any number. `timeout_ms` may be COLLECTIVE_FOREVER: for what comes when it
 * comes, such as the next trial. */
enum mag_status collective_broadcast(struct collective *c, void *data, size_t bytes, int root,
                                     int64_t timeout_ms, struct mag_err *err) MAG_MUSTCHECK;
/* Returns once all ranks have called it. */
enum mag_status collective_barrier(struct collective *c, struct mag_err *err) MAG_MUSTCHECK;
/* Tells the others that this rank cannot go on; their calls fail with `why`. With MPI it ends this
 * process and all others. */
void collective_abort(struct collective *c, const char *why);
/* Memory that all ranks see, zeroed, until close or the next share; all call it, with the same
 * size. UNSUPPORTED where the backend (or ranks on several hosts) has none. */
enum mag_status collective_share(struct collective *c, size_t bytes, void **ret,
                                 struct mag_err *err) MAG_MUSTCHECK;

/* ---- sums in device memory ---- */
/* Makes the GPUs ready for such sums, once the caller has chosen the one of this rank; all ranks
 * call it together. UNSUPPORTED, on all of them, where the ranks cannot: a backend without, or two
 * ranks on one GPU. Later calls return at once. */
enum mag_status collective_device_open(struct collective *c, struct mag_err *err) MAG_MUSTCHECK;
/* Queues sums over all ranks of what the spans hold once the work that `stream` has been given so
 * far is done; what it is given later runs beside them. Up to COLLECTIVE_SPANS_MAX spans, the same
 * on every rank. May be recorded in a graph, by all ranks or none. */
enum mag_status collective_device_sum(struct collective *c, const struct collective_span *spans,
                                      int n, void *stream, struct mag_err *err) MAG_MUSTCHECK;
/* Work that `stream` is given from here on sees the sums queued so far. */
enum mag_status collective_device_join(struct collective *c, void *stream,
                                       struct mag_err *err) MAG_MUSTCHECK;
/* To be asked while the GPU is waited for, for `waited_ms` so far: an error once a rank has failed
 * or the deadline is over. The sums under way are then aborted, and the GPU's work ends. */
enum mag_status collective_device_check(struct collective *c, int64_t waited_ms,
                                        struct mag_err *err) MAG_MUSTCHECK;

/* ---- shm: for whoever starts the ranks ---- */
/* A region for `size` ranks as a descriptor to be inherited; each rank gets a duplicate. */
enum mag_status collective_shm_create(int size, int *ret_fd, struct mag_err *err) MAG_MUSTCHECK;
/* Every call of the ranks fails with `why` from now on. */
void collective_shm_fail(int fd, const char *why);
/* Why they fail: what a rank or collective_shm_fail said first; false when they do not. */
bool collective_shm_why(int fd, char *why, size_t size);

#endif
