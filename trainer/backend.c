/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/backend.h"

#include "base/alloc.h"
#include "base/pcg.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const struct backend_ops *backend_find(const char *name)
{
    for (int i = 0; backend_registry[i] != NULL; i++) {
        MAG_ASSERT(backend_registry[i]->version == BACKEND_VERSION, "backend %s",
                   backend_registry[i]->name);
        if (name == NULL || strcmp(backend_registry[i]->name, name) == 0) {
            return backend_registry[i];
        }
    }
    return NULL;
}

/* ---- a backend of another program: whoever checks a file must not refuse what a worker runs ----
 */

static enum mag_status elsewhere_open(const struct backend_options *o, struct backend **ret,
                                      struct mag_err *err)
{
    (void)o;
    (void)ret;
    return mag_fail(err, MAG_UNSUPPORTED,
                    "the backend \"cuda\" is in magpie-trainer-cuda, this is magpie-trainer, for "
                    "workers without GPUs; \"requires\": {\"gpus\": 1} sends a trial to those that "
                    "have one");
}

static void elsewhere_room(const struct net *outline, enum precision precision, struct room *add)
{
    backend_cpu.room(outline, precision, add); /* about as much */
}

static const struct backend_ops backend_elsewhere = {
    .version = BACKEND_VERSION,
    .name = "cuda",
    .summary = "NVIDIA GPUs, in magpie-trainer-cuda",
    .precisions = 1u << PRECISION_FLOAT32 | 1u << PRECISION_BF16 | 1u << PRECISION_TF32,
    .open = elsewhere_open,
    .room = elsewhere_room,
};

const struct backend_ops *backend_known(int i)
{
    int n = 0;
    while (backend_registry[n] != NULL) {
        n++;
    }
    const bool here = backend_find(backend_elsewhere.name) != NULL;
    return i < n ? backend_registry[i] : i == n && !here ? &backend_elsewhere : NULL;
}

/* ---- */

void op_init(struct op *op, struct backend *b, const struct op_spec *spec)
{
    *op = (struct op){.backend = b,
                      .layer = *spec->layer,
                      .index = spec->index,
                      .rows = spec->inputs[0]->rows,
                      .lanes = spec->lanes,
                      .flows = layer_learns(spec->layer)};
    for (int i = 0; i < spec->layer->n_inputs; i++) {
        op->inputs[i] = spec->inputs[i];
        op->flows = op->flows || spec->inputs[i]->flows;
    }
}

void op_init_input(struct op *op, struct backend *b, const struct shape *shape, int rows, int lanes)
{
    *op = (struct op){.backend = b,
                      .index = -1,
                      .rows = rows,
                      .lanes = lanes,
                      .layer = {.kind = LAYER_FLATTEN, .out = *shape}};
}

bool op_has_slot(const struct op_spec *s, enum op_param p, enum op_slot slot)
{
    return op_param_floats(s->layer, p) > 0 &&
           (slot == SLOT_VALUE ||
            (slot == SLOT_AVERAGE ? s->average : s->learns && op_param_trained(p)));
}

void op_room(const struct op *op, bool average, bool learns, struct room *add)
{
    const struct op_spec spec = {.layer = &op->layer, .average = average, .learns = learns};
    int64_t *const to[OP_SLOTS] = {[SLOT_VALUE] = &add->weights,
                                   [SLOT_GRAD] = &add->gradients,
                                   [SLOT_FIRST] = &add->optimizer,
                                   [SLOT_SECOND] = &add->optimizer,
                                   [SLOT_AVERAGE] = &add->average};
    for (int p = 0; p < OP_PARAMS; p++) {
        for (int s = 0; s < OP_SLOTS; s++) {
            if (op_has_slot(&spec, (enum op_param)p, (enum op_slot)s)) {
                *to[s] += op_param_floats(&op->layer, (enum op_param)p) * op->lanes *
                          (int64_t)sizeof(float);
            }
        }
    }
}

void backend_dropout_mask(const struct pass_lane *lane, int layer, float rate, int64_t width,
                          float *mask, int64_t n)
{
    char purpose[96];
    (void)snprintf(purpose, sizeof(purpose), "dropout:%lld:%lld:%d", (long long)lane->trial,
                   (long long)lane->epoch, layer);
    struct pcg64 g;
    pcg_stream(&g, lane->seed, purpose, (uint64_t)lane->batch);
    const uint32_t drop = (uint32_t)((double)rate * 4294967296.0);
    const float keep = 1.0f / (1.0f - rate);
    const int64_t from = lane->first_row * width; /* one draw serves two values */
    int64_t i = 0;
    pcg64_skip(&g, (uint64_t)from / 2);
    if (from % 2 == 1 && n > 0) {
        mask[i++] = (uint32_t)(pcg64_next(&g) >> 32) >= drop ? keep : 0.0f;
    }
    for (; i < n; i += 2) {
        uint64_t bits = pcg64_next(&g);
        mask[i] = (uint32_t)bits >= drop ? keep : 0.0f;
        if (i + 1 < n) {
            mask[i + 1] = (uint32_t)(bits >> 32) >= drop ? keep : 0.0f;
        }
    }
}

