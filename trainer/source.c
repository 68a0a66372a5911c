/* SPDX-License-Identifier: Apache-2.0
 *
 * The "dataset" of a trial: "format:PATH?name=value&…" or the same as an object. Which options a
 * format takes stands in its table; what each means, here.
 */
#include "base/alloc.h"
#include "trainer/format.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* One source being read. */
struct parse {
    const char *pointer;
    struct mjson_issues *is;
    struct dataset_source *s;
};

struct option {
    const char *name;
    size_t text; /* offset of a text in the source, where there is no function */
    void (*parse)(const struct parse *p, const json_t *v);
};

/* ---- single options ---- */

/* A list of texts, or one text with commas between them. */
static void parse_list(const struct parse *p, const char *key, const json_t *v, char ***ret,
                       int *ret_n)
{
    json_t *list = json_is_array(v) ? json_incref((json_t *)(uintptr_t)v) : json_array();
    if (json_is_string(v)) {
        const char *at = json_string_value(v);
        while (*at != '\0') {
            size_t n = strcspn(at, ",");
            (void)json_array_append_new(list, json_stringn(at, n));
            at += n + (at[n] == ',');
        }
    } else if (!json_is_array(v)) {
        mjson_issue_at(p->is, p->pointer, key, "\"%s\" must be a list of texts", key);
    }
    size_t i = 0;
    json_t *item = NULL;
    char **texts = xcalloc(json_array_size(list) + 1, sizeof(char *));
    int n = 0;
    json_array_foreach(list, i, item)
    {
        if (json_is_string(item)) {
            texts[n++] = xstrdup(json_string_value(item));
        } else {
            mjson_issue_at(p->is, p->pointer, key, "\"%s\" must be a list of texts", key);
            break;
        }
    }
    *ret = texts;
    *ret_n = n;
    json_decref(list);
}

static void parse_ignore(const struct parse *p, const json_t *v)
{
    parse_list(p, "ignore", v, &p->s->ignore, &p->s->n_ignore);
}

static void parse_missing(const struct parse *p, const json_t *v)
{
    parse_list(p, "missing", v, &p->s->missing, &p->s->n_missing);
}

/* "age:number,city:category" as the object that it abbreviates; new reference. */
static json_t *columns_of(const char *text)
{
    json_t *o = json_object();
    while (*text != '\0') {
        size_t n = strcspn(text, ",");
        char *one = xstrndup(text, n);
        char *colon = strrchr(one, ':');
        if (colon != NULL) {
            *colon = '\0';
        }
        (void)json_object_set_new(o, one, json_string(colon != NULL ? colon + 1 : ""));
        free(one);
        text += n + (text[n] == ',');
    }
    return o;
}

static void parse_columns(const struct parse *p, const json_t *v)
{
    static const char *const names[] = {"number", "category", "boolean", "text", "ignore"};
    json_t *o = json_is_string(v) ? columns_of(json_string_value(v))
                                  : json_incref((json_t *)(uintptr_t)v);
    const char *name = NULL;
    json_t *item = NULL;
    if (!json_is_object(o)) {
        mjson_issue_at(p->is, p->pointer, "columns",
                       "\"columns\" must say what columns hold, as {\"city\": \"category\"}");
    }
    p->s->types = xcalloc(json_object_size(o) + 1, sizeof(*p->s->types));
    json_object_foreach(o, name, item)
    {
        const char *text = json_string_value(item);
        int k = 0;
        while (k < 5 && (text == NULL || strcmp(names[k], text) != 0)) {
            k++;
        }
        if (k == 5) {
            mjson_issue_at(p->is, p->pointer, "columns",
                           "the column \"%.60s\" is number, category, boolean, text or ignore, not "
                           "\"%.60s\"",
                           name, text != NULL ? text : mjson_kind(item));
            break;
        }
        p->s->types[p->s->n_types++] =
            (struct typed_column){.name = xstrdup(name), .type = (enum column_type)(k + 1)};
    }
    json_decref(o);
}

/* true or false, also as the text that a query gives. */
static void parse_bool(const struct parse *p, const char *key, const json_t *v, bool *to)
{
    const char *text = json_string_value(v);
    if (json_is_boolean(v)) {
        *to = json_is_true(v);
    } else if (text != NULL && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)) {
        *to = text[0] == 't';
    } else {
        mjson_issue_at(p->is, p->pointer, key, "\"%s\" must be true or false", key);
    }
}

static void parse_standardize(const struct parse *p, const json_t *v)
{
    parse_bool(p, "standardize", v, &p->s->standardize);
    p->s->standardize_given = true;
}

