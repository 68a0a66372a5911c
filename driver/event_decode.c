/* SPDX-License-Identifier: Apache-2.0
 *
 * The reading half of the event codec. Strict: a key that is not known, a wrong type or a number
 * out of its range is a damaged record.
 */
#include "driver/event.h"

#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What the readers of one key share. */
struct reading {
    struct event *ev;
    int dims;
    struct mag_err *err;
};

static enum mag_status bad(struct reading *r, const char *name, const char *want)
{
    return mag_fail(r->err, MAG_CORRUPT, "a recorded %s event is damaged: \"%s\" is not %s",
                    event_kind_name(r->ev->kind), name, want);
}

/* ---- one reader a type ---- */

static enum mag_status get_int(struct reading *r, const char *name, const json_t *v, int64_t lo,
                               int64_t hi, int64_t *ret)
{
    if (!json_is_integer(v) || json_integer_value(v) < lo || json_integer_value(v) > hi) {
        return bad(r, name, "a whole number in its range");
    }
    *ret = json_integer_value(v);
    return MAG_OK;
}

static enum mag_status get_flag(struct reading *r, const char *name, const json_t *v, bool *ret)
{
    if (!json_is_boolean(v)) {
        return bad(r, name, "true or false");
    }
    *ret = json_is_true(v);
    return MAG_OK;
}

static enum mag_status get_text(struct reading *r, const char *name, const json_t *v, char **ret)
{
    if (!json_is_string(v)) {
        return bad(r, name, "a string");
    }
    *ret = xstrdup(json_string_value(v));
    return MAG_OK;
}

static enum mag_status get_number(struct reading *r, const char *name, const json_t *v, double *ret)
{
    if (json_is_null(v)) {
        *ret = NAN;
        return MAG_OK;
    }
    if (!json_is_number(v)) {
        return bad(r, name, "a number or null");
    }
    *ret = json_number_value(v);
    return MAG_OK;
}

/* ---- structured values ---- */

static enum mag_status get_point(struct reading *r, const json_t *v, double **ret)
{
    if (!json_is_array(v) || json_array_size(v) != (size_t)r->dims) {
        return bad(r, "point", "an array with one number for each parameter");
    }
    double *point = xcalloc((size_t)r->dims + 1, sizeof(*point));
    for (int i = 0; i < r->dims; i++) {
        enum mag_status st = get_number(r, "point", json_array_get(v, (size_t)i), &point[i]);
        if (st != MAG_OK) {
            free(point);
            return st;
        }
    }
    *ret = point;
    return MAG_OK;
}

static enum mag_status get_grant_key(struct reading *r, struct event_grant *g, const char *k,
                                     const json_t *v)
{
    int64_t n = 0;
    enum mag_status st;
    if (strcmp(k, "attempt") == 0) {
        return get_int(r, k, v, 0, INT64_MAX, &g->attempt);
    } else if (strcmp(k, "bracket") == 0) {
        st = get_int(r, k, v, INT32_MIN, INT32_MAX, &n);
        g->bracket = (int32_t)n;
        return st;
    } else if (strcmp(k, "rung") == 0) {
        st = get_int(r, k, v, INT32_MIN, INT32_MAX, &n);
        g->rung = (int32_t)n;
        return st;
    } else if (strcmp(k, "budget") == 0) {
        return get_int(r, k, v, 0, INT64_MAX, &g->budget);
    } else if (strcmp(k, "parent") == 0) {
        return get_int(r, k, v, 0, INT64_MAX, &g->parent);
    } else if (strcmp(k, "parent_step") == 0) {
        return get_int(r, k, v, INT64_MIN, INT64_MAX, &g->parent_step);
    } else if (strcmp(k, "point") == 0 && g->point == NULL) {
        g->created = true;
        return get_point(r, v, &g->point);
    } else if (strcmp(k, "resume_step") == 0) {
        return get_int(r, k, v, -1, INT64_MAX, &g->resume_step);
    } else if (strcmp(k, "resume_uri") == 0 && g->resume_uri == NULL) {
        return get_text(r, k, v, &g->resume_uri);
    } else if (strcmp(k, "trial") == 0) {
        return get_int(r, k, v, 1, INT64_MAX, &g->trial);
    }
    return bad(r, k, "a key of a grant");
}

static enum mag_status get_grants(struct reading *r, const json_t *v)
{
    if (!json_is_array(v) || json_array_size(v) > EVENT_GRANTS_MAX) {
        return bad(r, "grants", "an array of grants");
    }
    for (size_t i = 0; i < json_array_size(v); i++) {
        const char *k;
        json_t *item;
        json_t *object = json_array_get(v, i);
        if (!json_is_object(object)) {
            return bad(r, "grants", "an array of objects");
        }
        struct event_grant *g = event_add_grant(r->ev);
        json_object_foreach(object, k, item)
        {
            enum mag_status st = get_grant_key(r, g, k, item);
            if (st != MAG_OK) {
                return st;
            }
        }
        if (g->trial == 0) {
            return bad(r, "grants", "an array of grants that name their trials");
        }
    }
    return MAG_OK;
}

