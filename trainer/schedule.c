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
    double top = s->rise * last;
    return done < top ? between(1.0 / 25, 1, done / top)
                      : between(1, 1e-4, fmin((done - top) / fmax(last - top, 1e-9), 1));
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
    default:
        return 1;
    }
}
