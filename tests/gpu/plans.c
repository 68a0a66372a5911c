/* SPDX-License-Identifier: Apache-2.0
 *
 * What cuDNN has for our convolutions on GPUs that are only described to it: a plan for each, whose
 * sums have a fixed order, in the workspace there is. Needs cuDNN's libraries, and no GPU.
 */
#include "trainer/cuda/device.h"
#include "trainer/cuda/dnn.h"
#include "trainer/cuda/plan.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#if CUDNN_VERSION >= 90800

struct gpu {
    const char *name;
    int capability, processors, shared, l2, clock_khz, memory_khz;
};

static const struct gpu gpus[] = {{"NVIDIA A100", 800, 108, 166912, 41943040, 1410000, 1215000},
                                  {"NVIDIA H200", 900, 132, 232448, 62914560, 1980000, 3201000},
                                  {"NVIDIA B200", 1000, 148, 232448, 132644864, 1965000, 3996000}};
#define N_GPUS (sizeof(gpus) / sizeof(gpus[0]))

static cudnnBackendDescriptor_t describe(const struct gpu *g)
{
    char text[1024];
    cudnnBackendDescriptor_t d = NULL;
    (void)snprintf(text, sizeof(text),
                   "{\"deviceName\":\"%s\",\"deviceVer\":%d,\"multiProcessorCount\":%d,"
                   "\"maxSharedMemoryPerBlockOptin\":%d,\"l2CacheSize\":%d,\"smClockRateKHz\":%d,"
                   "\"memClockRateKHz\":%d,\"cudaDeviceId\":0,\"driverVer\":13000,"
                   "\"totalGlobalMem\":80000000000,\"maxGridSize\":[2147483647,65535,65535],"
                   "\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,\"warpSize\":32,"
                   "\"maxSharedMemoryPerBlock\":49152,\"reservedSharedMemoryPerBlock\":1024,"
                   "\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,"
                   "\"maxThreadsPerSM\":2048,\"pciDeviceId\":0,\"isTccDriver\":0,"
                   "\"supportCoopLaunch\":1}",
                   g->name, g->capability, g->processors, g->shared, g->l2, g->clock_khz,
                   g->memory_khz);
    cr_assert_eq(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d),
                 CUDNN_STATUS_SUCCESS);
    cr_assert_eq(cudnnBackendSetAttribute(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                          CUDNN_TYPE_CHAR, (int64_t)strlen(text) + 1, text),
                 CUDNN_STATUS_SUCCESS);
    cr_assert_eq(cudnnBackendFinalize(d), CUDNN_STATUS_SUCCESS, "%s", g->name);
    return d;
}

/* Channels in and out, side, kernel, stride, and lanes with inputs of their own. */
struct shape_of {
    int c, k, side, kernel, stride, lanes;
};

static const struct shape_of shapes[] = {
    /* the CNN of --bench, alone and fused */
    {1, 32, 28, 5, 1, 1},
    {32, 64, 14, 5, 1, 1},
    {32, 64, 14, 5, 1, 8},
    {32, 64, 14, 5, 1, 32},
    {32, 64, 14, 5, 1, 64},
    /* ResNet-18 at 32x32 */
    {3, 64, 32, 3, 1, 1},
    {64, 64, 32, 3, 1, 1},
    {64, 128, 32, 3, 2, 1},
    {128, 128, 16, 3, 1, 1},
    {64, 128, 32, 1, 2, 1},
    {128, 256, 16, 3, 2, 1},
    {256, 256, 8, 3, 1, 1},
    {128, 256, 16, 1, 2, 1},
    {256, 512, 8, 3, 2, 1},
    {512, 512, 4, 3, 1, 1},
    {256, 512, 8, 1, 2, 1},
    /* an even kernel, odd channels */
    {5, 7, 11, 2, 1, 1},
    {5, 7, 11, 4, 3, 3},
};

static struct dnn_shape whole(const struct shape_of *s, int n, bool bf16, bool tf32)
{
    const int pad = s->kernel / 2;
    const int out = (s->side + 2 * pad - s->kernel) / s->stride + 1;
    return (struct dnn_shape){.n = n,
                              .c = s->c * s->lanes,
                              .h = s->side,
                              .w = s->side,
                              .k = s->k * s->lanes,
                              .out_h = out,
                              .out_w = out,
                              .kernel = s->kernel,
                              .stride = s->stride,
                              .pad = pad,
                              .groups = s->lanes,
                              .bf16 = bf16,
                              .tf32 = tf32};
}

