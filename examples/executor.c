/* SPDX-License-Identifier: Apache-2.0
 *
 * An executor in C with nothing but the C library: softmax regression on a table with a header, whose
 * last column is the class. It reads the table once and then trains trial after trial.
 *
 *     cc -O2 -o executor examples/executor.c -lm
 *     {"executor": ["./executor", "examples/flowers.csv"]}, examples/executor.json
 *
 * A trial runs `budget` passes over the table with the parameters "lr" and "decay", reports the loss on
 * every fifth row, and keeps its weights in checkpoints, from which it goes on.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS 4096
#define COLUMNS 32 /* features, and one that is always 1 */
#define CLASSES 16
#define LINE (1 << 20) /* the protocol's longest line */

static double feature[ROWS][COLUMNS];
static int label[ROWS], n_rows, n_columns, n_classes;
static char class_name[CLASSES][64];
static double weight[CLASSES][COLUMNS];

static int channel;
static char input[LINE + 1]; /* what was read and not yet used */
static size_t n_input;

static void die(const char *what)
{
    fprintf(stderr, "executor: %s: %s\n", what, errno ? strerror(errno) : "wrong");
    exit(1);
}

/* ---- the channel ---- */

static void say(const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
    va_end(ap);
    line[n++] = '\n';
    for (int at = 0; at < n;) {
        ssize_t w = write(channel, line + at, (size_t)(n - at));
        if (w < 0 && errno != EINTR)
            die("MAGPIE_FD");
        at += w > 0 ? (int)w : 0;
    }
}

/* The next line, into `line`; 0 = none is there (only when not waiting), -1 = the worker has gone. */
static int hear(char *line, int wait)
{
    char *nl;
    while ((nl = memchr(input, '\n', n_input)) == NULL) {
        fd_set set;
        struct timeval now = {0, 0};
        FD_ZERO(&set);
        FD_SET(channel, &set);
        if (!wait && select(channel + 1, &set, NULL, NULL, &now) <= 0)
            return 0;
        ssize_t n = read(channel, input + n_input, sizeof(input) - n_input);
        if (n == 0 || (n < 0 && errno != EINTR))
            return -1;
        n_input += n > 0 ? (size_t)n : 0;
    }
    size_t n = (size_t)(nl - input);
    memcpy(line, input, n);
    line[n] = '\0';
    n_input -= n + 1;
    memmove(input, nl + 1, n_input);
    return 1;
}

/* ---- as much JSON as this needs: the value behind "key": in one line ---- */

/* magpie's messages name no key twice but for what is inside "params" and "spec"; `from` is where to look. */
static const char *value_of(const char *from, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof(quoted), "\"%s\":", key);
    const char *at = from ? strstr(from, quoted) : NULL;
    return at ? at + strlen(quoted) : NULL;
}

static double number(const char *from, const char *key, double otherwise)
{
    const char *at = value_of(from, key);
    char *end;
    double v = at ? strtod(at, &end) : 0;
    return at && end != at ? v : otherwise;
}

/* A string, its escapes \" \\ \/ resolved. */
static void text(const char *from, const char *key, char *out, size_t size)
{
    const char *at = value_of(from, key);
    size_t n = 0;
    if (at && *at == '"')
        for (at++; *at && *at != '"' && n + 1 < size; at++)
            out[n++] = *at == '\\' ? *++at : *at;
    out[n] = '\0';
}

static int is(const char *line, const char *type)
{
    char given[32];
    text(line, "type", given, sizeof(given));
    return strcmp(given, type) == 0;
}

/* ---- the model ---- */

static int class_of(const char *name)
{
    int c = 0;
    while (c < n_classes && strcmp(class_name[c], name) != 0)
        c++;
    if (c == n_classes && n_classes < CLASSES)
        snprintf(class_name[n_classes++], sizeof(class_name[0]), "%s", name);
    return c < CLASSES ? c : CLASSES - 1;
}

static void read_table(const char *path)
{
    char line[4096];
    FILE *f = fopen(path, "r");
    if (!f || !fgets(line, sizeof(line), f))
        die(path);
    while (n_rows < ROWS && fgets(line, sizeof(line), f)) {
        int c = 0;
        line[strcspn(line, "\r\n")] = '\0';
        for (char *cell = strtok(line, ","); cell; cell = strtok(NULL, ",")) {
            char *end;
            double v = strtod(cell, &end);
            if (*end == '\0' && c < COLUMNS - 1)
                feature[n_rows][c++] = v;
            else
                label[n_rows] = class_of(cell);
        }
        feature[n_rows][c] = 1;
        n_columns = c + 1;
        n_rows++;
    }
    fclose(f);
}

