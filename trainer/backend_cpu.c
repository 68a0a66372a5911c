/* SPDX-License-Identifier: Apache-2.0
 *
 * The CPU backend: memory, dispatch and transfer. What the ops compute lies in cpu_*.c.
 */
#include "trainer/cpu.h"
#include "trainer/cpu_panel.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(MAG_ONEDNN) && defined(MAG_OPENBLAS)
#include <cblas.h>
#endif

/* ---- life ---- */

static enum mag_status cpu_open(const struct backend_options *o, struct backend **ret,
                                struct mag_err *err)
{
    if (o->precision == PRECISION_TF32) {
        return mag_fail(err, MAG_UNSUPPORTED,
                        "the CPU backend has no tf32: float32 or bf16; \"requires\": {\"gpus\": 1} "
                        "sends a trial to workers with a GPU");
    }
    struct backend *b = xcalloc(1, sizeof(*b));
    b->bf16 = o->precision == PRECISION_BF16;
    b->threads = o->threads > 0 ? o->threads : 1;
    const char *winograd = getenv("MAGPIE_WINOGRAD");
    b->winograd = winograd == NULL || strcmp(winograd, "0") != 0;
    enum mag_status st = onednn_open(b, err);
    if (st != MAG_OK) {
        free(b);
        return st;
    }
#if !defined(MAG_ONEDNN) && defined(MAG_OPENBLAS)
    openblas_set_num_threads(b->threads);
    (void)snprintf(b->text, sizeof(b->text), "OpenBLAS, %s, without oneDNN",
                   openblas_get_corename());
#elif !defined(MAG_ONEDNN)
    (void)snprintf(b->text, sizeof(b->text), "portable loops, without oneDNN and OpenBLAS");
#endif
    *ret = b;
    return MAG_OK;
}

static void cpu_close(struct backend *b)
{
    if (b != NULL) {
        onednn_close(b);
        free(b->spare);
        free(b->tiles);
        free(b->room);
        free(b->rounded[0]);
        free(b->rounded[1]);
        free(b);
    }
}

static const char *cpu_describe(const struct backend *b)
{
    return b->text;
}

static enum mag_status cpu_check(struct backend *b, struct mag_err *err)
{
    struct mag_err failure = b->failure;
    b->failure = (struct mag_err){0};
    return failure.code == MAG_OK ? MAG_OK : mag_fail(err, failure.code, "%s", failure.text);
}

static bool need(float **room, size_t *size, size_t n)
{
    if (n <= *size) {
        return true;
    }
    float *more = cpu_alloc(n);
    if (more == NULL) {
        return false;
    }
    free(*room);
    *room = more;
    *size = n;
    return true;
}

bool cpu_need_spare(struct backend *b, size_t n)
{
    return need(&b->spare, &b->spare_size, n);
}

bool cpu_need_room(struct backend *b, size_t n)
{
    return need(&b->room, &b->room_size, n);
}

static void free_slots(struct cpu_op *c)
{
    for (int i = 0; i < BACKEND_SLOTS_MAX; i++) {
        cpu_sheet_destroy(c->slots[i].sheet);
        free(c->slots[i].out != c->act.out ? c->slots[i].out : NULL);
    }
}

static void cpu_op_destroy(struct op *op)
{
    if (op == NULL) {
        return;
    }
    struct cpu_op *c = cpu_of(op);
    onednn_conv_destroy(c->onednn);
    winograd_destroy(c->winograd);
    free_slots(c);
    if (c->owns_act) {
        free(c->act.out);
        free(c->act.grad);
    }
    for (int p = 0; p < OP_PARAMS; p++) {
        for (int s = 0; s < OP_SLOTS; s++) {
            free(c->params[p][s]);
        }
    }
    free(c->column);
    free(c->pre);
    free(c->sums);
    free(c->scratch);
    free(c->mask);
    free(c->where);
    free(c->place);
    free(c);
}

size_t cpu_act_size(const struct cpu_op *c)
{
    return cpu_out_size(c) * (size_t)c->op.rows * (size_t)c->op.lanes;
}

void cpu_act_like(struct cpu_op *c, const struct cpu_act *in)
{
    c->act.block = in->block;
}

bool cpu_make_columns(struct cpu_op *c)
{
    const int block = cpu_in(c, 0)->block;
    if (block == 1) {
        return true;
    }
    const struct shape *image = cpu_image(c->op.inputs[0]);
    const int area = image->h * image->w;
    const int64_t in = shape_size(&c->op.layer.in);
    c->column = mag_try_alloc((size_t)in, sizeof(*c->column));
    for (int k = 0; k < (int)in && c->column != NULL; k++) {
        int channel = k / area;
        c->column[k] = (uint32_t)((channel / block * area + k % area) * block + channel % block);
    }
    return c->column != NULL;
}

