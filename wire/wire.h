/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages between worker and driver: one table gives every message, its fields, their types and
 * their limits; structs, encoder, decoder and PROTOCOL.md follow from it. Pure: no sockets, no clock.
 * Strict about types, ranges and required fields; unknown fields are ignored (a newer minor sender).
 */
#ifndef MAG_WIRE_WIRE_H
#define MAG_WIRE_WIRE_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define WIRE_PROTOCOL 1                /* raised when an older peer could not understand us */
#define WIRE_MESSAGE_MAX (4 << 20)     /* bytes of one message */
#define WIRE_SOFT_MAX (1 << 20)        /* a sender starts another message beyond this */
#define WIRE_ID_MAX 128                /* bytes of a worker's id */
#define WIRE_NAME_MAX 64               /* bytes of a worker's or label's name */
#define WIRE_TEXT_MAX 8192             /* bytes of a reason or of last lines */
#define WIRE_URI_MAX 4096              /* bytes of a URL, URI or path */
#define WIRE_SLOTS_MAX 4096            /* slots of one worker */
#define WIRE_REFS_MAX 8192             /* trials in one message */
#define WIRE_POINTS_MAX 1000           /* metric points of one trial in one message */
#define WIRE_STEP_MAX 9007199254740991 /* 2^53 - 1 */
#define WIRE_ID_NUM_MAX 9007199254740991
#define WIRE_POLL_MAX_MS 25000         /* a `next` is held this long at most */
#define WIRE_LANES_MAX 64              /* trials of one group */
#define WIRE_ROOMS_MAX 64              /* experiments whose groups a worker bounds */
#define WIRE_ANSWERS_MAX 64            /* answers kept for repetition, for each session */

/* F(kind, name, required, lo, hi, part): INT lo..hi; STR lo..hi bytes; LIST lo..hi parts; BOOL,
 * OBJECT and ARRAY have no range. An absent optional field is 0, false or NULL. */

/* A lease: the attempt is its fencing token. */
#define WIRE_REF(F)                                                                                 \
    F(INT, experiment, true, 1, WIRE_ID_NUM_MAX, none)                                              \
    F(INT, trial, true, 1, WIRE_ID_NUM_MAX, none)                                                   \
    F(INT, attempt, true, 0, WIRE_ID_NUM_MAX, none)                                                 \
    F(BOOL, reserved, false, 0, 0, none)                                                            \
    F(INT, group, false, 0, WIRE_ID_NUM_MAX, none) /* as its grant said */

/* Of an experiment's trials no more than so many fit into one program there. */
#define WIRE_ROOM(F)                                                                                \
    F(INT, experiment, true, 1, WIRE_ID_NUM_MAX, none)                                              \
    F(INT, lanes, true, 1, WIRE_LANES_MAX, none)

/* One step's metrics: {"name": number or null}. */
#define WIRE_POINT(F)                                                                               \
    F(INT, step, true, 0, WIRE_STEP_MAX, none)                                                      \
    F(OBJECT, metrics, true, 0, 0, none)

/* News of one running trial. */
#define WIRE_REPORT(F)                                                                             \
    F(INT, experiment, true, 1, WIRE_ID_NUM_MAX, none)                                             \
    F(INT, trial, true, 1, WIRE_ID_NUM_MAX, none)                                                  \
    F(INT, attempt, true, 0, WIRE_ID_NUM_MAX, none)                                                \
    F(LIST, points, false, 0, WIRE_POINTS_MAX, point)                                              \
    F(INT, checkpoint_step, false, 0, WIRE_STEP_MAX, none)                                         \
    F(STR, checkpoint_uri, false, 1, WIRE_URI_MAX, none)                                           \
    F(OBJECT, checkpoint_meta, false, 0, 0, none)                                                  \
    F(STR, tail, false, 0, WIRE_TEXT_MAX, none)                                                    \
    F(INT, tail_end, false, 0, WIRE_STEP_MAX, none) /* the log's bytes up to the end of `tail` */  \
    F(STR, waits, false, 0, 512, none) /* why it waits for a GPU's memory; "": not any more */     \
    F(OBJECT, where, false, 0, 0, none)