static enum mag_status get_moves(struct reading *r, const json_t *v)
{
    if (!json_is_array(v)) {
        return bad(r, "moves", "an array");
    }
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *pair = json_array_get(v, i);
        int64_t trial = 0, to = 0;
        if (!json_is_array(pair) || json_array_size(pair) != 2) {
            return bad(r, "moves", "an array of pairs");
        }
        enum mag_status st = get_int(r, "moves", json_array_get(pair, 0), 1, INT64_MAX, &trial);
        if (st == MAG_OK) {
            st = get_int(r, "moves", json_array_get(pair, 1), 0, TRIAL_STATES - 1, &to);
        }
        if (st != MAG_OK) {
            return st;
        }
        event_add_move(r->ev, trial, (enum trial_state)to);
    }
    return MAG_OK;
}

static enum mag_status get_values(struct reading *r, const json_t *row, struct event_point *p)
{
    for (int k = 0; k < p->n_values; k++) {
        const json_t *name = json_array_get(row, (size_t)(1 + 2 * k));
        if (!json_is_null(name)) {
            enum mag_status st = get_text(r, "points", name, &p->values[k].name);
            if (st != MAG_OK) {
                return st;
            }
        }
        enum mag_status st =
            get_number(r, "points", json_array_get(row, (size_t)(2 + 2 * k)), &p->values[k].value);
        if (st != MAG_OK) {
            return st;
        }
    }
    return MAG_OK;
}

static enum mag_status get_points(struct reading *r, const json_t *v)
{
    if (!json_is_array(v) || json_array_size(v) > EVENT_POINTS_MAX) {
        return bad(r, "points", "an array of metric points");
    }
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *row = json_array_get(v, i);
        size_t n = json_is_array(row) ? json_array_size(row) : 0;
        int64_t step = 0;
        if (n % 2 != 1 || n / 2 > EVENT_VALUES_MAX) {
            return bad(r, "points", "an array of [step, name, value, …]");
        }
        enum mag_status st =
            get_int(r, "points", json_array_get(row, 0), INT64_MIN, INT64_MAX, &step);
        if (st != MAG_OK) {
            return st;
        }
        st = get_values(r, row, event_add_point(r->ev, step, (int)(n / 2)));
        if (st != MAG_OK) {
            return st;
        }
    }
    return MAG_OK;
}

static enum mag_status get_told_values(struct reading *r, const json_t *v)
{
    size_t n = json_array_size(v);
    if (!json_is_array(v) || n % 2 != 0 || n / 2 > EVENT_VALUES_MAX) {
        return bad(r, "values", "an array of [name, value, …]");
    }
    for (size_t i = 0; i < n; i += 2) {
        const json_t *name = json_array_get(v, i);
        double value = 0;
        enum mag_status st = get_number(r, "values", json_array_get(v, i + 1), &value);
        if (st != MAG_OK || !json_is_string(name)) {
            return bad(r, "values", "an array of [name, value, …]");
        }
        event_add_value(r->ev, json_string_value(name), value);
    }
    return MAG_OK;
}

static enum mag_status get_checkpoint(struct reading *r, const json_t *v)
{
    const char *k;
    json_t *item;
    struct event *ev = r->ev;
    if (!json_is_object(v) || !json_is_integer(json_object_get(v, "step"))) {
        return bad(r, "checkpoint", "an object with a step");
    }
    json_object_foreach((json_t *)(uintptr_t)v, k, item)
    {
        enum mag_status st = MAG_OK;
        if (strcmp(k, "step") == 0) {
            st = get_int(r, "step", item, 0, INT64_MAX, &ev->checkpoint_step);
        } else if (strcmp(k, "uri") == 0 && ev->checkpoint_uri == NULL) {
            st = get_text(r, k, item, &ev->checkpoint_uri);
        } else if (strcmp(k, "meta") == 0 && ev->checkpoint_meta == NULL) {
            st = get_text(r, k, item, &ev->checkpoint_meta);
        } else {
            st = bad(r, k, "a key of a checkpoint");
        }
        if (st != MAG_OK) {
            return st;
        }
    }
    return MAG_OK;
}

/* ---- the table of keys ---- */

enum key_type { K_INT, K_FLAG, K_TEXT, K_ENUM, K_COUNT, K_JSON, K_VALUE, K_OTHER };

struct key_row {
    const char *name; /* alphabetical, as written */
    enum key_type type;
    size_t offset;
    int64_t lo, hi;
    enum mag_status (*get)(struct reading *r, const json_t *v);
};

