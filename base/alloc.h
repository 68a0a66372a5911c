/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory for small, bounded things: never NULL, because running out of it ends the process (state is
 * durable and a supervisor restarts us). Sizes that a peer, a file or a user chose are checked
 * against a named limit first; where they may still be large, use mag_try_alloc and return MAG_NOMEM.
 */
#ifndef MAG_BASE_ALLOC_H
#define MAG_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t size) __attribute__((returns_nonnull));
/* Grows or shrinks to n elements of `size` bytes; dies on overflow. */
void *xreallocarray(void *p, size_t n, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), returns_nonnull));

/* Zeroed memory or NULL. */
void *mag_try_alloc(size_t n, size_t size);
/* As that, at a multiple of `align`, a power of two; free() releases. */
void *mag_try_aligned(size_t align, size_t bytes);

/* For programs that place large things: the kernel promises more memory than there is and then
 * kills whom it likes. Requests of `from` bytes and more (of a growing array what is added) are
 * first asked about; one that is not permitted fails as if memory had run out. */
struct alloc_watch {
    size_t from;
    bool (*permits)(size_t bytes);
    /* Called instead of the usual words before the process ends for want of so many bytes. */
    void (*failed)(size_t bytes);
};
/* Before there are threads; `w` is borrowed for good. */
void alloc_watch(const struct alloc_watch *w);

#endif
