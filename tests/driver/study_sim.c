/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/driver/study_sim.h"

#include "base/alloc.h"
#include "base/pcg.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOLDS_MAX 64
#define TRIALS_MAX 2000

/* What somebody believes to hold. Ghosts are believers whom the study may have given up. */
struct hold {
    int64_t trial, attempt, budget, step;
    char holder[16];
    bool reserved, ghost;
};

/* The world's own record of a trial, from the study's answers alone. */
struct model {
    int64_t attempt, seen_step;
    bool open; /* given and not ended, given back or expired */
    bool final;
    enum trial_state end;
};

/* What the optimizer was told of a point. */
struct told {
    int adopted, finished;
    enum opt_outcome outcome;
    bool has_value;
    double value;
};

struct world {
    struct sim_options o;
    struct lab l;
    struct pcg64 g;    /* what happens */
    struct pcg64 g_re; /* when drivers restart: another stream, so that nothing else changes */
    struct hold holds[HOLDS_MAX];
    int n_holds;
    struct model trials[TRIALS_MAX];
    struct told points[TRIALS_MAX];
    int64_t limit, parallel;
    int request;
    struct sim_result r;
};

/* ---- a spy between study and optimizer ---- */

static struct world *watched; /* the world whose live study's optimizer is counted */
static bool counting;

void __real_optimizer_adopt(struct optimizer *o, const struct opt_suggestion *s);
void __wrap_optimizer_adopt(struct optimizer *o, const struct opt_suggestion *s);
void __real_optimizer_finish(struct optimizer *o, int64_t trial, enum opt_outcome outcome,
                             const struct opt_result *r);
void __wrap_optimizer_finish(struct optimizer *o, int64_t trial, enum opt_outcome outcome,
                             const struct opt_result *r);

void __real_optimizer_suggest(const struct optimizer *o, const struct opt_ask *ask,
                              struct opt_suggestion *out);
void __wrap_optimizer_suggest(const struct optimizer *o, const struct opt_ask *ask,
                              struct opt_suggestion *out);

void __wrap_optimizer_suggest(const struct optimizer *o, const struct opt_ask *ask,
                              struct opt_suggestion *out)
{
    MAG_ASSERT(!lab_replaying, "a replay asked the optimizer");
    __real_optimizer_suggest(o, ask, out);
}

void __wrap_optimizer_adopt(struct optimizer *o, const struct opt_suggestion *s)
{
    if (counting && watched != NULL && s->answer == OPT_TRIAL && s->trial < TRIALS_MAX) {
        watched->points[s->trial].adopted++;
    }
    __real_optimizer_adopt(o, s);
}

void __wrap_optimizer_finish(struct optimizer *o, int64_t trial, enum opt_outcome outcome,
                             const struct opt_result *r)
{
    if (counting && watched != NULL && trial < TRIALS_MAX) {
        struct told *p = &watched->points[trial];
        p->finished++;
        p->outcome = outcome;
        p->has_value = r != NULL;
        p->value = r != NULL ? r->value : 0;
    }
    MAG_ASSERT(r == NULL || isfinite(r->value), "trial %lld finished with no number", (long long)trial);
    __real_optimizer_finish(o, trial, outcome, r);
}

/* ---- the world's checks ---- */

#define CHECK(w, cond, fmt, ...)                                                                   \
    MAG_ASSERT(cond, "%s seed %llu event %d: " fmt, (w)->o.algorithm,                              \
               (unsigned long long)(w)->o.seed, (w)->l.n_rows, __VA_ARGS__)

static uint64_t below(struct world *w, uint64_t n)
{
    return pcg64_below(&w->g, n);
}

static bool chance(struct world *w, double p)
{
    return pcg64_double(&w->g) < p;
}

