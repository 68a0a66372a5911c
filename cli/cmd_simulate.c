/* SPDX-License-Identifier: Apache-2.0
 *
 * `magpie simulate`: settings from the file, a second file and flags, then one run for each
 * algorithm, number of workers and repetition.
 */
#include "cli/cmd.h"
#include "cli/commands.h"
#include "cli/simulate_print.h"

#include "base/alloc.h"
#include "simulate/experiment.h"
#include "simulate/picture.h"
#include "simulate/report.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    const char *setup, *workers, *objective, *program, *algorithm, *duration, *resource;
    const char *step, *start, *deaths, *silence, *lease, *heartbeat, *time, *timeout;
    double drop, speculate;
    int64_t checkpoint_every, report_every, trials, seed, seeds;
    const char *svg, *csv;
    bool json;
};

/* One call of the command. */
struct call {
    struct options o;
    const char *path; /* experiment file, NULL = none */
    json_t *file;
    struct sim_setup setup;
    char *algorithms[SIM_COUNTS_MAX];
    int n_algorithms; /* at least 1; an entry may be NULL: the file's own */
    int64_t min, max; /* resource, 0 = the file's */
    struct buf csv;
};

/* ---- settings ---- */

/* Texts of flags as the JSON they stand for. */
static json_t *flag_value(const char *text)
{
    json_t *v = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    return v != NULL ? v : json_string(text);
}

static void set_text(json_t *o, const char *key, const char *text)
{
    if (text != NULL) {
        (void)json_object_set_new(o, key, flag_value(text));
    }
}

/* "1,4,16" as a list of what stands between the commas. */
static void set_list(json_t *o, const char *key, const char *text)
{
    if (text == NULL) {
        return;
    }
    json_t *list = json_array();
    char *copy = xstrdup(text);
    char *rest = copy;
    for (char *item; (item = strsep(&rest, ",")) != NULL;) {
        (void)json_array_append_new(list, flag_value(item));
    }
    free(copy);
    (void)json_object_set_new(o, key, list);
}

/* "2h/5m": every two hours, for five minutes. */
static void set_outage(json_t *o, const char *key, const char *text)
{
    const char *slash = text != NULL ? strchr(text, '/') : NULL;
    if (text == NULL) {
        return;
    }
    if (slash == NULL) {
        (void)json_object_set_new(o, key, json_string(text));
        return;
    }
    json_t *outage = json_object();
    char *every = xstrndup(text, (size_t)(slash - text));
    set_text(outage, "every", every);
    set_text(outage, "for", slash + 1);
    free(every);
    (void)json_object_set_new(o, key, outage);
}

/* "python3 objective.py" as words. */
static void set_program(json_t *o, const char *text)
{
    if (text == NULL) {
        return;
    }
    json_t *words = json_array();
    char *copy = xstrdup(text);
    char *rest = copy;
    for (char *item; (item = strsep(&rest, " ")) != NULL;) {
        if (*item != '\0') {
            (void)json_array_append_new(words, json_string(item));
        }
    }
    free(copy);
    (void)json_object_set_new(o, "objective", words);
}

static json_t *flags_json(const struct options *o)
{
    json_t *j = json_object();
    set_list(j, "workers", o->workers);
    if (o->objective != NULL) {
        (void)json_object_set_new(j, "objective", json_string(o->objective));
    }
    set_program(j, o->program);
    set_text(j, "duration", o->duration);
    set_text(j, "step", o->step);
    set_text(j, "start", o->start);
    set_text(j, "time", o->time);
    set_text(j, "lease", o->lease);
    set_text(j, "heartbeat", o->heartbeat);
    set_text(j, "timeout", o->timeout);
    set_outage(j, "deaths", o->deaths);
    set_outage(j, "silence", o->silence);
    if (o->drop >= 0) {
        (void)json_object_set_new(j, "drop", json_real(o->drop));
    }
    if (o->speculate >= 0) {
        (void)json_object_set_new(j, "speculate", json_real(o->speculate));
    }
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {{"checkpoint_every", o->checkpoint_every},
                   {"report_every", o->report_every},
                   {"seed", o->seed},
                   {"seeds", o->seeds}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (numbers[i].value >= 0) {
            (void)json_object_set_new(j, numbers[i].key, json_integer(numbers[i].value));
        }
    }
    return j;
}

