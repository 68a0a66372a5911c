/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/driver/study_lab.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

static char *unquoted(const char *text)
{
    char *json = xstrdup(text);
    for (char *p = json; *p != '\0'; p++) {
        *p = *p == '\'' ? '"' : *p;
    }
    return json;
}

bool lab_replaying;

const char *lab_search(int which)
{
#define SEARCH(x, rest)                                                                            \
    "{'objective': {'metric': 'm', 'direction': 'max'}, 'seed': 9, 'searchspace': {'x': " x "}, "  \
    "'limits': {'trials': 30, 'retries': 1, 'losses': 1, 'failures': 5}, 'optimizer': " rest "}"
    static const char *const searches[LAB_SEARCHES] = {
        SEARCH("['DOUBLE', [0, 1]]",
               "{'algorithm': 'random'}, 'early_stopping': {'rule': 'median', 'min_trials': 2}"),
        SEARCH("['INTEGER', [1, 30]]", "{'algorithm': 'grid'}"),
        SEARCH("['DOUBLE', [0, 1]]", "{'algorithm': 'asha'}, 'resource': {'min': 1, 'max': 9}"),
        SEARCH("['DOUBLE', [0, 1]]",
               "{'algorithm': 'hyperband'}, 'resource': {'min': 1, 'max': 9}"),
        SEARCH("['DOUBLE', [0, 1]]", "{'algorithm': 'de'}"),
        SEARCH("['DOUBLE', [0, 1]]",
               "{'algorithm': 'nsga2', 'population': 6}, 'outcome_constraints': [{'metric': 'm', "
               "'min': 0.2}]"),
        SEARCH("['DOUBLE', [0, 1]]",
               "{'algorithm': 'random'}, 'validation': {'folds': 3}, 'early_stopping': {'rule': "
               "'wilcoxon'}"),
    };
#undef SEARCH
    return searches[(unsigned)which % LAB_SEARCHES];
}

struct spec *lab_spec(const char *text)
{
    struct mjson_issues is = {0};
    struct mag_err err = {0};
    json_t *doc = NULL;
    char *json = unquoted(text);
    enum mag_status st = mjson_parse(json, strlen(json), &doc, &err);
    MAG_ASSERT(st == MAG_OK, "%s in %s", err.text, json);
    struct spec *spec = spec_parse(doc, 1, &is);
    MAG_ASSERT(spec != NULL, "%s %s in %s", is.items[0].pointer, is.items[0].text, json);
    json_decref(doc);
    mjson_issues_fini(&is);
    free(json);
    return spec;
}

void lab_open(struct lab *l, const char *spec, bool shadow)
{
    *l = (struct lab){.now_ns = 1000000000, .wall_ms = 1700000000000};
    l->spec = xstrdup(spec);
    l->s = study_create(lab_spec(spec));
    l->shadow = shadow ? study_create(lab_spec(spec)) : NULL;
    study_rearm(l->s, l->now_ns);
    event_init(&l->ev, EV_ASK);
}

static void decode_row(const struct lab *l, const struct lab_row *row, struct event *ev)
{
    struct mag_err err = {0};
    int dims = study_spec(l->s)->space->n;
    enum mag_status st = event_decode(row->kind, row->text, row->len, dims, ev, &err);
    MAG_ASSERT(st == MAG_OK, "%s: %s", err.text, row->text);
    ev->seq = row->seq;
    ev->wall_ms = row->wall_ms;
    ev->up_ms = row->up_ms;
}

void lab_close(struct lab *l)
{
    struct verifier *v = verifier_create(lab_spec(l->spec));
    struct verify_result res = {0};
    for (int i = 0; i < l->n_rows; i++) {
        struct event ev;
        decode_row(l, &l->rows[i], &ev);
        bool same = verifier_feed(v, &ev, &res);
        MAG_ASSERT(same, "%s", res.text);
        event_fini(&ev);
    }
    MAG_ASSERT(res.events == l->n_rows, "%lld of %d", (long long)res.events, l->n_rows);
    verifier_destroy(v);
    for (int i = 0; i < l->n_rows; i++) {
        free(l->rows[i].text);
    }
    free(l->rows);
    free(l->spec);
    event_fini(&l->ev);
    study_destroy(l->shadow);
    study_destroy(l->s);
}