/* The optimizer hears of a point's end once, by the mean of its folds. */
static void check_point(struct world *w, const struct trial *t)
{
    const struct told *p = &w->points[t->ordinal];
    enum trial_state state = study_point_state(w->l.s, t);
    bool final = trial_state_is_final(state);
    const struct trial *f;
    double sum = 0;
    int n = 0;
    int open = 0;
    for (int i = 0; (f = study_point_fold(w->l.s, study_trial(w->l.s, t->point_of), i)) != NULL; i++) {
        CHECK(w, f->point_of == t->point_of && f->id == t->point_of + i, "fold %d of trial %lld",
              i + 1, (long long)t->id);
        n += f->state == TRIAL_COMPLETED;
        sum += f->state == TRIAL_COMPLETED ? f->value : 0;
        open += !trial_state_is_final(f->state);
    }
    CHECK(w, p->adopted == 1, "trial %lld was adopted %d times", (long long)t->id, p->adopted);
    CHECK(w, p->finished == (final ? 1 : 0), "the point of trial %lld was finished %d times when %s",
          (long long)t->id, p->finished, trial_state_name(state));
    CHECK(w, !final || open == 0, "the point of trial %lld ended and %d folds go on",
          (long long)t->id, open);
    if (final && p->has_value && study_folds(w->l.s) > 1) {
        double mean = sum / n;
        double told = study_spec(w->l.s)->maximize ? -p->value : p->value;
        CHECK(w, n > 0 && fabs(told - mean) < 1e-12, "point of trial %lld: told %.17g, mean %.17g",
              (long long)t->id, told, mean);
        CHECK(w, p->outcome != OPT_COMPLETED || n == study_folds(w->l.s),
              "trial %lld: %d folds are a whole point", (long long)t->id, n);
    }
}

static void check_trial(struct world *w, int64_t id)
{
    const struct trial *t = study_trial(w->l.s, id);
    struct model *m = &w->trials[id];
    bool open = t->state == TRIAL_RUNNING || t->reserved;
    CHECK(w, open == m->open, "trial %lld is %s, the world thinks %s", (long long)id,
          trial_state_name(t->state), m->open ? "open" : "not open");
    CHECK(w, t->attempt == m->attempt, "trial %lld has attempt %lld, not %lld", (long long)id,
          (long long)t->attempt, (long long)m->attempt);
    CHECK(w, !m->final || t->state == m->end, "trial %lld left a final state", (long long)id);
    CHECK(w, t->seen_step >= m->seen_step, "trial %lld was unseen", (long long)id);
    CHECK(w, heap_has(&t->lease) == (open && t->lease_ms > 0), "lease of trial %lld",
          (long long)id);
    m->seen_step = t->seen_step;
    if (trial_state_is_final(t->state)) {
        m->final = true;
        m->end = t->state;
    }
    if (!trial_is_refit(t)) {
        check_point(w, t);
    }
}

static void check_world(struct world *w)
{
    int64_t counts[TRIAL_STATES], sum = 0, seen[TRIAL_STATES] = {0};
    const int64_t n = study_trials(w->l.s);
    study_counts(w->l.s, counts);
    for (int i = 0; i < TRIAL_STATES; i++) {
        sum += counts[i];
    }
    CHECK(w, sum == n, "counts add up to %lld of %lld", (long long)sum, (long long)n);
    CHECK(w, study_points(w->l.s) <= w->limit, "%lld points, %lld allowed",
          (long long)study_points(w->l.s), (long long)w->limit);
    /* Whoever comes back may be one too many for a while; nothing is given then. */
    bool gave = w->l.ev.kind == EV_ASK && w->l.ev.n_grants > 0;
    CHECK(w, !gave || w->parallel == 0 || counts[TRIAL_RUNNING] <= w->parallel,
          "%lld trials run, %lld allowed", (long long)counts[TRIAL_RUNNING],
          (long long)w->parallel);
    for (int64_t id = 1; id <= n; id++) {
        seen[study_trial(w->l.s, id)->state]++;
        check_trial(w, id);
    }
    CHECK(w, memcmp(counts, seen, sizeof(seen)) == 0, "counts do not match the trials%s", "");
    bool over = study_state_is_final(study_state(w->l.s));
    CHECK(w, !over || counts[TRIAL_RUNNING] + counts[TRIAL_WAITING] == 0,
          "a finished experiment runs%s", "");
    CHECK(w, over == (study_ended_ms(w->l.s) != 0), "the end's date%s", "");
}