static void parse_zero_based(const struct parse *p, const json_t *v)
{
    parse_bool(p, "zero_based", v, &p->s->zero_based);
}

static void parse_separator(const struct parse *p, const json_t *v)
{
    const char *text = json_string_value(v);
    if (text != NULL && strcmp(text, "tab") == 0) {
        p->s->separator = '\t';
    } else if (text != NULL && text[0] != '\0' && text[1] == '\0' &&
               strchr(",;\t| ", text[0]) != NULL) {
        p->s->separator = text[0];
    } else {
        mjson_issue_at(p->is, p->pointer, "separator",
                       "\"separator\" is one of , ; | space and \"tab\"");
    }
}

static void parse_task(const struct parse *p, const json_t *v)
{
    const char *text = json_string_value(v);
    p->s->regression = text != NULL && strcmp(text, "regression") == 0;
    if (!p->s->regression && (text == NULL || strcmp(text, "classification") != 0)) {
        mjson_issue_at(p->is, p->pointer, "task",
                       "\"task\" is \"classification\" or \"regression\", not \"%.100s\"",
                       text != NULL ? text : mjson_kind(v));
    }
}

static void parse_test(const struct parse *p, const json_t *v)
{
    p->s->test = json_is_number(v) ? json_number_value(v) : -1;
    if (!(p->s->test >= 0 && p->s->test <= 0.9)) {
        mjson_issue_at(p->is, p->pointer, "test",
                       "\"test\" is the part of the rows kept for the test, 0 to 0.9");
    }
}

static void parse_limit(const struct parse *p, const json_t *v)
{
    if (!(json_is_integer(v) && json_integer_value(v) > 0)) {
        mjson_issue_at(p->is, p->pointer, "limit",
                       "\"limit\" must be a whole number of examples above 0");
    } else {
        p->s->limit = json_integer_value(v);
    }
}

static void parse_layout(const struct parse *p, const json_t *v)
{
    const char *text = json_string_value(v);
    bool last = text != NULL && strcmp(text, "nhwc") == 0;
    p->s->layout = last ? LAYOUT_NHWC : LAYOUT_NCHW;
    if (!last && (text == NULL || strcmp(text, "nchw") != 0)) {
        mjson_issue_at(p->is, p->pointer, "layout",
                       "\"layout\" is \"nchw\" (channels first) or \"nhwc\" (channels last)");
    }
}

static void parse_features(const struct parse *p, const json_t *v)
{
    p->s->features = json_is_integer(v) ? json_integer_value(v) : 0;
    if (p->s->features < 1 || p->s->features > DATASET_WIDTH_MAX) {
        mjson_issue_at(p->is, p->pointer, "features",
                       "\"features\" is how many values an example has, 1 to %d", DATASET_WIDTH_MAX);
    }
}

/* 64, "64x48" (height first) or [64, 48]. */
static void parse_size(const struct parse *p, const json_t *v)
{
    const char *text = json_string_value(v);
    long h = 0;
    long w = 0;
    if (json_is_integer(v)) {
        h = w = (long)json_integer_value(v);
    } else if (json_is_array(v) && json_array_size(v) == 2) {
        h = (long)json_integer_value(json_array_get(v, 0));
        w = (long)json_integer_value(json_array_get(v, 1));
    } else if (text != NULL) {
        char *end = NULL;
        h = strtol(text, &end, 10);
        w = *end == 'x' ? strtol(end + 1, &end, 10) : 0;
        h = *end == '\0' ? h : 0;
    }
    if (h < 1 || w < 1 || h > MODEL_SIDE_MAX || w > MODEL_SIDE_MAX) {
        mjson_issue_at(p->is, p->pointer, "size",
                       "\"size\" is what images are scaled to: 64, or 48x64 (height first), at most %d",
                       MODEL_SIDE_MAX);
    } else {
        p->s->height = (int)h;
        p->s->width = (int)w;
    }
}

static void parse_fit(const struct parse *p, const json_t *v)
{
    static const char *const names[] = {"", "stretch", "crop", "pad"};
    const char *text = json_string_value(v);
    int k = 3;
    while (k > 0 && (text == NULL || strcmp(names[k], text) != 0)) {
        k--;
    }
    p->s->fit = (enum picture_fit)k;
    if (k == 0) {
        mjson_issue_at(p->is, p->pointer, "fit",
                       "\"fit\" is \"stretch\", \"crop\" (the middle of the long side) or \"pad\" "
                       "(zeros around), not \"%.40s\"",
                       text != NULL ? text : mjson_kind(v));
    }
}

