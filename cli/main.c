/* SPDX-License-Identifier: Apache-2.0
 *
 * The `magpie` program: picks the subcommand, nothing else.
 */
#include "base/log.h"
#include "cli/cmd.h"
#include "cli/spawn.h"
#include "cli/term.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static void print_help(FILE *f)
{
    (void)fputs("usage: magpie COMMAND [arguments] [flags]\n\n"
                "Asynchronous hyperparameter search: a driver, workers, and a record that survives "
                "kill -9.\n",
                f);
    const char *group = "";
    for (const struct command *c = commands; c->name != NULL; c++) {
        if (strcmp(group, c->group) != 0) {
            group = c->group;
            (void)fprintf(f, "\n%s\n", group);
        }
        (void)fprintf(f, "  %-10s %s\n", c->name, c->summary);
    }
    (void)fputs("\n'magpie COMMAND --help' tells a command's flags.\n", f);
}

static const struct command *find(const char *name)
{
    for (const struct command *c = commands; c->name != NULL; c++) {
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    return NULL;
}

static int unknown(const char *name)
{
    const char *known[64] = {NULL};
    size_t n = 0;
    for (const struct command *c = commands; c->name != NULL && n < 63; c++) {
        known[n++] = c->name;
    }
    const char *near = mjson_nearest(name, known);
    (void)fprintf(stderr, "magpie: unknown command \"%s\"", name);
    if (near != NULL) {
        (void)fprintf(stderr, "; did you mean \"%s\"?", near);
    }
    (void)fputs("\ntry 'magpie --help'\n", stderr);
    return CMD_USAGE;
}

static int help(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stdout);
        return CMD_OK;
    }
    const struct command *c = find(argv[1]);
    if (c == NULL) {
        return unknown(argv[1]);
    }
    char flag[] = "--help";
    char *line[] = {argv[1], flag, NULL};
    return c->run(2, line);
}

int main(int argc, char **argv)
{
    spawn_follow_parent();
    (void)signal(SIGPIPE, SIG_IGN);
    log_init_from_env();
    if (argc < 2) {
        print_help(stderr);
        return CMD_USAGE;
    }
    int status = CMD_OK;
    const struct command *c = find(argv[1]);
    if (c != NULL) {
        status = c->run(argc - 1, argv + 1);
    } else if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
               strcmp(argv[1], "-h") == 0) {
        status = help(argc - 1, argv + 1);
    } else if (strcmp(argv[1], "--version") == 0) {
        char name[] = "version";
        char *line[] = {name, NULL};
        status = find("version")->run(1, line);
    } else {
        status = unknown(argv[1]);
    }
    if (fflush(stdout) != 0 && status == CMD_OK) {
        status = cmd_failf(CMD_FAILED, "cannot write to standard output");
    }
    return status;
}
