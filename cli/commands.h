/* SPDX-License-Identifier: Apache-2.0
 *
 * The subcommands, one file each.
 */
#ifndef MAG_CLI_COMMANDS_H
#define MAG_CLI_COMMANDS_H

int cmd_driver(int argc, char **argv);
int cmd_worker(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_trainer(int argc, char **argv);

int cmd_validate(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_simulate(int argc, char **argv);
int cmd_submit(int argc, char **argv);
int cmd_fork(int argc, char **argv);
int cmd_repeat(int argc, char **argv);

int cmd_import(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_model(int argc, char **argv);
int cmd_predict(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_trials(int argc, char **argv);
int cmd_best(int argc, char **argv);
int cmd_importance(int argc, char **argv);
int cmd_logs(int argc, char **argv);
int cmd_watch(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_tensorboard(int argc, char **argv);
int cmd_verify(int argc, char **argv);

int cmd_pause(int argc, char **argv);
int cmd_resume(int argc, char **argv);
int cmd_cancel(int argc, char **argv);
int cmd_extend(int argc, char **argv);
int cmd_retry(int argc, char **argv);
int cmd_note(int argc, char **argv);
int cmd_tag(int argc, char **argv);
int cmd_gc(int argc, char **argv);
int cmd_storage(int argc, char **argv);

int cmd_version(int argc, char **argv);

#endif
