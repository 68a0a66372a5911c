/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/fuse.h"

#include "base/alloc.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

/* Keys of "training" that are numbers of a lane's own. A schedule changes the rate alone. */
static const char *const own_numbers[] = {
    "lr",      "momentum",  "nesterov", "weight_decay", "beta1",           "beta2",
    "epsilon", "clip_norm", "schedule", "ema",          "label_smoothing", NULL};
/* Parameters that the recipe does not name and that change the model or the data (ablation). */
static const char *const silent[] = {"ablated_layer", "ablated_feature"};

enum mag_status fuse_parse(const json_t *fuse, int *ret, struct mag_err *err)
{
    const char *text = json_string_value(fuse);
    if (fuse == NULL || json_is_false(fuse)) {
        *ret = 1;
    } else if (json_is_true(fuse) || (text != NULL && strcmp(text, "auto") == 0)) {
        *ret = FUSE_AUTO;
    } else if (json_is_integer(fuse) && json_integer_value(fuse) >= 1 &&
               json_integer_value(fuse) <= FUSE_LANES_MAX) {
        *ret = (int)json_integer_value(fuse);
    } else {
        return mag_fail(
            err, MAG_INVALID,
            "must be false, \"auto\" or how many trials at most are trained together, 1 to "
            "%d",
            FUSE_LANES_MAX);
    }
    return MAG_OK;
}

static bool is_one_of(const char *key, const char *const *list)
{
    for (int i = 0; list[i] != NULL; i++) {
        if (strcmp(key, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* The value under `key` of `object` is a lane's own. `depth`: 0 = the trial object, 1 = below it.
 */
static bool is_own(const json_t *object, const char *key, const char *top)
{
    if (strcmp(top, "training") == 0) {
        return is_one_of(key, own_numbers);
    }
    const char *type = json_string_value(json_object_get(object, "type"));
    return strcmp(top, "model") == 0 && type != NULL && strcmp(type, "dropout") == 0 &&
           strcmp(key, "rate") == 0;
}

/* "${name}" -> its parameter's name, malloc'ed; NULL = another text. */
static char *reference(const json_t *v)
{
    const char *s = json_string_value(v);
    size_t n = s != NULL ? strlen(s) : 0;
    return n > 3 && strncmp(s, "${", 2) == 0 && s[n - 1] == '}' ? xstrndup(s + 2, n - 3) : NULL;
}

struct walk {
    const json_t *params;
    const char *top; /* the key of the trial object that we are below */
    /* fuse_allows: the parameter that is looked for, and whether it stands where it decides */
    const char *name;
    bool decides;
};

static json_t *walk_value(struct walk *w, const json_t *v, bool own);

static json_t *walk_object(struct walk *w, const json_t *v, bool own, bool is_top)
{
    json_t *out = json_object();
    const char *key = NULL;
    json_t *member = NULL;
    json_object_foreach((json_t *)(uintptr_t)v, key, member)
    {
        if (is_top) {
            w->top = key;
        }
        bool mine = own || (!is_top && is_own(v, key, w->top));
        (void)json_object_set_new(out, key, walk_value(w, member, mine));
    }
    return out;
}

/* Where it is a lane's own, all that counts is whether it is active: layers may come and go with
 * it. */
static json_t *walk_reference(struct walk *w, const char *name, bool own)
{
    const json_t *given = json_object_get(w->params, name);
    if (w->name != NULL && strcmp(w->name, name) == 0 && !own) {
        w->decides = true;
    }
    return own || given == NULL ? json_boolean(given != NULL) : json_deep_copy(given);
}

static json_t *walk_value(struct walk *w, const json_t *v, bool own)
{
    if (json_is_object(v)) {
        return walk_object(w, v, own, false);
    }
    if (json_is_array(v)) {
        json_t *out = json_array();
        size_t i = 0;
        json_t *item = NULL;
        json_array_foreach(v, i, item)
        {
            (void)json_array_append_new(out, walk_value(w, item, own));
        }
        return out;
    }
    char *name = reference(v);
    json_t *out = name != NULL ? walk_reference(w, name, own) : json_deep_copy(v);
    free(name);
    return out;
}

char *fuse_key(const json_t *trial, const json_t *params)
{
    struct walk w = {.params = params, .top = ""};
    json_t *all = walk_object(&w, trial, false, true);
    for (size_t i = 0; i < sizeof(silent) / sizeof(silent[0]); i++) {
        json_t *v = json_object_get(params, silent[i]);
        if (v != NULL) {
            (void)json_object_set(all, silent[i], v);
        }
    }
    char *text = mjson_dump(all);
    json_decref(all);
    return text;
}

bool fuse_allows(const json_t *trial, const char *name)
{
    struct walk w = {.params = NULL, .top = "", .name = name};
    json_decref(walk_object(&w, trial, false, true));
    return !w.decides && strcmp(name, silent[0]) != 0 && strcmp(name, silent[1]) != 0;
}
