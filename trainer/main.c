/* SPDX-License-Identifier: Apache-2.0
 *
 * magpie-trainer: with MAGPIE_FD in the environment the executor of a worker's slot; without it a
 * tool that checks, trains or measures by hand.
 */
#include "base/json.h"
#include "base/log.h"
#include "trainer/backend.h"
#include "trainer/bench.h"
#include "trainer/check.h"
#include "trainer/denormal.h"
#include "trainer/executor.h"
#include "trainer/format.h"
#include "trainer/predict.h"
#include "trainer/rank.h"
#include "trainer/standalone.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPEC_MAX (1 << 20)

enum mode { MODE_NONE, MODE_CHECK, MODE_TRAIN, MODE_BENCH, MODE_PREDICT, MODE_EXPORT };

static void print_help(void)
{
    printf(
        "magpie-trainer %s: the built-in trial program of magpie\n"
        "\n"
        "  magpie-trainer --check FILE|- [--json]   check an experiment file or a trial object\n"
        "  magpie-trainer --train FILE|- [options]  train one trial here, without a driver\n"
        "      --params JSON       hyperparameters, as {\"lr\": 0.01}\n"
        "      --epochs N          how far (10)\n"
        "      --seed N            seed of split, weights and order (the file's, else 0)\n"
        "      --trial N           trial number, which names its random streams (1)\n"
        "      --checkpoints DIR   write a checkpoint after each epoch\n"
        "      --resume DIR        go on from a checkpoint, as DIR/3\n"
        "      --ranks N           over so many processes (what \"distribution\" says, else 1)\n"
        "      --fold K            holds out fold K of the file's \"validation\"; 0: the refit\n"
        "  magpie-trainer --bench mlp|cnn|resnet8|resnet18 [options] measure speed on "
        "Fashion-MNIST\n"
        "      --data DIR --batch N --epochs N --batches N --seed N --threads N --backend NAME\n"
        "      --precision float32|bf16|tf32\n"
        "      --lanes N           so many trials side by side on the same batches (1)\n"
        "      --trials N          so many whole trials, --lanes at a time: trials an hour\n"
        "      --infer             apply it to the test images instead, without training\n"
        "  magpie-trainer --predict MODEL --data DATA [--output FILE] [--probabilities] [--json]\n"
        "  magpie-trainer --export MODEL --output FILE.onnx|FILE.safetensors\n"
        "  magpie-trainer --version | --help\n"
        "\n"
        "Started by a worker, it takes trials over the descriptor that MAGPIE_FD names.\n"
        "Data sets (docs/TRAINER.md tells their options):\n",
        MAG_VERSION);
    for (int i = 0; dataset_formats[i] != NULL; i++) {
        printf("  %s\n", dataset_formats[i]->example);
    }
    printf("Backends of this build:\n");
    for (int i = 0; backend_registry[i] != NULL; i++) {
        printf("  %-6s %s\n", backend_registry[i]->name, backend_registry[i]->summary);
    }
}

static int print_version(void)
{
    printf("magpie-trainer %s\n", MAG_VERSION);
    for (int i = 0; backend_registry[i] != NULL; i++) {
        const struct backend_options o = {.threads = 1};
        struct backend *b = NULL;
        struct mag_err err = {0};
        if (backend_registry[i]->open(&o, &b, &err) == MAG_OK) {
            printf("%s: %s\n", backend_registry[i]->name, backend_registry[i]->describe(b));
            backend_registry[i]->close(b);
        } else {
            printf("%s: %s\n", backend_registry[i]->name, err.text);
        }
    }
    return 0;
}

