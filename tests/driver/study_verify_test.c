/* SPDX-License-Identifier: Apache-2.0
 *
 * Verify finds what was not decided; replay refuses what cannot follow; estimates follow durations.
 */
#include "tests/driver/study_lab.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

TestSuite(study_verify, .timeout = 60);

#define HEAD                                                                                       \
    "{'objective': {'metric': 'acc', 'direction': 'max'}, 'searchspace': {'x': ['DOUBLE', [0, "    \
    "1]]}, 'seed': 5,"
#define ASHA                                                                                       \
    HEAD " 'optimizer': {'algorithm': 'asha'}, 'resource': {'min': 1, 'max': 9}, 'limits': "       \
         "{'trials': 6}}"

static void history(struct lab *l)
{
    lab_open(l, ASHA, true);
    lab_ask(l, "a", 4);
    for (int i = 1; i <= 4; i++) {
        lab_report(l, i, 1, 1, 0.1 * i);
    }
    lab_ask(l, "a", 1); /* promotes 4 */
    lab_tell_state(l, 4, 2, TRIAL_FAILED, FAIL_SIGNAL, "killed");
    lab_ask(l, "a", 1);
    lab_tell(l, 4, 3, 0.9);
}

static void decode(const struct lab *l, int i, const char *text, struct event *ev)
{
    struct mag_err err = {0};
    enum mag_status st = event_decode(l->rows[i].kind, text, strlen(text), 1, ev, &err);
    cr_assert_eq(st, MAG_OK, "%s", err.text);
    ev->seq = l->rows[i].seq;
    ev->wall_ms = l->rows[i].wall_ms;
    ev->up_ms = l->rows[i].up_ms;
}

/* The first `from` in row i becomes `to`. */
static char *forged(const struct lab *l, int i, const char *from, const char *to)
{
    const char *text = l->rows[i].text;
    const char *at = strstr(text, from);
    cr_assert_not_null(at, "no %s in %s", from, text);
    return xasprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

Test(study_verify, a_forged_decision_is_named_by_event_kind_and_trial)
{
    static const struct {
        int row;
        const char *from, *to;
    } rows[] = {
        {0, "\"trial\":3}", "\"trial\":4}"},                           /* another trial */
        {0, "\"budget\":1", "\"budget\":3"},                           /* another budget */
        {0, "\"point\":[0.", "\"point\":[0.0"},                        /* another point */
        {1, "\"action\":1", "\"action\":2"},                           /* another action */
        {5, "\"trial\":4}", "\"trial\":3}"},                           /* another promotion */
        {6, "\"state_attempt\":2", "\"state\":5,\"state_attempt\":2"}, /* failed, not retried */
    };
    for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
        struct lab l;
        history(&l);
        struct verifier *v = verifier_create(lab_spec(ASHA));
        struct verify_result res = {0};
        for (int i = 0; i < l.n_rows; i++) {
            struct event ev;
            char *text = i == rows[k].row ? forged(&l, i, rows[k].from, rows[k].to)
                                          : xstrdup(l.rows[i].text);
            decode(&l, i, text, &ev);
            bool same = verifier_feed(v, &ev, &res);
            cr_assert_eq(same, i < rows[k].row, "forgery %zu, row %d: %s", k, i, res.text);
            free(text);
            event_fini(&ev);
        }
        cr_assert_eq(res.first_bad, rows[k].row + 1);
        cr_assert_not_null(strstr(res.text, "recorded"), "%s", res.text);
        cr_assert_not_null(strstr(res.text, event_kind_name(l.rows[rows[k].row].kind)), "%s",
                           res.text);
        free(res.text);
        verifier_destroy(v);
        lab_close(&l);
    }
}