/* Takes the outcome of an applied event into the model. */
static void note_event(struct world *w)
{
    const struct event *ev = &w->l.ev;
    for (int i = 0; i < ev->n_grants; i++) {
        const struct event_grant *g = &ev->grants[i];
        struct model *m = &w->trials[g->trial];
        if (g->attempt > 0) {
            CHECK(w, !m->open, "trial %lld was given twice", (long long)g->trial);
            CHECK(w, !m->final, "trial %lld was given after its end", (long long)g->trial);
            CHECK(w, g->attempt == m->attempt + 1, "attempt %lld of trial %lld",
                  (long long)g->attempt, (long long)g->trial);
            m->open = true;
            m->attempt = g->attempt;
        }
    }
    for (int i = 0; i < ev->n_moves; i++) {
        w->trials[ev->moves[i].trial].open = false;
    }
    bool own = ev->kind == EV_REPORT || ev->kind == EV_TELL || ev->kind == EV_EXPIRE ||
               ev->kind == EV_RELEASE || ev->kind == EV_STARTED || ev->kind == EV_TRIAL_CANCEL;
    if (own && !ev->late && ev->changed) {
        w->trials[ev->trial].open = ev->state == TRIAL_RUNNING;
    }
}

/* Everything of a trial that a late message must leave alone. */
static uint64_t essence(const struct trial *t)
{
    double parts[] = {(double)t->state,
                      (double)t->attempt,
                      (double)t->budget,
                      (double)t->step,
                      t->value,
                      (double)t->seen_step,
                      (double)t->failures,
                      (double)t->losses,
                      (double)t->cause,
                      (double)t->checkpoint_step,
                      (double)t->reserved,
                      (double)t->lost,
                      (double)t->losses_in_row};
    uint64_t h = 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        uint64_t bits;
        memcpy(&bits, &parts[i], sizeof(bits));
        h = h * 31 + bits;
    }
    return h * 31 + (t->checkpoint_uri != NULL ? strlen(t->checkpoint_uri) : 0);
}

static void trace(struct world *w, enum mag_status st)
{
    struct buf text = {0};
    event_encode(&w->l.ev, study_spec(w->l.s)->space->n, &text);
    fprintf(stderr, "%lld %s %s %s\n", (long long)w->l.ev.seq, event_kind_name(w->l.ev.kind),
            mag_status_name(st), text.data);
    buf_fini(&text);
}

static enum mag_status apply(struct world *w)
{
    const struct trial *t = study_trial(w->l.s, w->l.ev.trial);
    uint64_t before = t != NULL ? essence(t) : 0;
    int64_t attempt = t != NULL ? t->attempt : 0;
    counting = true;
    struct study *shadow = w->l.shadow;
    w->l.shadow = NULL; /* the spy counts the live study only */
    int rows = w->l.n_rows;
    enum mag_status st = lab_apply(&w->l);
    counting = false;
    w->l.shadow = shadow;
    if (getenv("MAGPIE_SIM_TRACE") != NULL) {
        trace(w, st);
    }
    if (shadow != NULL && w->l.n_rows > rows) {
        lab_follow(&w->l);
    }
    if (st != MAG_OK) {
        return st;
    }
    const struct event *ev = &w->l.ev;
    bool message = ev->kind == EV_REPORT || ev->kind == EV_TELL || ev->kind == EV_STARTED;
    if (message && t != NULL && (ev->late || ev->attempt < attempt)) {
        CHECK(w, essence(t) == before, "an old message changed trial %lld", (long long)t->id);
        CHECK(w, ev->n_moves == 0 && ev->study == study_state(w->l.s),
              "an old message moved others%s", "");
    }
    w->r.late += ev->late;
    if (w->l.n_rows > rows) {
        note_event(w);
        check_world(w);
    } else {
        w->r.repeats++;
    }
    if (w->o.restarts && pcg64_double(&w->g_re) < 0.03) {
        lab_restart(&w->l);
        w->r.restarts++;
    }
    return MAG_OK;
}

/* ---- holders ---- */

static void forget(struct world *w, int i)
{
    w->holds[i] = w->holds[--w->n_holds];
}

static void hold_grants(struct world *w, const char *holder, bool reserved)
{
    for (int i = 0; i < w->l.ev.n_grants; i++) {
        const struct event_grant *g = &w->l.ev.grants[i];
        if (w->n_holds == HOLDS_MAX) {
            forget(w, (int)below(w, HOLDS_MAX)); /* it died with its reply: the lease will tell */
        }
        struct hold *h = &w->holds[w->n_holds++];
        *h = (struct hold){.trial = g->trial,
                           .attempt = g->attempt,
                           .budget = g->budget,
                           .step = g->resume_step > 0 ? g->resume_step : 0,
                           .reserved = reserved};
        (void)snprintf(h->holder, sizeof(h->holder), "%s", holder);
        w->r.resumed += g->resume_step >= 0;
    }
}

