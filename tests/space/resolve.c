/* SPDX-License-Identifier: Apache-2.0
 *
 * For test_schema.py: prints the resolved document of each experiment file, one line each.
 */
#include "driver/spec.h"

#include <stdio.h>
#include <stdlib.h>

static int resolve(const char *path)
{
    char *text = NULL;
    size_t len = 0;
    json_t *doc = NULL;
    struct mag_err err = {0};
    struct mjson_issues is = {0};
    if (mjson_read_file(path, SPEC_BYTES_MAX, &text, &len, &err) != MAG_OK ||
        mjson_parse(text, len, &doc, &err) != MAG_OK) {
        (void)fprintf(stderr, "%s: %s\n", path, err.text);
        return 1;
    }
    struct spec *s = spec_parse(doc, 7, &is);
    if (s == NULL) {
        struct buf b = {0};
        mjson_issues_place(&is, text, len);
        mjson_issues_print(&is, path, &b);
        (void)fputs(b.data, stderr);
        buf_fini(&b);
        return 1;
    }
    char *resolved = mjson_dump(s->resolved);
    (void)puts(resolved);
    free(resolved);
    spec_destroy(s);
    json_decref(doc);
    free(text);
    return 0;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        failed |= resolve(argv[i]);
    }
    return failed;
}