/* Prints what is wrong with one source of settings. */
static int faults(struct mjson_issues *is, const char *path, const char *text, size_t len)
{
    struct buf out = {0};
    int n = is->total;
    if (n == 0) {
        return CMD_GO_ON;
    }
    if (path != NULL) {
        mjson_issues_place(is, text, len);
        mjson_issues_print(is, path, &out);
        (void)fputs(out.data, stderr);
        (void)cmd_failf(CMD_USAGE, "%s: %d thing%s to mend", path, n, n == 1 ? "" : "s");
    }
    for (int i = 0; path == NULL && i < is->n; i++) {
        char *flag = xstrdup(is->items[i].pointer);
        for (char *c = flag; *c != '\0'; c++) {
            *c = *c == '_' ? '-' : *c;
        }
        (void)cmd_failf(CMD_USAGE, "--%s: %s", flag[0] == '/' ? flag + 1 : flag,
                        is->items[i].text);
        free(flag);
    }
    buf_fini(&out);
    mjson_issues_fini(is);
    return CMD_USAGE;
}

/* Each source is checked alone, so that a fault is told where it stands. */
static int check_source(const json_t *value, const char *path, const char *text, size_t len)
{
    struct mjson_issues is = {0};
    struct sim_setup s;
    sim_setup_parse(value, "", &s, &is);
    sim_setup_fini(&s);
    return faults(&is, path, text, len);
}

static int read_setup_file(const char *path, json_t *merged)
{
    struct mag_err err = {0};
    char *text = NULL;
    size_t len = 0;
    json_t *doc = NULL;
    if (mjson_read_file(path, SPEC_BYTES_MAX, &text, &len, &err) != MAG_OK ||
        mjson_parse(text, len, &doc, &err) != MAG_OK) {
        free(text);
        return cmd_failf(CMD_USAGE, "%s: %s", path, err.text);
    }
    int status = check_source(doc, path, text, len);
    if (status == CMD_GO_ON) {
        (void)json_object_update(merged, doc);
    }
    json_decref(doc);
    free(text);
    return status;
}

static int read_settings(struct call *c)
{
    json_t *merged = json_object();
    json_t *flags = flags_json(&c->o);
    json_t *own = json_object_get(c->file, "simulation"); /* checked with the file */
    int status = CMD_GO_ON;
    if (own != NULL) {
        (void)json_object_update(merged, own);
    }
    if (c->o.setup != NULL) {
        status = read_setup_file(c->o.setup, merged);
    }
    if (status == CMD_GO_ON) {
        status = check_source(flags, NULL, NULL, 0);
    }
    if (status == CMD_GO_ON) {
        struct mjson_issues is = {0};
        (void)json_object_update(merged, flags);
        sim_setup_parse(merged, "", &c->setup, &is);
        status = faults(&is, NULL, NULL, 0);
    }
    json_decref(merged);
    json_decref(flags);
    return status;
}

static int read_file(struct call *c)
{
    struct cmd_spec cs;
    if (c->path == NULL) {
        return CMD_GO_ON;
    }
    int status = cmd_spec_read(c->path, false, &cs);
    if (status == CMD_GO_ON) {
        c->file = json_incref(cs.doc);
    }
    cmd_spec_fini(&cs);
    return status;
}

static int read_resource(struct call *c)
{
    const char *text = c->o.resource;
    char *end = NULL;
    if (text == NULL) {
        return CMD_GO_ON;
    }
    c->min = strtoll(text, &end, 10);
    if (*end == ':' && isdigit((unsigned char)end[1])) {
        c->max = strtoll(end + 1, &end, 10);
    }
    if (*end != '\0' || c->min < 1 || c->max < c->min) {
        return cmd_failf(CMD_USAGE, "--resource: expected MIN:MAX such as 1:27, not \"%s\"", text);
    }
    return CMD_GO_ON;
}

static int read_algorithms(struct call *c)
{
    const char *text = c->o.algorithm;
    c->n_algorithms = 1;
    if (text == NULL) {
        return CMD_GO_ON;
    }
    if (text[0] == '{') {
        c->algorithms[0] = xstrdup(text);
        return CMD_GO_ON;
    }
    char *copy = xstrdup(text);
    char *rest = copy;
    c->n_algorithms = 0;
    for (char *item; (item = strsep(&rest, ",")) != NULL && c->n_algorithms < SIM_COUNTS_MAX;) {
        c->algorithms[c->n_algorithms++] = xstrdup(item);
    }
    free(copy);
    return rest == NULL ? CMD_GO_ON
                        : cmd_failf(CMD_USAGE, "--algorithm: at most %d names", SIM_COUNTS_MAX);
}

/* ---- runs ---- */

static int make_spec(struct call *c, const struct sim_changes *changes, struct spec **ret)
{
    struct mag_err err = {0};
    struct mjson_issues is = {0};
    json_t *doc = NULL;
    if (sim_experiment(c->file, &c->setup, changes, &doc, &err) != MAG_OK) {
        return cmd_fail(&err);
    }
    struct spec *spec = spec_parse(doc, c->setup.seed, &is);
    json_decref(doc);
    if (spec != NULL) {
        sim_setup_check(&c->setup, spec, "/simulation", &is);
    }
    if (is.total > 0) {
        for (int i = 0; i < is.n; i++) { /* the file with its changes has no lines any more */
            (void)cmd_failf(CMD_USAGE, "%s: %s", is.items[i].pointer, is.items[i].text);
        }
        mjson_issues_fini(&is);
        spec_destroy(spec);
        return CMD_USAGE;
    }
    *ret = spec;
    return CMD_GO_ON;
}