static int64_t lease_of(struct world *w)
{
    return w->o.leases ? 5000 + (int64_t)below(w, 20000) : 0;
}

static void do_ask(struct world *w, bool reserve)
{
    char holder[16];
    (void)snprintf(holder, sizeof(holder), "w%d", (int)below(w, 6));
    struct event *ev = lab_event(&w->l, reserve ? EV_RESERVE : EV_ASK, 0, 0);
    ev->holder = xstrdup(holder);
    ev->count = reserve ? 0 : 1 + (int)below(w, 3);
    ev->lease_ms = lease_of(w);
    ev->from_worker = chance(w, 0.5);
    bool keyed = !reserve && chance(w, 0.3);
    if (keyed) {
        bool repeated = w->request > 0 && chance(w, 0.3);
        int n = repeated ? w->request : ++w->request;
        free(ev->holder);
        ev->holder = xstrdup("keyed");
        ev->count = 1 + n % 3;
        ev->request = xasprintf("r%d", n);
        ev->body_hash = xasprintf("h%d", ev->count);
    }
    enum mag_status st = apply(w);
    CHECK(w, st == MAG_OK, "ask: %s", w->l.err.text);
    if (w->l.ev.seq > 0) {
        hold_grants(w, holder, reserve);
        w->r.reserved += reserve;
    }
}

static double value_of(const struct world *w, const struct hold *h, int64_t step)
{
    const struct trial *t = study_trial(w->l.s, h->trial);
    double x = t->point[0];
    double v =
        fmod(fabs(x * 7.31 + (double)(h->trial % 5) * 0.1), 1.0) * (1.0 - 0.5 / (double)(step + 1));
    return floor(v * 50) / 50; /* ties are wanted */
}

static void do_report(struct world *w, int i)
{
    struct hold *h = &w->holds[i];
    struct event *ev = lab_event(&w->l, EV_REPORT, h->trial, h->attempt);
    int n = (int)below(w, 4);
    bool nan = chance(w, 0.01);
    for (int k = 0; k < n; k++) {
        h->step++;
        struct event_point *p = event_add_point(ev, h->step, chance(w, 0.2) ? 2 : 1);
        p->values[0].value = nan ? (double)NAN : value_of(w, h, h->step);
        if (p->n_values == 2) {
            p->values[1] =
                (struct event_value){.name = xstrdup("loss"), .value = 1 - p->values[0].value};
        }
    }
    if (h->step > 0 && chance(w, 0.4)) {
        ev->checkpoint_step = h->step;
        ev->checkpoint_uri = xasprintf("ck/%lld/%lld-%lld", (long long)h->trial, (long long)h->step,
                                       (long long)h->attempt);
    }
    if (chance(w, 0.1)) {
        ev->where = json_pack("{s:s}", "host", h->holder);
    }
    enum mag_status st = apply(w);
    CHECK(w, st == MAG_OK, "report: %s", w->l.err.text);
    if (w->l.ev.action != ACT_CONTINUE || w->l.ev.late) {
        if (chance(w, 0.8)) {
            forget(w, i);
        }
    }
    if (chance(w, 0.1)) { /* the reply was lost: the same again */
        ev = &w->l.ev;
        struct event again;
        struct buf text = {0};
        enum report_action action = ev->action;
        bool late = ev->late, had_points = ev->n_points > 0;
        event_encode(ev, study_spec(w->l.s)->space->n, &text);
        st = event_decode(EV_REPORT, text.data, text.len, study_spec(w->l.s)->space->n, &again,
                          NULL);
        CHECK(w, st == MAG_OK, "copy of %s", text.data);
        buf_fini(&text);
        event_clear_decision(&again);
        event_fini(&w->l.ev);
        w->l.ev = again;
        st = apply(w);
        CHECK(w, st == MAG_OK, "repeat: %s", w->l.err.text);
        bool plain = had_points && w->l.ev.n_points > 0 && w->l.ev.points[0].n_values == 1;
        CHECK(w,
              !plain || late || w->l.ev.action == action ||
                  w->l.ev.points[w->l.ev.n_points - 1].n_values != 1 || n > 1,
              "a repeated report was answered %s, before %s", report_action_name(w->l.ev.action),
              report_action_name(action));
    }
}

