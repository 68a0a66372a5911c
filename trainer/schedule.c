/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/schedule.h"

#include <math.h>

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
        return s->floor + (1 - s->floor) * 0.5 * (1 + cos(3.14159265358979323846 * t));
    }
    case SCHEDULE_CONSTANT:
    default:
        return 1;
    }
}
