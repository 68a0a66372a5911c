/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/schedule.h"

#include <math.h>

#define PI 3.14159265358979323846

static double between(double from, double to, double t)
{
    return to + (from - to) * 0.5 * (1 + cos(PI * t));
}

static double one_cycle(const struct schedule *s, double done)
{
    double last = s->epochs > 1 ? s->epochs - 1 : 1;
    double top = fmax(s->rise * s->epochs - 1, 0);
    return done < top ? between(1.0 / 25, 1, done / top)
                      : between(1, 1.0 / 250000, fmin((done - top) / fmax(last - top, 1e-9), 1));
}

double schedule_factor(const struct schedule *s, int64_t epoch)
{
    if (epoch <= s->warmup) {
        return (double)epoch / (s->warmup + 1);
    }
    double done = (double)(epoch - 1 - s->warmup); /* epochs since the warm-up */
    switch (s->kind) {
    case SCHEDULE_STEP:
        return pow(s->factor, floor(done / s->every));
    case SCHEDULE_EXPONENTIAL:
        return pow(s->factor, done);
    case SCHEDULE_COSINE: {
        double t = done < s->epochs ? done / s->epochs : 1;
        return s->floor + (1 - s->floor) * 0.5 * (1 + cos(PI * t));
    }
    case SCHEDULE_LINEAR:
        return 1 - (1 - s->floor) * fmin(done / s->epochs, 1);
    case SCHEDULE_ONE_CYCLE:
        return one_cycle(s, done);
    case SCHEDULE_CONSTANT:
    case SCHEDULE_PLATEAU:
    default:
        return 1;
    }
}

double schedule_rate(const struct schedule *s, const struct plateau *p, double base, int64_t epoch)
{
    double rate = s->kind == SCHEDULE_PLATEAU && p->rate > 0 ? p->rate : 1;
    return base * schedule_factor(s, epoch) * rate;
}

static bool is_better(const struct schedule *s, const struct plateau *p, double measure)
{
    if (!p->begun) {
        return !isnan(measure);
    }
    return s->larger ? measure > p->best * (1 + s->threshold)
                     : measure < p->best * (1 - s->threshold);
}

/* Drops of less than 1e-8 are none, as in PyTorch. */
static void drop(const struct schedule *s, double base, struct plateau *p)
{
    double lower = fmax(p->rate * s->factor, base > 0 ? s->least / base : 1);
    if ((p->rate - lower) * base > 1e-8) {
        p->rate = lower;
    }
}

void plateau_step(const struct schedule *s, double base, double measure, struct plateau *p)
{
    p->rate = p->rate > 0 ? p->rate : 1;
    if (is_better(s, p, measure)) {
        p->begun = true;
        p->best = measure;
        p->bad = 0;
    } else {
        p->bad++;
    }
    if (p->cooling > 0) {
        p->cooling--;
        p->bad = 0;
    }
    if (p->bad > s->patience) {
        drop(s, base, p);
        p->cooling = s->cooldown;
        p->bad = 0;
    }
}