/* The end of an attempt from its worker's side. */
#define WIRE_RESULT(F)                                                                             \
    F(INT, experiment, true, 1, WIRE_ID_NUM_MAX, none)                                             \
    F(INT, trial, true, 1, WIRE_ID_NUM_MAX, none)                                                  \
    F(INT, attempt, true, 0, WIRE_ID_NUM_MAX, none)                                                \
    F(STR, status, true, 1, 16, none) /* completed, failed, stopped, paused, lost */               \
    F(OBJECT, metrics, false, 0, 0, none)                                                          \
    F(STR, cause, false, 1, 32, none) /* program, signal, timeout, … as in event.h */            \
    F(STR, reason, false, 0, WIRE_TEXT_MAX, none)                                                  \
    F(BOOL, retry, false, 0, 0, none)                                                              \
    F(BOOL, final, false, 0, 0, none) /* it cannot pass, whatever its cause */                     \
    F(BOOL, uncounted, false, 0, 0, none)                                                          \
    F(OBJECT, detail, false, 0, 0,                                                                 \
      none) /* {"exit", "signal", "last_line", "log", "peak_mb", "need_mb", "stored"} */

/* What a worker is to run. */
#define WIRE_GRANT(F)                                                                               \
    F(INT, experiment, true, 1, WIRE_ID_NUM_MAX, none)                                              \
    F(INT, trial, true, 1, WIRE_ID_NUM_MAX, none)                                                   \
    F(INT, attempt, true, 0, WIRE_ID_NUM_MAX, none)                                                 \
    F(BOOL, reserved, false, 0, 0, none)                                                            \
    F(INT, group, false, 0, WIRE_ID_NUM_MAX, none) /* together with those of the same number */     \
    F(INT, slots, true, 1, WIRE_SLOTS_MAX, none)                                                    \
    F(INT, budget, false, 0, WIRE_STEP_MAX, none)                                                   \
    F(OBJECT, params, true, 0, 0, none)                                                             \
    F(INT, resume_step, false, 0, WIRE_STEP_MAX, none)                                              \
    F(STR, resume_uri, false, 1, WIRE_URI_MAX, none)                                                \
    F(INT, seed, true, 0, WIRE_ID_NUM_MAX, none)                                                    \
    F(STR, metric, true, 1, 256, none)                                                              \
    F(STR, direction, true, 3, 3, none)                                                             \
    F(OBJECT, program, true, 0, 0, none) /* the experiment's "trial" */                             \
    F(OBJECT, patterns, false, 0, 0, none) /* regular expressions {"metric": "re"} */               \
    F(INT, checkpoint_every, false, 0, WIRE_STEP_MAX, none)                                         \
    F(INT, checkpoint_keep, false, 0, WIRE_STEP_MAX, none)                                          \
    F(BOOL, checkpoint_best, false, 0, 0, none)                                                     \
    F(INT, trial_time_ms, false, 0, WIRE_ID_NUM_MAX, none)                                          \
    F(INT, gpus, false, 0, 1024, none)                                                              \
    F(OBJECT, limits, false, 0, 0, none) /* {"memory_mb", "files", "processes", "output_mb", … */   \
    F(INT, wait_mb, false, 0, WIRE_ID_NUM_MAX, none) /* failed for want of so much memory */        \
    F(INT, folds, false, 0, 1000000, none) /* with "validation": folds of a point, … */             \
    F(INT, fold, false, 0, 1000000, none)  /* … this one, from 1; absent = the refit */             \
    F(OBJECT, split, false, 0, 0, none)    /* {"seed", "stratified", "train_ratio", "fold_column"} */\
    F(OBJECT, distribution, false, 0, 0, none) /* of a trial over several processes */              \
    F(OBJECT, logs, false, 0, 0, none) /* {"limit": bytes, "mask": ["re"]} */ \
    F(OBJECT, board, false, 0, 0, none) /* for event files: {"name", "space", "metrics"} */

/* What a worker is to do with a trial that it runs; absent means go on. */
#define WIRE_ORDER(F)                                                                               \
    F(INT, experiment, true, 1, WIRE_ID_NUM_MAX, none)                                              \
    F(INT, trial, true, 1, WIRE_ID_NUM_MAX, none)                                                   \
    F(INT, attempt, true, 0, WIRE_ID_NUM_MAX, none)                                                 \
    F(STR, action, true, 1, 16, none) /* pause, stop */                                             \
    F(BOOL, late, false, 0, 0, none)  /* the lease is not this worker's any more */                 \
    F(STR, state, false, 1, 16, none)

