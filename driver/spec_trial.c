/* SPDX-License-Identifier: Apache-2.0
 *
 * "trial": what a trial runs. Parameters are named as ${name}; each must exist. In a command or
 * executor a conditional parameter may stand only in a nested list, which is dropped whole while
 * the parameter is inactive. What a built-in program makes of the rest is the trainer's to check.
 */
#include "driver/spec_read.h"

#include "base/alloc.h"
#include "wire/fuse.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_ITEMS_MAX 1000 /* arguments of one command */
#define ENV_ITEMS_MAX 1000     /* variables */
#define ENV_NAME_MAX 256       /* bytes of a variable's name */
#define ENV_VALUE_MAX 32768    /* bytes of a value */
#define PATH_BYTES_MAX 4096
#define GRACE_MS_MIN 10
#define GRACE_MS_MAX 86400000

struct walk {
    const struct space *space;
    struct mjson_issues *is;
    bool command;
};

static void check_name(const struct walk *w, const char *name, const char *pointer, bool nested)
{
    const char *names[SPACE_PARAMS_MAX + 1] = {NULL};
    int k = space_find(w->space, name);
    if (k >= 0) {
        if (w->command && !nested && w->space->params[k].parent >= 0) {
            mjson_issue(
                w->is, pointer,
                "\"%s\" is a conditional parameter: put the arguments that need it into a "
                "nested list, which is left out while it is inactive: [\"--%s\", \"${%s}\"]",
                name, name, name);
        }
        return;
    }
    for (int i = 0; i < w->space->n; i++) {
        names[i] = w->space->params[i].name;
    }
    const char *near = mjson_nearest(name, names);
    mjson_issue(w->is, pointer, "${%.*s} names no parameter of the search space%s%s%s",
                SPACE_NAME_MAX, name, near != NULL ? "; did you mean ${" : "",
                near != NULL ? near : "", near != NULL ? "}?" : "");
}

static void check_text(const struct walk *w, const char *text, const char *pointer, bool nested)
{
    for (const char *p = strstr(text, "${"); p != NULL; p = strstr(p, "${")) {
        const char *end = strchr(p, '}');
        if (end == NULL || end == p + 2) {
            mjson_issue(w->is, pointer, "%s",
                        end == NULL ? "\"${\" without its \"}\"" : "${} names no parameter");
            return;
        }
        char *name = xstrndup(p + 2, (size_t)(end - p - 2));
        if (w->space != NULL) {
            check_name(w, name, pointer, nested);
        }
        free(name);
        p = end;
    }
}

/* Every string of a built-in program's object, at any depth (the parser limits it). */
static void check_tree(const struct walk *w, const json_t *v, const char *pointer)
{
    const char *key = NULL;
    json_t *member = NULL;
    size_t i = 0;
    if (json_is_string(v)) {
        check_text(w, json_string_value(v), pointer, false);
    }
    json_object_foreach((json_t *)(uintptr_t)v, key, member)
    {
        char *at = mjson_pointer(pointer, key);
        check_tree(w, member, at);
        free(at);
    }
    json_array_foreach(v, i, member)
    {
        char *at = mjson_pointer_index(pointer, i);
        check_tree(w, member, at);
        free(at);
    }
}

static void check_nested(const struct walk *w, const json_t *list, const char *pointer)
{
    size_t i = 0;
    json_t *item = NULL;
    if (json_array_size(list) == 0) {
        mjson_issue(w->is, pointer, "an empty nested list does nothing: leave it out");
    }
    json_array_foreach(list, i, item)
    {
        char *at = mjson_pointer_index(pointer, i);
        if (!json_is_string(item)) {
            mjson_issue(w->is, at, "an argument is a string, not %s", mjson_kind(item));
        } else {
            check_text(w, json_string_value(item), at, true);
        }
        free(at);
    }
}

static void check_command(const struct walk *w, const json_t *list, const char *pointer)
{
    size_t i = 0;
    json_t *item = NULL;
    if (!json_is_array(list) || json_array_size(list) == 0) {
        mjson_issue(
            w->is, pointer,
            "must be a list of arguments such as [\"python3\", \"train.py\", \"--lr\", \"${lr}\"]");
        return;
    }
    if (json_array_size(list) > COMMAND_ITEMS_MAX) {
        mjson_issue(w->is, pointer, "more than %d arguments", COMMAND_ITEMS_MAX);
        return;
    }
    json_array_foreach(list, i, item)
    {
        char *at = mjson_pointer_index(pointer, i);
        if (json_is_string(item)) {
            check_text(w, json_string_value(item), at, false);
        } else if (!json_is_array(item)) {
            mjson_issue(w->is, at, "an argument is a string or a nested list of strings, not %s",
                        mjson_kind(item));
        } else if (i == 0) {
            mjson_issue(w->is, at,
                        "the first argument is the program and cannot be left out: write a string");
        } else {
            check_nested(w, item, at);
        }
        free(at);
    }
    if (json_is_string(json_array_get(list, 0)) &&
        json_string_length(json_array_get(list, 0)) == 0) {
        mjson_issue(w->is, pointer, "the first argument names the program and may not be empty");
    }
}

/* ---- around the program ---- */

static bool is_variable(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= ENV_NAME_MAX && !isdigit((unsigned char)name[0]) &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == n;
}

