/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cmd.h"
#include "cli/commands.h"

#include <stdio.h>

static void print_sound(const struct cmd_spec *cs, bool json)
{
    json_t *notes = spec_fuse_notes(cs->spec);
    if (json) {
        json_t *o = json_pack("{s:b, s:s, s:[], s:O}", "valid", 1, "file", cs->path, "issues",
                              "notes", notes);
        if (cs->memory != NULL) {
            (void)json_object_set(o, "memory", cs->memory);
        }
        cmd_print_json(o);
    } else {
        (void)printf("%s: sound\n", cs->path);
        cmd_print_memory(cs, "memory:");
        for (size_t i = 0; i < json_array_size(notes); i++) {
            (void)printf("%s\n", json_string_value(json_array_get(notes, i)));
        }
    }
    json_decref(notes);
}

int cmd_validate(int argc, char **argv)
{
    bool json = false;
    bool resolved = false;
    const struct flag flags[] = {
        FLAG(FLAG_BOOL, "json", &json, NULL, "the result as JSON, on standard output"),
        FLAG(FLAG_BOOL, "resolved", &resolved, NULL,
             "print the experiment with every default written out"),
        {0},
    };
    const struct flags_usage u = {
        .program = "magpie validate",
        .args = "FILE",
        .flags = flags,
        .min_args = 1,
        .max_args = 1,
        .summary = "Checks an experiment file without running anything.",
        .detail =
            "Every fault is printed as FILE:LINE:COLUMN: /place: what is wrong and how to mend "
            "it.\n"
            "Files for the built-in trainer are also checked by it: data set, layers, shapes, and\n"
            "the memory that a trial takes at most.\n"
            "Exit status: 0 the file is sound, 2 it is not."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    struct cmd_spec cs;
    status = cmd_spec_read(args.items[0], json, &cs);
    if (status == CMD_GO_ON) {
        status = cmd_spec_check_trainer(&cs, json);
    }
    if (status == CMD_GO_ON) {
        status = CMD_OK;
        if (resolved) {
            cmd_print_json(json_incref(cs.spec->resolved));
        } else {
            print_sound(&cs, json);
        }
    }
    cmd_spec_fini(&cs);
    return status;
}
