/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/simulate_print.h"

#include "cli/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void print_head_init(struct print_head *h, const struct spec *s)
{
    const json_t *name = json_object_get(json_object_get(s->resolved, "optimizer"), "algorithm");
    *h = (struct print_head){.maximize = s->maximize};
    (void)snprintf(h->name, sizeof(h->name), "%s", s->name);
    (void)snprintf(h->metric, sizeof(h->metric), "%s", s->metric);
    h->algorithm = optimizer_find(json_string_value(name))->name;
    (void)snprintf(h->unit, sizeof(h->unit), "%s", s->resource_unit != NULL ? s->resource_unit : "");
}

static void line(const char *label, const char *text)
{
    (void)printf("%-12s %s\n", label, text);
}

static void print_best(const struct print_head *h, const struct sim_result *r)
{
    if (r->best_trial == 0) {
        line("best", "none");
        return;
    }
    char *params = mjson_dump(r->best_params);
    (void)printf("%-12s %s %.6g, trial %lld %s\n", "best", h->metric, r->best,
                 (long long)r->best_trial, params);
    free(params);
    if (isfinite(r->truth)) {
        (void)printf("%-12s %.6g without noise", "", r->truth);
        if (isfinite(r->optimum)) {
            (void)printf(", %.3g from the optimum %.6g", fabs(r->truth - r->optimum), r->optimum);
        }
        (void)putchar('\n');
    }
}

static void print_front(const struct sim_result *r)
{
    if (r->n_front > 0) {
        (void)printf("%-12s %d trials that no other beats in every objective\n", "front", r->n_front);
    }
}

static void print_rungs(const struct print_head *h, const struct sim_result *r)
{
    static const char *const heads[] = {">bracket", ">rung", ">budget", ">started", ">reached",
                                        ">promoted"};
    struct table t;
    if (r->n_rungs < 2) {
        return;
    }
    (void)putchar('\n');
    table_init(&t, heads, 6);
    for (int i = 0; i < r->n_rungs; i++) {
        const struct sim_rung *g = &r->rungs[i];
        table_addf(&t, "%d", g->bracket);
        table_addf(&t, "%d", g->rung);
        table_addf(&t, "%lld", (long long)g->budget);
        table_addf(&t, "%lld", (long long)g->started);
        table_addf(&t, "%lld", (long long)g->reached);
        table_addf(&t, "%lld", (long long)g->promoted);
    }
    table_print(&t, stdout);
    table_fini(&t);
}

static void print_losses(const struct sim_result *r)
{
    if (r->drops + r->deaths + r->late + r->expiries > 0) {
        (void)printf("%-12s %lld jobs lost, %lld deaths of workers, %lld leases ran out, %lld late "
                     "messages\n",
                     "faults", (long long)r->drops, (long long)r->deaths, (long long)r->expiries,
                     (long long)r->late);
        (void)printf("%-12s %.2g %% of the work was lost\n", "",
                     r->busy_ns > 0 ? 100 * r->lost_ns / r->busy_ns : 0);
    }
    if (r->copies > 0) {
        (void)printf("%-12s %lld second copies, %lld of them faster\n", "copies",
                     (long long)r->copies, (long long)r->copies_won);
    }
}

void print_run(const struct print_head *h, const struct sim_result *r,
               const struct sim_setup *setup)
{
    char time[32], tail[32];
    sim_time_text((double)r->end_ns / 1e9, time, sizeof(time));
    sim_time_text((double)(r->end_ns - r->tail_ns) / 1e9, tail, sizeof(tail));
    (void)printf("%-12s %s, %s with %lld worker%s\n", "experiment", h->name, h->algorithm,
                 (long long)r->workers, r->workers == 1 ? "" : "s");
    (void)printf("%-12s %s: %s\n", "end", time, r->why);
    print_best(h, r);
    print_front(r);
    (void)printf("%-12s %lld, %lld of them trained to the end, %lld %s%s\n", "trials",
                 (long long)r->trials, (long long)r->full, (long long)r->steps,
                 h->unit[0] != '\0' ? h->unit : "run", h->unit[0] != '\0' ? "s" : "s");
    (void)printf("%-12s busy %.1f %% of the time, %.1f %% until work ran out %s before the end\n",
                 "workers", 100 * sim_utilisation(r), 100 * sim_utilisation_until_tail(r), tail);
    print_losses(r);
    print_rungs(h, r);
}

/* ---- the table ---- */

static void add_time(struct table *t, const struct sim_figure *f)
{
    char text[32], error[32];
    sim_time_text(sim_figure_mean(f), text, sizeof(text));
    if (f->n > 1 && sim_figure_error(f) > 0) {
        sim_time_text(sim_figure_error(f), error, sizeof(error));
        table_addf(t, "%s ±%s", text, error);
    } else {
        table_add(t, text);
    }
}

static void add_number(struct table *t, const struct sim_figure *f, const char *format)
{
    char text[64];
    if (f->n == 0) {
        table_add(t, "-");
        return;
    }
    int n = snprintf(text, sizeof(text), format[0] == 'n' ? "%.1f" : "%.5g", sim_figure_mean(f));
    if (f->n > 1 && sim_figure_error(f) > 0) {
        (void)snprintf(text + n, sizeof(text) - (size_t)n, " ±%.2g", sim_figure_error(f));
    }
    table_add(t, text);
}

void print_table(const struct sim_summary *rows, int n)
{
    static const char *const heads[] = {"algorithm", ">workers", ">time",    ">speed-up",
                                        ">best",     ">truth",   ">trained", ">busy",
                                        ">lost"};
    struct table t;
    table_init(&t, heads, 9);
    for (int i = 0; i < n; i++) {
        const struct sim_summary *s = &rows[i];
        int first = i;
        while (first > 0 && strcmp(rows[first - 1].algorithm, s->algorithm) == 0) {
            first--;
        }
        table_add(&t, s->algorithm);
        table_addf(&t, "%lld", (long long)s->workers);
        add_time(&t, &s->seconds);
        table_addf(&t, "%.2f",
                   sim_figure_mean(&rows[first].seconds) / sim_figure_mean(&s->seconds));
        add_number(&t, &s->best, "value");
        add_number(&t, &s->truth, "value");
        add_number(&t, &s->full, "number");
        table_addf(&t, "%.1f %%", 100 * sim_figure_mean(&s->utilisation));
        table_addf(&t, "%.1f %%", 100 * sim_figure_mean(&s->lost));
    }
    table_print(&t, stdout);
    table_fini(&t);
}

void print_json_line(json_t *value_take)
{
    char *text = mjson_dump(value_take);
    (void)printf("%s\n", text);
    free(text);
    json_decref(value_take);
}
