/* SPDX-License-Identifier: Apache-2.0
 *
 * Everything that the built-in trainer reads: the first byte of the input chooses a recipe (r), a
 * CSV file (c), an IDX file (i), a checkpoint (k) or lines of the protocol (p); the rest is the
 * content.
 */
#include "base/alloc.h"
#include "trainer/channel.h"
#include "trainer/checkpoint.h"
#include "trainer/format.h"
#include "trainer/net.h"
#include "trainer/recipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char folder[64];

static void write_input(const char *name, const uint8_t *data, size_t n)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "wbe");
    if (f == NULL || fwrite(data, 1, n, f) != n || fclose(f) != 0) {
        abort();
    }
}

static void remove_folder(void)
{
    static const char *const names[] = {"d.csv", "train-images-idx3-ubyte",
                                        "train-labels-idx1-ubyte", CHECKPOINT_FILE};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(folder);
}

static void try_recipe(const uint8_t *data, size_t n)
{
    json_t *doc = NULL;
    struct mjson_issues *is = xcalloc(1, sizeof(*is));
    struct recipe r;
    if (mjson_parse((const char *)data, n, &doc, NULL) == MAG_OK) {
        const struct recipe_context ctx = {.params = json_object_get(doc, "params")};
        if (recipe_parse(doc, "", &ctx, is, &r)) {
            const struct dataset d = {.shape = {.c = 1, .h = 28, .w = 28}, .n_classes = 10};
            (void)recipe_fit(&r, &d, "", is);
            recipe_fini(&r);
        }
        json_decref(doc);
    }
    mjson_issues_fini(is);
    free(is);
}

static void try_source(struct dataset_source *s)
{
    struct dataset *d = NULL;
    struct mag_err err = {0};
    if (dataset_open(s, &d, &err) == MAG_OK) {
        if (dataset_split(d, s, 1, 0.1, &err) == MAG_OK && d->n_train == 0) {
            abort();
        }
        dataset_destroy(d);
    } else if (err.text[0] == '\0') {
        abort();
    }
}

static void try_csv(const uint8_t *data, size_t n)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/d.csv", folder);
    write_input("d.csv", data, n);
    struct dataset_source s = {.format = &dataset_csv,
                               .path = path,
                               .label = (char *)(uintptr_t) "y",
                               .separator = ',',
                               .test = 0.2,
                               .standardize = true};
    try_source(&s);
}

/* Claims of over 64 MiB are left to the unit tests: their memory would end the fuzzer. */
static bool claims_little(const uint8_t *data, size_t n)
{
    uint64_t values = 1;
    for (size_t i = 4; i + 4 <= n && i < 20 && values < 1 << 26; i += 4) {
        values *= (uint64_t)data[i] << 24 | (uint64_t)data[i + 1] << 16 |
                  (uint64_t)data[i + 2] << 8 | data[i + 3];
    }
    return values < 1 << 24;
}

static void try_idx(const uint8_t *data, size_t n)
{
    static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 2, 3};
    if (claims_little(data, n)) {
        write_input("train-images-idx3-ubyte", data, n);
        write_input("train-labels-idx1-ubyte", labels, sizeof(labels));
        struct dataset_source s = {.format = &dataset_idx, .path = folder, .test = 0.25};
        try_source(&s);
    }
}

static void try_checkpoint(const uint8_t *data, size_t n)
{
    static struct net *net;
    static struct backend *backend;
    static struct model m = {.n = 1, .input = {.c = 3, .h = 1, .w = 1, .flat = true}};
    if (net == NULL) {
        const struct backend_options o = {.threads = 1};
        const struct net_options options = {.rows = 1, .learns = true};
        m.layers[0] = (struct layer){.kind = LAYER_DENSE,
                                     .n_inputs = 1,
                                     .inputs = {MODEL_INPUT},
                                     .filters = 2,
                                     .in = m.input,
                                     .out = {.c = 2, .h = 1, .w = 1, .flat = true}};
        if (backend_ref.open(&o, &backend, NULL) != MAG_OK ||
            net_create(&backend_ref, backend, &m, &options, &net, NULL) != MAG_OK) {
            abort();
        }
    }
    char *signature = model_signature(&m);
    struct checkpoint_info info = {.signature = signature};
    struct mag_err err = {0};
    write_input(CHECKPOINT_FILE, data, n);
    if (checkpoint_load(folder, &info, net, &err) != MAG_OK && err.text[0] == '\0') {
        abort();
    }
    free(signature);
}

static void try_lines(const uint8_t *data, size_t n)
{
    int ends[2];
    struct channel c;
    if (n > 60000 || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) {
        return;
    }
    channel_init(&c, ends[0]);
    size_t half = n / 2;
    size_t len = 0;
    size_t seen = 0;
    for (int part = 0; part < 2; part++) {
        if (write(ends[1], data + (part == 0 ? 0 : half), part == 0 ? half : n - half) < 0) {
            abort();
        }
        for (char *line = NULL; (line = channel_next(&c, false, &len)) != NULL; seen++) {
            if (line[len] != '\0' || memchr(line, '\n', len) != NULL) {
                abort();
            }
        }
    }
    size_t want = 0;
    for (size_t i = 0; i < n; i++) {
        want += data[i] == '\n';
    }
    if (seen != want) {
        abort();
    }
    channel_fini(&c);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (folder[0] == '\0') {
        (void)snprintf(folder, sizeof(folder), "/tmp/magpie-fuzz-trainer-XXXXXX");
        if (mkdtemp(folder) == NULL || atexit(remove_folder) != 0) {
            abort();
        }
    }
    if (n == 0) {
        return 0;
    }
    switch (data[0]) {
    case 'r':
        try_recipe(data + 1, n - 1);
        break;
    case 'c':
        try_csv(data + 1, n - 1);
        break;
    case 'i':
        try_idx(data + 1, n - 1);
        break;
    case 'k':
        try_checkpoint(data + 1, n - 1);
        break;
    case 'p':
        try_lines(data + 1, n - 1);
        break;
    default:
        break;
    }
    return 0;
}
