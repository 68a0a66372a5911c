/* SPDX-License-Identifier: Apache-2.0
 *
 * The conformance program in C, from PROTOCOL.md, section 3, alone: `conform executor`, or
 * `conform MODE` as a command. What each MODE does: tests/worker/test_conformance.py.
 */
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LONG_LINE (3 << 20)

static FILE *from_worker;
static int to_worker = -1; /* -1 = a command that prints */
static volatile sig_atomic_t told_term;

struct trial {
    long id, budget, resume;
    char mode[32], folder[4096];
};

static void pause_ms(int ms)
{
    const struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    (void)nanosleep(&ts, NULL);
}

__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...)
{
    char line[8192];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (write(to_worker >= 0 ? to_worker : STDOUT_FILENO, line, (size_t)n) != n) {
        exit(3);
    }
}

static void say_long(void)
{
    char *line = malloc(LONG_LINE);
    memset(line, 'x', LONG_LINE);
    line[LONG_LINE - 1] = '\n';
    for (size_t at = 0; at < LONG_LINE;) {
        ssize_t n = write(to_worker >= 0 ? to_worker : STDOUT_FILENO, line + at, LONG_LINE - at);
        if (n <= 0) {
            break;
        }
        at += (size_t)n;
    }
    free(line);
}

static void report(const struct trial *t, long step)
{
    if (to_worker >= 0) {
        say("{\"type\":\"report\",\"trial\":%ld,\"step\":%ld,\"metrics\":{\"value\":%ld}}\n", t->id,
            step, step);
    } else {
        say("::magpie {\"step\":%ld,\"metrics\":{\"value\":%ld}}\n", step, step);
    }
}

static void checkpoint(const struct trial *t, long step)
{
    char path[4200];
    (void)snprintf(path, sizeof(path), "%s/%ld", t->folder, step);
    (void)mkdir(path, 0700);
    (void)snprintf(path, sizeof(path), "%s/%ld/step", t->folder, step);
    FILE *f = fopen(path, "w");
    (void)fprintf(f, "%ld", step);
    (void)fclose(f);
    if (to_worker >= 0) {
        say("{\"type\":\"checkpoint\",\"trial\":%ld,\"step\":%ld,\"path\":\"%ld\"}\n", t->id, step,
            step);
    } else {
        say("::magpie {\"checkpoint\":%ld}\n", step);
    }
}

static json_t *hear(void)
{
    static char line[1 << 20];
    if (fgets(line, sizeof(line), from_worker) == NULL) {
        exit(0);
    }
    return json_loads(line, 0, NULL);
}

/* "stopped", "paused" or NULL. */
static const char *told(void)
{
    struct pollfd p = {.fd = to_worker, .events = POLLIN};
    if (to_worker < 0) {
        return told_term ? "stopped" : NULL;
    }
    if (poll(&p, 1, 0) <= 0) {
        return NULL;
    }
    json_t *m = hear();
    const char *type = json_string_value(json_object_get(m, "type"));
    if (strcmp(type, "exit") == 0) {
        exit(0);
    }
    const char *what = strcmp(type, "pause") == 0 ? "paused" : "stopped";
    json_decref(m);
    return what;
}

static const char *count_up(const struct trial *t, int ms)
{
    for (long step = t->resume + 1; step <= (t->budget > 0 ? t->budget : 3); step++) {
        report(t, step);
        checkpoint(t, step);
        pause_ms(ms);
        const char *what = told();
        if (what != NULL) {
            return what;
        }
    }
    return "completed";
}

