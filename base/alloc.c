/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *p, size_t size)
{
    if (p == NULL && size > 0) {
        (void)fprintf(stderr, "magpie: out of memory asking for %zu bytes\n", size);
        abort();
    }
    return p;
}

void *xmalloc(size_t size)
{
    return checked(malloc(size > 0 ? size : 1), size);
}

void *xcalloc(size_t n, size_t size)
{
    return checked(calloc(n > 0 ? n : 1, size > 0 ? size : 1), size);
}

void *xrealloc(void *p, size_t size)
{
    return checked(realloc(p, size > 0 ? size : 1), size);
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
    return calloc(n, size);
}
