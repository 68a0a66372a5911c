/* SPDX-License-Identifier: Apache-2.0
 *
 * What workers that were killed left in scratch beside ours: output and metrics of their attempts
 * that storage lacks. It goes there once we know the storage, if it is theirs; then the folder
 * goes.
 */
#ifndef MAG_WORKER_SALVAGE_H
#define MAG_WORKER_SALVAGE_H

struct app;

/* Loop thread, once, when the storage `url` is open: writes down that it is ours, and hands what
 * dead workers of the same storage left to the background thread. */
void salvage_start(struct app *a, const char *url);

#endif
