/* SPDX-License-Identifier: Apache-2.0
 *
 * The mathematics of single values on the device: bfloat16, activations and their slopes, the
 * optimizers' steps, the random stream of dropout. Plain functions of their arguments, compiled for
 * the device by nvcc and for the host by the tests, which compare them with the reference backend.
 */
#ifndef MAG_TRAINER_CUDA_CELL_H
#define MAG_TRAINER_CUDA_CELL_H

#include "trainer/cuda/kernel.h"

/* ---- tensors ---- */

/* Values in device memory, float32 or bfloat16. Activations lie as [n][h * w][lanes][c]: channels
 * last, and the channels of all lanes beside each other, so that a convolution over lanes is one
 * over groups of channels and a dense layer a strided product. */
struct tensor {
    void *data;
    int bf16;
    int lanes; /* of an activation: 1 where all lanes share its values */
};

MAG_DEVICE float bf16_to_float(uint16_t b)
{
    uint32_t bits = (uint32_t)b << 16;
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

/* To nearest, ties to even; not-a-number stays one. */
MAG_DEVICE uint16_t bf16_of(float f)
{
#ifdef __CUDA_ARCH__
    uint16_t b;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(b) : "f"(f));
    return b;
#else
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 0x40u);
    }
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
#endif
}

MAG_DEVICE float tensor_at(struct tensor t, int64_t i)
{
    return t.bf16 ? bf16_to_float(((const uint16_t *)t.data)[i]) : ((const float *)t.data)[i];
}

MAG_DEVICE void tensor_put(struct tensor t, int64_t i, float v)
{
    if (t.bf16) {
        ((uint16_t *)t.data)[i] = bf16_of(v);
    } else {
        ((float *)t.data)[i] = v;
    }
}

/* Sets a gradient, or adds to the part of it that is there. */
MAG_DEVICE void tensor_give(struct tensor t, int64_t i, float v, int add)
{
    tensor_put(t, i, add ? tensor_at(t, i) + v : v);
}

/* ---- several values at once ---- */

#define WIDE 8 /* of one thread: 16 bytes of bfloat16, 32 of float32 */

/* `v` values from i on. v is 1 or WIDE and a constant where these are inlined, so that arrays of
 * WIDE lie in registers; with WIDE, i is a multiple of it and the memory aligned. */
MAG_DEVICE void wide_get(struct tensor t, int64_t i, int v, float *to)
{
#ifdef __CUDA_ARCH__
    if (v == WIDE && t.bf16) {
        const uint4 four = *(const uint4 *)((const uint16_t *)t.data + i);
        const uint32_t pairs[] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int k = 0; k < WIDE / 2; k++) {
            to[2 * k] = __uint_as_float(pairs[k] << 16);
            to[2 * k + 1] = __uint_as_float(pairs[k] & 0xffff0000u);
        }
        return;
    }
    if (v == WIDE) {
        const float4 a = *(const float4 *)((const float *)t.data + i);
        const float4 b = *(const float4 *)((const float *)t.data + i + 4);
        to[0] = a.x, to[1] = a.y, to[2] = a.z, to[3] = a.w;
        to[4] = b.x, to[5] = b.y, to[6] = b.z, to[7] = b.w;
        return;
    }
#endif
    for (int k = 0; k < v; k++) {
        to[k] = tensor_at(t, i + k);
    }
}

MAG_DEVICE void wide_put(struct tensor t, int64_t i, int v, const float *from)
{
#ifdef __CUDA_ARCH__
    if (v == WIDE && t.bf16) {
        uint32_t pairs[WIDE / 2];
#pragma unroll
        for (int k = 0; k < WIDE / 2; k++) {
            pairs[k] = (uint32_t)bf16_of(from[2 * k]) | (uint32_t)bf16_of(from[2 * k + 1]) << 16;
        }
        *(uint4 *)((uint16_t *)t.data + i) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
        return;
    }
    if (v == WIDE) {
        *(float4 *)((float *)t.data + i) = make_float4(from[0], from[1], from[2], from[3]);
        *(float4 *)((float *)t.data + i + 4) = make_float4(from[4], from[5], from[6], from[7]);
        return;
    }
#endif
    for (int k = 0; k < v; k++) {
        tensor_put(t, i + k, from[k]);
    }
}

/* Sets gradients, or adds to the part of them that is there; `values` are lost. */
MAG_DEVICE void wide_give(struct tensor t, int64_t i, int v, float *values, int add)
{
    float before[WIDE];
    if (add) {
        wide_get(t, i, v, before);
        for (int k = 0; k < v; k++) {
            values[k] += before[k];
        }
    }
    wide_put(t, i, v, values);
}

/* i modulo d, which is much cheaper below 2^31. */
MAG_DEVICE int rest_of(int64_t i, int d)
{
    return i >> 31 ? (int)(i % d) : (int)((uint32_t)i % (uint32_t)d);
}

MAG_DEVICE int64_t quotient_of(int64_t i, int d)
{
    return i >> 31 ? i / d : (int64_t)((uint32_t)i / (uint32_t)d);
}

/* Where channel c of position p of a row lies; `area` positions a row, c_all channels a lane. */
MAG_DEVICE int64_t tensor_index(struct tensor t, int64_t row, int area, int p, int lane, int c_all,
                                int c)
{
    return (((row * area + p) * t.lanes) + (t.lanes == 1 ? 0 : lane)) * c_all + c;
}

/* ---- activations ---- */

enum cell_act { /* as enum activation */
                CELL_NONE = 0,
                CELL_RELU = 1,
                CELL_TANH = 2,
                CELL_SIGMOID = 3,
                CELL_GELU = 4, /* x Phi(x), by erf */
                CELL_SILU = 5
};