/* As the backend has it for an op. */
static int64_t room_of(const struct dnn_shape *s)
{
    const int64_t size = s->bf16 ? 2 : 4;
    return plan_work_bytes((int64_t)s->n * s->c * s->h * s->w * size,
                           (int64_t)s->n * s->k * s->out_h * s->out_w * size,
                           (int64_t)s->k * s->c / s->groups * s->kernel * s->kernel * size);
}

static int missing(cudnnBackendDescriptor_t gpu, const char *name, const struct dnn_shape *s)
{
    static const struct {
        enum dnn_pass pass;
        bool add;
        const char *name;
    } passes[] = {{DNN_FORWARD, false, "forward"},
                  {DNN_DX, false, "dx"},
                  {DNN_DX, true, "dx, added"},
                  {DNN_DW, false, "dw"}};
    int bad = 0;
    for (int i = 0; i < 4; i++) {
        struct dnn_plan *p =
            dnn_plan_create(NULL, gpu, passes[i].pass, s, passes[i].add, room_of(s));
        if (p == NULL || dnn_plan_room(p) > room_of(s)) {
            cr_expect(false,
                      "%s: no plan for %s of %d x %d x %d to %d, kernel %d, %d groups, n %d, %s",
                      name, passes[i].name, s->c, s->h, s->w, s->k, s->kernel, s->groups, s->n,
                      s->bf16   ? "bf16"
                      : s->tf32 ? "tf32"
                                : "float32");
            bad++;
        } else if (getenv("PLANS") != NULL) {
            fprintf(stderr, "%s %s c%d k%d %dx%d g%d n%d %s: engine %lld, %lld bytes\n", name,
                    passes[i].name, s->c, s->k, s->h, s->kernel, s->groups, s->n,
                    s->bf16   ? "bf16"
                    : s->tf32 ? "tf32"
                              : "float32",
                    (long long)dnn_plan_engine(p), (long long)dnn_plan_room(p));
        }
        dnn_plan_destroy(p);
    }
    return bad;
}

Test(plans, cudnn_has_one_for_every_convolution_on_every_gpu_in_every_precision)
{
    int bad = 0;
    for (size_t g = 0; g < N_GPUS; g++) {
        cudnnBackendDescriptor_t gpu = describe(&gpus[g]);
        for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
            for (int precision = 0; precision < 3; precision++) {
                const int n = shapes[i].lanes > 1 ? 64 : 1024;
                const struct dnn_shape s = whole(&shapes[i], n, precision == 1, precision == 2);
                bad += missing(gpu, gpus[g].name, &s);
            }
        }
        (void)cudnnBackendDestroyDescriptor(gpu);
    }
    cr_assert_eq(bad, 0, "%d plans are missing", bad);
}

/* Engines that use tensor cores in tf32 and not in float32: the precision reaches the choice. */
Test(plans, float32_takes_another_engine_than_tf32)
{
    cudnnBackendDescriptor_t gpu = describe(&gpus[1]);
    const struct shape_of square = {64, 64, 16, 3, 1, 1};
    int64_t engine[2];
    for (int tf32 = 0; tf32 < 2; tf32++) {
        const struct dnn_shape s = whole(&square, 256, false, tf32 != 0);
        struct dnn_plan *p = dnn_plan_create(NULL, gpu, DNN_FORWARD, &s, false, room_of(&s));
        cr_assert_not_null(p);
        engine[tf32] = dnn_plan_engine(p);
        dnn_plan_destroy(p);
    }
    cr_expect_neq(engine[0], engine[1]);
    (void)cudnnBackendDestroyDescriptor(gpu);
}

Test(plans, without_room_there_is_one_that_needs_none)
{
    cudnnBackendDescriptor_t gpu = describe(&gpus[1]);
    const struct shape_of square = {64, 64, 16, 3, 1, 1};
    const struct dnn_shape s = whole(&square, 256, true, false);
    struct dnn_plan *p = dnn_plan_create(NULL, gpu, DNN_FORWARD, &s, false, 0);
    cr_assert_not_null(p);
    cr_expect_eq(dnn_plan_room(p), 0);
    dnn_plan_destroy(p);
    (void)cudnnBackendDestroyDescriptor(gpu);
}

#else

Test(plans, this_cudnn_cannot_plan_for_a_gpu_that_is_only_described)
{
    cr_skip("cuDNN %d: 9.8 or later is needed", CUDNN_VERSION);
}

#endif
