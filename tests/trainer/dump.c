/* SPDX-License-Identifier: Apache-2.0
 *
 * Prints what a data set holds, for tests that write it with other libraries: trainer_dump SOURCE
 * [STAGES]. SOURCE is the text or the object of a trial's "dataset", STAGES its "preprocessing", fitted on
 * all rows but the test part. Exit status 2: standard error says why.
 */
#include "base/alloc.h"
#include "trainer/format.h"
#include "trainer/prep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_values(const struct dataset *d)
{
    size_t width = (size_t)shape_size(&d->shape);
    float *row = xcalloc(width, sizeof(float));
    printf("\"values\": [");
    for (uint32_t i = 0; i < d->n_rows; i++) {
        dataset_gather(d, &i, 1, row);
        printf("%s[", i > 0 ? ", " : "");
        for (size_t k = 0; k < width; k++) {
            printf("%s%.9g", k > 0 ? ", " : "", (double)row[k]);
        }
        printf("]");
    }
    printf("]}\n");
    free(row);
}

static void print_labels(const struct dataset *d)
{
    for (uint32_t i = 0; d->labels != NULL && i < d->n_rows; i++) {
        printf("%s%d", i > 0 ? ", " : "\"labels\": [", d->labels[i]);
    }
    for (uint32_t i = 0; d->targets != NULL && i < d->n_rows; i++) {
        printf("%s%.9g", i > 0 ? ", " : "\"targets\": [", (double)d->targets[i]);
    }
    printf("%s", d->labels != NULL || d->targets != NULL ? "], " : "");
    for (int i = 0; d->class_names != NULL && i < d->n_classes; i++) {
        struct buf b = {0};
        buf_add_json_string(&b, d->class_names[i]);
        printf("%s%s%s", i > 0 ? ", " : "\"names\": [", b.data, i + 1 == d->n_classes ? "], " : "");
        buf_fini(&b);
    }
}

static enum mag_status prepare(struct dataset *d, struct dataset_source *s, const char *stages,
                               struct mag_err *err)
{
    struct mjson_issues is = {0};
    const struct recipe_context ctx = {0};
    struct reader r = {.ctx = &ctx, .issues = &is};
    json_t *list = stages != NULL ? json_loads(stages, 0, NULL) : NULL;
    prep_parse_into(&r, list, "", s);
    json_decref(list);
    enum mag_status st = is.n > 0 ? mag_fail(err, MAG_INVALID, "%s: %s", is.items[0].pointer, is.items[0].text)
                                  : dataset_split(d, s, 1, 0, err);
    mjson_issues_fini(&is);
    return st;
}

static int dump(const json_t *value, const char *stages)
{
    struct mjson_issues is = {0};
    struct mag_err err = {0};
    struct dataset_source s;
    struct dataset *d = NULL;
    if (!dataset_source_parse(value, "", &is, &s)) {
        (void)fprintf(stderr, "%s\n", is.items[0].text);
        mjson_issues_fini(&is);
        return 2;
    }
    enum mag_status st = dataset_open(&s, &d, &err);
    if (st == MAG_OK && (stages != NULL || d->raw != NULL)) {
        st = prepare(d, &s, stages, &err);
    }
    if (st == MAG_OK) {
        char shape[48];
        shape_text(&d->shape, shape);
        printf("{\"shape\": \"%s\", \"rows\": %u, \"test\": %u, \"classes\": %d, \"sparse\": %s, ",
               shape, d->n_rows, d->n_given_test, d->n_classes, d->sparse != NULL ? "true" : "false");
        print_labels(d);
        print_values(d);
    } else {
        (void)fprintf(stderr, "%s\n", err.text);
    }
    dataset_destroy(d);
    dataset_source_fini(&s);
    return st == MAG_OK ? 0 : 2;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) {
        (void)fprintf(stderr, "usage: trainer_dump SOURCE [STAGES]\n");
        return 2;
    }
    json_t *value = argv[1][0] == '{' ? json_loads(argv[1], 0, NULL) : json_string(argv[1]);
    int status = dump(value, argv[2]);
    json_decref(value);
    return status;
}
