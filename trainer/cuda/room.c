/* SPDX-License-Identifier: Apache-2.0
 *
 * What a net takes of a GPU's memory, from its outline alone: the block that plan.h plans for it,
 * and the room for products. Without what the driver keeps for a process.
 */
#include "trainer/cuda/cuda.h"
#include "trainer/net.h"

void cuda_room(const struct net *outline, enum precision precision, struct room *add)
{
    struct room arrays = {0};
    struct plan p;
    for (int i = 0; i < outline->n; i++) {
        op_room(outline->layers[i], outline->average, outline->learns, &arrays);
    }
    plan_net(outline, precision, &p);
    const int64_t held = arrays.weights + arrays.gradients + arrays.optimizer + arrays.average;
    add->weights += arrays.weights;
    add->gradients += arrays.gradients;
    add->optimizer += arrays.optimizer;
    add->average += arrays.average;
    add->values += p.activations;
    add->workspace += DEVICE_WORKSPACE + p.bytes - p.activations - held;
    plan_fini(&p);
}