Test(study_verify, other_words_for_the_same_decision_are_no_difference)
{
    struct lab l;
    history(&l);
    struct verifier *v = verifier_create(lab_spec(ASHA));
    struct verify_result res = {0};
    for (int i = 0; i < l.n_rows; i++) {
        struct event ev;
        decode(&l, i, l.rows[i].text, &ev);
        if (ev.why != NULL) {
            free(ev.why);
            ev.why = xstrdup("as an older version put it");
        }
        cr_assert(verifier_feed(v, &ev, &res), "%s", res.text);
        event_fini(&ev);
    }
    verifier_destroy(v);
    lab_close(&l);
}

Test(study_verify, replay_refuses_a_record_with_a_hole_or_out_of_order)
{
    for (int skip = 1; skip < 8; skip++) {
        struct lab l;
        history(&l);
        struct study *s = study_create(lab_spec(ASHA));
        enum mag_status st = MAG_OK;
        struct mag_err err = {0};
        for (int i = 0; i < l.n_rows && st == MAG_OK; i++) {
            struct event ev;
            if (i == skip) {
                continue;
            }
            decode(&l, i, l.rows[i].text, &ev);
            st = study_apply(s, &ev, 0, &err);
            event_fini(&ev);
        }
        cr_assert_eq(st, MAG_CORRUPT);
        cr_assert_not_null(strstr(err.text, "missing"), "%s", err.text);
        study_destroy(s);
        lab_close(&l);
    }
}

Test(study_verify, replay_refuses_decisions_that_the_state_machine_forbids)
{
    static const struct {
        int row;
        const char *from, *to;
    } rows[] = {
        {0, "\"trial\":1}", "\"trial\":9}"},
        {0, "\"attempt\":1", "\"attempt\":2"},
        {0, "\"budget\":1", "\"budget\":99"},
        {0, "\"point\":[0.", "\"point\":[7."},
        {1, "\"state\":2", "\"state\":6"},
        {5, "\"trial\":4}", "\"trial\":77}"},
        {5, "\"attempt\":2", "\"attempt\":3"},
        {6, "\"state_attempt\":2", "\"state\":3,\"state_attempt\":2"},
        {6, "\"trial\":4", "\"trial\":400"},
        {6, "\"trial\":4", "\"study\":4,\"trial\":4"},
        {6, "\"attempt\":2", "\"attempt\":2,\"moves\":[[4,1]]"},
    };
    for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
        struct lab l;
        history(&l);
        struct study *s = study_create(lab_spec(ASHA));
        for (int i = 0; i <= rows[k].row; i++) {
            struct event ev;
            struct mag_err err = {0};
            char *text = i == rows[k].row ? forged(&l, i, rows[k].from, rows[k].to)
                                          : xstrdup(l.rows[i].text);
            decode(&l, i, text, &ev);
            enum mag_status st = study_apply(s, &ev, 0, &err);
            cr_assert_eq(st, i == rows[k].row ? MAG_CORRUPT : MAG_OK, "forgery %zu: %s", k, text);
            cr_assert(st == MAG_OK || err.text[0] != '\0');
            free(text);
            event_fini(&ev);
        }
        study_destroy(s);
        lab_close(&l);
    }
}

Test(study_verify, replay_follows_the_record_where_it_would_decide_otherwise)
{
    struct lab l;
    history(&l);
    struct study *s = study_create(lab_spec(ASHA));
    for (int i = 0; i < 5; i++) {
        struct event ev;
        struct mag_err err = {0};
        decode(&l, i, l.rows[i].text, &ev);
        if (i == 0) {
            ev.grants[1].point[0] = 0.5;
        }
        if (i == 1) { /* trial 1 was paused; here it was stopped */
            ev.action = ACT_STOP;
            ev.state = TRIAL_STOPPED;
        }
        cr_assert_eq(study_apply(s, &ev, 0, &err), MAG_OK, "%s", err.text);
        event_fini(&ev);
    }
    cr_assert_eq(study_trial(s, 2)->point[0], 0.5);
    cr_assert_eq(study_trial(s, 1)->state, TRIAL_STOPPED);
    cr_assert_eq(study_trial(s, 2)->state, TRIAL_PAUSED);
    study_destroy(s);
    lab_close(&l);
}