/* The document in a file, or on standard input for "-"; NULL after printing why not. */
static json_t *read_document(const char *path, char **ret_text, size_t *ret_len)
{
    struct mag_err err = {0};
    json_t *doc = NULL;
    const char *from = strcmp(path, "-") == 0 ? "/dev/stdin" : path;
    if (mjson_read_file(from, SPEC_MAX, ret_text, ret_len, &err) != MAG_OK) {
        fprintf(stderr, "magpie-trainer: %s\n", err.text);
        return NULL;
    }
    if (mjson_parse(*ret_text, *ret_len, &doc, &err) != MAG_OK) {
        fprintf(stderr, "%s: %s\n", path, err.text);
        free(*ret_text);
        return NULL;
    }
    return doc;
}

static void print_check(const struct mjson_issues *is, const struct check_summary *sum)
{
    json_t *out = is->total == 0 ? check_summary_json(sum) : json_object();
    (void)json_object_set_new(out, "issues", mjson_issues_json(is));
    char *dump = mjson_dump(out);
    printf("%s\n", dump);
    free(dump);
    json_decref(out);
}

static void print_good(const struct check_summary *sum)
{
    struct buf text = {0};
    char *of = mjson_dump(sum->largest);
    room_text(&sum->room, sum->rows, &text);
    printf("good: %u examples of %s, %d classes; up to %lld weights; %d corner%s of the "
           "searchspace tried\nmemory: %s (with %s)\n",
           sum->n_rows, sum->shape, sum->n_classes, (long long)sum->most_weights, sum->points,
           sum->points == 1 ? "" : "s", text.data, of);
    free(of);
    buf_fini(&text);
}

static int run_check(const char *path, bool json)
{
    char *text = NULL;
    size_t len = 0;
    json_t *doc = read_document(path, &text, &len);
    if (doc == NULL) {
        return 2;
    }
    struct mjson_issues *is = calloc(1, sizeof(*is));
    struct check_summary sum;
    bool good = check_document(doc, is, &sum);
    mjson_issues_place(is, text, len);
    if (json) {
        print_check(is, &sum);
    } else if (good) {
        print_good(&sum);
    } else {
        struct buf out = {0};
        mjson_issues_print(is, path, &out);
        fputs(out.data, stderr);
        buf_fini(&out);
    }
    check_summary_fini(&sum);
    mjson_issues_fini(is);
    free(is);
    free(text);
    json_decref(doc);
    return good ? 0 : 1;
}

static int run_train(const char *path, const struct standalone *options)
{
    char *text = NULL;
    size_t len = 0;
    json_t *doc = read_document(path, &text, &len);
    if (doc == NULL) {
        return 2;
    }
    int status = standalone_run(doc, path, text, len, options);
    free(text);
    json_decref(doc);
    return status;
}

/* The descriptor that MAGPIE_FD names; -1 when it is not set, -2 when it makes no sense. */
static int worker_fd(void)
{
    const char *text = getenv("MAGPIE_FD");
    if (text == NULL || text[0] == '\0') {
        return -1;
    }
    char *end = NULL;
    errno = 0;
    long fd = strtol(text, &end, 10);
    if (errno != 0 || *end != '\0' || fd < 0 || fd > INT_MAX || fcntl((int)fd, F_GETFD) < 0) {
        fprintf(stderr, "magpie-trainer: MAGPIE_FD is \"%s\", which is no open descriptor\n", text);
        return -2;
    }
    return (int)fd;
}

static bool number(const char *name, const char *text, long long lo, long long hi, long long *to)
{
    char *end = NULL;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || v < lo || v > hi) {
        fprintf(stderr,
                "magpie-trainer: --%s must be a whole number from %lld to %lld, not \"%s\"\n", name,
                lo, hi, text);
        return false;
    }
    *to = v;
    return true;
}

struct options {
    enum mode mode;
    const char *file;
    bool json;
    struct standalone train;
    struct bench bench;
    struct predict predict;
};

