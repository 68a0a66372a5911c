/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cmd.h"

#include "base/alloc.h"
#include "base/program.h"
#include "cli/format.h"
#include "cli/spawn.h"
#include "cli/term.h"
#include "simulate/setup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const char *program = "magpie"; /* for messages; set once by cmd_begin */

int cmd_begin(const struct flags_usage *u, int argc, char **argv, struct flags_args *ret)
{
    program = u->program;
    struct mag_err err = {0};
    if (flags_parse(u, argc, argv, ret, &err) != MAG_OK) {
        (void)fprintf(stderr, "%s: %s\ntry '%s --help'\n", u->program, err.text, u->program);
        return CMD_USAGE;
    }
    if (ret->help) {
        struct buf out = {0};
        flags_help(u, &out);
        (void)fputs(out.data, stdout);
        buf_fini(&out);
        return CMD_OK;
    }
    return CMD_GO_ON;
}

int cmd_fail(const struct mag_err *err)
{
    (void)fprintf(stderr, "%s: %s\n", program, err->text);
    return err->code == MAG_INVALID ? CMD_USAGE : CMD_FAILED;
}

int cmd_failf(int status, const char *fmt, ...)
{
    (void)fprintf(stderr, "%s: ", program);
    va_list ap;
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
    return status;
}

enum mag_status cmd_id(const char *text, const char *what, int64_t *ret, struct mag_err *err)
{
    char *end = NULL;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || v < 1) {
        return mag_fail(err, MAG_INVALID, "expected the number of %s, not \"%s\"", what, text);
    }
    *ret = v;
    return MAG_OK;
}

static void print_issues(const struct cmd_spec *cs, struct mjson_issues *is, bool json)
{
    mjson_issues_place(is, cs->text, cs->len);
    if (json) {
        cmd_print_json(json_pack("{s:b, s:s, s:o}", "valid", 0, "file", cs->path, "issues",
                                 mjson_issues_json(is)));
        return;
    }
    struct buf out = {0};
    mjson_issues_print(is, cs->path, &out);
    (void)fputs(out.data, stderr);
    (void)fprintf(stderr, "%s: %s: %d thing%s to mend\n", program, cs->path, is->total,
                  is->total == 1 ? "" : "s");
    buf_fini(&out);
}

/* A text that is no JSON at all: one issue about the whole document, at the parser's place. */
static void print_syntax(const struct cmd_spec *cs, const struct mag_err *err, bool json)
{
    int line = 1;
    int column = 1;
    const char *text = err->text;
    int used = 0;
    if (sscanf(text, "line %d, column %d: %n", &line, &column, &used) == 2 && used > 0) {
        text += used;
    }
    if (json) {
        json_t *issue = json_pack("{s:s, s:i, s:i, s:s}", "pointer", "", "line", line, "column",
                                  column, "detail", text);
        cmd_print_json(
            json_pack("{s:b, s:s, s:[o]}", "valid", 0, "file", cs->path, "issues", issue));
        return;
    }
    (void)fprintf(stderr, "%s:%d:%d: %s\n%s: %s: not valid JSON\n", cs->path, line, column, text,
                  program, cs->path);
}

/* The "simulation" object, which the spec itself knows nothing of. */
static void check_simulation(const json_t *doc, struct mjson_issues *is)
{
    const json_t *simulation = json_object_get(doc, "simulation");
    if (json_is_object(simulation)) {
        struct sim_setup s;
        sim_setup_parse(simulation, "/simulation", &s, is);
        sim_setup_fini(&s);
    }
}

int cmd_spec_read(const char *path, bool json, struct cmd_spec *ret)
{
    *ret = (struct cmd_spec){.path = path};
    struct mag_err err = {0};
    if (mjson_read_file(path, SPEC_BYTES_MAX, &ret->text, &ret->len, &err) != MAG_OK) {
        (void)cmd_fail(&err);
        return CMD_USAGE;
    }
    if (mjson_parse(ret->text, ret->len, &ret->doc, &err) != MAG_OK) {
        print_syntax(ret, &err, json);
        return CMD_USAGE;
    }
    struct mjson_issues is = {0};
    ret->spec = spec_parse(ret->doc, cmd_draw_seed(), &is);
    check_simulation(ret->doc, &is);
    int status = is.total == 0 ? CMD_GO_ON : CMD_USAGE;
    if (status != CMD_GO_ON) {
        print_issues(ret, &is, json);
    }
    mjson_issues_fini(&is);
    return status;
}

/* What `--check --json` said, its last line; NULL: it said something else. */
static json_t *trainer_result(char *out)
{
    char *from = out[0] == '{' ? out : NULL;
    for (char *at = strstr(out, "\n{"); at != NULL; at = strstr(at + 1, "\n{")) {
        from = at + 1;
    }
    json_t *o = from != NULL ? json_loads(from, 0, NULL) : NULL;
    if (json_is_array(json_object_get(o, "issues"))) {
        return o;
    }
    json_decref(o);
    return NULL;
}

