/* SPDX-License-Identifier: Apache-2.0
 *
 * The docs and the published schema say what the option tables say. tools/gen-optimizer-docs writes
 * the tables; the words around them are written by hand.
 */
#include "optimizers/early_stop.h"
#include "optimizers/options.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

TestSuite(docs, .timeout = 100);

static char *doc_of(const char *name)
{
    char *path = xasprintf(DOCS_DIR "/%s", name);
    char *text = NULL;
    size_t len = 0;
    struct mag_err err = {0};
    cr_assert_eq(mjson_read_file(path, 1 << 20, &text, &len, &err), MAG_OK, "%s", err.text);
    free(path);
    return text;
}

/* The text under a heading up to the next one, malloc'ed, "" when there is none. */
static char *section_of(const char *text, const char *heading)
{
    char *line = xasprintf("\n## %s\n", heading);
    const char *from = strstr(text, line);
    char *section = NULL;
    if (from == NULL) {
        section = xstrdup("");
    } else {
        from += strlen(line);
        const char *end = strstr(from, "\n## ");
        section = xstrndup(from, end != NULL ? (size_t)(end - from) : strlen(from));
    }
    free(line);
    return section;
}

static void option_row(const struct opt_option *o, char *out, size_t size)
{
    static const char *const types[] = {"integer", "number", "true or false", "one of"};
    char range[256] = "";
    char def[64];
    (void)snprintf(def, sizeof(def), isnan(o->def) ? "depends" : "`%.15g`", o->def);
    if (o->type == OPT_T_ENUM) {
        for (int k = 0; o->names[k] != NULL; k++) {
            size_t n = strlen(range);
            (void)snprintf(range + n, sizeof(range) - n, "%s`\"%s\"`", k > 0 ? ", " : "",
                           o->names[k]);
        }
        (void)snprintf(def, sizeof(def), "`\"%s\"`", o->names[(int)o->def]);
    } else if (o->type == OPT_T_BOOL) {
        (void)snprintf(def, sizeof(def), "`%s`", o->def != 0 ? "true" : "false");
    } else {
        (void)snprintf(range, sizeof(range), "%.15g to %.15g", o->lo, o->hi);
    }
    (void)snprintf(out, size, "| `%s` | %s | %s | %s | %s |", o->name, types[o->type], range, def,
                   o->help);
}

/* Counts the table rows of a section, and checks that each option has exactly its row. */
static void check_table(const char *section, const char *where, const struct opt_option *options)
{
    int table = 0;
    for (const char *p = strstr(section, "\n| `"); p != NULL; p = strstr(p + 1, "\n| `")) {
        table++;
    }
    cr_expect_eq(table, options_count(options), "%s: %d rows in the docs, %d options", where, table,
                 options_count(options));
    cr_expect(table > 0 || strstr(section, "None.") != NULL, "%s", where);
    for (int k = 0; k < options_count(options); k++) {
        char row[1024];
        option_row(&options[k], row, sizeof(row));
        cr_expect_not_null(strstr(section, row), "%s lacks the row\n%s", where, row);
    }
}

static const json_t *schema_part(const json_t *schema, const char *key, const char *name_key,
                                 const char *name)
{
    const json_t *all =
        json_object_get(json_object_get(json_object_get(schema, "properties"), key), "oneOf");
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *p = json_object_get(json_array_get(all, i), "properties");
        const char *is = json_string_value(json_object_get(json_object_get(p, name_key), "const"));
        if (is != NULL && strcmp(is, name) == 0) {
            return p;
        }
    }
    return NULL;
}

static void check_schema(const json_t *part, const char *name, const struct opt_option *options)
{
    cr_expect_not_null(part, "experiment.schema.json lacks %s", name);
    cr_expect_eq(json_object_size(part), (size_t)options_count(options) + 1,
                 "%s: options of the schema", name);
    for (int k = 0; k < options_count(options); k++) {
        const struct opt_option *o = &options[k];
        const json_t *p = json_object_get(part, o->name);
        const json_t *def = json_object_get(p, "default");
        cr_expect_not_null(p, "experiment.schema.json lacks %s.%s", name, o->name);
        if (o->type == OPT_T_INT || o->type == OPT_T_REAL) {
            cr_expect_str_eq(json_string_value(json_object_get(p, "type")),
                             o->type == OPT_T_INT ? "integer" : "number");
            cr_expect_eq(json_number_value(json_object_get(p, "minimum")), o->lo, "%s.%s", name,
                         o->name);
            cr_expect_eq(json_number_value(json_object_get(p, "maximum")), o->hi, "%s.%s", name,
                         o->name);
            cr_expect(isnan(o->def) ? def == NULL : json_number_value(def) == o->def, "%s.%s", name,
                      o->name);
        } else if (o->type == OPT_T_ENUM) {
            size_t n = json_array_size(json_object_get(p, "enum"));
            for (size_t i = 0; i < n; i++) {
                cr_assert_str_eq(json_string_value(json_array_get(json_object_get(p, "enum"), i)),
                                 o->names[i]);
            }
            cr_expect_null(o->names[n]);
            cr_expect_str_eq(json_string_value(def), o->names[(int)o->def]);
        } else {
            cr_expect_eq(json_is_true(def), o->def != 0);
        }
    }
}