#define AT(field) offsetof(struct event, field)
static const struct key_row keys[] = {
    {"action", K_ENUM, AT(action), 0, ACT_STOP, NULL},
    {"action_step", K_INT, AT(action_step), -1, INT64_MAX, NULL},
    {"attempt", K_INT, AT(attempt), 0, INT64_MAX, NULL},
    {"body", K_TEXT, AT(body_hash), 0, 0, NULL},
    {"cause", K_ENUM, AT(cause), 0, FAIL_CLIENT, NULL},
    {"changed", K_FLAG, AT(changed), 0, 0, NULL},
    {"checkpoint", K_OTHER, 0, 0, 0, get_checkpoint},
    {"count", K_COUNT, AT(count), 0, EVENT_GRANTS_MAX, NULL},
    {"created", K_INT, AT(created_trial), 0, INT64_MAX, NULL},
    {"detail", K_JSON, AT(detail), 0, 0, NULL},
    {"done", K_FLAG, AT(done), 0, 0, NULL},
    {"final", K_FLAG, AT(final), 0, 0, NULL},
    {"grants", K_OTHER, 0, 0, 0, get_grants},
    {"holder", K_TEXT, AT(holder), 0, 0, NULL},
    {"late", K_FLAG, AT(late), 0, 0, NULL},
    {"lease", K_INT, AT(lease_ms), 0, INT64_MAX / 1000000, NULL},
    {"maker", K_TEXT, AT(maker), 0, 0, NULL},
    {"moves", K_OTHER, 0, 0, 0, get_moves},
    {"points", K_OTHER, 0, 0, 0, get_points},
    {"reason", K_TEXT, AT(reason), 0, 0, NULL},
    {"refit", K_INT, AT(refit), 0, INT64_MAX, NULL},
    {"request", K_TEXT, AT(request), 0, 0, NULL},
    {"retry", K_FLAG, AT(retry), 0, 0, NULL},
    {"state", K_ENUM, AT(state), 0, TRIAL_STATES - 1, NULL},
    {"state_attempt", K_INT, AT(state_attempt), 0, INT64_MAX, NULL},
    {"study", K_ENUM, AT(study), 0, STUDY_FAILED, NULL},
    {"study_why", K_TEXT, AT(study_why), 0, 0, NULL},
    {"study_why_code", K_TEXT, AT(study_why_code), 0, 0, NULL},
    {"told", K_ENUM, AT(told), 0, TRIAL_STATES - 1, NULL},
    {"trial", K_INT, AT(trial), 0, INT64_MAX, NULL},
    {"uncounted", K_FLAG, AT(uncounted), 0, 0, NULL},
    {"value", K_VALUE, AT(value), 0, 0, NULL},
    {"values", K_OTHER, 0, 0, 0, get_told_values},
    {"waiting", K_FLAG, AT(waiting), 0, 0, NULL},
    {"where", K_JSON, AT(where), 0, 0, NULL},
    {"why", K_TEXT, AT(why), 0, 0, NULL},
    {"why_code", K_TEXT, AT(why_code), 0, 0, NULL},
    {"worker", K_FLAG, AT(from_worker), 0, 0, NULL},
};
#undef AT
_Static_assert(sizeof(enum trial_state) == sizeof(int) && sizeof(enum fail_cause) == sizeof(int),
               "K_ENUM stores through an int");

static int by_name(const void *name, const void *row)
{
    return strcmp(name, ((const struct key_row *)row)->name);
}

static enum mag_status get_key(struct reading *r, const char *name, json_t *v)
{
    const struct key_row *row =
        bsearch(name, keys, sizeof(keys) / sizeof(keys[0]), sizeof(keys[0]), by_name);
    if (row == NULL) {
        return bad(r, name, "a key of an event");
    }
    void *field = (char *)r->ev + row->offset;
    int64_t n = 0;
    enum mag_status st;
    switch (row->type) {
    case K_INT:
        return get_int(r, name, v, row->lo, row->hi, field);
    case K_FLAG:
        return get_flag(r, name, v, field);
    case K_TEXT:
        return get_text(r, name, v, field);
    case K_ENUM:
    case K_COUNT:
        st = get_int(r, name, v, row->lo, row->hi, &n);
        *(int *)field = (int)n;
        return st;
    case K_JSON:
        *(json_t **)field = json_incref(v);
        return MAG_OK;
    case K_VALUE:
        r->ev->has_value = true;
        return get_number(r, name, v, field);
    case K_OTHER:
        return row->get(r, v);
    }
    return MAG_BUG;
}

enum mag_status event_decode(enum event_kind kind, const char *text, size_t len, int dims,
                             struct event *ret, struct mag_err *err)
{
    struct reading r = {.ev = ret, .dims = dims, .err = err};
    event_init(ret, kind);
    if (kind < EV_ASK || kind > EV_LAST) {
        return mag_fail(err, MAG_CORRUPT, "a recorded event has the unknown kind %d", (int)kind);
    }
    json_t *doc = NULL;
    enum mag_status st = mjson_parse(text, len, &doc, err);
    if (st != MAG_OK) {
        return mag_wrap(err, MAG_CORRUPT, "a recorded %s event is damaged", event_kind_name(kind));
    }
    if (!json_is_object(doc)) {
        st = mag_fail(err, MAG_CORRUPT, "a recorded %s event is no JSON object",
                      event_kind_name(kind));
    } else {
        const char *k;
        json_t *v;
        json_object_foreach(doc, k, v)
        {
            st = get_key(&r, k, v);
            if (st != MAG_OK) {
                break;
            }
        }
    }
    json_decref(doc);
    if (st != MAG_OK) {
        event_fini(ret);
        return st;
    }
    ret->decided = true;
    return MAG_OK;
}
