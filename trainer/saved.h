/* SPDX-License-Identifier: Apache-2.0
 *
 * A trained model read back from a file: a checkpoint's folder, its model.ckpt, or a safetensors
 * file that this trainer wrote. For prediction and export; holds no optimizer state.
 */
#ifndef MAG_TRAINER_SAVED_H
#define MAG_TRAINER_SAVED_H

#include "trainer/describe.h"
#include "trainer/net.h"

struct saved {
    struct description description;
    json_t *object; /* the description as it was read */
    int64_t step;   /* epochs it was trained for */
    struct backend *backend;
    struct net *net;
};

/* `rows`: most examples that are run at once. NOTFOUND, CORRUPT and INVALID name the file. */
enum mag_status saved_open(const char *path, int rows, struct saved **ret,
                           struct mag_err *err) MAG_MUSTCHECK;
void saved_close(struct saved *s);

/* A parameter array's shape as PyTorch has it, [out, in] or [out, in, k, k]; returns the number of
 * dimensions. */
int saved_dims(const struct layer *l, enum op_param p, int64_t dims[4]);
/* The array's name as PyTorch has it, "2.weight", by the module's place in a torch.nn.Sequential of
 * these layers: an activation is a module of its own, a Flatten stands where a dense layer follows
 * an image and behind a global pooling. Models that are no Sequential, with blocks or an embedding,
 * have "layers.2.weight" with the place in the description's list. */
#define SAVED_NAME_MAX 48
void saved_name(const struct model *m, int layer, enum op_param p, char out[SAVED_NAME_MAX]);
/* True when the dense layer `i` of the model gets an image, which is flattened before it. */
bool saved_flattens(const struct model *m, int i);

#endif
