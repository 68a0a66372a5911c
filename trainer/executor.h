/* SPDX-License-Identifier: Apache-2.0
 *
 * The long-lived executor: takes trial after trial over MAGPIE_FD (PROTOCOL.md, section 3). One
 * thread; orders are read between batches.
 */
#ifndef MAG_TRAINER_EXECUTOR_H
#define MAG_TRAINER_EXECUTOR_H

/* Serves until "exit" or the end of the stream. Returns the process's exit status. */
int executor_run(int fd);

#endif
