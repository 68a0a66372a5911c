/* SPDX-License-Identifier: Apache-2.0
 *
 * The picture is drawn with few, long paths: one a colour, in tenths of a pixel, each bar a relative
 * move and a line as thick as the lane.
 */
#include "simulate/picture.h"

#include "base/alloc.h"
#include "simulate/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 1200
#define LEFT 74
#define RIGHT 24
#define TOP 84 /* of the lanes */
#define PLOT (WIDTH - LEFT - RIGHT)
#define CURVE_HEIGHT 150
#define GAP 34          /* between lanes and curve */
#define THIN 3          /* tenths of a pixel: bars below this join their neighbour */
#define LEGEND_MAX 16
#define CURVE_POINTS_MAX 2000

/* Ways a bar can look: by rung from RUNG0 on, and the ends that are no rung's. */
enum look { LOST, OUTRUN, CUT, STOPPED, FAILED, RUNG0 };

static const char *const fixed[] = {[LOST] = "#e8837c",
                                    [OUTRUN] = "#c2c6cc",
                                    [CUT] = "#dfe3e8",
                                    [STOPPED] = "#d9b44a",
                                    [FAILED] = "#7a2e2e"};
static const char *const fixed_names[] = {[LOST] = "lost",
                                          [OUTRUN] = "outrun by a copy",
                                          [CUT] = "cut at the end",
                                          [STOPPED] = "stopped early",
                                          [FAILED] = "failed"};

/* From the smallest budget to the largest; the largest stands out. */
static const double ramp[][3] = {
    {186, 213, 236}, {118, 174, 214}, {58, 124, 190}, {70, 78, 160}, {228, 116, 32}};

struct canvas {
    const struct sim_result *r;
    const struct picture *p;
    struct buf *out;
    double scale;    /* tenths of a pixel for a nanosecond */
    double lane;     /* height of one */
    double lanes;    /* of all */
    int64_t *budgets; /* distinct, rising */
    int n_budgets;
    char (*colours)[8]; /* of each budget */
};

/* ---- words ---- */

static void add_escaped(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '<') {
            buf_adds(out, "&lt;");
        } else if (*text == '&') {
            buf_adds(out, "&amp;");
        } else if ((unsigned char)*text >= ' ') {
            buf_addc(out, *text);
        }
    }
}

static void add_text(struct buf *out, double x, double y, const char *class, const char *text)
{
    buf_addf(out, "<text x=\"%.0f\" y=\"%.0f\" class=\"%s\">", x, y, class);
    add_escaped(out, text);
    buf_adds(out, "</text>\n");
}

/* ---- colours ---- */