/* Outputs, and gradients where any flow, for every row of a batch and every lane: one lane after
 * the other, unless the kind says otherwise. */
static bool alloc_act(struct cpu_op *c, bool grads)
{
    c->owns_act = true;
    c->act = (struct cpu_act){.block = 1,
                              .lanes = c->op.lanes,
                              .row = cpu_out_size(c),
                              .lane = cpu_out_size(c) * (size_t)c->op.rows,
                              .out = cpu_alloc(cpu_act_size(c)),
                              .grad = grads ? cpu_alloc(cpu_act_size(c)) : NULL};
    bool pre = grads && !act_by_output(c->op.layer.act) && c->op.layer.kind != LAYER_ACTIVATION;
    c->pre = pre ? cpu_alloc(cpu_act_size(c)) : NULL;
    return c->act.out != NULL && (!grads || c->act.grad != NULL) && (!pre || c->pre != NULL);
}

static bool alloc_params(struct cpu_op *c, const struct op_spec *spec)
{
    bool good = true;
    for (int p = 0; p < OP_PARAMS; p++) {
        for (int s = 0; s < OP_SLOTS; s++) {
            if (op_has_slot(spec, (enum op_param)p, (enum op_slot)s)) {
                size_t n = (size_t)op_param_floats(spec->layer, (enum op_param)p);
                c->params[p][s] = cpu_alloc(n * (size_t)spec->lanes);
                good = good && c->params[p][s] != NULL;
            }
        }
    }
    return good;
}

static enum mag_status cpu_input_create(struct backend *b, const struct shape *shape, int rows,
                                        int lanes, struct op **ret, struct mag_err *err)
{
    struct cpu_op *c = xcalloc(1, sizeof(*c));
    op_init_input(&c->op, b, shape, rows, lanes);
    if (!alloc_act(c, false)) {
        cpu_op_destroy(&c->op);
        return mag_fail(err, MAG_NOMEM, "no memory for %d examples", rows);
    }
    c->slots[0].out = c->act.out;
    *ret = &c->op;
    return MAG_OK;
}

/* NULL: hands its input's activations on as they are. */
static const struct cpu_kind *const kinds[LAYER_KINDS] = {
    [LAYER_DENSE] = &cpu_dense,           [LAYER_CONV] = &cpu_conv,
    [LAYER_MAXPOOL] = &cpu_maxpool,       [LAYER_FLATTEN] = NULL,
    [LAYER_DROPOUT] = &cpu_dropout,       [LAYER_AVGPOOL] = &cpu_avgpool,
    [LAYER_GLOBALPOOL] = &cpu_globalpool, [LAYER_BATCHNORM] = &cpu_batchnorm,
    [LAYER_LAYERNORM] = &cpu_layernorm,   [LAYER_EMBEDDING] = &cpu_embedding,
    [LAYER_ACTIVATION] = &cpu_activation, [LAYER_ADD] = &cpu_add_kind,
    [LAYER_CONCAT] = &cpu_concat,         [LAYER_IDENTITY] = NULL,
};

/* Counts who feeds on whom: where a gradient is a sum, its second part is made in the spare room.
 */
static bool join(struct cpu_op *c)
{
    bool good = true;
    for (int i = 0; i < c->op.layer.n_inputs && c->kind != NULL; i++) {
        struct cpu_op *in = cpu_owner(c->op.inputs[i]);
        if (in->users++ > 0 && in->op.flows) {
            good = good && cpu_need_spare(c->op.backend, cpu_act_size(in));
        }
    }
    return good;
}

static enum mag_status cpu_op_create(struct backend *b, const struct op_spec *spec, struct op **ret,
                                     struct mag_err *err)
{
    struct cpu_op *c = xcalloc(1, sizeof(*c));
    op_init(&c->op, b, spec);
    c->kind = kinds[spec->layer->kind];
    enum mag_status st = MAG_OK;
    if (c->kind == NULL) {
        c->act = *cpu_in(c, 0);
    } else if (!alloc_act(c, spec->learns && c->op.flows) || !alloc_params(c, spec) || !join(c)) {
        st = mag_fail(err, MAG_NOMEM, "no memory for layer %d (%s)", spec->index + 1,
                      layer_kind_name(spec->layer->kind));
    } else if (c->kind->init != NULL) {
        st = c->kind->init(c, err);
    }
    if (st != MAG_OK) {
        cpu_op_destroy(&c->op);
        return st;
    }
    *ret = &c->op;
    return MAG_OK;
}

