/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/term.h"

#include "base/buf.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool term_is_tty(FILE *f)
{
    const char *term = getenv("TERM");
    return isatty(fileno(f)) == 1 && (term == NULL || strcmp(term, "dumb") != 0);
}

int term_width(FILE *f)
{
    struct winsize ws = {0};
    if (!term_is_tty(f)) {
        return 0;
    }
    return ioctl(fileno(f), TIOCGWINSZ, &ws) == 0 && ws.ws_col >= 20 ? ws.ws_col : 80;
}

static bool coloured(FILE *f)
{
    const char *no = getenv("NO_COLOR");
    return term_is_tty(f) && (no == NULL || no[0] == '\0');
}

const char *term_on(FILE *f, enum term_colour c)
{
    static const char *const codes[] = {"",         "\033[1m",  "\033[2m", "\033[32m",
                                        "\033[33m", "\033[31m", "\033[34m"};
    return coloured(f) ? codes[c] : "";
}

const char *term_off(FILE *f)
{
    return coloured(f) ? "\033[0m" : "";
}

int term_columns(const char *text)
{
    int n = 0;
    for (; *text != '\0'; text++) {
        n += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return n;
}

void term_progress(struct term_progress *p, FILE *f, int64_t now_ms, int64_t every_ms,
                   const char *text)
{
    int width = term_width(f);
    if (width > 0) {
        size_t n = strlen(text);
        for (int columns = term_columns(text); n > 0 && columns >= width; n--) {
            columns -= ((unsigned char)text[n - 1] & 0xc0) != 0x80;
        }
        (void)fprintf(f, "\r\033[K%.*s", (int)n, text);
        (void)fflush(f);
        p->drawn = true;
        return;
    }
    if (strncmp(p->last, text, sizeof(p->last) - 1) == 0 ||
        (p->last[0] != '\0' && now_ms - p->last_ms < every_ms)) {
        return;
    }
    (void)snprintf(p->last, sizeof(p->last), "%s", text);
    p->last_ms = now_ms;
    (void)fprintf(f, "%s\n", text);
    (void)fflush(f);
}

void term_progress_clear(struct term_progress *p, FILE *f)
{
    if (p->drawn) {
        (void)fputs("\r\033[K", f);
        (void)fflush(f);
        p->drawn = false;
    }
}

char *term_bar(double share, int width)
{
    int inner = width - 2;
    int full = (int)(share * inner);
    full = full < 0 ? 0 : full > inner ? inner : full;
    struct buf b = {0};
    buf_addc(&b, '[');
    for (int i = 0; i < inner; i++) {
        buf_addc(&b, i < full ? '#' : '.');
    }
    buf_addc(&b, ']');
    return buf_take(&b);
}
