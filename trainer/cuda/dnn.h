/* SPDX-License-Identifier: Apache-2.0
 *
 * One convolution as an execution plan of cuDNN's graph API, for batches of one size. Of what
 * cuDNN's heuristics offer, best first, a plan is the first whose sums have a fixed order, that
 * rounds no more than was asked for and that works in the room there is. It can be made for a GPU
 * that is only described, so that tests know on any machine what cuDNN has for a shape.
 */
#ifndef MAG_TRAINER_CUDA_DNN_H
#define MAG_TRAINER_CUDA_DNN_H

#include <cudnn.h>
#include <stdbool.h>
#include <stdint.h>

enum dnn_pass { DNN_FORWARD = 0, DNN_DX = 1, DNN_DW = 2 };

/* Channels last, in x [n][h][w][c], y [n][out_h][out_w][k] and the weights
 * [k][kernel][kernel][c / groups]. c and k count all groups. */
struct dnn_shape {
    int n, c, h, w;
    int k, out_h, out_w;
    int kernel, stride, pad, groups;
    bool bf16; /* x, y and weights, the gradient of the weights too; sums are float32 */
    bool tf32; /* float32 may be rounded to TensorFloat-32 for products */
};

struct dnn_plan;

/* `h` is the device's handle; or NULL, and `gpu` a finalized CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR.
 * With `add` the result is added to what is there. NULL when cuDNN has no such plan. */
struct dnn_plan *dnn_plan_create(cudnnHandle_t h, cudnnBackendDescriptor_t gpu, enum dnn_pass pass,
                                 const struct dnn_shape *shape, bool add, int64_t room);
void dnn_plan_destroy(struct dnn_plan *p); /* NULL allowed */
/* Queues it on the handle's stream. The workspace is of dnn_plan_room bytes at least. */
cudnnStatus_t dnn_plan_run(const struct dnn_plan *p, cudnnHandle_t h, void *x, void *w, void *y,
                           void *workspace);
int64_t dnn_plan_room(const struct dnn_plan *p);
/* cuDNN's number of its engine. */
int64_t dnn_plan_engine(const struct dnn_plan *p);

#endif