enum {
    OPT_CHECK = 256,
    OPT_TRAIN,
    OPT_BENCH,
    OPT_JSON,
    OPT_PARAMS,
    OPT_EPOCHS,
    OPT_SEED,
    OPT_TRIAL,
    OPT_CHECKPOINTS,
    OPT_RESUME,
    OPT_DATA,
    OPT_BATCH,
    OPT_BATCHES,
    OPT_LANES,
    OPT_TRIALS,
    OPT_PRECISION,
    OPT_INFER,
    OPT_THREADS,
    OPT_BACKEND,
    OPT_PREDICT,
    OPT_EXPORT,
    OPT_OUTPUT,
    OPT_PROBABILITIES,
    OPT_RANK,
    OPT_RANKS,
    OPT_FOLD,
    OPT_VERSION,
    OPT_HELP
};

static const struct option long_options[] = {
    {"check", required_argument, NULL, OPT_CHECK},
    {"train", required_argument, NULL, OPT_TRAIN},
    {"bench", required_argument, NULL, OPT_BENCH},
    {"json", no_argument, NULL, OPT_JSON},
    {"params", required_argument, NULL, OPT_PARAMS},
    {"epochs", required_argument, NULL, OPT_EPOCHS},
    {"seed", required_argument, NULL, OPT_SEED},
    {"trial", required_argument, NULL, OPT_TRIAL},
    {"checkpoints", required_argument, NULL, OPT_CHECKPOINTS},
    {"resume", required_argument, NULL, OPT_RESUME},
    {"data", required_argument, NULL, OPT_DATA},
    {"batch", required_argument, NULL, OPT_BATCH},
    {"batches", required_argument, NULL, OPT_BATCHES},
    {"lanes", required_argument, NULL, OPT_LANES},
    {"trials", required_argument, NULL, OPT_TRIALS},
    {"precision", required_argument, NULL, OPT_PRECISION},
    {"infer", no_argument, NULL, OPT_INFER},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"backend", required_argument, NULL, OPT_BACKEND},
    {"predict", required_argument, NULL, OPT_PREDICT},
    {"export", required_argument, NULL, OPT_EXPORT},
    {"output", required_argument, NULL, OPT_OUTPUT},
    {"probabilities", no_argument, NULL, OPT_PROBABILITIES},
    {"ranks", required_argument, NULL, OPT_RANKS},
    {"fold", required_argument, NULL, OPT_FOLD},
    {"rank", no_argument, NULL, OPT_RANK}, /* started by ranks.c */
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {0}};

/* Options that are whole numbers; false after printing why not. */
static bool number_option(int opt, struct options *o)
{
    long long v = 0;
    switch (opt) {
    case OPT_EPOCHS:
        if (!number("epochs", optarg, 1, 1000000, &v)) {
            return false;
        }
        o->train.epochs = v;
        o->bench.epochs = (int)v;
        return true;
    case OPT_SEED:
        if (!number("seed", optarg, 0, 1LL << 53, &v)) {
            return false;
        }
        o->train.seed = v;
        o->bench.seed = (uint64_t)v;
        return true;
    case OPT_TRIAL:
        return number("trial", optarg, 1, 1LL << 53, &v) && (o->train.trial = v, true);
    case OPT_FOLD:
        return number("fold", optarg, 0, DATASET_FOLDS_MAX, &v) && (o->train.fold = (int)v, true);
    case OPT_RANKS:
        return number("ranks", optarg, 1, COLLECTIVE_RANKS_MAX, &v) &&
               (o->train.ranks = (int)v, true);
    case OPT_BATCH:
        return number("batch", optarg, 1, BACKEND_ROWS_MAX, &v) && (o->bench.batch = (int)v, true);
    case OPT_BATCHES:
        return number("batches", optarg, 1, 1000000, &v) && (o->bench.batches = (int)v, true);
    case OPT_LANES:
        return number("lanes", optarg, 1, BACKEND_LANES_MAX, &v) && (o->bench.lanes = (int)v, true);
    case OPT_TRIALS:
        return number("trials", optarg, 1, 1000000, &v) && (o->bench.trials = (int)v, true);
    case OPT_THREADS:
        return number("threads", optarg, 1, BACKEND_THREADS_MAX, &v) &&
               (o->bench.threads = (int)v, true);
    default:
        return false;
    }
}

