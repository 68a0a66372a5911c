/* SPDX-License-Identifier: Apache-2.0
 *
 * Status codes and error texts. Every function that can fail returns an enum mag_status; functions
 * whose failure a person reads also take a `struct mag_err *` (NULL allowed, passed last) that the
 * first failure fills and callers may wrap with context, once per layer.
 */
#ifndef MAG_BASE_ERR_H
#define MAG_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

#define MAG_MUSTCHECK __attribute__((warn_unused_result))
#define MAG_PRINTF(f, a) __attribute__((format(printf, f, a)))

enum mag_status {
    MAG_OK = 0,
    MAG_NOMEM = 1,       /* an allocation of a size that a peer chose failed */
    MAG_INVALID = 2,     /* the input is wrong: the caller's user can mend it */
    MAG_NOTFOUND = 3,    /* no such thing */
    MAG_CONFLICT = 4,    /* the thing is in a state that forbids this */
    MAG_LIMIT = 5,       /* a named limit is exceeded */
    MAG_TIMEOUT = 6,     /* a deadline passed */
    MAG_CLOSED = 7,      /* the other side has gone */
    MAG_IO = 8,          /* the operating system refused */
    MAG_CORRUPT = 9,     /* stored data is not what was written */
    MAG_UNSUPPORTED = 10, /* this build or version cannot do it */
    MAG_BUG = 11,        /* an invariant of ours is broken */
};

/* One failure, for a person. `text` never holds a secret. */
struct mag_err {
    enum mag_status code;
    char text[512];
};

/* Fills `err` (when not NULL and still empty) and returns `code`. */
enum mag_status mag_fail(struct mag_err *err, enum mag_status code, const char *fmt, ...) MAG_PRINTF(3, 4);

/* Puts "context: " before the text of a filled `err`; returns its code. NULL allowed: returns code. */
enum mag_status mag_wrap(struct mag_err *err, enum mag_status code, const char *fmt, ...) MAG_PRINTF(3, 4);

/* "invalid", "not-found", …: stable, for logs and JSON. */
const char *mag_status_name(enum mag_status code);

/* Broken invariant: prints file, line and the text, then aborts. Stays on in release builds. Never
 * for input, disk, peers or device results. */
#define MAG_ASSERT(cond, ...)                                                                       \
    do {                                                                                            \
        if (__builtin_expect(!(cond), 0)) {                                                         \
            mag_assert_failed(__FILE__, __LINE__, #cond, "" __VA_ARGS__);                           \
        }                                                                                           \
    } while (0)

void mag_assert_failed(const char *file, int line, const char *cond, const char *fmt, ...)
    __attribute__((noreturn)) MAG_PRINTF(4, 5);

#endif
