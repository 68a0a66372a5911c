/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/saved.h"

#include "base/alloc.h"
#include "trainer/checkpoint.h"
#include "trainer/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names and shapes ---- */

int saved_dims(const struct layer *l, enum op_param p, int64_t dims[4])
{
    dims[0] = l->filters;
    switch (l->kind) {
    case LAYER_BATCHNORM:
        dims[0] = l->in.c;
        return 1;
    case LAYER_LAYERNORM:
        dims[0] = l->in.c;
        dims[1] = l->in.h;
        dims[2] = l->in.w;
        return l->in.flat ? 1 : 3;
    case LAYER_EMBEDDING:
        dims[0] = l->vocabulary;
        dims[1] = l->filters;
        return 2;
    case LAYER_DENSE:
        dims[1] = shape_size(&l->in);
        return p == OP_WEIGHTS ? 2 : 1;
    case LAYER_CONV:
        dims[1] = l->in.c / l->groups;
        dims[2] = dims[3] = l->kernel;
        return p == OP_WEIGHTS ? 4 : 1;
    case LAYER_MAXPOOL:
    case LAYER_FLATTEN:
    case LAYER_DROPOUT:
    case LAYER_AVGPOOL:
    case LAYER_GLOBALPOOL:
    case LAYER_ACTIVATION:
    case LAYER_ADD:
    case LAYER_CONCAT:
    case LAYER_IDENTITY:
    default:
        return 0; /* has no arrays */
    }
}

bool saved_flattens(const struct model *m, int i)
{
    const struct layer *l = &m->layers[i];
    return l->kind == LAYER_DENSE && !l->in.flat;
}

/* Would a torch.nn.Sequential compute it? */
static bool is_sequential(const struct model *m)
{
    for (int i = 0; i < m->n; i++) {
        if (m->layers[i].kind == LAYER_EMBEDDING) {
            return false;
        }
    }
    return model_is_chain(m);
}

static int module_of(const struct model *m, int layer)
{
    int at = 0;
    for (int i = 0; i < layer; i++) {
        const struct layer *l = &m->layers[i];
        at += 1 + (l->act != ACT_NONE && l->kind != LAYER_ACTIVATION) +
              (l->kind == LAYER_GLOBALPOOL) + saved_flattens(m, i);
    }
    return at + saved_flattens(m, layer);
}

void saved_name(const struct model *m, int layer, enum op_param p, char out[SAVED_NAME_MAX])
{
    static const char *const names[OP_PARAMS] = {"weight", "bias", "running_mean", "running_var"};
    bool sequential = is_sequential(m);
    (void)snprintf(out, SAVED_NAME_MAX, "%s%d.%s", sequential ? "" : "layers.",
                   sequential ? module_of(m, layer) : layer, names[p]);
}

/* ---- reading ---- */

static enum mag_status build(struct saved *s, int rows, struct mag_err *err)
{
    const struct backend_ops *ops = backend_find(NULL);
    const struct backend_options options = {.threads = 1};
    enum mag_status st = ops->open(&options, &s->backend, err);
    const struct net_options net = {.rows = rows};
    return st == MAG_OK ? net_create(ops, s->backend, &s->description.model, &net, &s->net, err)
                        : st;
}

static enum mag_status open_checkpoint(struct saved *s, const char *folder, int rows,
                                       struct mag_err *err)
{
    struct checkpoint_head head = {0};
    enum mag_status st = checkpoint_peek(folder, &head, err);
    if (st != MAG_OK) {
        return st;
    }
    s->object = head.description;
    s->step = head.step;
    st = description_read(s->object, folder, &s->description, err);
    if (st == MAG_OK) {
        st = build(s, rows, err);
    }
    if (st == MAG_OK) {
        char *signature = model_signature(&s->description.model);
        struct checkpoint_info info = {.signature = signature, .optimizer = head.optimizer};
        st = checkpoint_load(folder, &info, s->net, err);
        free(signature);
    }
    return st;
}

struct taker {
    struct safetensors *f;
    const struct model *model;
};

static enum mag_status take_array(void *ctx, struct net *net, const struct net_array *a)
{
    struct taker *t = ctx;
    char name[SAVED_NAME_MAX];
    saved_name(t->model, a->op->index, a->p, name);
    float *room = xmalloc(a->n * sizeof(float));
    int64_t dims[4];
    int n_dims = saved_dims(&a->op->layer, a->p, dims);
    enum mag_status st = safetensors_take(t->f, name, dims, n_dims, room);
    if (st == MAG_OK) {
        net->ops->set(a->op, 0, a->p, SLOT_VALUE, room);
    }
    free(room);
    return st;
}

static enum mag_status open_safetensors(struct saved *s, const char *path, int rows,
                                        struct mag_err *err)
{
    struct safetensors *f = NULL;
    enum mag_status st = safetensors_open(path, &f, err);
    if (st != MAG_OK) {
        return st;
    }
    const char *text = safetensors_metadata(f, "magpie");
    if (text == NULL || mjson_parse(text, strlen(text), &s->object, NULL) != MAG_OK) {
        st = mag_fail(err, MAG_INVALID,
                      "%s: weights without magpie's description of their model; files written by "
                      "\"magpie model\" carry one",
                      path);
    }
    if (st == MAG_OK) {
        st = description_read(s->object, path, &s->description, err);
    }
    if (st == MAG_OK) {
        st = build(s, rows, err);
    }
    if (st == MAG_OK) {
        struct taker t = {.f = f, .model = &s->description.model};
        st = net_each_array(s->net, 0, SLOT_BIT(SLOT_VALUE), take_array, &t);
    }
    safetensors_close(f);
    return st;
}

/* "FOLDER/model.ckpt" names its folder. */
static char *folder_of(const char *path)
{
    static const char end[] = "/" CHECKPOINT_FILE;
    size_t n = strlen(path);
    size_t k = sizeof(end) - 1;
    if (strcmp(path, CHECKPOINT_FILE) == 0) {
        return xstrdup(".");
    }
    return n > k && strcmp(path + n - k, end) == 0 ? xstrndup(path, n - k) : xstrdup(path);
}

enum mag_status saved_open(const char *path, int rows, struct saved **ret, struct mag_err *err)
{
    struct saved *s = xcalloc(1, sizeof(*s));
    size_t n = strlen(path);
    static const char suffix[] = ".safetensors";
    bool tensors = n > sizeof(suffix) && strcmp(path + n - (sizeof(suffix) - 1), suffix) == 0;
    char *folder = folder_of(path);
    enum mag_status st =
        tensors ? open_safetensors(s, path, rows, err) : open_checkpoint(s, folder, rows, err);
    free(folder);
    if (st != MAG_OK) {
        saved_close(s);
        return st;
    }
    *ret = s;
    return MAG_OK;
}

void saved_close(struct saved *s)
{
    if (s == NULL) {
        return;
    }
    net_destroy(s->net);
    if (s->backend != NULL) {
        backend_find(NULL)->close(s->backend);
    }
    description_fini(&s->description);
    json_decref(s->object);
    free(s);
}