/* In the form of mjson_issues_print. */
static void print_trainer_issues(const struct cmd_spec *cs, const json_t *issues)
{
    size_t i = 0;
    const json_t *it = NULL;
    json_array_foreach(issues, i, it)
    {
        const char *pointer = json_string_value(json_object_get(it, "pointer"));
        (void)fprintf(stderr, "%s:%d:%d: %s: %s\n", cs->path,
                      (int)json_integer_value(json_object_get(it, "line")),
                      (int)json_integer_value(json_object_get(it, "column")),
                      pointer != NULL && pointer[0] != '\0' ? pointer : "(document)",
                      json_string_value(json_object_get(it, "detail")));
    }
}

/* Its exit status, its words and (unless NULL) what they say. */
static int ask_trainer(struct cmd_spec *cs, const char *trainer, char **ret_out, json_t **ret)
{
    const char *argv[] = {trainer, "--check", cs->path, "--json", NULL};
    int status = spawn_capture(argv, ret_out);
    *ret = trainer_result(*ret_out);
    if (status == 0) {
        cs->memory = json_incref(json_object_get(*ret, "memory"));
    }
    return status;
}

void cmd_spec_weigh(struct cmd_spec *cs)
{
    char *trainer = cs->spec->program == SPEC_BUILTIN ? program_find("magpie-trainer") : NULL;
    char *out = NULL;
    json_t *result = NULL;
    if (trainer != NULL) {
        (void)ask_trainer(cs, trainer, &out, &result);
    }
    json_decref(result);
    free(out);
    free(trainer);
}

int cmd_spec_check_trainer(struct cmd_spec *cs, bool json)
{
    char *trainer = cs->spec->program == SPEC_BUILTIN ? program_find("magpie-trainer") : NULL;
    if (trainer == NULL) {
        return CMD_GO_ON;
    }
    char *out = NULL;
    json_t *result = NULL;
    int status = ask_trainer(cs, trainer, &out, &result);
    json_t *issues = json_object_get(result, "issues");
    /* The trainer's own words tell the place in the file and what is wrong there. */
    if (status != 0 && json) {
        json_t *list = issues != NULL ? json_incref(issues)
                                      : json_pack("[{s:s, s:i, s:i, s:s}]", "pointer", "", "line",
                                                  0, "column", 0, "detail", out);
        cmd_print_json(json_pack("{s:b, s:s, s:o}", "valid", 0, "file", cs->path, "issues", list));
    } else if (status != 0) {
        if (issues != NULL) {
            print_trainer_issues(cs, issues);
        }
        (void)fprintf(stderr, "%s%s: %s: the built-in trainer cannot run it\n",
                      issues != NULL ? "" : out, program, cs->path);
    }
    json_decref(result);
    free(out);
    free(trainer);
    return status == 0 ? CMD_GO_ON : CMD_USAGE;
}

void cmd_print_memory(const struct cmd_spec *cs, const char *label)
{
    const char *text = json_string_value(json_object_get(cs->memory, "text"));
    const json_t *of = json_object_get(cs->memory, "of");
    if (text == NULL) {
        return;
    }
    char *params = json_object_size(of) > 0 ? format_params(of) : NULL;
    (void)printf("%s a trial takes up to %s%s%s%s\n", label, text, params != NULL ? " (with " : "",
                 params != NULL ? params : "", params != NULL ? ")" : "");
    free(params);
}

void cmd_spec_fini(struct cmd_spec *cs)
{
    spec_destroy(cs->spec);
    json_decref(cs->doc);
    json_decref(cs->memory);
    free(cs->text);
    *cs = (struct cmd_spec){0};
}

void cmd_print_json(json_t *value_take)
{
    size_t flags = JSON_ENCODE_ANY | (term_is_tty(stdout) ? JSON_INDENT(2) : JSON_COMPACT);
    char *text = json_dumps(value_take, flags | JSON_REAL_PRECISION(17));
    (void)puts(text != NULL ? text : "null");
    free(text);
    json_decref(value_take);
}

char *cmd_default_data_dir(void)
{
    const char *xdg = getenv("XDG_DATA_HOME");
    if (xdg != NULL && xdg[0] == '/') {
        return xasprintf("%s/magpie", xdg);
    }
    const char *home = getenv("HOME");
    return xasprintf("%s/.local/share/magpie", home != NULL ? home : "");
}

uint64_t cmd_draw_seed(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed)) {
        seed = (uint64_t)(uintptr_t)&seed;
    }
    return seed >> 11;
}
