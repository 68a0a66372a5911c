/* SPDX-License-Identifier: Apache-2.0
 *
 * The long-lived executor: takes trial after trial over MAGPIE_FD (PROTOCOL.md, section 3). One
 * thread; orders are read between batches.
 */
#ifndef MAG_TRAINER_EXECUTOR_H
#define MAG_TRAINER_EXECUTOR_H

#include "trainer/collective.h"

/* Serves until "exit" or the end of the stream. Returns the process's exit status. A start message
 * with several ranks is run by elastic.h; `ranks` (NULL = none) says that this process is one of
 * them: rank 0 serves and tells the others, who have no `fd`. */
int executor_run(int fd, struct collective *ranks);

#endif
