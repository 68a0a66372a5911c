/* SPDX-License-Identifier: Apache-2.0 */
#include "lab.h"

#include "base/alloc.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static json_t *parse(const char *text)
{
    json_t *doc = NULL;
    struct mag_err err = {0};
    cr_assert_eq(mjson_parse(text, strlen(text), &doc, &err), MAG_OK, "%s in %s", err.text, text);
    return doc;
}

struct sim_setup lab_setup(const char *json)
{
    struct sim_setup s;
    struct mjson_issues is = {0};
    json_t *doc = parse(json);
    sim_setup_parse(doc, "", &s, &is);
    cr_assert_eq(is.total, 0, "%s %s", is.items[0].pointer, is.items[0].text);
    json_decref(doc);
    return s;
}

char *lab_faults(const char *json)
{
    struct sim_setup s;
    struct mjson_issues is = {0};
    struct buf out = {0};
    json_t *doc = parse(json);
    sim_setup_parse(doc, "", &s, &is);
    mjson_issues_print(&is, "file", &out);
    mjson_issues_fini(&is);
    sim_setup_fini(&s);
    json_decref(doc);
    return buf_take(&out);
}

/* The recorded event again, as a reader of the record would see it. */
static void check(struct lab_record *r, const struct event *ev, const char *text, size_t len,
                  int dims)
{
    struct event again;
    struct mag_err err = {0};
    struct verify_result res = {0};
    cr_assert_eq(event_decode(ev->kind, text, len, dims, &again, &err), MAG_OK, "%s", err.text);
    again.seq = ev->seq;
    again.wall_ms = ev->wall_ms;
    again.up_ms = ev->up_ms;
    r->sound = r->sound && verifier_feed(r->verifier, &again, &res);
    cr_expect(r->sound, "event %lld: %s", (long long)res.first_bad, res.text);
    free(res.text);
    event_fini(&again);
}

static void keep(void *arg, const struct event *ev, int dims)
{
    struct lab_record *r = arg;
    r->n++;
    r->kinds[ev->kind]++;
    if (ev->kind == EV_EXPIRE && r->n_expired < 64) {
        r->expired_ms[r->n_expired++] = ev->wall_ms;
    }
    buf_addf(&r->text, "%lld %s %lld ", (long long)ev->seq, event_kind_name(ev->kind),
             (long long)ev->wall_ms);
    size_t at = r->text.len;
    event_encode(ev, dims, &r->text);
    if (r->verifier != NULL) {
        check(r, ev, r->text.data + at, r->text.len - at, dims);
    }
    buf_addc(&r->text, '\n');
}

static struct spec *make_spec(const struct lab *l, const struct sim_setup *setup)
{
    json_t *file = l->experiment != NULL ? parse(l->experiment) : NULL;
    json_t *doc = NULL;
    struct mag_err err = {0};
    struct mjson_issues is = {0};
    struct sim_changes changes = {.algorithm = l->algorithm,
                                  .trials = l->trials,
                                  .min = l->min,
                                  .max = l->max,
                                  .add_to_seed = l->repetition};
    cr_assert_eq(sim_experiment(file, setup, &changes, &doc, &err), MAG_OK, "%s", err.text);
    struct spec *spec = spec_parse(doc, 1, &is);
    cr_assert_not_null(spec, "%s %s", is.items[0].pointer, is.items[0].text);
    sim_setup_check(setup, spec, "", &is);
    cr_assert_eq(is.total, 0, "%s %s", is.items[0].pointer, is.items[0].text);
    json_decref(file);
    json_decref(doc);
    return spec;
}

struct sim_result lab_run(const struct lab *l, struct lab_record *record)
{
    struct sim_setup setup = lab_setup(l->simulation);
    struct sim_result r;
    struct mag_err err = {0};
    struct sim_options o = {.workers = l->workers > 0 ? l->workers : setup.workers[0],
                            .repetition = l->repetition,
                            .keep_jobs = true};
    if (record != NULL) {
        *record = (struct lab_record){.sound = true};
        record->verifier = l->verify ? verifier_create(make_spec(l, &setup)) : NULL;
        o.on_event = keep;
        o.arg = record;
    }
    cr_assert_eq(sim_run(&setup, make_spec(l, &setup), &o, &r, &err), MAG_OK, "%s", err.text);
    sim_setup_fini(&setup);
    return r;
}

void lab_record_fini(struct lab_record *r)
{
    if (r->verifier != NULL) {
        verifier_destroy(r->verifier);
    }
    buf_fini(&r->text);
}

struct space *lab_space(const char *json)
{
    json_t *o = parse(json);
    struct mjson_issues is = {0};
    struct space *s = space_parse(o, "", &is);
    cr_assert_not_null(s, "%s %s", is.items[0].pointer, is.items[0].text);
    json_decref(o);
    return s;
}

struct objective *lab_objective(const char *objective, const struct space *space, bool maximize,
                                int64_t max)
{
    struct objective_spec spec;
    struct mjson_issues is = {0};
    struct mag_err err = {0};
    struct objective *o = NULL;
    struct objective_for what = {.space = space,
                                 .metric = "m",
                                 .maximize = maximize,
                                 .min = max > 0 ? 1 : 0,
                                 .max = max,
                                 .seed = 1,
                                 .noise = 2};
    json_t *name = json_string(objective);
    objective_spec_parse(name, "", &spec, &is);
    cr_assert_eq(is.total, 0, "%s", is.items[0].text);
    cr_assert_eq(objective_create(&spec, &what, &o, &err), MAG_OK, "%s", err.text);
    objective_spec_fini(&spec);
    json_decref(name);
    return o;
}

double lab_value(struct objective *o, const double *point, int64_t trial, int64_t step,
                 int64_t budget)
{
    double value = 0, seconds = -1; /* no further metrics */
    struct mag_err err = {0};
    struct objective_ask q = {.trial = trial, .point = point, .step = step, .budget = budget};
    cr_assert_eq(objective_value(o, &q, &value, &seconds, &err), MAG_OK, "%s", err.text);
    return value;
}