static int write_text(const char *path, struct buf *text)
{
    FILE *f = fopen(path, "we");
    bool ok = f != NULL && fwrite(text->data, 1, text->len, f) == text->len;
    if (f != NULL && fclose(f) != 0) {
        ok = false;
    }
    buf_fini(text);
    return ok ? CMD_GO_ON : cmd_failf(CMD_FAILED, "%s cannot be written", path);
}

static int draw(struct call *c, const struct sim_result *r, const struct print_head *head)
{
    struct buf svg = {0};
    struct picture p = {.algorithm = head->algorithm,
                        .title = head->name,
                        .metric = head->metric,
                        .unit = head->unit,
                        .maximize = head->maximize};
    picture_svg(r, &p, &svg);
    return write_text(c->o.svg, &svg);
}

/* One run. The picture shows the first of all. */
static int run_one(struct call *c, struct spec *spec_take, struct sim_options *o, bool alone,
                   bool first, struct sim_summary *sum)
{
    struct sim_result r;
    struct mag_err err = {0};
    struct print_head head;
    print_head_init(&head, spec_take);
    sum->algorithm = head.algorithm;
    sum->workers = o->workers;
    o->keep_jobs = (first && c->o.svg != NULL) || c->o.csv != NULL;
    int status = CMD_GO_ON;
    if (sim_run(&c->setup, spec_take, o, &r, &err) != MAG_OK) {
        return cmd_fail(&err);
    }
    sim_summary_add(sum, &r);
    if (c->o.json) {
        print_json_line(sim_result_json(&r, head.algorithm));
    } else if (alone) {
        print_run(&head, &r, &c->setup);
    }
    if (c->o.csv != NULL) {
        sim_jobs_csv(&r, head.algorithm, c->csv.len == 0, &c->csv);
    }
    if (first && c->o.svg != NULL) {
        status = draw(c, &r, &head);
    }
    sim_result_fini(&r);
    return status;
}

static int run_configuration(struct call *c, int algorithm, int workers, struct sim_summary *sum)
{
    int status = CMD_GO_ON;
    bool alone = c->n_algorithms * c->setup.n_workers * c->setup.seeds == 1;
    for (int64_t k = 0; k < c->setup.seeds && status == CMD_GO_ON; k++) {
        struct spec *spec = NULL;
        struct sim_changes changes = {.algorithm = c->algorithms[algorithm],
                                      .trials = c->o.trials > 0 ? c->o.trials : 0,
                                      .min = c->min,
                                      .max = c->max,
                                      .add_to_seed = (uint64_t)k};
        struct sim_options o = {.workers = c->setup.workers[workers], .repetition = (uint64_t)k};
        status = make_spec(c, &changes, &spec);
        if (status == CMD_GO_ON) {
            status = run_one(c, spec, &o, alone, algorithm == 0 && workers == 0 && k == 0, sum);
        }
    }
    if (status == CMD_GO_ON && c->o.json) {
        print_json_line(sim_summary_json(sum));
    }
    return status;
}

static int run_all(struct call *c)
{
    int n = c->n_algorithms * c->setup.n_workers;
    struct sim_summary *sums = xcalloc((size_t)n, sizeof(*sums));
    int status = CMD_GO_ON;
    for (int i = 0; i < n && status == CMD_GO_ON; i++) {
        status = run_configuration(c, i / c->setup.n_workers, i % c->setup.n_workers, &sums[i]);
    }
    if (status == CMD_GO_ON && !c->o.json && (n > 1 || c->setup.seeds > 1)) {
        print_table(sums, n);
    }
    free(sums);
    if (status == CMD_GO_ON && c->o.csv != NULL) {
        status = write_text(c->o.csv, &c->csv);
    }
    return status == CMD_GO_ON ? CMD_OK : status;
}

static void call_fini(struct call *c)
{
    sim_setup_fini(&c->setup);
    for (int i = 0; i < c->n_algorithms; i++) {
        free(c->algorithms[i]);
    }
    buf_fini(&c->csv);
    json_decref(c->file);
}

