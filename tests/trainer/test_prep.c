/* SPDX-License-Identifier: Apache-2.0
 *
 * Typed columns and preprocessing: what each stage makes of small tables, fitted on the training
 * part alone, and the one clear message for each mistake.
 */
#include "support.h"

#include "base/alloc.h"
#include "trainer/format.h"
#include "trainer/murmur3.h"
#include "trainer/prep.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct table {
    struct dataset_source s;
    struct dataset *d;
    char *dir;
};

static enum mag_status parse_stages(struct table *t, const char *stages, struct mag_err *err)
{
    struct mjson_issues *is = xcalloc(1, sizeof(*is));
    const struct recipe_context ctx = {0};
    struct reader r = {.ctx = &ctx, .issues = is};
    json_t *list = stages != NULL ? json_loads(stages, 0, NULL) : NULL;
    cr_assert(stages == NULL || list != NULL, "%s", stages);
    json_decref(t->s.stages);
    t->s.stages = NULL;
    prep_parse_into(&r, list, "/preprocessing", &t->s);
    enum mag_status st = is->n > 0 ? mag_fail(err, MAG_INVALID, "%s: %s", is->items[0].pointer,
                                              is->items[0].text)
                                   : MAG_OK;
    json_decref(list);
    mjson_issues_fini(is);
    free(is);
    return st;
}

/* Opens the text as a CSV file with this query, and splits it so that the first rows are not
 * special: no test part, no validation. */
static enum mag_status open_table(struct table *t, const char *text, const char *query,
                                  const char *stages, struct mag_err *err)
{
    *t = (struct table){.dir = temp_folder()};
    char *source = xasprintf("csv:%s/t.csv?test=0&%s", t->dir, query);
    char *path = xasprintf("%s/t.csv", t->dir);
    struct mjson_issues *is = xcalloc(1, sizeof(*is));
    json_t *v = json_string(source);
    write_file(path, text, strlen(text));
    cr_assert(dataset_source_parse(v, "", is, &t->s), "%s: %s", query,
              is->n > 0 ? is->items[0].text : "");
    enum mag_status st = parse_stages(t, stages, err);
    if (st == MAG_OK) {
        st = dataset_open(&t->s, &t->d, err);
    }
    if (st == MAG_OK) {
        st = dataset_split(t->d, &t->s, 1, 0, err);
    }
    mjson_issues_fini(is);
    free(is);
    json_decref(v);
    free(path);
    free(source);
    return st;
}

static void close_table(struct table *t)
{
    dataset_destroy(t->d);
    dataset_source_fini(&t->s);
    remove_tree(t->dir);
    free(t->dir);
    *t = (struct table){0};
}

/* The examples as text: "1 0 2.5;0 1 3". */
static char *rows_of(const struct dataset *d)
{
    struct buf b = {0};
    size_t width = (size_t)shape_size(&d->shape);
    float *row = xcalloc(width, sizeof(float));
    for (uint32_t i = 0; i < d->n_rows; i++) {
        dataset_gather(d, &i, 1, row);
        for (size_t k = 0; k < width; k++) {
            buf_addf(&b, "%s%.4g", k > 0 ? " " : i > 0 ? ";" : "", (double)row[k]);
        }
    }
    free(row);
    return buf_take(&b);
}

static void expect_rows(const char *text, const char *query, const char *stages, const char *want)
{
    struct table t;
    struct mag_err err = {0};
    cr_assert_eq(open_table(&t, text, query, stages, &err), MAG_OK, "%s: %s",
                 stages != NULL ? stages : query, err.text);
    char *have = rows_of(t.d);
    cr_expect_str_eq(have, want, "%s\nhave %s\nwant %s", stages != NULL ? stages : query, have, want);
    free(have);
    close_table(&t);
}

#define PEOPLE \
    "age,city,ok,y\n20,Oslo,yes,a\n30,Bergen,no,b\n,Oslo,yes,a\n70,NA,no,b\n"

Test(prep, types_are_found_and_columns_become_numbers_without_stages)
{
    expect_rows("a,b,ok,y\n1,x,true,0\n3,y,false,1\n1,x,true,0\n3,y,false,1\n",
                "label=y&standardize=false", NULL, "1 1 0 1;3 0 1 0;1 1 0 1;3 0 1 0");
    expect_rows("a,b,y\n1,x,0\n3,y,1\n", "label=y", NULL, "-1 1 0;1 0 1");
    expect_rows("zip,y\n10,0\n9,1\n", "label=y&columns=zip:category", NULL, "0 1;1 0");
}