static void check_variable(const struct walk *w, const char *name, const json_t *v)
{
    const char *text = json_string_value(v);
    char *at = mjson_pointer("/trial/env", name);
    if (!is_variable(name)) {
        mjson_issue(w->is, at, "is no name of a variable: letters, digits and '_', no digit first");
    } else if (strncmp(name, "MAGPIE_", 7) == 0) {
        mjson_issue(w->is, at, "names that begin with MAGPIE_ are magpie's own");
    } else if (strcmp(name, "CUDA_VISIBLE_DEVICES") == 0) {
        mjson_issue(w->is, at,
                    "the worker gives each trial its GPUs: say how many with \"requires\": "
                    "{\"gpus\": n}");
    } else if (text == NULL && !json_is_null(v)) {
        mjson_issue(w->is, at, "must be a string, or null to take the variable away, not %s",
                    mjson_kind(v));
    } else if (json_string_length(v) > ENV_VALUE_MAX) {
        mjson_issue(w->is, at, "more than %d bytes", ENV_VALUE_MAX);
    } else if (text != NULL) {
        check_text(w, text, at, true);
    }
    free(at);
}

static void check_env(const struct walk *w, json_t *env)
{
    const char *name = NULL;
    json_t *v = NULL;
    if (!spec_object(env, "/trial/env", w->is)) {
        return;
    }
    if (json_object_size(env) > ENV_ITEMS_MAX) {
        mjson_issue(w->is, "/trial/env", "more than %d variables", ENV_ITEMS_MAX);
        return;
    }
    json_object_foreach(env, name, v)
    {
        check_variable(w, name, v);
    }
}

/* A folder below the trial's own: what lies elsewhere would be several trials'. */
static void check_tensorboard(const struct walk *w, const json_t *v)
{
    const char *path = json_string_value(v);
    if (v == NULL) {
        return;
    }
    bool inside = path != NULL && path[0] != '\0' && path[0] != '/' &&
                  json_string_length(v) <= PATH_BYTES_MAX && strstr(path, "..") == NULL;
    if (!inside) {
        mjson_issue(w->is, "/trial/tensorboard",
                    "must be a folder below the trial's own ($MAGPIE_TRIAL_DIR), such as \"logs\", "
                    "or \".\" for all of it");
    }
}

static void check_around(struct spec *s, const struct walk *w, const json_t *trial)
{
    const json_t *cwd = json_object_get(trial, "cwd");
    const char *path = json_string_value(cwd);
    check_env(w, json_object_get(trial, "env"));
    check_tensorboard(w, json_object_get(trial, "tensorboard"));
    if (cwd != NULL &&
        (path == NULL || path[0] == '\0' || json_string_length(cwd) > PATH_BYTES_MAX)) {
        mjson_issue(w->is, "/trial/cwd", "must be a folder of the worker's host, such as \"/srv/me\"");
    }
    s->grace_ms = spec_duration(trial, "/trial", "grace", w->is);
    if (json_object_get(trial, "grace") != NULL &&
        (s->grace_ms < GRACE_MS_MIN || s->grace_ms > GRACE_MS_MAX)) {
        mjson_issue(w->is, "/trial/grace", "must be 10 milliseconds to one day");
    }
}

static void read_builtin(struct spec *s, const struct walk *w, const json_t *trial)
{
    const json_t *program = json_object_get(trial, "program");
    struct mag_err err = {0};
    if (!json_is_string(program) || strcmp(json_string_value(program), "builtin") != 0) {
        mjson_issue(w->is, "/trial/program",
                    "the only program is \"builtin\"; for your own use \"command\" or \"executor\"");
    }
    s->program = SPEC_BUILTIN;
    if (fuse_parse(json_object_get(trial, "fuse"), &s->fuse, &err) != MAG_OK) {
        mjson_issue(w->is, "/trial/fuse", "%s", err.text);
    }
    check_tree(w, trial, "/trial");
}

void spec_read_trial(struct spec *s, const json_t *doc, struct mjson_issues *is)
{
    static const char *const command_keys[] = {"command", "env", "cwd", "grace", "tensorboard", NULL};
    static const char *const executor_keys[] = {"executor", "env", "cwd", "grace", "tensorboard", NULL};
    static const char *const all_keys[] = {"program", "command", "executor", NULL};
    const json_t *trial = json_object_get(doc, "trial");
    if (!spec_object(trial, "/trial", is)) {
        return;
    }
    struct walk w = {.space = s->space, .is = is};
    const json_t *program = json_object_get(trial, "program");
    const json_t *command = json_object_get(trial, "command");
    const json_t *executor = json_object_get(trial, "executor");
    int kinds = (program != NULL) + (command != NULL) + (executor != NULL);
    if (kinds != 1) {
        mjson_issue(is, "/trial",
                    "must have exactly one of \"program\": \"builtin\", \"command\": […] and "
                    "\"executor\": […]");
        if (kinds == 0) {
            mjson_check_keys(trial, all_keys, "/trial", is);
        }
        return;
    }
    if (program != NULL) {
        read_builtin(s, &w, trial);
    } else {
        w.command = true;
        s->program = command != NULL ? SPEC_COMMAND : SPEC_EXECUTOR;
        mjson_check_keys(trial, command != NULL ? command_keys : executor_keys, "/trial", is);
        check_command(&w, command != NULL ? command : executor,
                      command != NULL ? "/trial/command" : "/trial/executor");
        check_around(s, &w, trial);
    }
    s->trial = json_incref((json_t *)(uintptr_t)trial);
}