Test(study_verify, a_record_cut_anywhere_replays_to_the_state_of_that_moment)
{
    struct lab l;
    history(&l);
    for (int n = 0; n <= l.n_rows; n++) {
        struct study *a = lab_replay(&l, n);
        struct study *b = lab_replay(&l, n);
        cr_assert_eq(study_digest(a), study_digest(b));
        cr_assert_eq(study_seq(a), n);
        study_destroy(a);
        study_destroy(b);
    }
    lab_close(&l);
}

/* ---- estimates ---- */

Test(study_verify, remaining_time_follows_the_steps_seen)
{
    struct lab l;
    lab_open(&l,
             HEAD
             " 'optimizer': {'algorithm': 'asha', 'bracket': 2}, 'resource': {'min': 1, 'max': 9},"
             " 'limits': {'trials': 2}}",
             true);
    lab_ask(&l, "a", 1);
    cr_assert_eq(study_remaining_ms(l.s, 1, l.now_ns), -1, "nothing seen yet");
    for (int step = 1; step <= 8; step++) {
        lab_advance(&l, 2);
        lab_report(&l, 1, 1, step, 0.5);
    }
    int64_t left = study_remaining_ms(l.s, 1, l.now_ns);
    cr_assert(left >= 1900 && left <= 2100, "%lld", (long long)left);
    lab_advance(&l, 1.5);
    left = study_remaining_ms(l.s, 1, l.now_ns);
    cr_assert(left >= 400 && left <= 600, "%lld", (long long)left);
    cr_assert_eq(study_remaining_ms(l.s, 2, l.now_ns), -1);
    lab_close(&l);
}

Test(study_verify, the_estimated_end_follows_the_pace_and_the_time_limit)
{
    struct lab l;
    lab_open(&l,
             HEAD " 'optimizer': {'algorithm': 'random'}, 'limits': {'trials': 10, 'time': 1000}}",
             true);
    cr_assert_eq((int)study_eta_s(l.s, l.now_ns), 1000, "only the limit is known");
    for (int i = 1; i <= 5; i++) {
        lab_ask(&l, "a", 1);
        lab_advance(&l, 10);
        lab_tell(&l, i, 1, 0.5);
    }
    cr_assert_eq((int)(study_eta_s(l.s, l.now_ns) + 0.5), 50);
    lab_ask(&l, "a", 1);
    lab_advance(&l, 5);
    int64_t left = study_remaining_ms(l.s, 6, l.now_ns);
    cr_assert(left >= 4900 && left <= 5100, "%lld", (long long)left);
    lab_close(&l);
}

/* ---- who decided ---- */

/* Feeds the history with `from` replaced by `to` in row `at` (-1 = nowhere); false = it differs. */
static bool feed_forged(int at, const char *from, const char *to, const char *maker_from,
                        const char *maker_to, struct verify_result *res)
{
    struct lab l;
    history(&l);
    struct verifier *v = verifier_create(lab_spec(ASHA));
    bool same = true;
    for (int i = 0; i < l.n_rows && same; i++) {
        struct event ev;
        char *text = i == 0 ? forged(&l, 0, maker_from, maker_to) : xstrdup(l.rows[i].text);
        if (i == at) {
            free(l.rows[i].text);
            l.rows[i].text = text;
            text = forged(&l, i, from, to);
        }
        decode(&l, i, text, &ev);
        same = verifier_feed(v, &ev, res);
        event_fini(&ev);
        free(text);
    }
    verifier_destroy(v);
    for (int i = 0; i < l.n_rows; i++) {
        free(l.rows[i].text);
    }
    l.n_rows = 0;
    free(l.rows);
    l.rows = NULL;
    lab_close(&l);
    return same;
}