/* The status, or NULL when there is nothing more to say. */
static const char *run_mode(const struct trial *t)
{
    if (strcmp(t->mode, "steps") == 0) {
        return count_up(t, 5);
    }
    if (strcmp(t->mode, "slow") == 0) {
        return count_up(t, 50);
    }
    if (strcmp(t->mode, "deaf") == 0) {
        (void)signal(SIGTERM, SIG_IGN);
        for (long step = 1;; step++) {
            report(t, step);
            pause_ms(50);
        }
    }
    if (strcmp(t->mode, "garbage") == 0) {
        say("no JSON at all {\n");
        report(t, 1);
    } else if (strcmp(t->mode, "long") == 0) {
        say_long();
        report(t, 1);
    } else if (strcmp(t->mode, "unknown") == 0) {
        say(to_worker >= 0 ? "{\"type\":\"weather\",\"sun\":true}\n" : "::magpie {\"sun\":true}\n");
        report(t, 1);
    } else if (strcmp(t->mode, "early") == 0) {
        exit(0);
    } else if (strcmp(t->mode, "temporary") == 0) {
        exit(75);
    } else if (strcmp(t->mode, "configuration") == 0) {
        exit(78);
    } else if (strcmp(t->mode, "error") == 0) {
        if (to_worker < 0) {
            exit(78);
        }
        say("{\"type\":\"error\",\"trial\":%ld,\"cause\":\"configuration\",\"reason\":\"no such "
            "shape\"}\n",
            t->id);
        return NULL;
    } else {
        report(t, 1);
    }
    return "completed";
}

static long read_step(const char *folder)
{
    char path[4200];
    long step = 0;
    (void)snprintf(path, sizeof(path), "%s/step", folder);
    FILE *f = fopen(path, "r");
    if (f == NULL || fscanf(f, "%ld", &step) != 1) {
        exit(4);
    }
    (void)fclose(f);
    return step;
}

static void start(json_t *m)
{
    struct trial t = {.id = (long)json_integer_value(json_object_get(m, "trial")),
                      .budget = (long)json_integer_value(json_object_get(m, "budget"))};
    const json_t *resume = json_object_get(m, "resume_from");
    const json_t *params = json_object_get(m, "params");
    (void)snprintf(t.mode, sizeof(t.mode), "%s",
                   json_string_value(json_object_get(params, "mode")));
    (void)snprintf(t.folder, sizeof(t.folder), "%s",
                   json_string_value(json_object_get(m, "checkpoint_dir")));
    if (json_is_object(resume)) {
        t.resume = read_step(json_string_value(json_object_get(resume, "path")));
    }
    const char *status = run_mode(&t);
    if (status != NULL) {
        say("{\"type\":\"result\",\"trial\":%ld,\"status\":\"%s\"}\n", t.id, status);
    }
    say("{\"type\":\"ready\"}\n");
}

static void on_term(int sig)
{
    (void)sig;
    told_term = 1;
}

static long number(const char *name)
{
    const char *v = getenv(name);
    return v != NULL ? strtol(v, NULL, 10) : 0;
}

static int run_command(const char *mode)
{
    struct trial t = {.id = number("MAGPIE_TRIAL"), .budget = number("MAGPIE_BUDGET")};
    (void)signal(SIGTERM, on_term);
    (void)snprintf(t.mode, sizeof(t.mode), "%s", mode);
    (void)snprintf(t.folder, sizeof(t.folder), "%s", getenv("MAGPIE_CHECKPOINT_DIR"));
    if (getenv("MAGPIE_RESUME_FROM") != NULL) {
        t.resume = read_step(getenv("MAGPIE_RESUME_FROM"));
    }
    const char *status = run_mode(&t);
    return status != NULL && strcmp(status, "completed") == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "executor") != 0) {
        return run_command(argv[1]);
    }
    to_worker = (int)number("MAGPIE_FD");
    from_worker = fdopen(dup(to_worker), "r");
    setvbuf(from_worker, NULL, _IONBF, 0); /* poll must see what was not yet read */
    say("{\"type\":\"ready\",\"versions\":{\"conform\":\"c\"}}\n");
    for (;;) {
        json_t *m = hear();
        const char *type = json_string_value(json_object_get(m, "type"));
        if (strcmp(type, "exit") == 0) {
            return 0;
        }
        if (strcmp(type, "start") == 0) {
            start(m);
        }
        json_decref(m);
    }
}
