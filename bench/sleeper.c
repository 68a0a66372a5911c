/* SPDX-License-Identifier: Apache-2.0
 *
 * A long-lived trial program that sleeps: `sleeper MS`. Each trial takes MS milliseconds and its
 * value is its parameter "x". With MAGPIE_GAP_DIR it appends to a file there the nanoseconds
 * between each result it sent and the next `start` it got: the turn-round of its slot.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static FILE *gaps;

static void open_gaps(void)
{
    const char *dir = getenv("MAGPIE_GAP_DIR");
    struct buf path = {0};
    if (dir != NULL) {
        buf_addf(&path, "%s/%ld", dir, (long)getpid());
        gaps = fopen(path.data, "we");
        buf_fini(&path);
    }
}

static void say(int fd, const char *line)
{
    size_t len = strlen(line);
    while (len > 0) {
        ssize_t n = write(fd, line, len);
        if (n < 0 && errno != EINTR) {
            exit(1);
        }
        line += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
}

static void sleep_ms(int64_t ms)
{
    const struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}

static void run_trial(int fd, const json_t *doc, int64_t ms, int64_t *last_ns)
{
    struct buf out = {0};
    int64_t now = clock_mono_ns();
    json_int_t trial = json_integer_value(json_object_get(doc, "trial"));
    double x = json_number_value(json_object_get(json_object_get(doc, "params"), "x"));
    const char *metric = json_string_value(json_object_get(doc, "metric"));
    if (gaps != NULL && *last_ns > 0) {
        (void)fprintf(gaps, "%" PRId64 "\n", now - *last_ns);
        (void)fflush(gaps);
    }
    sleep_ms(ms);
    buf_addf(&out, "{\"type\":\"result\",\"trial\":%lld,\"status\":\"completed\",\"metrics\":{",
             (long long)trial);
    buf_add_json_string(&out, metric != NULL ? metric : "value");
    buf_addc(&out, ':');
    buf_add_json_number(&out, x);
    buf_adds(&out, "}}\n{\"type\":\"ready\"}\n");
    *last_ns = clock_mono_ns();
    say(fd, out.data);
    buf_fini(&out);
}

int main(int argc, char **argv)
{
    const char *number = getenv("MAGPIE_FD");
    if (argc != 2 || number == NULL) {
        (void)fprintf(stderr, "usage: sleeper MS, as an executor of a magpie worker\n");
        return 2;
    }
    int64_t ms = strtoll(argv[1], NULL, 10);
    int64_t last_ns = 0;
    int fd = (int)strtol(number, NULL, 10);
    char *line = NULL;
    size_t cap = 0;
    FILE *in = fdopen(dup(fd), "r");
    open_gaps();
    say(fd, "{\"type\":\"ready\",\"versions\":{\"sleeper\":\"1\"}}\n");
    for (ssize_t n = 0; in != NULL && (n = getline(&line, &cap, in)) > 0;) {
        json_t *doc = NULL;
        if (mjson_parse(line, (size_t)n, &doc, NULL) != MAG_OK) {
            return 1;
        }
        const char *type = json_string_value(json_object_get(doc, "type"));
        bool leave = type == NULL || strcmp(type, "exit") == 0;
        if (!leave && strcmp(type, "start") == 0) {
            run_trial(fd, doc, ms, &last_ns);
        }
        json_decref(doc);
        if (leave) {
            break;
        }
    }
    free(line);
    return 0;
}