void lab_advance(struct lab *l, double seconds)
{
    l->now_ns += (int64_t)(seconds * 1e9);
    l->wall_ms += (int64_t)(seconds * 1e3);
}

/* ---- recording ---- */

static void check_codec(const struct lab *l, const struct lab_row *row)
{
    struct event ev;
    struct buf again = {0};
    decode_row(l, row, &ev);
    event_encode(&ev, study_spec(l->s)->space->n, &again);
    MAG_ASSERT(strcmp(again.data, row->text) == 0, "%s became %s", row->text, again.data);
    buf_fini(&again);
    event_fini(&ev);
}

void lab_follow(struct lab *l)
{
    const struct lab_row *row = &l->rows[l->n_rows - 1];
    struct event ev;
    struct mag_err err = {0};
    decode_row(l, row, &ev);
    lab_replaying = true;
    enum mag_status st = study_apply(l->shadow, &ev, 0, &err);
    lab_replaying = false;
    MAG_ASSERT(st == MAG_OK, "%s: %s", err.text, row->text);
    MAG_ASSERT(study_digest(l->shadow) == study_digest(l->s), "after %s %s",
               event_kind_name(row->kind), row->text);
    event_fini(&ev);
}

enum mag_status lab_apply(struct lab *l)
{
    l->err = (struct mag_err){0};
    l->ev.wall_ms = l->wall_ms;
    int64_t before = study_seq(l->s);
    enum mag_status st = study_apply(l->s, &l->ev, l->now_ns, &l->err);
    MAG_ASSERT(st == MAG_OK || l->err.text[0] != '\0', "a refusal without a sentence: %s",
               mag_status_name(st));
    if (st != MAG_OK || l->ev.seq == 0) {
        MAG_ASSERT(study_seq(l->s) == before, "counted an event that was not recorded");
        return st;
    }
    MAG_ASSERT(l->ev.seq == before + 1 && study_seq(l->s) == before + 1, "%lld",
               (long long)l->ev.seq);
    if (l->n_rows == l->cap_rows) {
        l->cap_rows = l->cap_rows > 0 ? l->cap_rows * 2 : 64;
        l->rows = xreallocarray(l->rows, (size_t)l->cap_rows, sizeof(*l->rows));
    }
    struct buf text = {0};
    event_encode(&l->ev, study_spec(l->s)->space->n, &text);
    struct lab_row *row = &l->rows[l->n_rows++];
    *row = (struct lab_row){.kind = l->ev.kind,
                            .seq = l->ev.seq,
                            .wall_ms = l->ev.wall_ms,
                            .up_ms = l->ev.up_ms,
                            .len = text.len};
    row->text = buf_take(&text);
    check_codec(l, row);
    if (l->shadow != NULL) {
        lab_follow(l);
    }
    return MAG_OK;
}

struct study *lab_replay(const struct lab *l, int n)
{
    struct study *s = study_create(lab_spec(l->spec));
    lab_replaying = true;
    for (int i = 0; i < n; i++) {
        struct event ev;
        struct mag_err err = {0};
        decode_row(l, &l->rows[i], &ev);
        enum mag_status st = study_apply(s, &ev, 0, &err);
        MAG_ASSERT(st == MAG_OK, "%s: %s", err.text, l->rows[i].text);
        event_fini(&ev);
    }
    lab_replaying = false;
    return s;
}

void lab_restart(struct lab *l)
{
    uint64_t before = study_digest(l->s);
    struct study *s = lab_replay(l, l->n_rows);
    MAG_ASSERT(study_digest(s) == before, "a restart changed the study after %d events", l->n_rows);
    study_destroy(l->s);
    l->s = s;
    study_rearm(s, l->now_ns);
}