static int largest(const float *row, int width)
{
    int best = 0;
    for (int k = 1; k < width; k++) {
        if (row[k] > row[best]) {
            best = k;
        }
    }
    return best;
}

/* loss = log(sum(exp(z - max))) - sum of t (z - max);  dloss/dz = softmax(z) - t, with targets t of
 * 1 - smoothing for the label and smoothing / width for every class. */
static double cross_entropy_row(const float *z, float *g, int width, int label, float smoothing,
                                float scale)
{
    const float off = smoothing / (float)width;
    const float on = 1 - smoothing + off;
    float max = z[largest(z, width)];
    float sum = 0;
    float spread = 0; /* of all classes, where they are targets */
    for (int k = 0; k < width; k++) {
        float e = expf(z[k] - max);
        sum += e;
        spread += smoothing > 0 ? z[k] - max : 0;
        if (g != NULL) {
            g[k] = e;
        }
    }
    for (int k = 0; g != NULL && k < width; k++) {
        g[k] = (g[k] / sum - (k == label ? on : off)) * scale;
    }
    return (double)(logf(sum) - (1 - smoothing) * (z[label] - max) - off * spread);
}

/* loss = mean over the outputs of (z - target)^2 */
static double mse_row(const float *z, float *g, int width, int label, float target, float scale)
{
    double loss = 0;
    for (int k = 0; k < width; k++) {
        float t = label >= 0 ? (k == label ? 1.0f : 0.0f) : target;
        float off = z[k] - t;
        loss += (double)off * (double)off;
        if (g != NULL) {
            g[k] = 2.0f * off * scale / (float)width;
        }
    }
    return loss / width;
}

/* loss = log(1 + exp(z)) - t z, without large exponentials; dloss/dz = sigmoid(z) - t. */
static double logistic_row(const float *z, float *g, int label, float smoothing, float scale)
{
    const float t = (float)label * (1 - smoothing) + smoothing / 2;
    const float e = expf(-fabsf(*z));
    if (g != NULL) {
        *g = ((*z >= 0 ? 1 : e) / (1 + e) - t) * scale;
    }
    return (double)(fmaxf(*z, 0) - *z * t + log1pf(e));
}

static double row_loss(const float *z, float *g, int width, int label, float target,
                       struct loss loss, float scale)
{
    switch (loss.kind) {
    case LOSS_CROSS_ENTROPY:
        return cross_entropy_row(z, g, width, label, loss.smoothing, scale);
    case LOSS_LOGISTIC:
        return logistic_row(z, g, label, loss.smoothing, scale);
    case LOSS_MSE:
    default:
        return mse_row(z, g, width, label, target, scale);
    }
}

/* Two classes: how far apart they are, and how good the probability is. */
static void count_margin(struct tally *t, double margin, int label, enum loss_kind loss,
                         int64_t row)
{
    double off = 1 / (1 + exp(-margin)) - label;
    t->margin[row] = (float)margin;
    t->positive[row] = label == 1;
    t->brier += loss != LOSS_MSE ? off * off : NAN;
}

static void count_row(struct tally *t, const float *z, int width, int label, int said, float target,
                      enum loss_kind loss, int64_t row)
{
    if (label < 0) {
        t->targets += (double)target;
        t->squares += (double)target * (double)target;
        return;
    }
    int above = 0;
    for (int k = 0; k < width && width > 1; k++) {
        above += z[k] > z[label];
    }
    t->top5 += above < 5;
    if (t->hits != NULL) {
        t->hits[label] += said == label;
        t->said[said]++;
        t->are[label]++;
    }
    if (t->margin != NULL) {
        count_margin(t, width == 1 ? (double)z[0] : (double)z[1] - (double)z[0], label, loss, row);
    }
}

void backend_score(const float *out, float *grad, int width, size_t stride,
                   const struct batch *batch, struct loss loss, struct score *add)
{
    const struct dataset *d = batch->d;
    const float scale = 1.0f / (float)batch->n;
    for (int i = 0; i < batch->n; i++) {
        const float *z = out + (size_t)i * stride;
        float *g = grad != NULL ? grad + (size_t)i * stride : NULL;
        int label = d->labels != NULL ? d->labels[batch->rows[i]] : -1;
        float target = d->targets != NULL ? d->targets[batch->rows[i]] : 0;
        add->loss += row_loss(z, g, width, label, target, loss, scale);
        int said = loss.kind == LOSS_LOGISTIC ? z[0] > 0 : largest(z, width);
        add->correct += label >= 0 && said == label;
        if (add->tally != NULL) {
            count_row(add->tally, z, width, label, said, target, loss.kind, add->rows + i);
        }
    }
    add->rows += batch->n;
}