Test(docs, the_json_schema_has_the_algorithms_and_options_of_the_tables)
{
    char *text = doc_of("experiment.schema.json");
    json_t *schema = NULL;
    struct mag_err err = {0};
    cr_assert_eq(mjson_parse(text, strlen(text), &schema, &err), MAG_OK, "%s", err.text);
    size_t n = 0;
    for (; optimizer_registry()[n] != NULL; n++) {
        const char *name = optimizer_registry()[n]->name;
        check_schema(schema_part(schema, "optimizer", "algorithm", name), name,
                     optimizer_registry()[n]->options);
    }
    cr_expect_eq(json_array_size(json_object_get(
                     json_object_get(json_object_get(schema, "properties"), "optimizer"), "oneOf")),
                 n + 1); /* and "auto" */
    for (int i = 0; early_stop_rules()[i] != NULL; i++) {
        const char *name = early_rule_name(early_stop_rules()[i]);
        check_schema(schema_part(schema, "early_stopping", "rule", name), name,
                     early_rule_options(early_stop_rules()[i]));
    }
    json_decref(schema);
    free(text);
}

/* A page a algorithm: its name, a sentence, and these sections. */
static void check_page(const struct optimizer_ops *ops)
{
    static const char *const sections[] = {"When to choose it", "How it works", "Options",
                                           "Example"};
    char *name = xasprintf("optimizers/%s.md", ops->name);
    char *title = xasprintf("# %s\n\n", ops->name);
    char *text = doc_of(name);
    cr_expect(strncmp(text, title, strlen(title)) == 0, "%s does not begin with %s", name, title);
    cr_expect_gt(strcspn(text + strlen(title), "\n"), 20, "%s lacks its sentence", name);
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        char *section = section_of(text, sections[i]);
        cr_expect_gt(strlen(section), 5, "%s lacks \"%s\"", name, sections[i]);
        if (strcmp(sections[i], "Options") == 0) {
            check_table(section, name, ops->options);
        }
        free(section);
    }
    if (ops->paper != NULL) {
        char *section = section_of(text, "Paper");
        cr_expect_not_null(strstr(section, ops->paper), "%s: its paper", name);
        free(section);
    }
    free(text);
    free(title);
    free(name);
}

Test(docs, every_algorithm_has_its_page_with_the_options_of_its_table)
{
    for (int i = 0; optimizer_registry()[i] != NULL; i++) {
        check_page(optimizer_registry()[i]);
    }
}

Test(docs, the_index_lists_the_algorithms_and_nothing_else)
{
    char *index = doc_of("OPTIMIZERS.md");
    int n = 0;
    for (; optimizer_registry()[n] != NULL; n++) {
        const struct optimizer_ops *ops = optimizer_registry()[n];
        char *row =
            xasprintf("\n| [%s](optimizers/%s.md) | %s |\n", ops->name, ops->name, ops->summary);
        cr_expect_not_null(strstr(index, row), "docs/OPTIMIZERS.md lacks the row%s", row);
        free(row);
    }
    for (const char *p = strstr(index, "\n| ["); p != NULL; p = strstr(p + 1, "\n| [")) {
        n--;
    }
    cr_expect_eq(n, 0);
    free(index);
}

Test(docs, every_rule_has_its_section_with_the_options_of_its_table)
{
    char *text = doc_of("optimizers/early_stopping.md");
    for (int i = 0; early_stop_rules()[i] != NULL; i++) {
        const struct early_rule *r = early_stop_rules()[i];
        char *section = section_of(text, early_rule_name(r));
        check_table(section, early_rule_name(r), early_rule_options(r));
        cr_expect(early_rule_paper(r) == NULL || strstr(section, early_rule_paper(r)) != NULL,
                  "%s: its paper", early_rule_name(r));
        free(section);
    }
    free(text);
}
