/* SPDX-License-Identifier: Apache-2.0
 *
 * The trial's state machine and the event codec.
 */
#include "driver/study_impl.h"
#include "tests/driver/study_lab.h"

#include "base/alloc.h"
#include "base/pcg.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(study_states, .timeout = 60);

#define SPEC                                                                                       \
    "{'objective': {'metric': 'm', 'direction': 'max'}, 'searchspace': {'x': ['DOUBLE', [0, 1]]}," \
    " 'optimizer': {'algorithm': 'random'}, 'seed': 3}"

/* The whole table, written out a second time: W R P C S F X. */
static const char *const expected[TRIAL_STATES] = {
    [TRIAL_WAITING] = ".R..S.X",   [TRIAL_RUNNING] = "W.PCSFX", [TRIAL_PAUSED] = "WR....X",
    [TRIAL_COMPLETED] = ".......", [TRIAL_STOPPED] = ".......", [TRIAL_FAILED] = ".......",
    [TRIAL_CANCELLED] = ".......",
};

/* Brings a fresh trial into `state` by allowed moves. */
static struct trial *trial_in(struct study *s, enum trial_state state)
{
    const double point[] = {0.5};
    struct trial *t = trial_create(s, point);
    if (state != TRIAL_WAITING) {
        cr_assert(trial_move(s, t, TRIAL_RUNNING));
    }
    if (state != TRIAL_WAITING && state != TRIAL_RUNNING) {
        cr_assert(trial_move(s, t, state));
    }
    return t;
}

Test(study_states, every_pair_of_states_is_allowed_or_refused_as_the_table_says)
{
    for (int from = 0; from < TRIAL_STATES; from++) {
        for (int to = 0; to < TRIAL_STATES; to++) {
            struct study *s = study_create(lab_spec(SPEC));
            struct trial *t = trial_in(s, (enum trial_state)from);
            bool want = expected[from][to] != '.';
            int64_t counts[TRIAL_STATES];
            cr_assert_eq(trial_may_move((enum trial_state)from, (enum trial_state)to), want);
            cr_assert_eq(trial_move(s, t, (enum trial_state)to), want, "%d to %d", from, to);
            int now = want ? to : from;
            cr_assert_eq((int)t->state, now);
            study_counts(s, counts);
            for (int k = 0; k < TRIAL_STATES; k++) {
                cr_assert_eq(counts[k], k == now, "count of %d after %d to %d", k, from, to);
            }
            cr_assert_eq(list_is_empty(&s->queue), now != TRIAL_WAITING);
            cr_assert_eq(list_is_empty(&s->open), now != TRIAL_RUNNING);
            study_destroy(s);
        }
    }
}

/* The row "| `from` | `to`, `to` |" of section 4; NULL when there is none. */
static char *protocol_row(const char *text, const char *from)
{
    char *head = xasprintf("\n| `%s` |", from);
    const char *at = strstr(strstr(text, "## 4. States"), head);
    char *row = at != NULL ? xstrndup(at + strlen(head), strcspn(at + strlen(head), "\n")) : NULL;
    free(head);
    return row;
}

Test(study_states, the_protocols_table_of_moves_is_the_codes)
{
    char *text = NULL;
    size_t len = 0;
    struct mag_err err = {0};
    cr_assert_eq(mjson_read_file(MAG_SOURCE_ROOT "/PROTOCOL.md", 1 << 20, &text, &len, &err),
                 MAG_OK, "%s", err.text);
    for (int from = 0; from < TRIAL_STATES; from++) {
        char *row = protocol_row(text, trial_state_name((enum trial_state)from));
        cr_assert_not_null(row, "%s", trial_state_name((enum trial_state)from));
        for (int to = 0; to < TRIAL_STATES; to++) {
            char *name = xasprintf("`%s`", trial_state_name((enum trial_state)to));
            cr_assert_eq(strstr(row, name) != NULL,
                         trial_may_move((enum trial_state)from, (enum trial_state)to), "%d to %d",
                         from, to);
            free(name);
        }
        free(row);
    }
    free(text);
}

