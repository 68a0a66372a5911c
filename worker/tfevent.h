/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing TensorBoard's event files: records of one Event each, appended to a buffer. Pure. Times
 * are seconds since 1970. The messages are those of TensorFlow's event.proto and summary.proto and of
 * the hparams plugin's plugin_data.proto and api.proto.
 */
#ifndef MAG_WORKER_TFEVENT_H
#define MAG_WORKER_TFEVENT_H

#include "base/buf.h"

#include <jansson.h>
#include <stdint.h>

/* As in api.proto. */
enum tfevent_status { TFEVENT_UNKNOWN = 0, TFEVENT_SUCCESS = 1, TFEVENT_FAILURE = 2 };

/* First in every file. */
void tfevent_version(struct buf *out, double wall);
/* A program begins again with `step`: readers drop what they have from there on. */
void tfevent_restart(struct buf *out, double wall, int64_t step);
/* One step's metrics {"name": number or null}; null is written as NaN. */
void tfevent_scalars(struct buf *out, double wall, int64_t step, const json_t *metrics);
/* HParams: what the trial runs with ({"name": number or string}), and how it ended. */
void tfevent_session_start(struct buf *out, double wall, const json_t *params, const char *group);
void tfevent_session_end(struct buf *out, double wall, enum tfevent_status status);
/* HParams of a whole experiment: `space` as in the resolved experiment file, names of metrics. */
void tfevent_experiment(struct buf *out, double wall, const char *name, const json_t *space,
                        const json_t *metrics);

#endif