static void do_tell(struct world *w, int i)
{
    struct hold h = w->holds[i];
    struct event *ev = lab_event(&w->l, EV_TELL, h.trial, h.attempt);
    double p = pcg64_double(&w->g);
    if (p < 0.6) {
        ev->told = TRIAL_COMPLETED;
        ev->has_value = chance(w, 0.7) || study_trial(w->l.s, h.trial)->step < 0;
        ev->value = ev->has_value ? value_of(w, &h, h.budget > 0 ? h.budget : h.step) : 0;
    } else if (p < 0.8) {
        ev->told = TRIAL_FAILED;
        ev->cause = (enum fail_cause)below(w, FAIL_CLIENT + 1);
        ev->retry = chance(w, 0.3);
        ev->reason = xstrdup("it broke");
    } else {
        ev->told = TRIAL_WAITING;
        ev->uncounted = chance(w, 0.5);
    }
    if (!h.ghost && chance(w, 0.9)) {
        forget(w, i);
    }
    enum mag_status st = apply(w);
    bool valueless = st == MAG_INVALID && w->l.ev.told == TRIAL_COMPLETED && !w->l.ev.has_value;
    CHECK(w, st == MAG_OK || valueless, "tell: %s", w->l.err.text);
    w->r.retries += st == MAG_OK && w->l.ev.told == TRIAL_FAILED && w->l.ev.state == TRIAL_WAITING;
    if (st == MAG_OK && chance(w, 0.2)) { /* repeated: the same answer, nothing recorded */
        enum trial_state state = w->l.ev.state;
        bool late = w->l.ev.late;
        event_clear_decision(&w->l.ev);
        int rows = w->l.n_rows;
        st = apply(w);
        CHECK(w,
              st == MAG_OK && w->l.ev.state == state && w->l.ev.late == late && w->l.n_rows == rows,
              "a repeated tell was answered %s", trial_state_name(w->l.ev.state));
    }
}

static void do_started(struct world *w, int i)
{
    struct hold *h = &w->holds[i];
    struct event *ev = lab_event(&w->l, EV_STARTED, h->trial, h->attempt);
    ev->where = json_pack("{s:s}", "host", h->holder);
    enum mag_status st = apply(w);
    CHECK(w, st == MAG_OK, "started: %s", w->l.err.text);
    h->reserved = false;
    if (w->l.ev.late) {
        forget(w, i);
    }
}

static void do_expire(struct world *w, int i, enum event_kind kind)
{
    struct hold *h = &w->holds[i];
    struct event *ev = lab_event(&w->l, kind, h->trial, h->attempt);
    ev->uncounted = kind == EV_EXPIRE && chance(w, 0.3);
    ev->reason = kind == EV_EXPIRE ? xstrdup("its worker is known dead") : NULL;
    h->ghost = true;
    enum mag_status st = apply(w);
    CHECK(w, st == MAG_OK, "%s: %s", event_kind_name(kind), w->l.err.text);
    w->r.losses += kind == EV_EXPIRE;
}

static void do_tick(struct world *w)
{
    event_fini(&w->l.ev);
    while (study_tick(w->l.s, w->l.now_ns, &w->l.ev)) {
        enum mag_status st = apply(w);
        CHECK(w, st == MAG_OK && w->l.ev.seq > 0, "tick: %s", w->l.err.text);
        w->r.losses++;
        event_fini(&w->l.ev);
    }
}

/* ---- operators ---- */

