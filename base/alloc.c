/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct alloc_watch *watch;

void alloc_watch(const struct alloc_watch *w)
{
    watch = w;
}

static bool permitted(size_t bytes)
{
    return watch == NULL || bytes < watch->from || watch->permits(bytes);
}

static void *checked(void *p, size_t size)
{
    if (p == NULL && size > 0) {
        if (watch != NULL) {
            watch->failed(size);
        }
        (void)fprintf(stderr, "magpie: out of memory asking for %zu bytes\n", size);
        abort();
    }
    return p;
}

void *xmalloc(size_t size)
{
    return checked(permitted(size) ? malloc(size > 0 ? size : 1) : NULL, size);
}

void *xcalloc(size_t n, size_t size)
{
    size_t bytes = 0;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        bytes = SIZE_MAX / 2;
    }
    return checked(permitted(bytes) ? calloc(n > 0 ? n : 1, size > 0 ? size : 1) : NULL,
                   bytes > 0 ? bytes : 1);
}

void *xrealloc(void *p, size_t size)
{
    const size_t has = watch != NULL && p != NULL ? malloc_usable_size(p) : 0;
    bool may = size <= has || permitted(size - has);
    return checked(may ? realloc(p, size > 0 ? size : 1) : NULL, size);
}

void *xreallocarray(void *p, size_t n, size_t size)
{
    size_t bytes = 0;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        bytes = SIZE_MAX / 2;
    }
    return xrealloc(p, bytes);
}

char *xstrdup(const char *s)
{
    return checked(strdup(s), strlen(s) + 1);
}

char *xstrndup(const char *s, size_t n)
{
    return checked(strndup(s, n), n + 1);
}

char *xasprintf(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = NULL;
    if (vasprintf(&s, fmt, ap) < 0) {
        s = NULL;
    }
    va_end(ap);
    return checked(s, strlen(fmt));
}

void *mag_try_alloc(size_t n, size_t size)
{
    size_t bytes = 0;
    bool sound = !__builtin_mul_overflow(n, size, &bytes);
    return sound && permitted(bytes) ? calloc(n, size) : NULL;
}

void *mag_try_aligned(size_t align, size_t bytes)
{
    void *p = permitted(bytes) ? aligned_alloc(align, (bytes + align - 1) / align * align) : NULL;
    if (p != NULL) {
        memset(p, 0, bytes);
    }
    return p;
}
