/* SPDX-License-Identifier: Apache-2.0
 *
 * Secrets in what programs write: found by pattern and replaced before anything else sees the
 * bytes. Known forms (bearer tokens, AWS and GitHub keys, …), the values of environment variables
 * whose names look like secrets, and POSIX extended regular expressions. Pure.
 */
#ifndef MAG_WORKER_MASK_H
#define MAG_WORKER_MASK_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

#define MASK_TEXT "***"
#define MASK_PATTERNS_MAX 64  /* regular expressions in one set */
#define MASK_PATTERN_MAX 1000 /* bytes of one */
#define MASK_VALUES_MAX                                                                            \
    256                  /* secret values (lines of them) in one set; further ones are left out */
#define MASK_VALUE_MIN 6 /* bytes of a value that is masked: shorter ones are everywhere */
#define MASK_HOLD_MAX 16384 /* bytes of an unfinished line that are held back */
#define MASK_SPAN_MAX                                                                              \
    4096 /* of them kept when such a line is longer: the longest secret known whole */

struct masks;

/* `next` (borrowed, NULL = none): masks that hold as well. `env`: "NAME=value" strings ending in
 * NULL, or NULL. Without `next` the known forms are part of the set. INVALID names the pattern. */
enum mag_status masks_create(struct masks **ret, const struct masks *next,
                             const char *const *patterns, int n, char *const *env,
                             struct mag_err *err) MAG_MUSTCHECK;
void masks_destroy(struct masks *m);
/* Does a variable of this name hold a secret? */
bool masks_is_secret_name(const char *name, size_t len);
/* Appends the text with each secret replaced. A NULL set replaces nothing. */
void masks_apply(const struct masks *m, const char *text, size_t n, struct buf *out);
/* The same for a string: malloc'ed; NULL stays NULL. */
char *masks_text(const struct masks *m, const char *text);

/* A stream: bytes leave when their line has ended, so that no secret is cut in two; of a line of
 * more than MASK_HOLD_MAX bytes all but the last MASK_SPAN_MAX. Zero-initialise. */
struct mask_stream {
    struct buf held;
    bool inside; /* a masked secret filled all that was held: it goes on to the next blank */
};
void mask_stream_add(struct mask_stream *s, const struct masks *m, const char *bytes, size_t n,
                     struct buf *out);
/* What is held leaves: the output has ended. */
void mask_stream_end(struct mask_stream *s, const struct masks *m, struct buf *out);
void mask_stream_fini(struct mask_stream *s);

#endif