/* ---- running ---- */

static void fetch(const uint8_t *at, size_t n)
{
    for (size_t i = 0; i < n && i < 4096; i += 64) {
        __builtin_prefetch(at + i);
    }
}

static void cpu_stage(struct op *input, int slot)
{
    struct cpu_op *c = cpu_of(input);
    struct cpu_slot *s = &c->slots[slot];
    if (s->out == NULL) {
        s->out = cpu_alloc(cpu_act_size(c));
    }
    if (s->out == NULL) {
        cpu_fail(input->backend, MAG_NOMEM, "room for one more batch");
        return;
    }
    c->slot = slot;
    c->act.out = s->out;
}

/* What was found in a batch is of no use to the next. */
static void forget(struct cpu_op *c, int n)
{
    struct cpu_slot *s = &c->slots[c->slot];
    s->n = n;
    if (s->sheet != NULL) {
        cpu_sheet_forget(s->sheet, n);
    }
}

const struct cpu_sheet *cpu_sheet_of(const struct cpu_op *c, bool dw)
{
    struct cpu_op *in = cpu_owner(c->op.inputs[0]);
    struct cpu_slot *s = &in->slots[in->slot];
    if (in->op.index >= 0 || in->act.lanes > 1 || !c->panels) {
        return NULL;
    }
    if (s->sheet == NULL) {
        s->sheet = cpu_sheet_create(in->op.rows, (int)cpu_out_size(in));
        forget(in, s->n);
    }
    if (s->sheet == NULL) {
        return NULL;
    }
    cpu_sheet_make(s->sheet, s->out, dw);
    return s->sheet->pays[dw] ? s->sheet : NULL;
}

static void gather_dense(const struct batch *batch, size_t width, float *to)
{
    const struct dataset *d = batch->d;
    for (int i = 0; i < batch->n; i++, to += width) {
        size_t at = (size_t)batch->rows[i] * width;
        if (d->bytes != NULL) {
            /* rows lie anywhere in memory: ask for the next while this one is read */
            if (i + 1 < batch->n) {
                fetch(d->bytes + (size_t)batch->rows[i + 1] * width, width);
            }
            cpu_bytes_to_float(d->bytes + at, d->scale, to, width);
        } else {
            memcpy(to, d->values + at, width * sizeof(float));
        }
    }
}

static void cpu_load(struct op *input, int lane, const struct batch *batch)
{
    struct cpu_op *c = cpu_of(input);
    const struct dataset *d = batch->d;
    size_t width = cpu_out_size(c);
    float *to = c->act.out + cpu_lane(&c->act, lane);
    forget(c, batch->n);
    if (batch->values != NULL) {
        memcpy(to, batch->values, width * (size_t)batch->n * sizeof(float));
    } else if (d->sparse != NULL) {
        dataset_gather(d, batch->rows, batch->n, to);
    } else {
        gather_dense(batch, width, to);
    }
    to += width * (size_t)batch->n;
    memset(to, 0, width * (size_t)(input->rows - batch->n) * sizeof(float));
    if (batch->augment != NULL) {
        augment_images(batch->augment, &input->layer.out, to - width * (size_t)batch->n, batch->n);
    }
}

static void cpu_forward(struct op *op, int n, const struct pass *pass)
{
    struct cpu_op *c = cpu_of(op);
    if (c->kind != NULL) {
        c->kind->forward(c, n, pass);
    }
}

static void cpu_score(struct op *last, const struct batch *batches, const struct pass *pass,
                      struct loss loss, bool want_grad, struct score *add)
{
    const struct cpu_act *act = &cpu_owner(last)->act;
    for (int lane = 0; lane < last->lanes; lane++) {
        size_t at = cpu_lane(act, lane);
        if (!pass->lanes[lane].idle) {
            backend_score(act->out + at, want_grad ? act->grad + at : NULL, last->layer.filters,
                          act->row, &batches[lane], pass_loss(pass, lane, loss), &add[lane]);
        }
    }
    last->grad_set = want_grad;
}

/* The part `i` of backward: into a gradient that has another part already it is added. */
static void backward_part(struct cpu_op *c, int i, int n, const struct pass *pass)
{
    struct cpu_op *in = cpu_owner(c->op.inputs[i]);
    float *dx[MODEL_INPUTS_MAX] = {NULL};
    if (in->act.grad != NULL) {
        dx[i] = in->op.grad_set ? c->op.backend->spare : in->act.grad;
    }
    c->part = i;
    c->kind->backward(c, n, pass, dx);
    if (dx[i] != NULL && in->op.grad_set) {
        cpu_add(dx[i], in->act.grad, cpu_act_size(in));
    }
    in->op.grad_set = in->op.grad_set || dx[i] != NULL;
}