static void do_operator(struct world *w)
{
    int64_t n = study_trials(w->l.s);
    int64_t trial = n > 0 ? 1 + (int64_t)below(w, (uint64_t)n) : 1;
    enum mag_status st = MAG_OK;
    int64_t limit = w->limit;
    char detail[96];
    switch (below(w, 9)) {
    case 0:
        lab_event(&w->l, EV_PAUSE, 0, 0)->detail =
            chance(w, 0.5) ? json_pack("{s:b}", "stop", 1) : NULL;
        break;
    case 1:
    case 2:
        lab_event(&w->l, EV_RESUME, 0, 0);
        break;
    case 3:
        limit = w->limit + (int64_t)below(w, 5);
        (void)snprintf(detail, sizeof(detail), "{\"trials\": %lld}", (long long)limit);
        lab_event(&w->l, EV_EXTEND, 0, 0)->detail = json_loads(detail, 0, NULL);
        break;
    case 4:
    case 5:
        lab_event(&w->l, EV_ENQUEUE, 0, 0)->detail = json_pack(
            "{s:o}", "params",
            space_point_to_json(study_spec(w->l.s)->space, study_trial(w->l.s, trial) != NULL
                                                               ? study_trial(w->l.s, trial)->point
                                                               : (const double[]){1, 1, 1}));
        break;
    case 6:
        lab_event(&w->l, EV_TRIAL_CANCEL, trial, 0);
        break;
    case 7:
        lab_event(&w->l, EV_TRIAL_RETRY, trial, 0);
        break;
    default:
        lab_event(&w->l, chance(w, 0.02) ? EV_CANCEL : EV_NOTE, 0, 0)->detail =
            json_pack("{s:s}", "notes", "hm");
        break;
    }
    int64_t old = w->limit;
    w->limit = limit;
    st = apply(w);
    if (st != MAG_OK) {
        w->limit = old;
    }
}

static void chaos(struct world *w)
{
    lab_advance(&w->l, pcg64_double(&w->g) * (w->o.leases ? 2.0 : 0.5));
    if (w->o.leases) {
        do_tick(w);
    }
    double p = pcg64_double(&w->g);
    int i = w->n_holds > 0 ? (int)below(w, (uint64_t)w->n_holds) : -1;
    if (p < 0.2 || i < 0) {
        do_ask(w, p < 0.03);
    } else if (w->holds[i].reserved && !w->holds[i].ghost && p < 0.8) {
        do_started(w, i);
    } else if (p < 0.7) {
        do_report(w, i);
    } else if (p < 0.84) {
        do_tell(w, i);
    } else if (p < 0.88) {
        do_expire(w, i, EV_EXPIRE);
    } else if (p < 0.9) {
        do_expire(w, i, EV_RELEASE);
    } else if (p < 0.93) {
        forget(w, i); /* dies without a word */
    } else {
        do_operator(w);
    }
}

/* Gives back what nobody will ever tell about. */
static void bury(struct world *w)
{
    for (int64_t id = 1; id <= study_trials(w->l.s); id++) {
        const struct trial *t = study_trial(w->l.s, id);
        if (t->state == TRIAL_RUNNING || t->reserved) {
            struct event *ev = lab_event(&w->l, EV_EXPIRE, id, t->attempt);
            ev->uncounted = true;
            enum mag_status st = apply(w);
            CHECK(w, st == MAG_OK, "bury: %s", w->l.err.text);
        }
    }
    w->n_holds = 0;
}

/* Everybody behaves: the search must end. */
static void finish(struct world *w)
{
    bury(w);
    for (int round = 0; !study_state_is_final(study_state(w->l.s)); round++) {
        CHECK(w, round < 20000, "stuck: %s", event_kind_name(w->l.ev.kind));
        if (study_state(w->l.s) == STUDY_PAUSED) {
            enum mag_status st = lab_event(&w->l, EV_RESUME, 0, 0) != NULL ? apply(w) : MAG_BUG;
            CHECK(w, st == MAG_OK, "resume: %s", w->l.err.text);
            continue;
        }
        bool work = study_has_work(w->l.s);
        do_ask(w, false);
        CHECK(w, work == (w->l.ev.n_grants > 0) || w->l.ev.seq == 0 || w->l.ev.refit > 0,
              "work was promised: %d", work);
        while (w->n_holds > 0) {
            struct hold h = w->holds[0];
            struct event *ev = lab_event(&w->l, EV_TELL, h.trial, h.attempt);
            ev->told = TRIAL_COMPLETED;
            ev->has_value = true;
            ev->value = value_of(w, &h, h.budget);
            forget(w, 0);
            enum mag_status st = apply(w);
            CHECK(w, st == MAG_OK, "tell: %s", w->l.err.text);
        }
    }
    lab_ask(&w->l, "late", 1);
    CHECK(w, w->l.ev.done && w->l.ev.n_grants == 0, "after the end%s", "");
}