Test(study_states, names_of_states_and_causes_read_back)
{
    for (int i = 0; i < TRIAL_STATES; i++) {
        enum trial_state s = TRIAL_WAITING;
        cr_assert(trial_state_from_name(trial_state_name((enum trial_state)i), &s));
        cr_assert_eq((int)s, i);
    }
    for (int i = 0; i <= FAIL_CLIENT; i++) {
        enum fail_cause c = FAIL_NONE;
        cr_assert(fail_cause_from_name(fail_cause_name((enum fail_cause)i), &c));
        cr_assert_eq((int)c, i);
    }
    enum trial_state s = TRIAL_WAITING;
    cr_assert_not(trial_state_from_name("lost", &s));
    cr_assert_str_eq(trial_state_name((enum trial_state)99), "unknown");
}

/* ---- codec ---- */

static char *maybe_text(struct pcg64 *g)
{
    static const char *const texts[] = {"", "plain", "with \"quotes\" and \\",
                                        "line\nbreak\ttab \x01", "µ → ∞"};
    uint64_t i = pcg64_below(g, 6);
    return i < 5 ? xstrdup(texts[i]) : NULL;
}

static int64_t maybe_int(struct pcg64 *g, int64_t max)
{
    return pcg64_below(g, 2) == 0 ? 0 : (int64_t)pcg64_below(g, (uint64_t)max);
}

static void random_points(struct pcg64 *g, struct event *ev)
{
    int n = (int)pcg64_below(g, 4);
    for (int i = 0; i < n; i++) {
        int k = (int)pcg64_below(g, 3);
        struct event_point *p = event_add_point(ev, maybe_int(g, 1000), k);
        for (int j = 0; j < k; j++) {
            p->values[j].name = maybe_text(g);
            p->values[j].value = pcg64_below(g, 4) == 0
                                     ? (double)NAN
                                     : pcg64_normal(g) * pow(10, (double)pcg64_below(g, 30));
        }
    }
}

static void random_grants(struct pcg64 *g, struct event *ev, int dims)
{
    int n = (int)pcg64_below(g, 4);
    for (int i = 0; i < n; i++) {
        struct event_grant *gr = event_add_grant(ev);
        gr->trial = 1 + maybe_int(g, 1000);
        gr->attempt = maybe_int(g, 5);
        gr->budget = maybe_int(g, 100);
        gr->bracket = (int32_t)maybe_int(g, 4);
        gr->rung = (int32_t)maybe_int(g, 4);
        gr->created = pcg64_below(g, 2) == 0;
        gr->resume_step = maybe_int(g, 9) - 1;
        gr->resume_uri = maybe_text(g);
        if (gr->created) {
            gr->point = xcalloc((size_t)dims + 1, sizeof(double));
            for (int k = 0; k < dims; k++) {
                gr->point[k] = pcg64_below(g, 5) == 0 ? (double)NAN : pcg64_double(g) - 0.5;
            }
        }
    }
}

static void random_event(struct pcg64 *g, struct event *ev, int dims)
{
    event_init(ev, (enum event_kind)(1 + pcg64_below(g, EV_LAST)));
    ev->trial = maybe_int(g, INT64_MAX);
    ev->attempt = maybe_int(g, 7);
    ev->holder = maybe_text(g);
    ev->request = maybe_text(g);
    ev->body_hash = maybe_text(g);
    ev->count = (int)maybe_int(g, 1001);
    ev->lease_ms = maybe_int(g, 1000000);
    ev->from_worker = pcg64_below(g, 2) == 0;
    ev->where =
        pcg64_below(g, 2) == 0 ? NULL : json_pack("{s:s,s:[i,f]}", "host", "h", "n", 3, 0.1);
    ev->checkpoint_step = pcg64_below(g, 2) == 0 ? -1 : maybe_int(g, 99);
    if (ev->checkpoint_step >= 0) {
        ev->checkpoint_uri = maybe_text(g);
        ev->checkpoint_meta = maybe_text(g);
    }
    ev->told = (enum trial_state)pcg64_below(g, TRIAL_STATES);
    ev->uncounted = pcg64_below(g, 2) == 0;
    ev->has_value = pcg64_below(g, 2) == 0;
    ev->value = ev->has_value ? (pcg64_below(g, 3) == 0 ? (double)NAN : pcg64_normal(g)) : 0;
    ev->cause = (enum fail_cause)pcg64_below(g, FAIL_CLIENT + 1);
    ev->retry = pcg64_below(g, 2) == 0;
    ev->reason = maybe_text(g);
    ev->detail =
        pcg64_below(g, 2) == 0 ? NULL : json_pack("{s:{s:f}}", "params", "x", pcg64_double(g));
    ev->waiting = pcg64_below(g, 2) == 0;
    ev->done = pcg64_below(g, 2) == 0;
    ev->why_code = maybe_text(g);
    ev->why = maybe_text(g);
    ev->action = (enum report_action)pcg64_below(g, 3);
    ev->action_step = maybe_int(g, 9) - 1;
    ev->late = pcg64_below(g, 2) == 0;
    ev->changed = pcg64_below(g, 2) == 0;
    ev->state = (enum trial_state)pcg64_below(g, TRIAL_STATES);
    ev->state_attempt = maybe_int(g, 9);
    ev->created_trial = maybe_int(g, 9);
    ev->study = (enum study_state)pcg64_below(g, 5);
    ev->study_why_code = maybe_text(g);
    ev->study_why = maybe_text(g);
    for (uint64_t i = pcg64_below(g, 3); i > 0; i--) {
        event_add_move(ev, 1 + maybe_int(g, 99), (enum trial_state)pcg64_below(g, TRIAL_STATES));
    }
    random_points(g, ev);
    random_grants(g, ev, dims);
}