static void cpu_backward(struct op *op, int n, const struct pass *pass)
{
    struct cpu_op *c = cpu_of(op);
    for (int i = 0; i < op->layer.n_inputs && c->kind != NULL && op->flows; i++) {
        backward_part(c, i, n, pass);
    }
}

/* One lane's slots of an array. */
static void slots_of(const struct cpu_op *c, int lane, enum op_param p, float *slots[OP_SLOTS])
{
    for (int s = 0; s < OP_SLOTS; s++) {
        bool has = c->params[p][s] != NULL;
        slots[s] = has ? cpu_param(c, lane, p, (enum op_slot)s) : NULL;
    }
}

void cpu_update_lanes(struct cpu_op *c, const struct update *lanes, bool weights)
{
    for (int lane = 0; lane < c->op.lanes; lane++) {
        const struct update *u = &lanes[lane];
        for (int p = 0; p < OP_PARAMS && !u->idle; p++) {
            float *slots[OP_SLOTS];
            size_t n = (size_t)op_param_floats(&c->op.layer, (enum op_param)p);
            slots_of(c, lane, (enum op_param)p, slots);
            if (n > 0 && (p == OP_BIAS || (p == OP_WEIGHTS && weights))) {
                cpu_update(slots, n, u, op_param_decays(&c->op.layer, (enum op_param)p));
            }
            if (slots[SLOT_AVERAGE] != NULL) {
                cpu_average(slots[SLOT_VALUE], slots[SLOT_AVERAGE], n, u->average_keep);
            }
        }
    }
}

static void cpu_op_update(struct op *op, const struct update *lanes)
{
    struct cpu_op *c = cpu_of(op);
    if (c->kind != NULL && c->kind->update != NULL) {
        c->kind->update(c, lanes);
    } else if (layer_learns(&op->layer)) {
        cpu_update_lanes(c, lanes, true);
    }
}

static void finish_grads(struct cpu_op *c)
{
    if (c->kind != NULL && c->kind->finish_grads != NULL) {
        c->kind->finish_grads(c);
    }
}

static void cpu_grad_square(struct op *op, double *lanes)
{
    struct cpu_op *c = cpu_of(op);
    finish_grads(c);
    for (int lane = 0; lane < op->lanes; lane++) {
        lanes[lane] = 0;
        for (int p = OP_WEIGHTS; p <= OP_BIAS; p++) {
            size_t n = (size_t)op_param_floats(&op->layer, (enum op_param)p);
            lanes[lane] += n > 0 ? cpu_square(cpu_param(c, lane, p, SLOT_GRAD), n) : 0;
        }
    }
}

static void cpu_swap_average(struct op *op)
{
    for (int p = 0; p < OP_PARAMS; p++) {
        float **slots = cpu_of(op)->params[p];
        if (slots[SLOT_AVERAGE] != NULL) {
            float *value = slots[SLOT_VALUE];
            slots[SLOT_VALUE] = slots[SLOT_AVERAGE];
            slots[SLOT_AVERAGE] = value;
        }
    }
}

/* ---- transfer ---- */

/* Weights first, then biases, as they lie here. */
static int64_t cpu_grad_pack(struct op *op, int lane, float *out)
{
    struct cpu_op *c = cpu_of(op);
    int64_t at = 0;
    finish_grads(c);
    for (int p = OP_WEIGHTS; p <= OP_BIAS; p++) {
        int64_t n = op_param_floats(&op->layer, (enum op_param)p);
        if (out != NULL && n > 0) {
            memcpy(out + at, cpu_param(c, lane, p, SLOT_GRAD), (size_t)n * sizeof(float));
        }
        at += n;
    }
    return at;
}

static int64_t cpu_grad_unpack(struct op *op, int lane, const float *in)
{
    struct cpu_op *c = cpu_of(op);
    int64_t at = 0;
    finish_grads(c);
    for (int p = OP_WEIGHTS; p <= OP_BIAS; p++) {
        int64_t n = op_param_floats(&op->layer, (enum op_param)p);
        if (n > 0) {
            memcpy(cpu_param(c, lane, p, SLOT_GRAD), in + at, (size_t)n * sizeof(float));
        }
        at += n;
    }
    return at;
}

/* Are the array's columns, [width] of each row, in the order of a blocked input? */
static bool is_permuted(const struct cpu_op *c, enum op_param p)
{
    return c->column != NULL && (p == OP_WEIGHTS || c->op.layer.kind != LAYER_DENSE);
}

