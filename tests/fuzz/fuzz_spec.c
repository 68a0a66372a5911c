/* SPDX-License-Identifier: Apache-2.0
 *
 * Experiment files: whatever the bytes, spec_parse answers with a spec or with issues; a spec's
 * resolved document parses to itself, its plan can be made, and its optimizer decides within the
 * space.
 */
#include "base/alloc.h"
#include "driver/spec.h"
#include "space/constraint.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void ask_once(const struct spec *s)
{
    struct mjson_issues is = {0};
    struct opt_setup setup = spec_opt_setup(s);
    struct optimizer *o = optimizer_create(s->optimizer, "", &setup, &is, NULL);
    struct opt_suggestion out = {.point = xcalloc((size_t)s->space->n, sizeof(double))};
    optimizer_suggest(o, &(struct opt_ask){.next_trial = 1, .may_create = true}, &out);
    MAG_ASSERT(out.answer == OPT_TRIAL && space_normalize(s->space, out.point), "the first trial");
    MAG_ASSERT(space_is_feasible(s->space, out.point), "%s", space_broken(s->space, out.point));
    optimizer_adopt(o, &out);
    free(out.point);
    optimizer_destroy(o);
}

static void check_resolved(const struct spec *s)
{
    struct mjson_issues is = {0};
    char *text = mjson_dump(s->resolved);
    json_t *doc = NULL;
    MAG_ASSERT(mjson_parse(text, strlen(text), &doc, NULL) == MAG_OK, "%s", text);
    struct spec *again = spec_parse(doc, 0, &is);
    MAG_ASSERT(again != NULL, "%s: %s", is.items[0].pointer, is.items[0].text);
    char *same = mjson_dump(again->resolved);
    MAG_ASSERT(strcmp(text, same) == 0, "%s\n%s", text, same);
    free(text);
    free(same);
    spec_destroy(again);
    json_decref(doc);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct mjson_issues is = {0};
    struct buf b = {0};
    json_t *doc = NULL;
    const char *text = (const char *)data;
    if (mjson_parse(text, size, &doc, NULL) != MAG_OK) {
        return 0;
    }
    struct spec *s = spec_parse(doc, 7, &is);
    MAG_ASSERT((s == NULL) == (is.total > 0), "%d issues", is.total);
    if (s != NULL) {
        check_resolved(s);
        json_decref(spec_plan(s));
        ask_once(s);
    }
    mjson_issues_place(&is, text, size);
    mjson_issues_print(&is, "f", &b);
    buf_fini(&b);
    mjson_issues_fini(&is);
    spec_destroy(s);
    json_decref(doc);
    return 0;
}