/* A checkpoint that another trial goes on from: it stays. */
#define WIRE_PIN(F)                                                                                 \
    F(INT, experiment, true, 1, WIRE_ID_NUM_MAX, none)                                              \
    F(INT, trial, true, 1, WIRE_ID_NUM_MAX, none)                                                   \
    F(INT, step, true, 0, WIRE_STEP_MAX, none)                                                      \
    F(INT, attempt, true, 0, WIRE_ID_NUM_MAX, none)

#define WIRE_HELLO(F)                                                                               \
    F(INT, protocol, true, 1, 1000000, none)                                                        \
    F(STR, version, true, 1, 64, none)                                                              \
    F(STR, worker, true, 1, WIRE_ID_MAX, none) /* made when the worker starts; stays its own */     \
    F(STR, name, true, 1, WIRE_NAME_MAX, none)                                                      \
    F(STR, token, false, 1, 256, none)                                                              \
    F(STR, host, true, 1, 256, none)                                                                \
    F(INT, pid, true, 0, WIRE_ID_NUM_MAX, none)                                                     \
    F(INT, slots, true, 1, WIRE_SLOTS_MAX, none)                                                    \
    F(INT, gpus, false, 0, 1024, none)                                                              \
    F(INT, gpu_memory_mb, false, 0, WIRE_ID_NUM_MAX, none)                                          \
    F(INT, memory_mb, false, 0, WIRE_ID_NUM_MAX, none)                                              \
    F(INT, cores, false, 0, 1000000, none)                                                          \
    F(ARRAY, labels, false, 0, 0, none)                                                             \
    F(ARRAY, can, false, 0, 0, none)    /* what it knows beside the first version: "folds" */        \
    F(OBJECT, where, false, 0, 0, none) /* versions, git commit */                                  \
    F(BOOL, drain, false, 0, 0, none)                                                               \
    F(INT, fuse, false, 0, WIRE_LANES_MAX, none) /* "auto" here: trainer's trials at once; 0: none */ \
    F(LIST, held, false, 0, WIRE_REFS_MAX, ref)

#define WIRE_NEXT(F)                                                                                \
    F(INT, wait_ms, false, 0, WIRE_POLL_MAX_MS, none)                                               \
    F(LIST, room, false, 0, WIRE_ROOMS_MAX, room)

/* started, beat and done carry the same body; the name says what made the worker send it. */
#define WIRE_TALK(F)                                                                                \
    F(LIST, started, false, 0, WIRE_REFS_MAX, ref)                                                  \
    F(LIST, reports, false, 0, WIRE_REFS_MAX, report)                                               \
    F(LIST, results, false, 0, WIRE_REFS_MAX, result)                                               \
    F(OBJECT, use, false, 0, 0, none) /* {"cpu", "memory_mb", "load"} */                            \
    F(BOOL, drain, false, 0, 0, none)

#define WIRE_BYE(F) F(STR, reason, false, 0, 256, none)

#define WIRE_WELCOME(F)                                                                             \
    F(INT, protocol, true, 1, 1000000, none)                                                        \
    F(STR, version, true, 1, 64, none)                                                              \
    F(INT, heartbeat_ms, true, 1, 3600000, none)                                                    \
    F(INT, lease_ms, true, 1, 86400000, none)                                                       \
    F(STR, storage, true, 1, WIRE_URI_MAX, none)                                                    \
    F(LIST, orders, false, 0, WIRE_REFS_MAX, order)

#define WIRE_WORK(F)                                                                                \
    F(LIST, grants, false, 0, WIRE_REFS_MAX, grant)                                                 \
    F(LIST, orders, false, 0, WIRE_REFS_MAX, order)                                                 \
    F(BOOL, drain, false, 0, 0, none)

#define WIRE_ANSWER(F)                                                                              \
    F(LIST, orders, false, 0, WIRE_REFS_MAX, order)                                                 \
    F(LIST, pins, false, 0, WIRE_REFS_MAX, pin)                                                     \
    F(BOOL, drain, false, 0, 0, none)

#define WIRE_REFUSED(F)                                                                             \
    F(STR, code, true, 1, 32, none) /* version, session, token, invalid, limit, … */                \
    F(STR, error, true, 1, 1024, none)

