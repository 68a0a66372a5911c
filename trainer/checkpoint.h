/* SPDX-License-Identifier: Apache-2.0
 *
 * Checkpoints: FOLDER/<step>/model.ckpt, everything that training goes on from. The file holds, in
 * little-endian order: "MAGPIECK", version, length of the head; the head, a JSON object; a CRC-32
 * of all that; the arrays as 32-bit floats in canonical layout; a CRC-32 of them. The folder
 * appears whole or not at all: it is written beside, synced and renamed.
 */
#ifndef MAG_TRAINER_CHECKPOINT_H
#define MAG_TRAINER_CHECKPOINT_H

#include "base/err.h"
#include "base/json.h"
#include "trainer/net.h"
#include "trainer/schedule.h"

#include <stdint.h>

#define CHECKPOINT_VERSION 1
#define CHECKPOINT_HEAD_MAX (16 << 20) /* bytes: a description names every column */
#define CHECKPOINT_FILE "model.ckpt"

/* What a checkpoint is of; compared when it is loaded. */
struct checkpoint_info {
    const char *signature; /* model_signature, borrowed */
    enum optimizer_kind optimizer;
    int64_t step;            /* epochs done */
    int64_t updates;         /* optimizer steps done */
    bool average;            /* the file holds averages of the weights too */
    struct plateau plateau;  /* where a plateau schedule stands */
    const char *description; /* JSON of describe.h, borrowed; saved where it is not NULL */
    int lane;                /* of the net */
};

/* Who reads a checkpoint without knowing its model. */
struct checkpoint_head {
    json_t *description; /* NULL: an older checkpoint has none */
    enum optimizer_kind optimizer;
    int64_t step;
};
/* Reads and checks the head of FOLDER/model.ckpt; the caller drops the description. */
enum mag_status checkpoint_peek(const char *path, struct checkpoint_head *ret,
                                struct mag_err *err) MAG_MUSTCHECK;

/* Writes and publishes <dir>/<step>; *ret_path is its malloc'ed path. */
enum mag_status checkpoint_save(const char *dir, const struct checkpoint_info *info,
                                struct net *net, char **ret_path,
                                struct mag_err *err) MAG_MUSTCHECK;
/* Loads <path>/model.ckpt into the net and fills info->step, updates, average and plateau; signature and
 * optimizer must be those given. A net that does not learn leaves the optimizer's state out and
 * takes the averages, where there are any, as its weights. A net with averages starts them from the
 * weights where the file has none, and one without leaves them out.
 * CORRUPT: torn or changed; CONFLICT: of another model. On failure the net's arrays are undefined.
 */
enum mag_status checkpoint_load(const char *path, struct checkpoint_info *info, struct net *net,
                                struct mag_err *err) MAG_MUSTCHECK;

#endif