static int by_size(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void find_budgets(struct canvas *c)
{
    const struct sim_result *r = c->r;
    c->budgets = xcalloc((size_t)r->n_rungs + 1, sizeof(*c->budgets));
    for (int i = 0; i < r->n_rungs; i++) {
        c->budgets[i] = r->rungs[i].budget;
    }
    qsort(c->budgets, (size_t)r->n_rungs, sizeof(*c->budgets), by_size);
    for (int i = 0; i < r->n_rungs; i++) {
        if (c->n_budgets == 0 || c->budgets[c->n_budgets - 1] != c->budgets[i]) {
            c->budgets[c->n_budgets++] = c->budgets[i];
        }
    }
    c->colours = xcalloc((size_t)c->n_budgets + 1, sizeof(*c->colours));
    const int stops = sizeof(ramp) / sizeof(ramp[0]);
    for (int i = 0; i < c->n_budgets; i++) {
        bool top = i == c->n_budgets - 1 && c->n_budgets > 1;
        double at = c->n_budgets > 2 ? (double)i / (c->n_budgets - 2) * (stops - 2) : 2;
        int k = at >= stops - 2 ? stops - 3 : (int)at;
        double f = at - k;
        const double *lo = top ? ramp[stops - 1] : ramp[k];
        const double *hi = top ? ramp[stops - 1] : ramp[k + 1];
        (void)snprintf(c->colours[i], sizeof(c->colours[i]), "#%02x%02x%02x",
                       (unsigned)(lo[0] + f * (hi[0] - lo[0])) & 0xff,
                       (unsigned)(lo[1] + f * (hi[1] - lo[1])) & 0xff,
                       (unsigned)(lo[2] + f * (hi[2] - lo[2])) & 0xff);
    }
}

static int look_of_rung(const struct canvas *c, const struct sim_job *j)
{
    int k = 0;
    while (k < c->n_budgets - 1 && c->budgets[k] < j->budget) {
        k++;
    }
    return RUNG0 + k;
}

static int look_of(const struct canvas *c, const struct sim_job *j)
{
    switch (j->end) {
    case SIM_DROPPED:
    case SIM_DIED:
    case SIM_LATE:
        return LOST;
    case SIM_OUTRUN:
        return OUTRUN;
    case SIM_CUT:
        return CUT;
    case SIM_STOPPED:
        return STOPPED;
    case SIM_FAILED:
        return FAILED;
    case SIM_PAUSED:
    case SIM_COMPLETED:
    case SIM_ENDS:
        break;
    }
    return look_of_rung(c, j);
}

/* ---- bars ---- */

/* One path that grows. */
struct path {
    struct buf d;
    int64_t x; /* end of its last bar, tenths */
    int64_t lane;
    bool begun;
    int64_t bars;
};

static void add_bar(const struct canvas *c, struct path *p, int64_t lane, int64_t x0, int64_t x1)
{
    int64_t width = x1 - x0;
    width -= width > 15 ? 4 : 0; /* a seam between neighbours */
    if (p->begun && p->lane == lane) {
        buf_addf(&p->d, "m%lld 0h%lld", (long long)(x0 - p->x), (long long)width);
    } else {
        buf_addf(&p->d, "M%lld %.4gh%lld", (long long)x0, (double)lane * c->lane + c->lane / 2,
                 (long long)width);
    }
    p->x = x0 + width;
    p->lane = lane;
    p->begun = true;
    p->bars++;
}

/* A bar that may still grow by thin neighbours. */
struct bar {
    int look;
    int64_t x0, x1;
    bool open;
};

static void flush(const struct canvas *c, struct path *paths, int64_t lane, struct bar *b)
{
    if (b->open) {
        add_bar(c, &paths[b->look], lane, b->x0, b->x1 > b->x0 ? b->x1 : b->x0 + 1);
    }
    b->open = false;
}

static void draw_part(const struct canvas *c, struct path *paths, const struct sim_job *j,
                      struct bar *b, int look, int64_t from_ns, int64_t to_ns)
{
    int64_t x0 = (int64_t)((double)from_ns * c->scale + 0.5);
    int64_t x1 = (int64_t)((double)to_ns * c->scale + 0.5);
    bool touches = b->open && x0 - b->x1 < THIN;
    bool thin = x1 - x0 < THIN || (b->open && b->x1 - b->x0 < THIN);
    if (touches && thin) {
        b->look = x1 - x0 > b->x1 - b->x0 ? look : b->look;
        b->x1 = x1;
        return;
    }
    flush(c, paths, j->worker, b);
    *b = (struct bar){.look = look, .x0 = x0, .x1 = x1, .open = true};
}

/* Of a lost job only what is done again is lost. */
static void draw_job(const struct canvas *c, struct path *paths, const struct sim_job *j,
                     struct bar *b)
{
    int look = look_of(c, j);
    if (look == LOST && j->saved_ns > j->start_ns) {
        draw_part(c, paths, j, b, look_of_rung(c, j), j->start_ns, j->saved_ns);
        draw_part(c, paths, j, b, look, j->saved_ns, j->end_ns);
    } else {
        draw_part(c, paths, j, b, look, j->start_ns, j->end_ns);
    }
}

/* Jobs worker by worker; of one worker they are in the order of time. */
static int64_t *by_worker(const struct sim_result *r)
{
    int64_t *first = xcalloc((size_t)r->workers + 2, sizeof(*first));
    int64_t *order = xcalloc((size_t)r->n_list + 1, sizeof(*order));
    for (int64_t i = 0; i < r->n_list; i++) {
        first[r->list[i].worker + 1]++;
    }
    for (int64_t w = 1; w <= r->workers; w++) {
        first[w] += first[w - 1];
    }
    for (int64_t i = 0; i < r->n_list; i++) {
        order[first[r->list[i].worker]++] = i;
    }
    free(first);
    return order;
}

static void draw_bars(struct canvas *c, struct path *paths)
{
    const struct sim_result *r = c->r;
    int64_t *order = by_worker(r);
    struct bar b = {0};
    int64_t lane = -1;
    for (int64_t i = 0; i < r->n_list; i++) {
        const struct sim_job *j = &r->list[order[i]];
        if (j->worker != lane) {
            flush(c, paths, lane, &b);
            lane = j->worker;
        }
        draw_job(c, paths, j, &b);
    }
    flush(c, paths, lane, &b);
    free(order);
}

/* A cross where a job was lost, while there are few enough to be seen. */
static void draw_losses(const struct canvas *c)
{
    const struct sim_result *r = c->r;
    double half = fmin(c->lane * 0.35, 4);
    if (r->drops + r->deaths == 0 || r->drops + r->deaths > 2000 || half < 0.6) {
        return;
    }
    buf_adds(c->out, "<path class=\"x\" d=\"");
    for (int64_t i = 0; i < r->n_list; i++) {
        const struct sim_job *j = &r->list[i];
        if (j->end == SIM_DROPPED || j->end == SIM_DIED) {
            double x = (double)j->end_ns * c->scale / 10;
            double y = j->worker * c->lane + c->lane / 2;
            buf_addf(c->out, "M%.1f %.1fl%.1f %.1fm0-%.1fl-%.1f %.1f", x - half, y - half,
                     2 * half, 2 * half, 2 * half, 2 * half, 2 * half);
        }
    }
    buf_adds(c->out, "\"/>\n");
}

/* ---- axes ---- */

/* A round step of time that gives about ten ticks. */
static double tick_of(double seconds)
{
    static const double steps[] = {60,    120,   300,   600,    1200,   1800,   3600,
                                   7200,  10800, 21600, 43200,  86400,  172800, 604800,
                                   1209600, 2592000, 7776000, 31536000};
    double want = seconds / 10;
    if (want < 30) {
        double tens = pow(10, floor(log10(want)));
        double m = want / tens;
        return tens * (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10);
    }
    size_t i = 0;
    while (i + 1 < sizeof(steps) / sizeof(steps[0]) && steps[i] < want) {
        i++;
    }
    return steps[i] >= want ? steps[i] : want;
}

static void tick_text(double seconds, double tick, char *buf, size_t size)
{
    long long s = (long long)(seconds + 0.5);
    if (tick < 60) {
        (void)snprintf(buf, size, "%.6gs", seconds);
    } else if (tick < 3600) {
        (void)snprintf(buf, size, "%lld:%02lld", s / 3600, s % 3600 / 60);
    } else if (tick < 86400) {
        (void)snprintf(buf, size, "%lldh", s / 3600);
    } else {
        (void)snprintf(buf, size, "%lldd", s / 86400);
    }
}

static void draw_time_axis(const struct canvas *c, double bottom)
{
    double seconds = (double)c->r->end_ns / 1e9;
    double tick = tick_of(seconds);
    if (!(seconds > 0)) {
        return;
    }
    for (double t = 0; t <= seconds * 1.0001; t += tick) {
        char text[32];
        double x = LEFT + t / seconds * PLOT;
        tick_text(t, tick, text, sizeof(text));
        buf_addf(c->out, "<path class=\"g\" d=\"M%.1f %dV%.0f\"/>", x, TOP, bottom);
        add_text(c->out, x, bottom + 16, "t", text);
    }
}

/* ---- best so far ---- */

struct axis {
    double lo, hi; /* of the values, or of their logarithms */
    bool log;
    double top; /* of the panel */
};

static double y_of(const struct axis *a, double v)
{
    double at = a->log ? log10(v) : v;
    return a->top + CURVE_HEIGHT - (at - a->lo) / (a->hi - a->lo) * CURVE_HEIGHT;
}

static struct axis axis_of(const struct sim_result *r, double top)
{
    double lo = INFINITY, hi = -INFINITY;
    for (int i = 0; i < r->n_moments; i++) {
        lo = fmin(lo, r->moments[i].value);
        hi = fmax(hi, r->moments[i].value);
    }
    struct axis a = {.log = lo > 0 && hi / lo > 50, .top = top};
    a.lo = a.log ? log10(lo) : lo;
    a.hi = a.log ? log10(hi) : hi;
    double room = a.hi > a.lo ? (a.hi - a.lo) * 0.06 : fabs(a.lo) * 0.05 + 1e-9;
    a.lo -= room;
    a.hi += room;
    return a;
}

static void draw_value_axis(const struct canvas *c, const struct axis *a)
{
    double want = (a->hi - a->lo) / 4;
    double tens = pow(10, floor(log10(want)));
    double step = want / tens < 2 ? tens * 2 : want / tens < 5 ? tens * 5 : tens * 10;
    step = a->log && step < 1 ? (a->hi - a->lo > 1.2 ? 1 : step) : step;
    for (double v = ceil(a->lo / step) * step; v <= a->hi; v += step) {
        char text[32];
        double shown = fabs(v) < step * 1e-6 ? 0 : v;
        double y = a->top + CURVE_HEIGHT - (v - a->lo) / (a->hi - a->lo) * CURVE_HEIGHT;
        (void)snprintf(text, sizeof(text), "%.4g", a->log ? pow(10, shown) : shown);
        buf_addf(c->out, "<path class=\"g\" d=\"M%d %.1fh%d\"/>", LEFT, y, PLOT);
        add_text(c->out, LEFT - 8, y + 4, "v", text);
    }
}

static void draw_curve(const struct canvas *c, double top)
{
    const struct sim_result *r = c->r;
    char label[160];
    if (r->n_moments == 0) {
        return;
    }
    struct axis a = axis_of(r, top);
    draw_value_axis(c, &a);
    (void)snprintf(label, sizeof(label), "%s of the best trial", c->p->metric);
    add_text(c->out, LEFT, top - 8, "h", label);
    int skip = r->n_moments / CURVE_POINTS_MAX + 1;
    double x = LEFT;
    buf_adds(c->out, "<path class=\"c\" d=\"");
    for (int i = 0; i < r->n_moments; i += skip) {
        const struct sim_moment *m = &r->moments[i];
        x = LEFT + (double)m->ns * c->scale / 10;
        buf_addf(c->out, i == 0 ? "M%.1f %.1f" : "H%.1fV%.1f", x, y_of(&a, m->value));
    }
    buf_addf(c->out, "H%d\"/>\n", LEFT + PLOT);
    buf_addf(c->out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" class=\"b\"/>\n",
             LEFT + (double)r->moments[r->n_moments - 1].ns * c->scale / 10,
             y_of(&a, r->moments[r->n_moments - 1].value));
}

/* ---- the frame ---- */

static void draw_head(const struct canvas *c)
{
    const struct sim_result *r = c->r;
    char title[256], line[256], time[32];
    sim_time_text((double)r->end_ns / 1e9, time, sizeof(time));
    (void)snprintf(title, sizeof(title), "%.100s: %s, %lld worker%s", c->p->title, c->p->algorithm,
                   (long long)r->workers, r->workers == 1 ? "" : "s");
    int n = snprintf(line, sizeof(line),
                     "%s, workers busy %.1f %%, %lld trials, %lld trained to the end", time,
                     100 * sim_utilisation(r), (long long)r->trials, (long long)r->full);
    if (r->best_trial > 0 && n > 0 && (size_t)n < sizeof(line)) {
        (void)snprintf(line + n, sizeof(line) - (size_t)n, ", best %.40s %.5g", c->p->metric,
                       r->best);
    }
    add_text(c->out, LEFT, 28, "T", title);
    add_text(c->out, LEFT, 48, "s", line);
}

static double legend_item(const struct canvas *c, double x, const char *colour, const char *text)
{
    buf_addf(c->out, "<rect x=\"%.0f\" y=\"60\" width=\"12\" height=\"12\" rx=\"2\" fill=\"%s\"/>",
             x, colour);
    add_text(c->out, x + 17, 70, "s", text);
    return x + 17 + 7.0 * (double)strlen(text) + 16;
}

static void draw_legend(const struct canvas *c, const struct path *paths)
{
    double x = LEFT;
    for (int k = 0; k < c->n_budgets; k++) {
        char text[96];
        if (c->p->unit[0] == '\0') {
            (void)snprintf(text, sizeof(text), "completed");
        } else {
            (void)snprintf(text, sizeof(text), "%lld %.60s%s", (long long)c->budgets[k], c->p->unit,
                           c->budgets[k] == 1 ? "" : "s");
        }
        if (c->n_budgets <= LEGEND_MAX) {
            x = legend_item(c, x, c->colours[k], text);
        }
    }
    for (int k = 0; k < RUNG0; k++) {
        if (paths[k].bars > 0) {
            x = legend_item(c, x, fixed[k], fixed_names[k]);
        }
    }
}

static void draw_lane_names(const struct canvas *c)
{
    int64_t every = 1;
    while (c->lane * (double)every < 13) {
        every *= every == 1 || every % 10 == 0 ? 5 : 2;
    }
    for (int64_t w = every == 1 ? 1 : every; w <= c->r->workers; w += every) {
        char text[24];
        (void)snprintf(text, sizeof(text), "%lld", (long long)w);
        add_text(c->out, LEFT - 8, TOP + ((double)w - 0.5) * c->lane + 4, "v", text);
    }
    buf_addf(c->out,
             "<text transform=\"translate(18 %.0f) rotate(-90)\" class=\"t\">workers</text>\n",
             TOP + c->lanes / 2);
}

static const char style[] =
    "<style>text{font:12px system-ui,sans-serif;fill:#3c4654}.T{font:600 18px "
    "system-ui,sans-serif;fill:#1b2430}.s{fill:#56616f}.h{font-weight:600}.t{text-anchor:middle;"
    "fill:#6b7683}.v{text-anchor:end;fill:#6b7683}.g{stroke:#e3e7ec;fill:none}.c{stroke:#1f5fa8;"
    "stroke-width:2;fill:none;stroke-linejoin:round}.b{fill:#1f5fa8}.x{stroke:#9d2b22;"
    "stroke-width:1.4;fill:none}.p{fill:none}</style>\n";

static void draw_lanes(struct canvas *c, struct path *paths)
{
    buf_addf(c->out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%.0f\" fill=\"#f6f8fa\"/>\n",
             LEFT, TOP, PLOT, c->lanes);
    buf_addf(c->out, "<g transform=\"translate(%d %d)\">", LEFT, TOP);
    buf_addf(c->out, "<g transform=\"scale(.1 1)\" class=\"p\" stroke-width=\"%.3g\">\n",
             c->lane * (c->lane > 3 ? 0.82 : 1));
    for (int k = 0; k < RUNG0 + c->n_budgets; k++) {
        if (paths[k].d.len > 0) {
            buf_addf(c->out, "<path stroke=\"%s\" d=\"%s\"/>\n",
                     k < RUNG0 ? fixed[k] : c->colours[k - RUNG0], paths[k].d.data);
        }
    }
    buf_adds(c->out, "</g>\n");
    draw_losses(c);
    buf_adds(c->out, "</g>\n");
}

void picture_svg(const struct sim_result *r, const struct picture *p, struct buf *out)
{
    struct canvas c = {.r = r, .p = p, .out = out};
    c.lanes = fmin(fmax((double)r->workers * 16, 64), 640);
    c.lane = c.lanes / (double)r->workers;
    c.scale = r->end_ns > 0 ? PLOT * 10.0 / (double)r->end_ns : 0;
    find_budgets(&c);
    struct path *paths = xcalloc((size_t)(RUNG0 + c.n_budgets) + 1, sizeof(*paths));
    draw_bars(&c, paths);
    double curve = TOP + c.lanes + GAP;
    double bottom = curve + CURVE_HEIGHT;
    buf_addf(out,
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" "
             "height=\"%.0f\">\n%s<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
             WIDTH, bottom + 30, WIDTH, bottom + 30, style);
    draw_head(&c);
    draw_legend(&c, paths);
    draw_time_axis(&c, bottom);
    draw_lanes(&c, paths);
    draw_lane_names(&c);
    draw_curve(&c, curve);
    buf_adds(out, "</svg>\n");
    for (int k = 0; k < RUNG0 + c.n_budgets; k++) {
        buf_fini(&paths[k].d);
    }
    free(paths);
    free(c.budgets);
    free(c.colours);
}
