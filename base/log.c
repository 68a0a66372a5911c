/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_int current_level = LOG_INFO;
static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_set_level(enum log_level level)
{
    atomic_store(&current_level, (int)level);
}

enum log_level log_get_level(void)
{
    return (enum log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

void log_init_from_env(void)
{
    const char *want = getenv("MAGPIE_LOG");
    for (int i = 0; want != NULL && i < 4; i++) {
        if (strcmp(want, level_names[i]) == 0) {
            log_set_level((enum log_level)i);
        }
    }
}

void log_write(enum log_level level, const char *subsystem, const char *id, const char *fmt, ...)
{
    if (level < log_get_level()) {
        return;
    }
    char line[2048];
    char when[32];
    clock_rfc3339(clock_wall_ms(), when);
    int n = snprintf(line, sizeof(line), "%s %s %s %s ", when, level_names[level], subsystem, id);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap);
    va_end(ap);
    size_t len = (size_t)n + (m > 0 ? (size_t)m : 0);
    if (len > sizeof(line) - 2) {
        len = sizeof(line) - 2;
    }
    line[len++] = '\n';
    (void)!write(STDERR_FILENO, line, len);
}

const char *log_quote(const char *value)
{
    static _Thread_local char ring[4][512];
    static _Thread_local unsigned at;
    if (value[0] != '\0' && strpbrk(value, " \"\n\t\r=\\") == NULL && strlen(value) < 500) {
        return value;
    }
    char *out = ring[at++ & 3];
    size_t n = 0;
    out[n++] = '"';
    for (; *value != '\0' && n < 500; value++) {
        unsigned char c = (unsigned char)*value;
        if (c == '"' || c == '\\') {
            out[n++] = '\\';
        }
        out[n++] = c < 0x20 ? ' ' : (char)c;
    }
    out[n++] = '"';
    out[n] = '\0';
    return out;
}
