/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include "cli/cmd.h"

#define SEARCH "run a search"
#define FILES "experiment files"
#define LOOK "look at experiments (of a running driver)"
#define CHANGE "change experiments"
#define OTHER "other"

const struct command commands[] = {
    {"run", "one driver and workers for one experiment file, to its end", SEARCH, cmd_run},
    {"driver", "the service: experiments, trials, record, REST, board", SEARCH, cmd_driver},
    {"worker", "runs trials for a driver", SEARCH, cmd_worker},
    {"submit", "give an experiment file to a running driver", SEARCH, cmd_submit},

    {"validate", "check an experiment file; every fault with line and column", FILES, cmd_validate},
    {"import", "make an experiment of a study of Optuna", FILES, cmd_import},
    {"plan", "what a search will do before anything is spent", FILES, cmd_plan},
    {"simulate", "play a search in virtual time: how many workers pay off?", FILES, cmd_simulate},

    {"list", "experiments", LOOK, cmd_list},
    {"show", "one experiment", LOOK, cmd_show},
    {"trials", "an experiment's trials", LOOK, cmd_trials},
    {"best", "an experiment's best trial", LOOK, cmd_best},
    {"importance", "how much each parameter mattered", LOOK, cmd_importance},
    {"logs", "what a trial printed", LOOK, cmd_logs},
    {"watch", "follow an experiment to its end", LOOK, cmd_watch},
    {"export", "trials as CSV or JSON, or for Optuna or MLflow", LOOK, cmd_export},
    {"model", "write a trained model as ONNX or safetensors", LOOK, cmd_model},
    {"tensorboard", "an experiment's trials in TensorBoard", LOOK, cmd_tensorboard},
    {"storage", "what experiments hold in storage, and its quota", LOOK, cmd_storage},
    {"verify", "derive every decision again from the record", LOOK, cmd_verify},

    {"pause", "give out no more trials", CHANGE, cmd_pause},
    {"resume", "go on after a pause", CHANGE, cmd_resume},
    {"cancel", "end an experiment, or one trial", CHANGE, cmd_cancel},
    {"extend", "more trials, more time, another target", CHANGE, cmd_extend},
    {"fork", "a new experiment from an old one, with changes", CHANGE, cmd_fork},
    {"repeat", "run the best trials again over several seeds", CHANGE, cmd_repeat},
    {"retry", "run one trial again", CHANGE, cmd_retry},
    {"note", "write a note on an experiment or trial", CHANGE, cmd_note},
    {"tag", "put tags on an experiment", CHANGE, cmd_tag},
    {"gc", "remove from storage what nothing needs any more", CHANGE, cmd_gc},

    {"predict", "apply a model of the built-in trainer to data", OTHER, cmd_predict},
    {"trainer", "the built-in trial program", OTHER, cmd_trainer},
    {"version", "version and what this build can do", OTHER, cmd_version},
    {0},
};