/* One row of an array in the canonical order, [width] values from `i` on: where it lies here. */
struct row {
    size_t at, step, n;
    const uint32_t *column; /* our place of each value, in steps; NULL = in order */
};

static struct row row_of(const struct cpu_op *c, enum op_param p, size_t i, size_t width)
{
    const size_t all = (size_t)op_param_floats(&c->op.layer, p);
    struct row r = {.at = i,
                    .step = 1,
                    .n = all - i < width ? all - i : width,
                    .column = is_permuted(c, p) ? c->column : NULL};
    if (c->panels && p == OP_WEIGHTS) {
        const int o = (int)(i / width);
        const int left = c->op.layer.filters - o / PANEL * PANEL;
        r.at = cpu_panel_at(o, 0, c->op.layer.filters, (int)width);
        r.step = left < PANEL ? (size_t)left : PANEL;
    }
    return r;
}

static void cpu_get(struct op *op, int lane, enum op_param p, enum op_slot slot, float *out)
{
    struct cpu_op *c = cpu_of(op);
    if (slot == SLOT_GRAD) {
        finish_grads(c);
    }
    const float *from = cpu_param(c, lane, p, slot);
    size_t width = (size_t)shape_size(&op->layer.in);
    for (size_t i = 0; i < (size_t)op_param_floats(&op->layer, p); i += width) {
        const struct row r = row_of(c, p, i, width);
        for (size_t k = 0; k < r.n; k++) {
            out[i + k] = from[r.at + (r.column != NULL ? r.column[k] : k) * r.step];
        }
    }
}

static void cpu_set(struct op *op, int lane, enum op_param p, enum op_slot slot, const float *in)
{
    struct cpu_op *c = cpu_of(op);
    float *to = cpu_param(c, lane, p, slot);
    size_t width = (size_t)shape_size(&op->layer.in);
    for (size_t i = 0; i < (size_t)op_param_floats(&op->layer, p); i += width) {
        const struct row r = row_of(c, p, i, width);
        for (size_t k = 0; k < r.n; k++) {
            to[r.at + (r.column != NULL ? r.column[k] : k) * r.step] = in[i + k];
        }
    }
}

static void cpu_read(struct op *op, int lane, bool grad, int n, float *out)
{
    struct cpu_op *c = cpu_of(op);
    const struct cpu_act *act = &cpu_owner(op)->act;
    const float *from = (grad ? act->grad : act->out) + cpu_lane(act, lane);
    const struct shape *s = cpu_image(op);
    size_t size = cpu_out_size(c);
    for (int i = 0; i < n; i++, from += act->row, out += size) {
        if (c->act.block > 1) {
            cpu_to_plain(from, s->c, s->h * s->w, c->act.block, out);
        } else {
            memcpy(out, from, size * sizeof(float));
        }
    }
}

static void cpu_put(struct op *op, int lane, bool grad, int n, const float *in)
{
    struct cpu_op *c = cpu_of(op);
    const struct cpu_act *act = &cpu_owner(op)->act;
    float *to = (grad ? act->grad : act->out) + cpu_lane(act, lane);
    const struct shape *s = cpu_image(op);
    size_t size = cpu_out_size(c);
    forget(cpu_owner(op), n);
    for (int i = 0; i < op->rows; i++, to += act->row) {
        if (i >= n) {
            memset(to, 0, size * sizeof(float));
        } else if (c->act.block > 1) {
            cpu_to_blocked(in + (size_t)i * size, s->c, s->h * s->w, c->act.block, to);
        } else {
            memcpy(to, in + (size_t)i * size, size * sizeof(float));
        }
    }
    op->grad_set = op->grad_set || grad;
}

const struct backend_ops backend_cpu = {
    .version = BACKEND_VERSION,
    .name = "cpu",
    .summary = "oneDNN where the build has it, else OpenBLAS or portable loops",
    .precisions = 1u << PRECISION_FLOAT32 | 1u << PRECISION_BF16,
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .check = cpu_check,
    .input_create = cpu_input_create,
    .op_create = cpu_op_create,
    .op_destroy = cpu_op_destroy,
    .load = cpu_load,
    .stage = cpu_stage,
    .forward = cpu_forward,
    .score = cpu_score,
    .backward = cpu_backward,
    .update = cpu_op_update,
    .grad_square = cpu_grad_square,
    .swap_average = cpu_swap_average,
    .grad_pack = cpu_grad_pack,
    .grad_unpack = cpu_grad_unpack,
    .get = cpu_get,
    .set = cpu_set,
    .read = cpu_read,
    .put = cpu_put,
    .room = cpu_room,
};