/* The slope needs the value that went in; otherwise what came out is enough. */
MAG_DEVICE int cell_keeps_input(int act)
{
    return act == CELL_GELU || act == CELL_SILU;
}

MAG_DEVICE float cell_act_value(int act, float z)
{
    switch (act) {
    case CELL_RELU:
        return z > 0 ? z : 0;
    case CELL_TANH:
        return tanhf(z);
    case CELL_SIGMOID:
        return 1.0f / (1.0f + expf(-z));
    case CELL_GELU:
        return 0.5f * z * (1.0f + erff(z * 0.70710678f));
    case CELL_SILU:
        return z / (1.0f + expf(-z));
    default:
        return z;
    }
}

/* From the output, or from the input where cell_keeps_input. */
MAG_DEVICE float cell_act_slope(int act, float kept)
{
    switch (act) {
    case CELL_RELU:
        return kept > 0 ? 1.0f : 0.0f;
    case CELL_TANH:
        return 1.0f - kept * kept;
    case CELL_SIGMOID:
        return kept * (1.0f - kept);
    case CELL_GELU:
        return 0.5f * (1.0f + erff(kept * 0.70710678f)) +
               kept * 0.39894228f * expf(-0.5f * kept * kept);
    case CELL_SILU: {
        float s = 1.0f / (1.0f + expf(-kept));
        return s * (1.0f + kept * (1.0f - s));
    }
    default:
        return 1.0f;
    }
}

/* The slope by what went in, whatever the activation. */
MAG_DEVICE float cell_act_slope_in(int act, float z)
{
    return cell_act_slope(act, cell_keeps_input(act) ? z : cell_act_value(act, z));
}

/* ---- optimizers ---- */

enum cell_step { /* as enum optimizer_kind */
                 CELL_SGD = 0,
                 CELL_ADAM = 1,
                 CELL_RMSPROP = 2,
                 CELL_ADAGRAD = 3,
                 CELL_LAMB = 4
};

/* A lane's struct update, as the device reads it; correct1 and correct2 are 1 - beta^count. */
struct cell_update {
    int kind, nesterov, idle;
    float lr, momentum, decay, beta1, beta2, epsilon, scale;
    float correct1, correct2;
    float clip;         /* greatest norm of the gradients, 0 = none */
    float average_keep; /* of the moving average */
};

/* The step of one value with gradient g; the moments are updated. backend.h has the formulas. */
MAG_DEVICE float cell_step_of(const struct cell_update *u, float g, float *m, float *v)
{
    switch (u->kind) {
    case CELL_SGD:
        *m = u->momentum * *m + g;
        return u->nesterov ? g + u->momentum * *m : *m;
    case CELL_RMSPROP:
        *v = u->beta2 * *v + (1.0f - u->beta2) * g * g;
        *m = u->momentum * *m + g / (sqrtf(*v) + u->epsilon);
        return *m;
    case CELL_ADAGRAD:
        *v = *v + g * g;
        return g / (sqrtf(*v) + u->epsilon);
    default: /* Adam, LAMB */
        *m = u->beta1 * *m + (1.0f - u->beta1) * g;
        *v = u->beta2 * *v + (1.0f - u->beta2) * g * g;
        return (*m / u->correct1) / (sqrtf(*v / u->correct2) + u->epsilon);
    }
}

/* What happens to the image of a row; as struct augment_row (augment.h has the rule). */
struct cell_change {
    int16_t dy, dx, cut_y0, cut_y1, cut_x0, cut_x1, flip;
};

/* ---- the random stream of dropout: base/pcg.h's pcg64, which can jump ---- */

/* 128-bit numbers as two halves, so that the struct is the same to every compiler. */
struct cell_stream {
    uint64_t state_hi, state_lo, inc_hi, inc_lo;
    uint32_t drop; /* a draw below it drops the value */
    float keep;    /* multiplier of the values that stay */
    int odd;       /* 1: the first value takes the second half of a draw */
};

typedef unsigned __int128 cell_u128;

MAG_DEVICE cell_u128 cell_wide(uint64_t hi, uint64_t lo)
{
    return (cell_u128)hi << 64 | lo;
}

#define CELL_PCG_MULT_HI 2549297995355413924ULL
#define CELL_PCG_MULT_LO 4865540595714422341ULL

/* The state after `steps` draws (Brown, "Random Number Generation with Arbitrary Strides", 1994).
 */
MAG_DEVICE cell_u128 cell_pcg_jump(cell_u128 state, cell_u128 inc, uint64_t steps)
{
    cell_u128 mult = cell_wide(CELL_PCG_MULT_HI, CELL_PCG_MULT_LO);
    cell_u128 plus = inc;
    cell_u128 all_mult = 1;
    cell_u128 all_plus = 0;
    for (; steps > 0; steps >>= 1) {
        if (steps & 1) {
            all_mult *= mult;
            all_plus = all_plus * mult + plus;
        }
        plus = (mult + 1) * plus;
        mult *= mult;
    }
    return all_mult * state + all_plus;
}

MAG_DEVICE uint64_t cell_pcg_next(cell_u128 *state, cell_u128 inc)
{
    *state = *state * cell_wide(CELL_PCG_MULT_HI, CELL_PCG_MULT_LO) + inc;
    uint64_t hi = (uint64_t)(*state >> 64);
    uint32_t rot = (uint32_t)(hi >> 58);
    uint64_t x = hi ^ (uint64_t)*state;
    return (x >> rot) | (x << ((64 - rot) & 63));
}

#endif