/* Probabilities of the classes; returns the loss of this row. */
static double classify(int row, double p[CLASSES])
{
    double top = -INFINITY, sum = 0;
    for (int k = 0; k < n_classes; k++) {
        p[k] = 0;
        for (int c = 0; c < n_columns; c++)
            p[k] += weight[k][c] * feature[row][c];
        top = p[k] > top ? p[k] : top;
    }
    for (int k = 0; k < n_classes; k++)
        sum += p[k] = exp(p[k] - top);
    for (int k = 0; k < n_classes; k++)
        p[k] /= sum;
    return -log(p[label[row]] + 1e-12);
}

/* One pass; returns the loss on every fifth row, which it does not learn from. */
static double pass(double lr, double decay)
{
    double p[CLASSES], loss = 0;
    int held = 0;
    for (int row = 0; row < n_rows; row++) {
        double l = classify(row, p);
        if (row % 5 == 0) {
            loss += l;
            held++;
            continue;
        }
        for (int k = 0; k < n_classes; k++)
            for (int c = 0; c < n_columns; c++)
                weight[k][c] -= lr * ((p[k] - (k == label[row])) * feature[row][c] + decay * weight[k][c]);
    }
    return loss / (held > 0 ? held : 1);
}

/* ---- checkpoints: a folder each ---- */

static int store(const char *folder, long step)
{
    char path[4352];
    snprintf(path, sizeof(path), "%s/%ld", folder, step);
    if (mkdir(path, 0700) != 0)
        return 0;
    snprintf(path, sizeof(path), "%s/%ld/weights", folder, step);
    FILE *f = fopen(path, "wb");
    int ok = f && fwrite(weight, sizeof(weight), 1, f) == 1;
    return f && fclose(f) == 0 && ok;
}

static int load(const char *folder)
{
    char path[4352];
    snprintf(path, sizeof(path), "%s/weights", folder);
    FILE *f = fopen(path, "rb");
    int ok = f && fread(weight, sizeof(weight), 1, f) == 1;
    if (f)
        fclose(f);
    return ok;
}

/* ---- a trial ---- */

/* Was it told to end? "stop" and "pause" are the only messages during a trial, but for "exit". */
static const char *told(char *line)
{
    const char *what = NULL;
    while (hear(line, 0) > 0) {
        if (is(line, "exit"))
            exit(0);
        what = is(line, "stop") ? "stopped" : is(line, "pause") ? "paused" : what;
    }
    return what;
}

static void run_trial(char *line)
{
    const char *params = value_of(line, "params");
    const char *resume = value_of(line, "resume_from");
    long trial = (long)number(line, "trial", 0), budget = (long)number(line, "budget", 30);
    long every = (long)number(value_of(line, "checkpoint"), "every", 1), step = 0;
    double lr = number(params, "lr", 0.01), decay = number(params, "decay", 0);
    char folder[4096], from[4096], metric[256];
    const char *status = NULL;

    text(line, "checkpoint_dir", folder, sizeof(folder));
    text(line, "metric", metric, sizeof(metric));
    memset(weight, 0, sizeof(weight));
    if (resume && *resume == '{') {
        step = (long)number(resume, "step", 0);
        text(resume, "path", from, sizeof(from));
        if (!load(from)) {
            say("{\"type\":\"error\",\"trial\":%ld,\"reason\":\"no weights in %s\"}", trial, from);
            return;
        }
    }
    while (step < budget && !status) {
        double loss = pass(lr, decay);
        say("{\"type\":\"report\",\"trial\":%ld,\"step\":%ld,\"metrics\":{\"%s\":%.17g}}", trial, ++step, metric, loss);
        status = told(line);
        int keep = step == budget || step % every == 0 || (status && strcmp(status, "paused") == 0);
        if (keep && store(folder, step))
            say("{\"type\":\"checkpoint\",\"trial\":%ld,\"step\":%ld,\"path\":\"%ld\"}", trial, step, step);
    }
    say("{\"type\":\"result\",\"trial\":%ld,\"status\":\"%s\"}", trial, status ? status : "completed");
}

int main(int argc, char **argv)
{
    static char line[LINE + 1];
    const char *fd = getenv("MAGPIE_FD");
    if (argc != 2 || !fd) {
        fprintf(stderr, "usage: executor TABLE.csv, started by a magpie worker (\"trial\": {\"executor\": [...]})\n");
        return 2;
    }
    channel = (int)strtol(fd, NULL, 10);
    read_table(argv[1]);
    say("{\"type\":\"ready\",\"versions\":{\"example\":\"1\"}}");
    while (hear(line, 1) > 0 && !is(line, "exit")) {
        if (is(line, "start")) {
            run_trial(line);
            say("{\"type\":\"ready\"}");
        }
    }
    return 0;
}
