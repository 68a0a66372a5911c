/* SPDX-License-Identifier: Apache-2.0
 *
 * Command lines by table: one row a flag (name, kind, default, range, help) drives parsing, errors
 * and
 * --help alike. "--name value" and "--name=value" are the same; flags and arguments may be mixed;
 * "--" ends the flags. Main thread only, no global state.
 */
#ifndef MAG_BASE_FLAGS_H
#define MAG_BASE_FLAGS_H

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

#define FLAGS_ARGS_MAX 64 /* arguments that are no flags */

enum flag_kind {
    FLAG_BOOL = 0,     /* bool; takes no value */
    FLAG_TEXT = 1,     /* const char *; borrowed from argv, the environment or the table */
    FLAG_INT = 2,      /* int64_t */
    FLAG_DURATION = 3, /* int64_t milliseconds; "30s", "20m", … */
    FLAG_NUMBER = 4,   /* double */
    FLAG_LIST = 5,     /* struct flag_list; may be given several times */
    FLAG_SIZE = 6,     /* int64_t bytes; "64MB", "10GB", … */
};

#define FLAG_LIST_MAX 32
struct flag_list {
    const char *items[FLAG_LIST_MAX];
    int n;
};

struct flag {
    const char *name; /* without dashes */
    enum flag_kind kind;
    void *to;                   /* where the value goes; kept as it is when nothing gives one */
    const char *value;          /* what --help calls the value: "DIR" */
    const char *help;           /* one line, no full stop */
    const char *fallback;       /* default, as a user would write it; NULL = leave `to` alone */
    const char *env;            /* variable that stands in for a missing flag, or NULL */
    int64_t min, max;           /* FLAG_INT, FLAG_DURATION, FLAG_SIZE; both 0 = any */
    const char *const *choices; /* FLAG_TEXT: the values allowed (NULL-terminated), or NULL = any */
    char letter;                /* "-f"; 0 = none */
};

/* A row; further members follow: FLAG(FLAG_INT, "workers", &n, "N", "how many", .fallback = "2").
 */
#define FLAG(kind_, name_, to_, value_, help_, ...)                                                \
    {                                                                                              \
        .name = (name_), .kind = (kind_), .to = (to_), .value = (value_), .help = (help_),         \
        __VA_ARGS__                                                                                \
    }

struct flags_usage {
    const char *program;      /* "magpie run" */
    const char *args;         /* "FILE", "" = takes none */
    const char *summary;      /* one sentence */
    const char *detail;       /* further text for --help, or NULL */
    const struct flag *flags; /* ends with a NULL name */
    int min_args, max_args;
};

struct flags_args {
    const char *items[FLAGS_ARGS_MAX];
    int n;
    bool help; /* --help or -h was given: print it and end well; nothing else was checked */
};

/* Parses argv[1..]. MAG_INVALID: the text says what is wrong, with the nearest known flag. */
enum mag_status flags_parse(const struct flags_usage *u, int argc, char **argv,
                            struct flags_args *ret, struct mag_err *err) MAG_MUSTCHECK;
/* The text of --help. */
void flags_help(const struct flags_usage *u, struct buf *out);

#endif