int lab_tick(struct lab *l)
{
    int n = 0;
    event_fini(&l->ev);
    while (study_tick(l->s, l->now_ns, &l->ev)) {
        enum mag_status st = lab_apply(l);
        MAG_ASSERT(st == MAG_OK && n < 100000, "%s", l->err.text);
        n++;
        event_fini(&l->ev);
    }
    return n;
}

/* ---- shorthands ---- */

struct event *lab_event(struct lab *l, enum event_kind kind, int64_t trial, int64_t attempt)
{
    event_fini(&l->ev);
    event_init(&l->ev, kind);
    l->ev.trial = trial;
    l->ev.attempt = attempt;
    return &l->ev;
}

int lab_ask_lease(struct lab *l, const char *client, int count, int64_t lease_ms)
{
    struct event *ev = lab_event(l, EV_ASK, 0, 0);
    ev->holder = xstrdup(client);
    ev->count = count;
    ev->lease_ms = lease_ms;
    return lab_apply(l) == MAG_OK ? l->ev.n_grants : -1;
}

int lab_ask(struct lab *l, const char *client, int count)
{
    return lab_ask_lease(l, client, count, STUDY_LEASE_CLIENT_MS);
}

enum report_action lab_report(struct lab *l, int64_t trial, int64_t attempt, int64_t step,
                              double value)
{
    struct event *ev = lab_event(l, EV_REPORT, trial, attempt);
    event_add_point(ev, step, 1)->values[0].value = value;
    enum mag_status st = lab_apply(l);
    MAG_ASSERT(st == MAG_OK, "report of trial %lld: %s", (long long)trial, l->err.text);
    return l->ev.action;
}

enum report_action lab_checkpoint(struct lab *l, int64_t trial, int64_t attempt, int64_t step,
                                  const char *uri)
{
    struct event *ev = lab_event(l, EV_REPORT, trial, attempt);
    ev->checkpoint_step = step;
    ev->checkpoint_uri = xstrdup(uri);
    enum mag_status st = lab_apply(l);
    MAG_ASSERT(st == MAG_OK, "checkpoint of trial %lld: %s", (long long)trial, l->err.text);
    return l->ev.action;
}

enum trial_state lab_tell(struct lab *l, int64_t trial, int64_t attempt, double value)
{
    struct event *ev = lab_event(l, EV_TELL, trial, attempt);
    ev->told = TRIAL_COMPLETED;
    ev->has_value = true;
    ev->value = value;
    enum mag_status st = lab_apply(l);
    MAG_ASSERT(st == MAG_OK, "tell of trial %lld: %s", (long long)trial, l->err.text);
    return l->ev.state;
}

enum trial_state lab_tell_state(struct lab *l, int64_t trial, int64_t attempt,
                                enum trial_state told, enum fail_cause cause, const char *reason)
{
    struct event *ev = lab_event(l, EV_TELL, trial, attempt);
    ev->told = told;
    ev->cause = cause;
    ev->reason = reason != NULL ? xstrdup(reason) : NULL;
    enum mag_status st = lab_apply(l);
    MAG_ASSERT(st == MAG_OK, "tell of trial %lld: %s", (long long)trial, l->err.text);
    return l->ev.state;
}

enum mag_status lab_simple(struct lab *l, enum event_kind kind, int64_t trial, const char *detail)
{
    struct event *ev = lab_event(l, kind, trial, 0);
    if (detail != NULL) {
        char *json = unquoted(detail);
        struct mag_err err = {0};
        enum mag_status st = mjson_parse(json, strlen(json), &ev->detail, &err);
        MAG_ASSERT(st == MAG_OK, "%s: %s", detail, err.text);
        free(json);
    }
    return lab_apply(l);
}

enum trial_state lab_state(const struct lab *l, int64_t trial)
{
    const struct trial *t = study_trial(l->s, trial);
    MAG_ASSERT(t != NULL, "trial %lld", (long long)trial);
    return t->state;
}

int64_t lab_count(const struct lab *l, enum trial_state state)
{
    int64_t counts[TRIAL_STATES];
    study_counts(l->s, counts);
    return counts[state];
}
