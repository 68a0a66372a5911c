/* SPDX-License-Identifier: Apache-2.0
 *
 * The optimizer's step of all parameters of a net in one launch (two with LAMB), over a table of
 * chunks; and the norm of the gradients, by which they are clipped without asking the host.
 */
#include "trainer/cuda/kernels.h"

/* ---- norms ---- */

KERNEL square_chunks(struct cell_model m)
{
    const int chunk = m.first_chunk + (int)blockIdx.x;
    const struct cell_chunk part = m.chunks[chunk];
    const float *g = m.arrays[part.array].grad;
    double sum = 0;
    for (int i = (int)threadIdx.x; g && i < part.n; i += (int)blockDim.x) {
        const double v = (double)g[part.begin + i];
        sum += v * v;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        m.partial[chunk] = sum;
    }
}

KERNEL square_lanes(struct cell_model m)
{
    double sum = 0;
    for (int i = (int)threadIdx.x; i < m.n_chunks; i += (int)blockDim.x) {
        const int k = m.first_chunk + i;
        sum += m.arrays[m.chunks[k].array].lane == (int)blockIdx.x ? m.partial[k] : 0.0;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        m.squares[blockIdx.x] = sum;
    }
}

/* ---- steps ---- */

MAG_INSIDE float gradient_scale(const struct cell_model *m, const struct cell_update *u, int lane,
                                int clip)
{
    float scale = u->scale > 0 ? u->scale : 1.0f;
    if (clip && u->clip > 0) {
        const double norm = sqrt(m->squares[lane]);
        scale = norm > (double)u->clip ? (float)((double)u->clip / norm) : 1.0f;
    }
    return scale;
}

MAG_INSIDE void follow(const struct cell_array *a, const struct cell_update *u, int64_t i)
{
    if (a->average) {
        const float moved = (1.0f - u->average_keep) * (a->value[i] - a->average[i]);
        a->average[i] = u->average_keep > 0 ? a->average[i] + moved : a->value[i];
    }
    if (a->half) {
        a->half[i] = bf16_of(a->value[i]);
    }
}

/* Moments and step; with LAMB the step stays in the gradient's place until its length is known. */
KERNEL step_chunks(struct cell_model m, const struct cell_update *lanes, int clip, int ratios)
{
    const int chunk = m.first_chunk + (int)blockIdx.x;
    const struct cell_chunk part = m.chunks[chunk];
    const struct cell_array a = m.arrays[part.array];
    const struct cell_update u = lanes[a.lane];
    const int waits = u.kind == CELL_LAMB && a.decays;
    const float scale = gradient_scale(&m, &u, a.lane, clip);
    double values = 0;
    double steps = 0;
    for (int k = (int)threadIdx.x; !u.idle && k < part.n; k += (int)blockDim.x) {
        const int64_t i = part.begin + k;
        if (a.grad) {
            const float w = a.value[i];
            const float s = cell_step_of(&u, scale * a.grad[i], &a.first[i], &a.second[i]) +
                            (a.decays ? u.decay * w : 0.0f);
            values += (double)w * (double)w;
            steps += (double)s * (double)s;
            if (waits) {
                a.grad[i] = s;
                continue;
            }
            a.value[i] = w - u.lr * s;
        }
        follow(&a, &u, i);
    }
    if (ratios) {
        values = block_sum(values);
        steps = block_sum(steps);
        if (threadIdx.x == 0) {
            m.partial[chunk] = values;
            m.partial[m.all_chunks + chunk] = steps;
        }
    }
}

/* One block an array: |w| / |step|. */
KERNEL ratio_arrays(struct cell_model m)
{
    const int array = m.first_array + (int)blockIdx.x;
    double values = 0;
    double steps = 0;
    for (int k = m.chunks_of[array] + (int)threadIdx.x; k < m.chunks_of[array + 1];
         k += (int)blockDim.x) {
        values += m.partial[k];
        steps += m.partial[m.all_chunks + k];
    }
    values = block_sum(values);
    steps = block_sum(steps);
    if (threadIdx.x == 0) {
        m.ratios[array] = values > 0 && steps > 0 ? sqrt(values) / sqrt(steps) : 1.0;
    }
}

KERNEL ratio_chunks(struct cell_model m, const struct cell_update *lanes)
{
    const int chunk = m.first_chunk + (int)blockIdx.x;
    const struct cell_chunk part = m.chunks[chunk];
    const struct cell_array a = m.arrays[part.array];
    const struct cell_update u = lanes[a.lane];
    const int mine = !u.idle && u.kind == CELL_LAMB && a.decays && a.grad;
    const float rate = u.lr * (float)m.ratios[part.array];
    for (int k = (int)threadIdx.x; mine && k < part.n; k += (int)blockDim.x) {
        const int64_t i = part.begin + k;
        a.value[i] -= rate * a.grad[i];
        follow(&a, &u, i);
    }
}

/* ---- launchers ---- */

KERNELS_BEGIN

void k_grad_squares(const struct cell_model *m, void *stream)
{
    LAUNCH_BLOCKS(square_chunks, m->n_chunks, stream, *m);
    LAUNCH_BLOCKS(square_lanes, m->lanes, stream, *m);
}

void k_update(const struct cell_model *m, const struct cell_update *lanes, int clip, int ratios,
              void *stream)
{
    LAUNCH_BLOCKS(step_chunks, m->n_chunks, stream, *m, lanes, clip, ratios);
    if (ratios) {
        LAUNCH_BLOCKS(ratio_arrays, m->n_arrays, stream, *m);
        LAUNCH_BLOCKS(ratio_chunks, m->n_chunks, stream, *m, lanes);
    }
}

KERNELS_END
