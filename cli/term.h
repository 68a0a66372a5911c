/* SPDX-License-Identifier: Apache-2.0
 *
 * The terminal: is there one, how wide, in colour? A line that is drawn again and again on one,
 * plain lines now and then elsewhere. NO_COLOR is honoured; TERM=dumb is no terminal.
 */
#ifndef MAG_CLI_TERM_H
#define MAG_CLI_TERM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum term_colour {
    TERM_PLAIN = 0,
    TERM_BOLD,
    TERM_DIM,
    TERM_GREEN,
    TERM_YELLOW,
    TERM_RED,
    TERM_BLUE
};

bool term_is_tty(FILE *f);
/* Columns of the terminal behind `f`; 0 when there is none (nothing needs cutting then). */
int term_width(FILE *f);
/* Escape sequence to start a colour ("" where none is wanted) and to end it. */
const char *term_on(FILE *f, enum term_colour c);
const char *term_off(FILE *f);
/* Columns that a UTF-8 text takes (one a code point). */
int term_columns(const char *text);

/* The line of a running command. Zero-initialise. */
struct term_progress {
    bool drawn;      /* a line stands on the terminal */
    int64_t last_ms; /* plain mode: when the last line was printed */
    char last[256];
};
/* Draws `text` over the last one on a terminal; elsewhere prints it when it changed and `every_ms`
 * have passed since the last. */
void term_progress(struct term_progress *p, FILE *f, int64_t now_ms, int64_t every_ms,
                   const char *text);
/* Wipes the drawn line, so that other text can be printed. */
void term_progress_clear(struct term_progress *p, FILE *f);
/* "[######....]", `width` columns with brackets, malloc'ed. */
char *term_bar(double share, int width);

#endif