static void parse_channels(const struct parse *p, const json_t *v)
{
    p->s->channels = (int)json_integer_value(v);
    if (p->s->channels != 1 && p->s->channels != 3) {
        mjson_issue_at(p->is, p->pointer, "channels", "\"channels\" is 1 (grey) or 3 (colour)");
    }
}

#define TEXT(field) offsetof(struct dataset_source, field)
static const struct option options[] = {
    {"label", TEXT(label), NULL},
    {"input", TEXT(input), NULL},
    {"test_input", TEXT(test_input), NULL},
    {"test_label", TEXT(test_label), NULL},
    {"ignore", 0, parse_ignore},
    {"missing", 0, parse_missing},
    {"columns", 0, parse_columns},
    {"standardize", 0, parse_standardize},
    {"separator", 0, parse_separator},
    {"task", 0, parse_task},
    {"test", 0, parse_test},
    {"limit", 0, parse_limit},
    {"layout", 0, parse_layout},
    {"features", 0, parse_features},
    {"size", 0, parse_size},
    {"fit", 0, parse_fit},
    {"channels", 0, parse_channels},
    {"zero_based", 0, parse_zero_based},
};

static const struct option *find_option(const char *name)
{
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (strcmp(options[i].name, name) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

/* ---- the whole ---- */

/* A value of a query: a number where it is one and the option is no text or list of texts. */
static json_t *query_value(const char *name, const char *value)
{
    const struct option *o = find_option(name);
    char *end = NULL;
    double number = strtod(value, &end);
    bool text = o != NULL && (o->parse == NULL || o->parse == parse_ignore ||
                              o->parse == parse_missing || o->parse == parse_columns);
    if (end == value || *end != '\0' || !isfinite(number) || text) {
        return json_string(value);
    }
    return number == floor(number) && fabs(number) < 1e15 ? json_integer((json_int_t)number)
                                                          : json_real(number);
}

static json_t *no_source(const char *text, const char *pointer, struct mjson_issues *is)
{
    mjson_issue(is, pointer,
                "\"%.200s\" is no data set: write \"idx:FOLDER\" or \"csv:PATH?label=COLUMN\"", text);
    return NULL;
}

/* "csv:PATH?label=x&test=0.3" as the object that it abbreviates. NULL with an issue when it cannot
 * be read. */
static json_t *source_from_text(const char *text, const char *pointer, struct mjson_issues *is)
{
    const char *colon = strchr(text, ':');
    if (colon == NULL) {
        return no_source(text, pointer, is);
    }
    json_t *o = json_object();
    const char *query = strchr(colon, '?');
    size_t path_len = query != NULL ? (size_t)(query - colon - 1) : strlen(colon + 1);
    (void)json_object_set_new(o, "format", json_stringn(text, (size_t)(colon - text)));
    (void)json_object_set_new(o, "path", json_stringn(colon + 1, path_len));
    while (query != NULL && *query != '\0') {
        const char *key = query + 1;
        size_t n = strcspn(key, "&");
        const char *eq = memchr(key, '=', n);
        if (eq == NULL) {
            mjson_issue(is, pointer, "\"%.*s\" after ? is not of the form name=value", (int)n, key);
            json_decref(o);
            return NULL;
        }
        char *name = xstrndup(key, (size_t)(eq - key));
        char *value = xstrndup(eq + 1, n - (size_t)(eq + 1 - key));
        (void)json_object_set_new(o, name, query_value(name, value));
        free(name);
        free(value);
        query = key + n;
    }
    return o;
}

static char *text_field(const struct parse *p, const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (v != NULL && (!json_is_string(v) || json_string_length(v) == 0)) {
        mjson_issue_at(p->is, p->pointer, key, "\"%s\" must be a text, not %s", key, mjson_kind(v));
    }
    return json_string_length(v) > 0 ? xstrdup(json_string_value(v)) : NULL;
}

static void parse_options(const struct parse *p, const json_t *o)
{
    const char *known[32] = {"format", "path", "limit"};
    const char *const *taken = p->s->format->options;
    for (int i = 0; taken[i] != NULL && i + 3 < 31; i++) {
        known[i + 3] = taken[i];
    }
    mjson_check_keys(o, known, p->pointer, p->is);
    for (int i = 2; known[i] != NULL; i++) {
        const struct option *option = find_option(known[i]);
        const json_t *v = json_object_get(o, known[i]);
        MAG_ASSERT(option != NULL, "%s", known[i]);
        if (v != NULL && option->parse != NULL) {
            option->parse(p, v);
        } else if (v != NULL) {
            *(char **)((char *)p->s + option->text) = text_field(p, o, known[i]);
        }
    }
}

static void parse_object(const struct parse *p, const json_t *o, bool needs_label)
{
    struct dataset_source *s = p->s;
    const char *name = json_string_value(json_object_get(o, "format"));
    s->format = name != NULL ? dataset_format_named(name, strlen(name)) : NULL;
    if (s->format == NULL) {
        char *names = dataset_format_names();
        mjson_issue(p->is, p->pointer, "unknown data set format \"%.100s\": %s are known",
                    name != NULL ? name : "", names);
        free(names);
        return;
    }
    s->standardize = s->format->standardized;
    s->path = text_field(p, o, "path");
    if (s->path == NULL && json_object_get(o, "path") == NULL) {
        mjson_issue(p->is, p->pointer, "the data set needs a \"path\"");
    } else if (s->path != NULL && strlen(s->path) >= DATASET_PATH_MAX - 64) {
        mjson_issue(p->is, p->pointer, "the path is too long");
    }
    parse_options(p, o);
    if (s->format->labelled && needs_label && json_object_get(o, "label") == NULL) {
        mjson_issue(p->is, p->pointer, "a%s %s data set needs a label: %s",
                    strchr("aeiou", s->format->name[0]) != NULL ? "n" : "", s->format->name,
                    s->format->example);
    }
}

static bool parse_source(const json_t *value, const char *pointer, bool needs_label,
                         struct mjson_issues *is, struct dataset_source *ret)
{
    int before = is->total;
    json_t *o = NULL;
    *ret = (struct dataset_source){.test = 0.2, .separator = needs_label ? ',' : '\0'};
    if (json_is_string(value)) {
        o = source_from_text(json_string_value(value), pointer, is);
    } else if (json_is_object(value)) {
        o = json_incref((json_t *)(uintptr_t)value);
    } else {
        mjson_issue(
            is, pointer,
            "the data set must be \"idx:FOLDER\", \"csv:PATH?label=COLUMN\" or an object, not %s",
            mjson_kind(value));
    }
    if (o != NULL) {
        const struct parse p = {.pointer = pointer, .is = is, .s = ret};
        parse_object(&p, o, needs_label);
        json_decref(o);
    }
    if (is->total > before) {
        dataset_source_fini(ret);
        return false;
    }
    return true;
}

bool dataset_source_parse(const json_t *value, const char *pointer, struct mjson_issues *is,
                          struct dataset_source *ret)
{
    return parse_source(value, pointer, true, is, ret);
}

bool dataset_examples_parse(const char *text, const char *pointer, struct mjson_issues *is,
                            struct dataset_source *ret)
{
    json_t *value = json_string(text);
    bool good = parse_source(value, pointer, false, is, ret);
    json_decref(value);
    return good;
}

char *dataset_source_key(const struct dataset_source *s)
{
    const char *texts[] = {s->format != NULL ? s->format->name : "",
                           s->path,
                           s->label,
                           s->input,
                           s->test_input,
                           s->test_label,
                           s->fold_column};
    struct buf b = {0};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        buf_add_json_string(&b, texts[i] != NULL ? texts[i] : "");
    }
    for (int i = 0; i < s->n_ignore; i++) {
        buf_add_json_string(&b, s->ignore[i]);
    }
    for (int i = 0; i < s->n_missing; i++) {
        buf_add_json_string(&b, s->missing[i]);
    }
    for (int i = 0; i < s->n_types; i++) {
        buf_add_json_string(&b, s->types[i].name);
        buf_addf(&b, "%d", s->types[i].type);
    }
    buf_addf(&b, "%d|%d|%d|%lld|%d|%d|%d|%d|%d", s->regression, s->separator, s->layout,
             (long long)s->features, s->zero_based, s->height, s->width, s->fit, s->channels);
    return buf_take(&b);
}

char *dataset_stages_key(const struct dataset_source *s)
{
    return s->stages != NULL ? mjson_dump(s->stages)
                             : xstrdup(s->standardize ? "standardize" : "");
}

void dataset_source_fini(struct dataset_source *s)
{
    free(s->path);
    free(s->label);
    free(s->input);
    free(s->test_input);
    free(s->test_label);
    free(s->fold_column);
    for (int i = 0; i < s->n_ignore; i++) {
        free(s->ignore[i]);
    }
    free(s->ignore);
    for (int i = 0; i < s->n_missing; i++) {
        free(s->missing[i]);
    }
    free(s->missing);
    for (int i = 0; i < s->n_types; i++) {
        free(s->types[i].name);
    }
    free(s->types);
    json_decref(s->stages);
    *s = (struct dataset_source){0};
}
