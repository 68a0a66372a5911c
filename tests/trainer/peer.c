/* SPDX-License-Identifier: Apache-2.0
 *
 * The side of the built-in trainer in test_peers.py: trains a recipe for some batches, writes down
 * everything that PyTorch needs to do the same, and what came out.
 *
 * peer TRIAL.json STEPS STEPS_OF_AN_EPOCH FILE
 *
 * peer TRIAL.json MEASURES
 *
 * Prints one JSON line, {"rows": of a batch, "losses": [one a step]}. FILE gets 32-bit floats: all
 * parameter arrays before the first step; inputs and labels of each batch; the arrays after the
 * last step; with "ema" their averages. With MEASURES, a JSON list of what each epoch ends with,
 * prints the list of the epochs' learning rates.
 */
#include "base/alloc.h"
#include "base/pcg.h"
#include "trainer/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAIL(...)                                                                                  \
    do {                                                                                           \
        (void)fprintf(stderr, __VA_ARGS__);                                                        \
        exit(1);                                                                                   \
    } while (0)

static FILE *out;

static void put(const float *v, size_t n)
{
    if (fwrite(v, sizeof(float), n, out) != n) {
        FAIL("peer: cannot write\n");
    }
}

static enum mag_status put_array(void *ctx, struct net *net, const struct net_array *a)
{
    (void)ctx;
    float *room = xmalloc(a->n * sizeof(float));
    net->ops->get(a->op, a->lane, a->p, a->slot, room);
    put(room, a->n);
    free(room);
    return MAG_OK;
}

static void put_arrays(struct net *net, enum op_slot slot)
{
    if (net_each_array(net, 0, SLOT_BIT(slot), put_array, NULL) != MAG_OK) {
        FAIL("peer: cannot visit the arrays\n");
    }
}

static void put_batch(struct net *net, const struct batch *b)
{
    size_t n = (size_t)shape_size(&net->input->layer.out) * (size_t)b->n;
    float *room = xmalloc(n * sizeof(float));
    net->ops->read(net->input, 0, false, b->n, room);
    put(room, n);
    for (int i = 0; i < b->n; i++) {
        float label =
            b->d->labels != NULL ? (float)b->d->labels[b->rows[i]] : b->d->targets[b->rows[i]];
        put(&label, 1);
    }
    free(room);
}

static void prepare(struct session *s, struct recipe *r, const char *path)
{
    static struct mjson_issues is;
    static const struct recipe_context ctx;
    const struct dataset_part whole = {0};
    struct mag_err err = {0};
    char *text = NULL;
    size_t len = 0;
    json_t *trial = NULL;
    if (mjson_read_file(path, 1 << 20, &text, &len, &err) != MAG_OK ||
        mjson_parse(text, len, &trial, &err) != MAG_OK) {
        FAIL("peer: %s\n", err.text);
    }
    if (!recipe_parse(trial, "", &ctx, &is, r) ||
        session_prepare(s, r, 1, &whole, "", &is, &err) != MAG_OK) {
        FAIL("peer: %s %s %s\n", is.n > 0 ? is.items[0].pointer : "",
             is.n > 0 ? is.items[0].text : "", err.text);
    }
    json_decref(trial);
    free(text);
}

static int print_rates(const char *path, const char *measures)
{
    struct session s = {0};
    struct recipe r;
    json_t *list = json_loads(measures, 0, NULL);
    struct plateau p = {0};
    prepare(&s, &r, path);
    const double base = (double)r.training.update.lr;
    (void)printf("[");
    for (size_t i = 0; i < json_array_size(list); i++) {
        (void)printf("%s%.9g", i > 0 ? "," : "",
                     schedule_rate(&r.training.schedule, &p, base, (int64_t)i + 1));
        if (r.training.schedule.kind == SCHEDULE_PLATEAU) {
            plateau_step(&r.training.schedule, base, json_number_value(json_array_get(list, i)),
                         &p);
        }
    }
    (void)printf("]\n");
    json_decref(list);
    recipe_fini(&r);
    session_fini(&s);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        return print_rates(argv[1], argv[2]);
    }
    if (argc != 5 || (out = fopen(argv[4], "wbe")) == NULL) {
        FAIL("usage: peer TRIAL.json STEPS STEPS_OF_AN_EPOCH FILE\n");
    }
    const long steps = strtol(argv[2], NULL, 10);
    const long per_epoch = strtol(argv[3], NULL, 10);
    struct session s = {0};
    struct recipe r;
    struct net *net = NULL;
    struct mag_err err = {0};
    prepare(&s, &r, argv[1]);
    const struct training *t = &r.training;
    const struct net_options options = {
        .rows = t->batch_size, .average = t->ema > 0, .learns = true};
    if (net_create(s.ops, s.backend, &r.model, &options, &net, &err) != MAG_OK) {
        FAIL("peer: %s\n", err.text);
    }
    net_init_weights(net, 0, 1, 1);
    put_arrays(net, SLOT_VALUE);
    const struct plateau plateau = {0};
    struct update u = t->update;
    struct pass_lane lane = {.seed = 1, .trial = 1};
    const struct pass pass = {.training = true, .lanes = &lane};
    (void)printf("{\"rows\":%d,\"losses\":[", net->rows);
    for (long k = 0; k < steps; k++) {
        struct score score = {0};
        uint32_t at = (uint32_t)(k * net->rows) % (s.dataset->n_train - (uint32_t)net->rows + 1);
        const struct batch b = {.d = s.dataset, .rows = s.dataset->train + at, .n = net->rows};
        lane.epoch = 1 + k / per_epoch;
        lane.batch = k % per_epoch;
        u.lr = (float)schedule_rate(&t->schedule, &plateau, (double)t->update.lr, lane.epoch);
        training_next(t, &u);
        net_train(net, &b, t->loss, &pass, &u, &score);
        put_batch(net, &b);
        (void)printf("%s%.9g", k > 0 ? "," : "", score.loss / (double)score.rows);
    }
    (void)printf("]}\n");
    put_arrays(net, SLOT_VALUE);
    if (net->average) {
        put_arrays(net, SLOT_AVERAGE);
    }
    net_destroy(net);
    recipe_fini(&r);
    session_fini(&s);
    return fclose(out) == 0 ? 0 : 1;
}
