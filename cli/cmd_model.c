/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/program.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/spawn.h"
#include "storage/storage.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The best trial of an experiment, or the one that was named. */
static enum mag_status fetch_trial(struct client *c, const struct flags_args *args, json_t **ret,
                                   struct mag_err *err)
{
    int64_t trial = 0;
    char *suffix = NULL;
    if (args->n == 2) {
        enum mag_status st = cmd_id(args->items[1], "a trial", &trial, err);
        if (st != MAG_OK) {
            return st;
        }
        suffix = xasprintf("/trials/%" PRId64, trial);
    }
    char *path = client_experiment(c, args->items[0], suffix != NULL ? suffix : "/best");
    enum mag_status st = client_call(c, "GET", path, NULL, 0, ret, err);
    free(path);
    free(suffix);
    return st;
}

/* Only the built-in trainer's checkpoints are models that are known here. */
static enum mag_status check_builtin(struct client *c, const char *experiment, json_t *checkpoint,
                                     struct mag_err *err)
{
    json_t *x = NULL;
    char *path = client_experiment(c, experiment, "");
    enum mag_status st = client_call(c, "GET", path, NULL, 0, &x, err);
    free(path);
    if (st != MAG_OK) {
        return st;
    }
    const json_t *run = json_object_get(json_object_get(x, "spec"), "trial");
    const char *program = json_string_value(json_object_get(run, "program"));
    if (program == NULL || strcmp(program, "builtin") != 0) {
        const char *uri = json_string_value(json_object_get(checkpoint, "uri"));
        st =
            mag_fail(err, MAG_INVALID,
                     "experiment %s runs a program of its own, whose checkpoints only it can read; "
                     "this trial's is %s",
                     experiment, uri != NULL ? uri : "not there");
    }
    json_decref(x);
    return st;
}

/* Makes the checkpoint local, *ret is its folder. Storage's root is what stands before
 * "/experiments/". */
static enum mag_status fetch_checkpoint(const char *uri, const char *scratch, char **ret,
                                        struct mag_err *err)
{
    const char *below = strstr(uri, "/experiments/");
    struct storage *s = NULL;
    if (below == NULL) {
        return mag_fail(err, MAG_UNSUPPORTED, "%s is not in a storage of magpie", uri);
    }
    char *root = xstrndup(uri, (size_t)(below - uri));
    enum mag_status st = storage_open(root, &s, err);
    if (st == MAG_OK) {
        st = storage_get_folder(s, below + 1, scratch, ret, err);
    }
    storage_close(s);
    free(root);
    return st;
}

static int run_export(const char *folder, const char *output)
{
    char *trainer = program_find("magpie-trainer");
    if (trainer == NULL) {
        return cmd_failf(CMD_FAILED, "this installation has no magpie-trainer");
    }
    const char *const line[] = {trainer, "--export", folder, "--output", output, NULL};
    char *said = NULL;
    int status = spawn_capture(line, &said);
    (void)fputs(said, stderr);
    free(said);
    free(trainer);
    return status == 0 || status == CMD_USAGE ? status : CMD_FAILED;
}

static int export_trial(json_t *trial, const char *experiment, struct client *c, const char *output)
{
    struct mag_err err = {0};
    json_t *checkpoint = json_object_get(trial, "checkpoint");
    const char *uri = json_string_value(json_object_get(checkpoint, "uri"));
    int64_t id = format_int(trial, "trial");
    if (check_builtin(c, experiment, checkpoint, &err) != MAG_OK) {
        return cmd_fail(&err);
    }
    if (uri == NULL) {
        return cmd_failf(CMD_FAILED,
                         "trial %" PRId64 " of %s has no checkpoint (yet)", id,
                         experiment);
    }
    char scratch[] = "/tmp/magpie-model-XXXXXX";
    char *folder = NULL;
    if (mkdtemp(scratch) == NULL) {
        return cmd_failf(CMD_FAILED, "cannot make a folder below /tmp");
    }
    int status = fetch_checkpoint(uri, scratch, &folder, &err) == MAG_OK
                     ? run_export(folder, output)
                     : cmd_fail(&err);
    storage_remove_local(scratch);
    free(folder);
    if (status == CMD_OK && c->json) {
        cmd_print_json(json_pack("{s:s, s:I, s:I, s:s}", "experiment", experiment, "trial", id,
                                 "step", format_int(checkpoint, "step"), "file", output));
    } else if (status == CMD_OK) {
        (void)printf("%s: trial %" PRId64 " of %s, step %" PRId64 "\n", output, id, experiment,
                     format_int(checkpoint, "step"));
    }
    return status;
}

int cmd_model(int argc, char **argv)
{
    struct client c = {0};
    const char *output = NULL;
    const struct flag flags[] = {
        FLAG(FLAG_TEXT, "output", &output, "FILE", "a new file: NAME.onnx or NAME.safetensors"),
        CLIENT_FLAGS(&c),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie model",
        .args = "ID [TRIAL]",
        .flags = flags,
        .min_args = 1,
        .max_args = 2,
        .summary =
            "Writes a model that the built-in trainer trained: the best trial's, or TRIAL's.",
        .detail =
            "The weights are those of the trial's newest checkpoint. An ONNX file takes raw "
            "values and holds the\nwhole model; a safetensors file has PyTorch's names for the "
            "weights, and \"magpie predict\" applies it."};
    struct flags_args args;
    struct mag_err err = {0};
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    if (output == NULL) {
        return cmd_failf(CMD_USAGE, "say where to: --output NAME.onnx or "
                                    "--output NAME.safetensors");
    }
    json_t *trial = NULL;
    if (client_open(&c, &err) != MAG_OK || fetch_trial(&c, &args, &trial, &err) != MAG_OK) {
        status = cmd_fail(&err);
    } else {
        status = export_trial(trial, args.items[0], &c, output);
    }
    json_decref(trial);
    client_close(&c);
    return status;
}
