/* SPDX-License-Identifier: Apache-2.0
 *
 * What one trial costs the study core: an ask and a tell, each with its row encoded as it is
 * stored; the same replayed; and what a finished trial keeps in memory. Processor time; JSON lines,
 * without and with requests. bench/study [TRIALS] [algorithm] (200000 random)
 */
#include "driver/study.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
    enum event_kind kind;
    size_t at, len;
};

struct run {
    struct study *s;
    struct buf text;
    struct row *rows;
    int64_t n_rows;
    int dims;
    int64_t worst_ns; /* the slowest trial */
    bool keyed;       /* asks carry requests, as our own clients' do */
};

static struct spec *make_spec(int64_t trials, const char *algorithm)
{
    struct mjson_issues is = {0};
    struct mag_err err = {0};
    json_t *doc = NULL;
    bool rungs = (optimizer_find(algorithm)->caps & OPT_CAP_RESOURCE) != 0;
    char *text = xasprintf(
        "{\"objective\":{\"metric\":\"m\",\"direction\":\"max\"},\"searchspace\":{"
        "\"lr\":{\"type\":\"DOUBLE\",\"range\":[0.0001,0.1],\"scale\":\"log\"},"
        "\"units\":[\"INTEGER\",[32,512]],\"act\":[\"CATEGORICAL\",[\"relu\",\"tanh\"]]},"
        "%s\"optimizer\":{\"algorithm\":\"%s\"},\"seed\":1,\"limits\":{\"trials\":%lld}}",
        rungs ? "\"resource\":{\"min\":1,\"max\":27}," : "", algorithm, (long long)trials);
    enum mag_status st = mjson_parse(text, strlen(text), &doc, &err);
    MAG_ASSERT(st == MAG_OK, "%s", err.text);
    struct spec *spec = spec_parse(doc, 1, &is);
    MAG_ASSERT(spec != NULL, "%s %s", is.items[0].pointer, is.items[0].text);
    json_decref(doc);
    free(text);
    return spec;
}

static void apply(struct run *r, struct event *ev)
{
    struct mag_err err = {0};
    ev->wall_ms = 1700000000000;
    enum mag_status st = study_apply(r->s, ev, 1, &err);
    MAG_ASSERT(st == MAG_OK && ev->seq > 0, "%s", err.text);
    size_t at = r->text.len;
    event_encode(ev, r->dims, &r->text);
    r->rows[r->n_rows++] = (struct row){ev->kind, at, r->text.len - at};
}

static void one_trial(struct run *r, int64_t i)
{
    struct event ev;
    event_init(&ev, EV_ASK);
    ev.holder = xstrdup("client-7");
    ev.count = 1;
    ev.lease_ms = STUDY_LEASE_CLIENT_MS;
    if (r->keyed) {
        ev.request = xasprintf("%016llx", (unsigned long long)i * 0x9e3779b97f4a7c15ULL);
        ev.body_hash = xstrdup("0123456789abcdef");
    }
    apply(r, &ev);
    MAG_ASSERT(ev.n_grants == 1, "%s", ev.why);
    int64_t trial = ev.grants[0].trial, attempt = ev.grants[0].attempt;
    event_fini(&ev);
    event_init(&ev, EV_TELL);
    ev.trial = trial;
    ev.attempt = attempt;
    ev.told = TRIAL_COMPLETED;
    ev.has_value = true;
    ev.value = (double)((uint64_t)(trial * 2654435761) % 100003) / 100003;
    apply(r, &ev);
    event_fini(&ev);
}

/* Microseconds a trial over the trials of [from, to). */
static double measure(struct run *r, int64_t from, int64_t to)
{
    int64_t start = clock_cpu_ns(), at = start;
    for (int64_t i = from; i < to; i++) {
        one_trial(r, i);
        int64_t now = clock_cpu_ns();
        r->worst_ns = now - at > r->worst_ns ? now - at : r->worst_ns;
        at = now;
    }
    return (double)(at - start) / 1e3 / (double)(to - from);
}

static double replay(const struct run *r, struct spec *spec_take)
{
    int64_t start = clock_cpu_ns();
    struct study *s = study_create(spec_take);
    for (int64_t i = 0; i < r->n_rows; i++) {
        struct event ev;
        struct mag_err err = {0};
        const struct row *row = &r->rows[i];
        enum mag_status st =
            event_decode(row->kind, r->text.data + row->at, row->len, r->dims, &ev, &err);
        ev.seq = i + 1;
        ev.wall_ms = 1700000000000;
        st = st == MAG_OK ? study_apply(s, &ev, 0, &err) : st;
        MAG_ASSERT(st == MAG_OK, "%s", err.text);
        event_fini(&ev);
    }
    double us = (double)(clock_cpu_ns() - start) / 1e3 / (double)r->n_rows;
    MAG_ASSERT(study_digest(s) == study_digest(r->s), "replay differs");
    study_destroy(s);
    return us;
}

static void run(int64_t trials, const char *algorithm, bool keyed)
{
    struct run r = {.keyed = keyed};
    int64_t thousand = trials < 2000 ? trials / 2 : 1000;
    r.rows = xcalloc((size_t)trials * 2, sizeof(*r.rows));
    (void)buf_room(&r.text, (size_t)trials * 600);
    struct mallinfo2 before = mallinfo2();
    r.s = study_create(make_spec(trials, algorithm));
    r.dims = study_spec(r.s)->space->n;
    double first = measure(&r, 0, thousand);
    double middle = measure(&r, thousand, trials - thousand);
    double last = measure(&r, trials - thousand, trials);
    struct mallinfo2 after = mallinfo2();
    double bytes =
        (double)(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd) / (double)trials;
    double us = replay(&r, make_spec(trials, algorithm));
    printf("{\"bench\":\"study\",\"algorithm\":\"%s\",\"requests\":%s,\"trials\":%lld,\"first_us\":"
           "%.3f,\"mean_us\":%.3f,"
           "\"last_us\":%.3f,\"worst_us\":%.0f,\"bytes_per_trial\":%.0f,\"row_bytes_per_trial\":%."
           "0f,\"replay_us_per_"
           "event\":%.3f}\n",
           algorithm, keyed ? "true" : "false", (long long)trials, first, middle, last,
           (double)r.worst_ns / 1e3, bytes, (double)r.text.len / (double)trials, us);
    study_destroy(r.s);
    buf_fini(&r.text);
    free(r.rows);
}

int main(int argc, char **argv)
{
    int64_t trials = argc > 1 ? strtoll(argv[1], NULL, 10) : 200000;
    const char *algorithm = argc > 2 ? argv[2] : "random";
    if (trials < 10 || optimizer_find(algorithm) == NULL) {
        fprintf(stderr, "usage: study [TRIALS (10 or more)] [algorithm]\n");
        return 2;
    }
    run(trials, algorithm, false);
    run(trials, algorithm, true);
    return 0;
}
