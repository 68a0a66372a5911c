/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum mag_status mag_fail(struct mag_err *err, enum mag_status code, const char *fmt, ...)
{
    if (err != NULL && err->code == MAG_OK) {
        va_list ap;
        va_start(ap, fmt);
        (void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
        err->code = code;
    }
    return code;
}

enum mag_status mag_wrap(struct mag_err *err, enum mag_status code, const char *fmt, ...)
{
    if (err != NULL) {
        char context[sizeof(err->text)];
        va_list ap;
        va_start(ap, fmt);
        (void)vsnprintf(context, sizeof(context), fmt, ap);
        va_end(ap);
        /* Prefix in place; what does not fit is cut off at the end of the old text. */
        size_t room = sizeof(err->text) - 1;
        size_t front = strlen(context);
        size_t colon = front + 2 <= room ? 2 : 0;
        front = front < room ? front : room;
        size_t kept = strlen(err->text);
        kept = kept < room - front - colon ? kept : room - front - colon;
        memmove(err->text + front + colon, err->text, kept);
        memcpy(err->text, context, front);
        memcpy(err->text + front, ": ", colon);
        err->text[front + colon + kept] = '\0';
        err->code = code;
    }
    return code;
}

const char *mag_status_name(enum mag_status code)
{
    static const char *const names[] = {
        "ok", "no-memory", "invalid", "not-found", "conflict", "limit",
        "timeout", "closed", "io", "corrupt", "unsupported", "bug",
    };
    return (size_t)code < sizeof(names) / sizeof(names[0]) ? names[code] : "unknown";
}

void mag_assert_failed(const char *file, int line, const char *cond, const char *fmt, ...)
{
    (void)fprintf(stderr, "magpie: broken invariant at %s:%d: %s ", file, line, cond);
    va_list ap;
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
    abort();
}