/* P(name, TABLE): the parts of messages, in an order that lets each use the ones before. */
#define WIRE_PARTS(P)                                                                               \
    P(ref, WIRE_REF)                                                                                \
    P(room, WIRE_ROOM)                                                                              \
    P(point, WIRE_POINT)                                                                            \
    P(report, WIRE_REPORT)                                                                          \
    P(result, WIRE_RESULT)                                                                          \
    P(grant, WIRE_GRANT)                                                                            \
    P(order, WIRE_ORDER)                                                                            \
    P(pin, WIRE_PIN)

#define WIRE_BODIES(P)                                                                              \
    P(hello, WIRE_HELLO)                                                                            \
    P(next, WIRE_NEXT)                                                                              \
    P(talk, WIRE_TALK)                                                                              \
    P(bye, WIRE_BYE)                                                                                \
    P(welcome, WIRE_WELCOME)                                                                        \
    P(work, WIRE_WORK)                                                                              \
    P(answer, WIRE_ANSWER)                                                                          \
    P(refused, WIRE_REFUSED)

/* M(ENUM, "type", body): requests first, then replies. */
#define WIRE_MESSAGES(M)                                                                            \
    M(HELLO, "hello", hello)                                                                        \
    M(NEXT, "next", next)                                                                           \
    M(STARTED, "started", talk)                                                                     \
    M(BEAT, "beat", talk)                                                                           \
    M(DONE, "done", talk)                                                                           \
    M(BYE, "bye", bye)                                                                              \
    M(WELCOME, "welcome", welcome)                                                                  \
    M(WORK, "work", work)                                                                           \
    M(ANSWER, "answer", answer)                                                                     \
    M(REFUSED, "refused", refused)

/* Words of hello's `can`. A worker that does not say them gets no trial that needs them. */
#define WIRE_CAN_FOLDS "folds" /* fold, folds, split of a grant */

enum wire_type {
#define M(id, text, body) WIRE_##id,
    WIRE_MESSAGES(M)
#undef M
    WIRE_TYPES
};

#define WIRE_C_INT(name, part) int64_t name;
#define WIRE_C_BOOL(name, part) bool name;
#define WIRE_C_STR(name, part) char *name;
#define WIRE_C_OBJECT(name, part) json_t *name;
#define WIRE_C_ARRAY(name, part) json_t *name;
#define WIRE_C_LIST(name, part)                                                                     \
    struct wire_##part *name;                                                                       \
    size_t n_##name;
#define F(kind, name, required, lo, hi, part) WIRE_C_##kind(name, part)
#define P(name, table)                                                                              \
    struct wire_##name {                                                                            \
        table(F)                                                                                    \
    };
WIRE_PARTS(P)
WIRE_BODIES(P)
#undef P
#undef F

/* A message owns everything it points to. Zero-initialise; wire_fini frees. */
struct wire_msg {
    enum wire_type type;
    char *session; /* unguessable; in every request but hello, and in welcome */
    int64_t seq;   /* of the request in its session, from 1; a reply repeats it */
    int64_t acked; /* requests: every answer up to here has arrived, */
    int64_t open;  /* but that of this older request (0 = none): a poll may be held for long */
    union {
#define P(name, table) struct wire_##name name;
        WIRE_BODIES(P)
#undef P
    };
};

const char *wire_type_name(enum wire_type type);
/* Appends the message's JSON text. Bytes that are not UTF-8 become U+FFFD; texts are cut at their
 * limit. */
void wire_encode(const struct wire_msg *m, struct buf *out);
/* Reads one message. INVALID names the field; UNSUPPORTED is a hello of another protocol version
 * (its text says what to do); LIMIT is a message over WIRE_MESSAGE_MAX. *ret is empty on failure. */
enum mag_status wire_decode(const char *text, size_t len, struct wire_msg *ret,
                            struct mag_err *err) MAG_MUSTCHECK;
void wire_fini(struct wire_msg *m);

/* Frees what a part owns and empties it. */
#define P(name, table) void wire_##name##_fini(struct wire_##name *p);
WIRE_PARTS(P)
#undef P
/* Makes the list one longer and returns its new, zeroed part. */
#define P(name, table) struct wire_##name *wire_##name##_add(struct wire_##name **list, size_t *n);
WIRE_PARTS(P)
#undef P

/* Appends a JSON string literal: at most `max` bytes of `s`, not cut inside a character, bytes that
 * are not UTF-8 replaced by U+FFFD. */
void wire_add_string(struct buf *out, const char *s, size_t max);
/* The table as Markdown, for PROTOCOL.md; a test compares. */
void wire_describe(struct buf *out);

#endif
