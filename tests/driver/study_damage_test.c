/* SPDX-License-Identifier: Apache-2.0
 *
 * True records, damaged at random: each event is followed or refused with a sentence, and nothing
 * crashes, leaks or asserts. A plain TAP program, so that sanitizers see it whole. MAGPIE_DAMAGE
 * sets the number of damaged records for each algorithm (default 1000).
 */
#include "tests/driver/study_damage.h"
#include "tests/driver/study_lab.h"

#include "base/alloc.h"
#include "base/pcg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A history with every kind of event in it. */
static void live(struct lab *l, const char *spec)
{
    lab_open(l, spec, false);
    lab_ask(l, "a", 4);
    for (int i = 1; i <= 4; i++) {
        lab_checkpoint(l, i, 1, 1, "ck");
        lab_report(l, i, 1, 1, 0.1 * i);
    }
    struct event *ev = lab_event(l, EV_RESERVE, 0, 0);
    ev->holder = xstrdup("w");
    ev->lease_ms = 1000;
    if (lab_apply(l) == MAG_OK && l->ev.n_grants == 1) {
        int64_t trial = l->ev.grants[0].trial, attempt = l->ev.grants[0].attempt;
        lab_event(l, EV_STARTED, trial, attempt)->where = json_pack("{s:s}", "host", "h");
        (void)lab_apply(l);
        lab_event(l, EV_RELEASE, trial, attempt);
        (void)lab_apply(l);
    }
    (void)lab_simple(l, EV_ENQUEUE, 0, "{'params': {'x': 1}}");
    lab_ask_lease(l, "b", 3, 5000);
    lab_advance(l, 10);
    lab_tick(l);
    (void)lab_simple(l, EV_PAUSE, 0, "{'stop': true}");
    (void)lab_simple(l, EV_RESUME, 0, NULL);
    (void)lab_simple(l, EV_NOTE, 0, "{'notes': 'n', 'tags': ['t']}");
    for (int64_t id = 1; id <= study_trials(l->s); id++) {
        const struct trial *t = study_trial(l->s, id);
        if (t->state == TRIAL_RUNNING) {
            (void)(id % 2 ? lab_tell(l, id, t->attempt, 0.5)
                          : lab_tell_state(l, id, t->attempt, TRIAL_FAILED, FAIL_SIGNAL, "s"));
        }
    }
    (void)lab_simple(l, EV_TRIAL_CANCEL, study_trials(l->s), NULL);
    (void)lab_simple(l, EV_TRIAL_RETRY, study_trials(l->s), NULL);
    (void)lab_simple(l, EV_EXTEND, 0, "{'trials': 40, 'time': 60}");
    lab_ask(l, "c", 2);
    lab_advance(l, 100);
    lab_tick(l);
    (void)lab_simple(l, EV_EXTEND, 0, "{'time': 600}");
    lab_ask(l, "c", 2);
    (void)lab_simple(l, EV_CANCEL, 0, NULL);
}

static char *record_of(const struct lab *l, size_t *ret_len)
{
    struct buf b = {0};
    for (int i = 0; i < l->n_rows; i++) {
        buf_addf(&b, "%d ", (int)l->rows[i].kind);
        buf_add(&b, l->rows[i].text, l->rows[i].len);
        buf_addc(&b, '\n');
    }
    *ret_len = b.len;
    return buf_take(&b);
}

/* Changes that keep most of the JSON sound: digits, swapped and dropped lines, other kinds. */
static void damage(struct pcg64 *g, char *text, size_t *len)
{
    for (uint64_t n = 1 + pcg64_below(g, 4); n > 0; n--) {
        size_t at = (size_t)pcg64_below(g, *len);
        switch (pcg64_below(g, 5)) {
        case 0:
        case 1:
        case 2:
            while (at < *len && (text[at] < '0' || text[at] > '9')) {
                at++;
            }
            if (at < *len) {
                text[at] = (char)('0' + pcg64_below(g, 10));
            }
            break;
        case 3: { /* a line goes */
            char *from = memchr(text + at, '\n', *len - at);
            char *to =
                from != NULL ? memchr(from + 1, '\n', *len - (size_t)(from + 1 - text)) : NULL;
            if (to != NULL) {
                memmove(from, to, *len - (size_t)(to - text));
                *len -= (size_t)(to - from);
            }
            break;
        }
        default:
            text[at] = (char)(32 + pcg64_below(g, 95));
            break;
        }
    }
}

static void keep_corpus(int which, const char *text, size_t len)
{
    const char *folder = getenv("MAGPIE_CORPUS");
    if (folder == NULL) {
        return;
    }
    char *path = xasprintf("%s/record-%d", folder, which);
    FILE *f = fopen(path, "wb");
    if (f != NULL) {
        (void)fputc(which, f);
        (void)fwrite(text, 1, len, f);
        (void)fclose(f);
    }
    free(path);
}

int main(void)
{
    const char *text = getenv("MAGPIE_DAMAGE");
    long rounds = text != NULL ? strtol(text, NULL, 10) : 1000;
    struct pcg64 g;
    pcg_stream(&g, 5, "damage", 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("1..%d\n", LAB_SEARCHES);
    for (int which = 0; which < LAB_SEARCHES; which++) {
        struct lab l;
        size_t len = 0;
        long followed = 0, whole = 0;
        live(&l, lab_search(which));
        char *record = record_of(&l, &len);
        keep_corpus(which, record, len);
        int n = damage_replay(lab_spec(lab_search(which)), record, len);
        MAG_ASSERT(n == l.n_rows, "the true record was refused at event %d", n + 1);
        for (long i = 0; i < rounds; i++) {
            char *copy = xstrndup(record, len);
            size_t left = len;
            damage(&g, copy, &left);
            n = damage_replay(lab_spec(lab_search(which)), copy, left);
            followed += n;
            whole += n == l.n_rows;
            free(copy);
        }
        printf("# %d events; of %ld damaged records %ld were still sound, %.1f events followed on "
               "average\n",
               l.n_rows, rounds, whole, (double)followed / (double)rounds);
        bool ok = rounds < 100 || (whole < rounds && followed > rounds * 3);
        printf("%sok %d - damaged records of search %d are followed or refused\n", ok ? "" : "not ",
               which + 1, which);
        lab_close(&l);
        free(record);
    }
    return 0;
}
