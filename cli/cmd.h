/* SPDX-License-Identifier: Apache-2.0
 *
 * What every subcommand shares: exit statuses, the start of each (flags, --help, errors), reading
 * experiment files. One file a subcommand, cmd_*.c; each returns the process's exit status.
 */
#ifndef MAG_CLI_CMD_H
#define MAG_CLI_CMD_H

#include "base/flags.h"
#include "base/json.h"
#include "driver/spec.h"

enum cmd_exit {
    CMD_GO_ON = -1, /* cmd_begin: run the command */
    CMD_OK = 0,
    CMD_FAILED = 1, /* it was understood, but did not work out */
    CMD_USAGE = 2,  /* a wrong command line or a wrong file: the caller can mend it */
};

/* argv[0] is the subcommand's name, flags and arguments follow. */
typedef int (*cmd_fn)(int argc, char **argv);

struct command {
    const char *name;
    const char *summary; /* for `magpie --help`; no full stop */
    const char *group;   /* heading it stands under */
    cmd_fn run;
};

/* Ends with a NULL name (commands.c). */
extern const struct command commands[];

/* Parses the line, prints help or the error. CMD_GO_ON, or the status to return. */
int cmd_begin(const struct flags_usage *u, int argc, char **argv, struct flags_args *ret);
/* Prints "magpie NAME: text" to standard error and returns the exit status for err->code. */
int cmd_fail(const struct mag_err *err);
/* As cmd_fail for a text of ours. */
int cmd_failf(int status, const char *fmt, ...) MAG_PRINTF(2, 3);

/* An experiment's or trial's number from the command line. */
enum mag_status cmd_id(const char *text, const char *what, int64_t *ret,
                       struct mag_err *err) MAG_MUSTCHECK;

/* A file's bytes and the spec in it. On issues prints "FILE:LINE:COLUMN: …" lines (or, with `json`,
 * one JSON object on standard output) and returns CMD_USAGE; CMD_GO_ON when sound. Free with
 * cmd_spec_fini. */
struct cmd_spec {
    const char *path; /* borrowed */
    char *text;
    size_t len;
    json_t *doc;
    struct spec *spec;
    json_t *memory; /* what the trainer found that a trial takes at most; NULL = not asked or not
                       known */
};
int cmd_spec_read(const char *path, bool json, struct cmd_spec *ret);
/* Asks the built-in trainer whether it can run a spec with "program": "builtin" (data set, model's
 * shapes), and what memory a trial takes. CMD_GO_ON when it can, when another program runs the
 * trials, or without the trainer. */
int cmd_spec_check_trainer(struct cmd_spec *cs, bool json);
/* Finds out the memory alone, where the trainer can run it. */
void cmd_spec_weigh(struct cmd_spec *cs);
/* "LABEL a trial takes up to 3.2 GB: …", where that is known. */
void cmd_print_memory(const struct cmd_spec *cs, const char *label);
void cmd_spec_fini(struct cmd_spec *cs);

/* One JSON value on standard output, indented on a terminal, compact otherwise. Takes `value`. */
void cmd_print_json(json_t *value_take);
/* $XDG_DATA_HOME/magpie or ~/.local/share/magpie, malloc'ed. */
char *cmd_default_data_dir(void);
/* A seed for files that name none, below 2^53. */
uint64_t cmd_draw_seed(void);

#endif