/* True to go on; otherwise *status is the exit status. */
static bool take_option(int opt, struct options *o, int *status)
{
    *status = 2;
    switch (opt) {
    case OPT_CHECK:
    case OPT_TRAIN:
        o->mode = opt == OPT_CHECK ? MODE_CHECK : MODE_TRAIN;
        o->file = optarg;
        return true;
    case OPT_BENCH:
        o->mode = MODE_BENCH;
        o->bench.model = optarg;
        return true;
    case OPT_JSON:
        o->json = true;
        o->predict.json = true;
        return true;
    case OPT_PARAMS:
        o->train.params = optarg;
        return true;
    case OPT_CHECKPOINTS:
        o->train.checkpoints = optarg;
        return true;
    case OPT_RESUME:
        o->train.resume = optarg;
        return true;
    case OPT_DATA:
        o->bench.data = optarg;
        o->predict.data = optarg;
        return true;
    case OPT_PREDICT:
    case OPT_EXPORT:
        o->mode = opt == OPT_PREDICT ? MODE_PREDICT : MODE_EXPORT;
        o->predict.model = optarg;
        return true;
    case OPT_OUTPUT:
        o->predict.output = optarg;
        return true;
    case OPT_PROBABILITIES:
        o->predict.probabilities = true;
        return true;
    case OPT_PRECISION:
        o->bench.precision = optarg;
        return true;
    case OPT_INFER:
        o->bench.infer = true;
        return true;
    case OPT_BACKEND:
        o->bench.backend = optarg;
        return true;
    case OPT_RANK:
        *status = rank_run(collective_here);
        return false;
    case OPT_VERSION:
        *status = print_version();
        return false;
    case OPT_HELP:
        print_help();
        *status = 0;
        return false;
    case '?':
        return false;
    default:
        return number_option(opt, o);
    }
}

static int run_mode(const struct options *o)
{
    switch (o->mode) {
    case MODE_CHECK:
        return run_check(o->file, o->json);
    case MODE_TRAIN:
        return run_train(o->file, &o->train);
    case MODE_PREDICT:
        if (o->predict.data == NULL) {
            fprintf(stderr, "magpie-trainer: --predict needs --data\n");
            return 2;
        }
        return predict_run(&o->predict);
    case MODE_EXPORT:
        if (o->predict.output == NULL) {
            fprintf(stderr, "magpie-trainer: --export needs --output\n");
            return 2;
        }
        return export_run(o->predict.model, o->predict.output);
    case MODE_BENCH:
    case MODE_NONE:
    default:
        return bench_run(&o->bench);
    }
}

int main(int argc, char **argv)
{
    log_init_from_env();
    flush_denormals();
    room_watch();
    struct options o = {.train = {.epochs = 10, .trial = 1, .seed = -1, .fold = -1},
                        .bench = {.data = "/usr/share/datasets/fashion-mnist",
                                  .batch = 64,
                                  .epochs = 1,
                                  .threads = 1,
                                  .lanes = 1,
                                  .seed = 1}};
    int opt = 0;
    while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        int status = 0;
        if (!take_option(opt, &o, &status)) {
            return status;
        }
    }
    int fd = o.mode == MODE_NONE && optind == argc ? worker_fd() : -1;
    if (fd >= 0) {
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        return executor_run(fd, NULL);
    }
    if (fd == -2 || o.mode == MODE_NONE || optind != argc) {
        if (fd != -2) {
            fprintf(stderr,
                    "magpie-trainer: nothing to do: a worker starts it with MAGPIE_FD; by hand use "
                    "--check, --train, --predict, --export or --bench (see --help)\n");
        }
        return 2;
    }
    return run_mode(&o);
}
