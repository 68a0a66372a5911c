/* SPDX-License-Identifier: Apache-2.0 */
#include "base/program.h"
#include "cli/cmd.h"
#include "cli/commands.h"
#include "driver/store.h"

#include <curl/curl.h>
#include <event2/event.h>
#include <nng/nng.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *libraries(void)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "jansson", jansson_version_str(), "libevent",
                     event_get_version(), "nng", nng_version(), "sqlite", sqlite3_libversion(),
                     "curl", curl_version_info(CURLVERSION_NOW)->version);
}

static json_t *algorithms(void)
{
    json_t *a = json_array();
    for (const struct optimizer_ops *const *o = optimizer_registry(); *o != NULL; o++) {
        (void)json_array_append_new(a, json_pack("{s:s, s:s, s:i}", "name", (*o)->name, "summary",
                                                 (*o)->summary, "version", (*o)->version));
    }
    return a;
}

/* "a b c" as an array. */
static json_t *words(const char *text)
{
    json_t *a = json_array();
    while (*text != '\0') {
        size_t n = strcspn(text, " ");
        (void)json_array_append_new(a, json_stringn(text, n));
        text += n + (text[n] == ' ');
    }
    return a;
}

static void print_text(const json_t *v)
{
    const char *key = NULL;
    json_t *value = NULL;
    size_t i = 0;
    (void)printf("magpie %s\n\nlibraries:", json_string_value(json_object_get(v, "version")));
    json_object_foreach(json_object_get(v, "libraries"), key, value)
    {
        (void)printf(" %s %s", key, json_string_value(value));
    }
    const char *trainer = json_string_value(json_object_get(v, "trainer"));
    (void)printf("\nwith: %s\nnot in this build: %s\nbuilt-in trainer: %s\n\nalgorithms:\n", MAG_WITH,
                 MAG_WITHOUT, trainer != NULL ? trainer : "not found");
    json_array_foreach(json_object_get(v, "algorithms"), i, value)
    {
        (void)printf("  %-14s %s\n", json_string_value(json_object_get(value, "name")),
                     json_string_value(json_object_get(value, "summary")));
    }
}

int cmd_version(int argc, char **argv)
{
    bool json = false;
    const struct flag flags[] = {FLAG(FLAG_BOOL, "json", &json, NULL, "as JSON"), {0}};
    const struct flags_usage u = {
        .program = "magpie version",
        .args = "",
        .flags = flags,
        .summary = "The version, the libraries and the algorithms of this build."};
    struct flags_args args;
    int status = cmd_begin(&u, argc, argv, &args);
    if (status != CMD_GO_ON) {
        return status;
    }
    char *trainer = program_find("magpie-trainer");
    json_t *v = json_pack("{s:s, s:i, s:o, s:o, s:o, s:s*, s:o}", "version", MAG_VERSION, "store_schema",
                          STORE_SCHEMA_VERSION, "with", words(MAG_WITH), "without", words(MAG_WITHOUT),
                          "libraries", libraries(), "trainer", trainer, "algorithms", algorithms());
    free(trainer);
    if (json) {
        cmd_print_json(v);
    } else {
        print_text(v);
        json_decref(v);
    }
    return CMD_OK;
}
