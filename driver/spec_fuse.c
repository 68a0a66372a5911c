/* SPDX-License-Identifier: Apache-2.0
 *
 * What "fuse" comes to in a search space: which parameters the trials of a group may differ in,
 * which ones separate groups, and how large groups get when points are drawn at random.
 */
#include "driver/spec.h"

#include "base/alloc.h"
#include "wire/fuse.h"

#include <math.h>
#include <stdlib.h>

#define FUSE_ON_GPU 32 /* what "auto" means on one */

/* "a, b and c", each with how many values it takes where that is asked for. */
struct names {
    struct buf text;
    int n;
};

static void add_name(struct names *to, const struct param *p, int left, bool cells)
{
    buf_adds(&to->text, to->n == 0 ? "" : left == 0 ? " and " : ", ");
    buf_adds(&to->text, p->name);
    if (cells) {
        buf_addf(&to->text, " (%.15g)", param_cells(p));
    }
    to->n++;
}

enum part { PART_OWN, PART_KIND, PART_ANY }; /* a lane's own; one of few kinds; any number */

static enum part part_of(const struct spec *s, const struct param *p)
{
    return fuse_allows(s->trial, p->name) ? PART_OWN : isinf(param_cells(p)) ? PART_ANY : PART_KIND;
}

/* The parameters of a part; those with one value differ in nothing. */
static struct names names_of(const struct spec *s, enum part part)
{
    struct names to = {0};
    int left = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < s->space->n; i++) {
            const struct param *p = &s->space->params[i];
            if (part_of(s, p) != part || param_cells(p) <= 1) {
                continue;
            }
            if (pass == 0) {
                left++;
            } else {
                add_name(&to, p, --left, part == PART_KIND);
            }
        }
    }
    return to;
}

static double kinds_of(const struct spec *s)
{
    double kinds = 1;
    for (int i = 0; i < s->space->n; i++) {
        const struct param *p = &s->space->params[i];
        kinds *= part_of(s, p) == PART_KIND ? param_cells(p) : 1;
    }
    return kinds;
}

static void say(json_t *to, char *text_take)
{
    (void)json_array_append_new(to, json_string(text_take));
    free(text_take);
}

/* Trials in a row that are of one of so many kinds, at most `lanes` of them, on average. */
static double run_length(double kinds, int lanes)
{
    return kinds > 1 ? (1 - pow(kinds, -lanes)) / (1 - 1 / kinds) : lanes;
}

json_t *spec_fuse_notes(const struct spec *s)
{
    json_t *notes = json_array();
    if (s->program != SPEC_BUILTIN || (s->fuse <= 1 && s->fuse != FUSE_AUTO)) {
        return notes;
    }
    const int lanes = s->fuse == FUSE_AUTO ? FUSE_ON_GPU : s->fuse;
    struct names own = names_of(s, PART_OWN);
    struct names kind = names_of(s, PART_KIND);
    struct names any = names_of(s, PART_ANY);
    say(notes, xasprintf("fuse: up to %d trials train as one%s; they may differ in %s", lanes,
                         s->fuse == FUSE_AUTO ? " on a GPU, each alone elsewhere" : "",
                         own.n > 0 ? own.text.data : "nothing but their random streams"));
    if (any.n > 0) {
        say(notes,
            xasprintf("fuse: %s separate%s groups and take%s any number, so that every trial runs "
                      "alone: give a \"step\" or a list of few values, or leave \"fuse\" out",
                      any.text.data, any.n == 1 ? "s" : "", any.n == 1 ? "s" : ""));
    } else if (kind.n > 0) {
        const double kinds = kinds_of(s);
        say(notes,
            xasprintf(
                "fuse: %s separate%s groups, %.6g kinds of trials in all; a group is trials of "
                "one kind that come one after the other: drawn at random %.1f on average",
                kind.text.data, kind.n == 1 ? "s" : "", kinds, run_length(kinds, lanes)));
    }
    buf_fini(&own.text);
    buf_fini(&kind.text);
    buf_fini(&any.text);
    return notes;
}