#define MAKER "\"maker\":\"asha 1, random 1\""

Test(study_verify, the_first_event_names_the_algorithms_and_their_versions)
{
    struct lab l;
    history(&l);
    cr_assert_not_null(strstr(l.rows[0].text, MAKER), "%s", l.rows[0].text);
    for (int i = 1; i < l.n_rows; i++) {
        cr_assert_null(strstr(l.rows[i].text, "maker"), "%s", l.rows[i].text);
    }
    lab_close(&l);
    lab_open(&l, HEAD " 'early_stopping': {'rule': 'median'}, 'optimizer': {'algorithm': 'de'}}",
             true);
    lab_ask(&l, "a", 1);
    cr_assert_not_null(strstr(l.rows[0].text, "\"maker\":\"de 2, median 1\""), "%s",
                       l.rows[0].text);
    lab_close(&l);
}

Test(study_verify, decisions_of_another_version_are_followed_and_counted)
{
    struct verify_result res = {0};
    cr_assert(feed_forged(0, "\"point\":[0.", "\"point\":[0.0", MAKER,
                          "\"maker\":\"asha 9, random 1\"", &res),
              "%s", res.text);
    cr_assert_eq(res.events, 0);
    cr_assert_gt(res.skipped, 7);
    cr_assert_str_eq(res.other, "asha 9, random 1");
    free(res.other);
}

Test(study_verify, what_cannot_follow_is_named_in_another_versions_record_too)
{
    struct verify_result res = {0};
    cr_assert_not(feed_forged(5, "\"trial\":4}", "\"trial\":3}", MAKER,
                              "\"maker\":\"asha 9, random 1\"", &res));
    cr_assert_geq(res.first_bad, 6);
    cr_assert_not_null(res.text);
    free(res.text);
    free(res.other);
}

Test(study_verify, a_record_that_names_nobody_is_derived_and_says_so_where_it_differs)
{
    struct verify_result res = {0};
    cr_assert(feed_forged(-1, NULL, NULL, "," MAKER, "", &res), "%s", res.text);
    cr_assert_eq(res.skipped, 0);
    cr_assert_not(
        feed_forged(0, "\"point\":[0.", "\"point\":[0.0", "," MAKER, "", &res));
    cr_assert_not_null(strstr(res.text, "too old to say"), "%s", res.text);
    free(res.text);
}

Test(study_verify, a_later_version_names_itself_and_its_decisions_are_derived_again)
{
    struct lab l;
    history(&l);
    struct study *s = study_create(lab_spec(ASHA));
    struct verifier *v = verifier_create(lab_spec(ASHA));
    struct verify_result res = {0};
    struct mag_err err = {0};
    struct event ev;
    for (int i = 0; i < 3; i++) { /* an older version's part of the record */
        char *text = i == 0 ? forged(&l, 0, MAKER, "\"maker\":\"asha 0, random 1\"")
                            : xstrdup(l.rows[i].text);
        decode(&l, i, text, &ev);
        cr_assert(verifier_feed(v, &ev, &res), "%s", res.text);
        cr_assert_eq(study_apply(s, &ev, 0, &err), MAG_OK, "%s", err.text);
        event_fini(&ev);
        free(text);
    }
    study_rearm(s, 1000);
    for (int i = 0; i < 2; i++) { /* this version goes on */
        event_init(&ev, EV_ASK);
        ev.holder = xstrdup("b");
        ev.count = 1;
        cr_assert_eq(study_apply(s, &ev, 2000 + i, &err), MAG_OK, "%s", err.text);
        cr_assert_eq(ev.maker != NULL, i == 0);
        cr_assert(verifier_feed(v, &ev, &res), "%s", res.text);
        event_fini(&ev);
    }
    cr_assert_eq(res.skipped, 3);
    cr_assert_eq(res.events, 2);
    free(res.other);
    verifier_destroy(v);
    study_destroy(s);
    lab_close(&l);
}
