/* SPDX-License-Identifier: Apache-2.0 */
#include "base/program.h"
#include "cli/cmd.h"
#include "cli/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The trainer reads and applies models: this program links no kernels. */
int cmd_predict(int argc, char **argv)
{
    const char *output = NULL;
    bool probabilities = false;
    bool json = false;
    const struct flag flags[] = {
        FLAG(FLAG_TEXT, "output", &output, "FILE", "write there, a new file [standard output]"),
        FLAG(FLAG_BOOL, "probabilities", &probabilities, NULL, "a column for each class"),
        FLAG(FLAG_BOOL, "json", &json, NULL, "JSON lines instead of CSV"),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie predict",
        .args = "MODEL DATA",
        .flags = flags,
        .min_args = 2,
        .max_args = 2,
        .summary = "Applies a model of the built-in trainer to data, one line an example.",
        .detail =
            "MODEL is a .safetensors file of \"magpie model\", or a checkpoint's folder. DATA is a "
            "CSV file with the\nmodel's columns (others are left out), or for other models a file or "
            "folder of examples whose suffix\ntells the format, or a source as in an experiment "
            "(npz:FILE?input=x).\nWhere the data has labels, the accuracy (or the error) is told on "
            "standard error."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    char *trainer = program_find("magpie-trainer");
    if (trainer == NULL) {
        return cmd_failf(CMD_FAILED, "this installation has no magpie-trainer");
    }
    const char *line[10] = {trainer, "--predict", args.items[0], "--data", args.items[1]};
    int n = 5;
    if (output != NULL) {
        line[n++] = "--output";
        line[n++] = output;
    }
    if (probabilities) {
        line[n++] = "--probabilities";
    }
    if (json) {
        line[n++] = "--json";
    }
    (void)execv(trainer, (char *const *)(uintptr_t)line);
    status = cmd_failf(CMD_FAILED, "%s: %s", trainer, strerror(errno));
    free(trainer);
    return status;
}