static char *detail_text(void)
{
    struct buf b = {0};
    const char *form = NULL, *summary = NULL;
    buf_adds(&b, "FILE is an experiment file as it would be submitted; without it the objective's own "
                 "space is searched.\nEverything that is set here may stand in the file, as the "
                 "object \"simulation\", or in a file of its\nown (--setup). Objectives:\n");
    for (int i = 0; objective_describe(i, &form, &summary); i++) {
        buf_addf(&b, "  %-27s %s\n", form, summary);
    }
    buf_adds(&b, "Durations: constant, uniform(H), lognormal(S), exponential, straggler(S)");
    return buf_take(&b);
}

int cmd_simulate(int argc, char **argv)
{
    struct call c = {.o = {.drop = -1,
                           .speculate = -1,
                           .checkpoint_every = -1,
                           .report_every = -1,
                           .seed = -1,
                           .seeds = -1}};
    struct options *o = &c.o;
    const struct flag flags[] = {
        FLAG(FLAG_TEXT, "workers", &o->workers, "N,N", "virtual workers; several give a table (4)"),
        FLAG(FLAG_TEXT, "objective", &o->objective, "NAME", "what trials measure, see below (curve)"),
        FLAG(FLAG_TEXT, "program", &o->program, "COMMAND",
             "a program that answers line after line, instead of an objective"),
        FLAG(FLAG_TEXT, "algorithm", &o->algorithm, "NAME,NAME",
             "another algorithm than the file's; several give a table"),
        FLAG(FLAG_INT, "trials", &o->trials, "N", "another limit of trials than the file's",
             .min = 1, .max = SPEC_TRIALS_MAX),
        FLAG(FLAG_TEXT, "resource", &o->resource, "MIN:MAX", "another resource than the file's"),
        FLAG(FLAG_TEXT, "step", &o->step, "TIME", "mean time of a step (epoch, …) of a trial (1m)"),
        FLAG(FLAG_TEXT, "duration", &o->duration, "MODEL", "how times differ, see below (constant)"),
        FLAG(FLAG_TEXT, "start", &o->start, "TIME", "before the first step of each job (0)"),
        FLAG(FLAG_NUMBER, "drop", &o->drop, "P", "probability that a job is lost in a step's time"),
        FLAG(FLAG_TEXT, "deaths", &o->deaths, "TIME/TIME",
             "a worker goes every TIME, and is back after TIME"),
        FLAG(FLAG_TEXT, "silence", &o->silence, "TIME/TIME",
             "a worker is cut off every TIME, for TIME, and works on"),
        FLAG(FLAG_TEXT, "lease", &o->lease, "TIME",
             "until the driver gives a silent worker up; 0 = at once (15s)"),
        FLAG(FLAG_TEXT, "heartbeat", &o->heartbeat, "TIME", "between signs of life (2s)"),
        FLAG(FLAG_INT, "checkpoint-every", &o->checkpoint_every, "N",
             "steps between checkpoints; 0 = none (the file's)"),
        FLAG(FLAG_INT, "report-every", &o->report_every, "N", "steps between reports (1)"),
        FLAG(FLAG_NUMBER, "speculate", &o->speculate, "K",
             "second copies of jobs that take K times the usual (0 = none)"),
        FLAG(FLAG_TEXT, "time", &o->time, "TIME", "virtual time after which all ends"),
        FLAG(FLAG_INT, "seed", &o->seed, "N", "of durations, deaths and the objective (1)"),
        FLAG(FLAG_INT, "seeds", &o->seeds, "N", "repetitions with other draws (1)"),
        FLAG(FLAG_TEXT, "timeout", &o->timeout, "TIME", "of one answer of the program (30s)"),
        FLAG(FLAG_TEXT, "setup", &o->setup, "FILE", "a JSON file with the settings of a simulation"),
        FLAG(FLAG_TEXT, "svg", &o->svg, "FILE", "picture of the first run's workers"),
        FLAG(FLAG_TEXT, "csv", &o->csv, "FILE", "every job of every run"),
        FLAG(FLAG_BOOL, "json", &o->json, NULL, "JSON lines: one a run, one a table's row"),
        {0}};
    char *detail = detail_text();
    const struct flags_usage u = {
        .program = "magpie simulate",
        .args = "[FILE]",
        .flags = flags,
        .max_args = 1,
        .summary = "Plays a search in virtual time, with the driver's own code: what comes out with 1, "
                   "4 or 16\nworkers, slow ones and dying ones, before anything is spent.",
        .detail = detail};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status == CMD_GO_ON) {
        c.path = args.n > 0 ? args.items[0] : NULL;
        status = read_file(&c);
    }
    status = status == CMD_GO_ON ? read_resource(&c) : status;
    status = status == CMD_GO_ON ? read_settings(&c) : status;
    status = status == CMD_GO_ON ? read_algorithms(&c) : status;
    if (status == CMD_GO_ON) {
        status = run_all(&c);
    }
    free(detail);
    call_fini(&c);
    return status;
}