Test(prep, each_stage_makes_what_it_says)
{
    static const struct {
        const char *stages, *want;
    } table[] = {
        {"[{\"type\": \"impute\"}, {\"type\": \"onehot\"}]", "20 0 1 1;30 1 0 0;40 0 1 1;70 0 0 0"},
        {"[{\"type\": \"impute\", \"strategy\": \"median\"}, {\"type\": \"ordinal\"}]",
         "20 2 1;30 1 0;30 2 1;70 0 0"},
        {"[{\"type\": \"impute\", \"strategy\": \"constant\", \"value\": -1, \"columns\": [\"age\"], "
         "\"indicator\": true}, {\"type\": \"onehot\", \"unknown\": \"column\"}]",
         "20 0 1 0 1 0;30 1 0 0 0 0;-1 0 1 0 1 1;70 0 0 1 0 0"},
        {"[{\"type\": \"impute\"}, {\"type\": \"impute\", \"strategy\": \"most_frequent\"}, "
         "{\"type\": \"onehot\"}, {\"type\": \"minmax\", \"columns\": [\"age\"], \"min\": -1}]",
         "-1 0 1 1;-0.6 1 0 0;-0.2 0 1 1;1 0 1 0"},
        {"[{\"type\": \"impute\"}, {\"type\": \"impute\", \"strategy\": \"constant\", \"value\": "
         "\"none\"}, {\"type\": \"onehot\", \"min_count\": 2}]",
         "20 1 1;30 0 0;40 1 1;70 0 0"},
        {"[{\"type\": \"impute\"}, {\"type\": \"onehot\", \"max_levels\": 1}]",
         "20 1 1;30 0 0;40 1 1;70 0 0"},
        {"[{\"type\": \"impute\"}, {\"type\": \"standardize\", \"columns\": [\"age\"], \"deviation\": "
         "false}, {\"type\": \"onehot\"}]",
         "-20 0 1 1;-10 1 0 0;0 0 1 1;30 0 0 0"},
        {"[{\"type\": \"impute\"}, {\"type\": \"ordinal\"}, {\"type\": \"normalize\", \"norm\": 1, "
         "\"columns\": [\"age\"]}]",
         "1 2 1;1 1 0;1 2 1;1 0 0"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        expect_rows(PEOPLE, "label=y", table[i].stages, table[i].want);
    }
}

Test(prep, stages_are_fitted_on_the_training_part_alone)
{
    struct table t;
    struct mag_err err = {0};
    struct buf b = {0};
    buf_adds(&b, "x,c,part,y\n");
    for (int i = 0; i < 12; i++) { /* each fold has a category and a range of its own */
        buf_addf(&b, "%d,c%d,%d,%d\n", i % 3 * 100 + i / 3, i % 3, i % 3, i % 2);
    }
    cr_assert_eq(open_table(&t, b.data, "label=y&ignore=part", "[{\"type\": \"minmax\"}, {\"type\": \"onehot\"}]", &err),
                 MAG_OK, "%s", err.text);
    struct dataset_part p = {.folds = 3, .seed = 5};
    for (p.fold = 1; p.fold <= 3; p.fold++) {
        cr_assert_eq(dataset_split_part(t.d, &t.s, 1, &p, &err), MAG_OK, "%s", err.text);
        float lo = INFINITY;
        float hi = -INFINITY;
        size_t width = (size_t)shape_size(&t.d->shape);
        float row[8];
        for (uint32_t i = 0; i < t.d->n_train; i++) {
            dataset_gather(t.d, &t.d->train[i], 1, row);
            lo = fminf(lo, row[0]);
            hi = fmaxf(hi, row[0]);
            float sum = 0;
            for (size_t k = 1; k < width; k++) {
                sum += row[k];
            }
            cr_expect_float_eq(sum, 1, 0, "a training row's category is known");
        }
        cr_expect(lo == 0 && hi == 1, "the training rows span the range: %g to %g", (double)lo,
                  (double)hi);
    }
    dataset_source_fini(&t.s);
    dataset_destroy(t.d);
    remove_tree(t.dir);
    free(t.dir);
    buf_fini(&b);
}

Test(prep, a_category_that_the_training_part_lacks_is_unknown)
{
    struct table t;
    struct mag_err err = {0};
    const char *stages = "[{\"type\": \"onehot\", \"unknown\": \"column\"}]";
    cr_assert_eq(open_table(&t, "c,f,y\nu,0,0\nu,0,1\nv,0,0\nw,1,1\n", "label=y", NULL, &err), MAG_OK);
    close_table(&t);
    cr_assert_eq(open_table(&t, "c,y\nu,0\nu,1\nv,0\nw,1\n", "label=y", stages, &err), MAG_OK, "%s",
                 err.text);
    bool seen = false;
    for (uint64_t seed = 1; seed < 9; seed++) { /* some split leaves a category to the validation part */
        float row[4];
        cr_assert_eq(dataset_split(t.d, &t.s, seed, 0.25, &err), MAG_OK, "%s", err.text);
        dataset_gather(t.d, t.d->val, 1, row);
        size_t width = (size_t)shape_size(&t.d->shape);
        seen = seen || (width == 3 && row[2] == 1);
        cr_expect(width == 3 || width == 4);
    }
    cr_expect(seen);
    close_table(&t);
}

Test(prep, other_stages_are_fitted_anew_and_the_same_ones_are_not)
{
    struct table t;
    struct mag_err err = {0};
    cr_assert_eq(open_table(&t, "x,y\n1,0\n3,1\n", "label=y", NULL, &err), MAG_OK, "%s", err.text);
    const float *first = t.d->values;
    cr_assert_eq(dataset_split(t.d, &t.s, 1, 0, &err), MAG_OK);
    cr_expect_eq(t.d->values, first, "nothing changed, so nothing is done");
    cr_assert_eq(parse_stages(&t, "[{\"type\": \"minmax\"}]", &err), MAG_OK);
    cr_assert_eq(dataset_split(t.d, &t.s, 1, 0, &err), MAG_OK);
    cr_expect(t.d->values[0] == 0 && t.d->values[1] == 1);
    cr_assert_eq(parse_stages(&t, "[]", &err), MAG_OK);
    cr_assert_eq(dataset_split(t.d, &t.s, 1, 0, &err), MAG_OK);
    cr_expect(t.d->values[0] == 1 && t.d->values[1] == 3, "no stages: as they stand in the file");
    close_table(&t);
}

Test(prep, images_take_stages_and_give_them_back)
{
    struct shape shape = {.c = 2, .h = 1, .w = 2};
    struct dataset *d = xcalloc(1, sizeof(*d));
    const uint8_t bytes[] = {0, 10, 100, 200, 20, 30, 100, 100};
    struct table t = {.s = {.path = (char *)(uintptr_t) "toy"}};
    struct mag_err err = {0};
    *d = (struct dataset){.shape = shape, .n_classes = 2, .n_rows = 2, .scale = 0.1f};
    d->bytes = xmalloc(sizeof(bytes));
    memcpy(d->bytes, bytes, sizeof(bytes));
    d->labels = xcalloc(2, sizeof(*d->labels));
    cr_assert_eq(parse_stages(&t, "[{\"type\": \"minmax\", \"per\": \"channel\"}]", &err), MAG_OK);
    cr_assert_eq(dataset_split(d, &t.s, 1, 0, &err), MAG_OK, "%s", err.text);
    char *rows = rows_of(d);
    cr_expect_str_eq(rows, "0 0.3333 0 1;0.6667 1 0 0");
    cr_expect(d->bytes == NULL && !d->shape.flat && d->shape.c == 2, "still an image");
    free(rows);
    json_decref(t.s.stages);
    t.s.stages = NULL;
    cr_assert_eq(dataset_split(d, &t.s, 1, 0, &err), MAG_OK, "%s", err.text);
    cr_expect(d->values == NULL && d->bytes != NULL && d->bytes[7] == 100);
    dataset_destroy(d);
}

Test(prep, each_mistake_in_stages_has_one_clear_message)
{
    static const struct {
        const char *stages, *says;
    } table[] = {
        {"{}", "must be a list of stages"},
        {"[7]", "/preprocessing/0: a stage must be an object"},
        {"[{\"type\": \"pca\"}]", "\"type\" must be \"impute\", "},
        {"[{\"type\": \"onehot\", \"colums\": []}]", "did you mean \"columns\""},
        {"[{\"type\": \"onehot\", \"columns\": []}]", "must list names of columns"},
        {"[{\"type\": \"onehot\", \"columns\": [\"town\"]}]", "names no column \"town\""},
        {"[{\"type\": \"onehot\", \"columns\": [\"cty\"]}]", "did you mean \"city\""},
        {"[{\"type\": \"onehot\", \"columns\": [\"age\"]}]", "cannot take the column \"age\": it holds number"},
        {"[{\"type\": \"standardize\"}]", "\"city\" still holds category: it needs onehot, ordinal or hash"},
        {"[{\"type\": \"onehot\"}]", "\"age\" lacks 1 value, first in example 3"},
        {"[{\"type\": \"onehot\", \"unknown\": \"error\"}]", "example 4: the column \"city\" holds \"\""},
        {"[{\"type\": \"idf\"}]", "\"idf\" has no column to work on"},
        {"[{\"type\": \"hashing_tf\", \"features\": 0}]", "must lie between 1 and 1048576"},
        {"[{\"type\": \"hash\", \"features\": 1048577}]", "must lie between 1 and 1048576"},
        {"[{\"type\": \"hash\", \"features\": 1048576}, {\"type\": \"impute\"}]", "at most 1048576 are possible"},
        {"[{\"type\": \"minmax\", \"min\": 2}]", "\"max\" must be above \"min\""},
        {"[{\"type\": \"tokenize\", \"pattern\": \"(\"}]", "/preprocessing/0/pattern: \"pattern\" "},
        {"[{\"type\": \"impute\", \"strategy\": \"constant\"}]", "needs the \"value\""},
        {"[{\"type\": \"impute\", \"value\": 3}]", "goes with \"strategy\": \"constant\""},
        {"[{\"type\": \"impute\", \"columns\": [\"city\"]}]", "\"city\" holds categories"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct table t;
        struct mag_err err = {0};
        cr_expect_neq(open_table(&t, PEOPLE, "label=y", table[i].stages, &err), MAG_OK, "%s",
                      table[i].stages);
        cr_expect_not_null(strstr(err.text, table[i].says), "%s: %s", table[i].stages, err.text);
        close_table(&t);
    }
}

/* ---- texts ---- */

/* From Spark 3.5.7: HashingTF.indexOf with 2^18, 1000 and 10 features. */
Test(prep, words_go_to_the_places_that_spark_gives_them)
{
    static const struct {
        const char *word;
        uint32_t places[3];
    } table[] = {{"a", {107107, 467, 7}},
                 {"b", {148981, 165, 5}},
                 {"c", {74920, 768, 8}},
                 {"spark", {173558, 286, 6}},
                 {"hadoop", {198017, 585, 5}},
                 {"Logistic", {142455, 55, 5}},
                 {"regression", {46243, 59, 9}},
                 {"", {249180, 372, 2}},
                 {"xxxxxxx", {251554, 538, 8}},
                 {"na\xc3\xafve", {149954, 586, 6}},
                 {"\xc3\x85SE", {178610, 498, 8}},
                 {"\xc3\xa5se", {109287, 575, 5}},
                 {"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", {188088, 400, 0}},
                 {"hi\xf0\x9f\x98\x80", {13895, 735, 5}},
                 {"the quick brown fox", {57730, 522, 2}}};
    static const uint32_t features[3] = {1 << 18, 1000, 10};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        for (int k = 0; k < 3; k++) {
            cr_expect_eq(murmur3_place(table[i].word, strlen(table[i].word), features[k]),
                         table[i].places[k], "%s among %u", table[i].word, features[k]);
        }
    }
    cr_expect_eq(murmur3("", 0, 0), 0u);
    cr_expect_eq(murmur3("test", 4, 0), 0xba6bd213u);
    cr_expect_eq(murmur3("Hello, world!", 13, 0x9747b28cu), 0x24884cbau);
}

#define TF ", {\"type\": \"hashing_tf\", \"features\": 10"

Test(prep, texts_become_counts_and_weights)
{
    /* places: a 7, b 5, c 8, "a," 0; weights with 3 texts: a in 2 of them, b in 2, c in 1 */
    const char *text = "t,y\nA b a,0\nb,1\n\"a, c\",0\n";
    expect_rows(text, "label=y&columns=t:text", "[{\"type\": \"tokenize\"}" TF "}]",
                "0 0 0 0 0 1 0 2 0 0;0 0 0 0 0 1 0 0 0 0;1 0 0 0 0 0 0 0 1 0");
    expect_rows(text, "label=y&columns=t:text",
                "[{\"type\": \"tokenize\", \"pattern\": \"[, ]+\"}" TF ", \"binary\": true}]",
                "0 0 0 0 0 1 0 1 0 0;0 0 0 0 0 1 0 0 0 0;0 0 0 0 0 0 0 1 1 0");
    expect_rows(text, "label=y&columns=t:text",
                "[{\"type\": \"tokenize\", \"pattern\": \"[a-z]+\", \"gaps\": false}" TF
                "}, {\"type\": \"idf\", \"min_docs\": 2}]",
                "0 0 0 0 0 0.2877 0 0.5754 0 0;0 0 0 0 0 0.2877 0 0 0 0;0 0 0 0 0 0 0 0.2877 0 0");
    expect_rows(text, "label=y&columns=t:text",
                "[{\"type\": \"tokenize\", \"lowercase\": false, \"min_length\": 2}" TF "}]",
                "0 0 0 0 0 0 0 0 0 0;0 0 0 0 0 0 0 0 0 0;1 0 0 0 0 0 0 0 0 0");
}

Test(prep, texts_without_words_are_rows_of_zeros)
{
    expect_rows("t,y\n,0\n  ,1\n", "label=y&columns=t:text", "[{\"type\": \"tokenize\"}" TF "}]",
                "0 0 0 0 0 0 0 0 0 0;0 0 0 0 0 0 0 0 0 0");
}

Test(prep, letters_beyond_ascii_are_lowered)
{
    struct table t;
    struct mag_err err = {0};
    cr_assert_eq(open_table(&t, "t,y\n\xc3\x85SE,0\n\xc3\xa5se,1\n\xff\xc3,0\n", "label=y&columns=t:text",
                            "[{\"type\": \"tokenize\"}, {\"type\": \"hashing_tf\", \"features\": 1000}]", &err),
                 MAG_OK, "%s", err.text);
    float row[1000];
    for (uint32_t i = 0; i < 2; i++) {
        dataset_gather(t.d, &i, 1, row);
        cr_expect(row[575] == 1, "row %u", i);
    }
    close_table(&t);
}

Test(prep, a_column_of_texts_needs_no_stages)
{
    struct table t;
    struct mag_err err = {0};
    cr_assert_eq(open_table(&t, "t,y\na b,0\nb c,1\n", "label=y&columns=t:text", NULL, &err), MAG_OK,
                 "%s", err.text);
    cr_expect_eq(t.d->shape.c, 4096);
    cr_expect_not_null(t.d->sparse);
    cr_expect_eq(json_array_size(t.d->fitted), 3);
    close_table(&t);
}

Test(prep, a_damaged_model_is_refused)
{
    static const char *const fitted[] = {
        "[{\"type\": \"pca\", \"state\": {}}]",
        "[{\"type\": \"impute\", \"state\": {\"age\": {\"value\": []}}}]",
        "[{\"type\": \"impute\", \"state\": {\"city\": {}}}]",
        "[{\"type\": \"onehot\", \"state\": {\"city\": {\"levels\": [1]}}}]",
        "[{\"type\": \"onehot\", \"state\": {\"city\": {\"levels\": [\"u\", \"u\"]}}}]",
        "[{\"type\": \"onehot\", \"state\": {\"town\": {\"levels\": [\"u\"]}}}]",
        "[{\"type\": \"hash\", \"features\": -1, \"state\": {\"city\": {}}}]",
        "[{\"type\": \"standardize\", \"per\": \"value\", \"state\": {\"age\": {\"shift\": [1]}}}]",
        "[]",
    };
    struct table t;
    struct mag_err err = {0};
    cr_assert_eq(open_table(&t, PEOPLE, "label=y",
                            "[{\"type\": \"impute\"}, {\"type\": \"onehot\"}]", &err),
                 MAG_OK);
    for (size_t i = 0; i < sizeof(fitted) / sizeof(fitted[0]); i++) {
        json_t *list = json_loads(fitted[i], 0, NULL);
        struct mag_err why = {0};
        cr_assert_not_null(list);
        cr_expect_neq(prep_apply(t.d, list, "t.csv", &why), MAG_OK, "%s", fitted[i]);
        cr_expect(strstr(why.text, "t.csv") != NULL, "%s: %s", fitted[i], why.text);
        json_decref(list);
    }
    close_table(&t);
}

Test(prep, stages_are_taken_up_to_their_limit)
{
    for (int n = PREP_STAGES_MAX; n <= PREP_STAGES_MAX + 1; n++) {
        struct table t;
        struct mag_err err = {0};
        struct buf b = {0};
        for (int i = 0; i < n; i++) {
            buf_adds(&b, i == 0 ? "[{\"type\": \"normalize\"}" : ", {\"type\": \"normalize\"}");
        }
        buf_adds(&b, "]");
        enum mag_status st = open_table(&t, "x,y\n1,0\n2,1\n", "label=y", b.data, &err);
        cr_expect_eq(st == MAG_OK, n == PREP_STAGES_MAX, "%s", err.text);
        cr_expect(st == MAG_OK || strstr(err.text, "over 32 stages") != NULL, "%s", err.text);
        close_table(&t);
        buf_fini(&b);
    }
}