/* ---- the search ---- */

static void make_spec(struct world *w, char *out, size_t size)
{
    const struct optimizer_ops *ops = optimizer_find(w->o.algorithm);
    bool resource = (ops->caps & OPT_CAP_RESOURCE) != 0;
    bool finite = (ops->caps & OPT_CAP_FINITE) != 0;
    bool rule = !resource && chance(w, 0.3);
    char validation[80] = "";
    w->limit = 4 + (int64_t)below(w, chance(w, 0.2) ? 200 : 40);
    w->parallel = chance(w, 0.5) ? 0 : 1 + (int64_t)below(w, 5);
    char parallel[40] = "", target[40] = "";
    if (w->parallel > 0) {
        (void)snprintf(parallel, sizeof(parallel), "'parallel': %lld, ", (long long)w->parallel);
    }
    if (chance(w, 0.15)) {
        (void)snprintf(target, sizeof(target), ", 'target': 0.97");
    }
    if (w->o.folds && resource) {
        (void)snprintf(validation, sizeof(validation), ", 'validation': {'train_ratio': 0.75}");
    } else if (w->o.folds) {
        (void)snprintf(validation, sizeof(validation), ", 'validation': {'folds': %d, 'refit': %s}",
                       2 + (int)below(w, 3), chance(w, 0.8) ? "true" : "false");
    }
    (void)snprintf(
        out, size,
        "{'objective': {'metric': 'm', 'direction': '%s'}, 'searchspace': {"
        "'x': %s, 'k': {'type': 'INTEGER', 'range': [1, 5]}, 'c': ['CATEGORICAL', ['a', 'b', "
        "'c']]},"
        "'optimizer': {'algorithm': '%s'}, 'seed': %llu %s %s %s, 'limits': {'trials': %lld, %s"
        "'retries': %d, 'losses': %d, 'failures': %d %s}}",
        chance(w, 0.5) ? "max" : "min", finite ? "['INTEGER', [1, 4]]" : "['DOUBLE', [0, 1]]",
        w->o.algorithm, (unsigned long long)w->o.seed,
        resource ? ", 'resource': {'min': 1, 'max': 9}" : "",
        rule ? ", 'early_stopping': {'rule': 'median', 'min_trials': 2}" : "", validation,
        (long long)w->limit, parallel, (int)below(w, 3), 1 + (int)below(w, 3), chance(w, 0.5) ? 0 : 4, target);
}

static uint64_t digest_rows(const struct lab *l)
{
    uint64_t h = 0xcbf29ce484222325ULL;
    for (int i = 0; i < l->n_rows; i++) {
        for (size_t k = 0; k < l->rows[i].len; k++) {
            h = (h ^ (unsigned char)l->rows[i].text[k]) * 0x100000001b3ULL;
        }
    }
    return h;
}

static void count_points(struct world *w)
{
    for (int64_t id = 1; id <= study_trials(w->l.s); id++) {
        const struct trial *t = study_trial(w->l.s, id);
        bool whole = study_point_state(w->l.s, t) == TRIAL_COMPLETED;
        w->r.refits += trial_is_refit(t);
        w->r.whole += t->fold == 1 && whole;
        w->r.cut += t->fold == 1 && !whole;
    }
    w->r.points = study_points(w->l.s);
}

void sim_run(const struct sim_options *o, struct sim_result *ret)
{
    struct world *w = xcalloc(1, sizeof(*w));
    char spec[1024];
    w->o = *o;
    for (int i = 0; i < TRIALS_MAX; i++) {
        w->trials[i].seen_step = -1;
    }
    pcg_stream(&w->g, o->seed, "sim", 0);
    pcg_stream(&w->g_re, o->seed, "restart", 0);
    make_spec(w, spec, sizeof(spec));
    watched = w;
    lab_open(&w->l, spec, o->shadow);
    for (int i = 0; i < o->steps; i++) {
        chaos(w);
    }
    finish(w);
    w->r.trials = study_trials(w->l.s);
    count_points(w);
    w->r.events = w->l.n_rows;
    w->r.record = digest_rows(&w->l);
    lab_close(&w->l);
    *ret = w->r;
    watched = NULL;
    free(w);
}
