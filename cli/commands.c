/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include "cli/cmd.h"

#define FILES "experiment files"
#define OTHER "other"

const struct command commands[] = {

    {"validate", "check an experiment file; every fault with line and column", FILES, cmd_validate},
    {"plan", "what a search will do before anything is spent", FILES, cmd_plan},

    {"trainer", "the built-in trial program", OTHER, cmd_trainer},
    {"version", "version and what this build can do", OTHER, cmd_version},
    {0},
};
