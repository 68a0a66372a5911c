/* SPDX-License-Identifier: Apache-2.0 */
#include "base/size.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX 0x1p53

static const struct {
    const char *name, *also;
    double bytes;
} units[] = {
    {"B", "", 1},          {"KB", "KiB", 0x1p10}, {"MB", "MiB", 0x1p20},
    {"GB", "GiB", 0x1p30}, {"TB", "TiB", 0x1p40},
};
#define UNITS ((int)(sizeof(units) / sizeof(units[0])))

enum mag_status size_parse(const char *text, int64_t *ret)
{
    char *unit = NULL;
    if (!isdigit((unsigned char)text[0])) {
        return MAG_INVALID;
    }
    double x = strtod(text, &unit);
    if (unit[0] == ' ' && unit[1] != '\0') {
        unit++;
    }
    for (int i = 0; i < UNITS; i++) {
        if (strcmp(unit, units[i].name) == 0 || strcmp(unit, units[i].also) == 0) {
            double bytes = ceil(x * units[i].bytes);
            if (!(bytes >= 0 && bytes <= MAX)) {
                return MAG_INVALID;
            }
            *ret = (int64_t)bytes;
            return MAG_OK;
        }
    }
    return MAG_INVALID;
}

void size_format(int64_t bytes, char out[24])
{
    int i = 0;
    double v = (double)bytes;
    while (i + 1 < UNITS && v >= 1000) {
        v /= 1024;
        i++;
    }
    int digits = i == 0 || v >= 99.95 ? 0 : 1;
    (void)snprintf(out, 24, "%.*f %s", digits, v, units[i].name);
}