Test(study_states, any_event_reads_back_as_the_same_bytes)
{
    struct pcg64 g;
    pcg_stream(&g, 11, "codec", 0);
    for (int i = 0; i < 5000; i++) {
        int dims = (int)pcg64_below(&g, 4);
        struct event ev, back;
        struct mag_err err = {0};
        struct buf a = {0}, b = {0};
        random_event(&g, &ev, dims);
        event_encode(&ev, dims, &a);
        enum mag_status st = event_decode(ev.kind, a.data, a.len, dims, &back, &err);
        cr_assert_eq(st, MAG_OK, "%s: %s", err.text, a.data);
        cr_assert(back.decided);
        event_encode(&back, dims, &b);
        cr_assert_str_eq(a.data, b.data);
        json_t *doc = json_loadb(a.data, a.len, JSON_REJECT_DUPLICATES, NULL);
        cr_assert_not_null(doc, "%s", a.data);
        cr_assert_eq(back.n_points, ev.n_points);
        cr_assert_eq(back.n_grants, ev.n_grants);
        cr_assert_eq(back.trial, ev.trial);
        json_decref(doc);
        event_fini(&ev);
        event_fini(&back);
        buf_fini(&a);
        buf_fini(&b);
    }
}

Test(study_states, a_damaged_record_is_refused_with_a_sentence)
{
    static const char *const damaged[] = {
        "",
        "[]",
        "{",
        "{\"trial\":-1}",
        "{\"trial\":\"1\"}",
        "{\"trial\":1,\"trial\":1}",
        "{\"nonsense\":1}",
        "{\"state\":7}",
        "{\"action\":3}",
        "{\"count\":1001}",
        "{\"grants\":[{}]}",
        "{\"grants\":[{\"trial\":1,\"point\":[0.5,0.5]}]}",
        "{\"grants\":[{\"trial\":1,\"point\":[\"a\"]}]}",
        "{\"grants\":[{\"trial\":1,\"colour\":1}]}",
        "{\"moves\":[[1]]}",
        "{\"moves\":[[1,9]]}",
        "{\"points\":[[1,null]]}",
        "{\"points\":[[1,2,3]]}",
        "{\"points\":[[1.5]]}",
        "{\"checkpoint\":{\"uri\":\"u\"}}",
        "{\"checkpoint\":{\"step\":1,\"x\":2}}",
        "{\"late\":1}",
        "{\"value\":\"NaN\"}",
    };
    for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
        struct event ev;
        struct mag_err err = {0};
        enum mag_status st = event_decode(EV_REPORT, damaged[i], strlen(damaged[i]), 1, &ev, &err);
        cr_assert_eq(st, MAG_CORRUPT, "%s", damaged[i]);
        cr_assert_neq(err.text[0], '\0', "%s", damaged[i]);
    }
    struct event ev;
    cr_assert_eq(event_decode((enum event_kind)99, "{}", 2, 1, &ev, NULL), MAG_CORRUPT);
}
