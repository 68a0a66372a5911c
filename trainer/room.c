/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/room.h"

#include "base/fault.h"

#include <stdbool.h>
#include <stdio.h>

#define SHARE 0.8     /* of the free memory: others want some, too */
#define ARRAYS 4      /* value, gradient and two moments of each weight */
#define WORK 3        /* output, its gradient and what a kernel keeps for it */
#define FAULT_LANES 2 /* the fault point "trainer.room" leaves room for so many */

int64_t room_lane_bytes(const struct model *m, int batch_size)
{
    int64_t values = shape_size(&m->input);
    for (int i = 0; i < m->n; i++) {
        values += shape_size(&m->layers[i].out);
    }
    return (int64_t)sizeof(float) *
           (ARRAYS * model_weights(m) + WORK * (int64_t)batch_size * values);
}

/* The number in a file's first line, -1 = none. */
static int64_t read_number(const char *path)
{
    long long n = -1;
    FILE *f = fopen(path, "re");
    if (f != NULL && fscanf(f, "%lld", &n) != 1) {
        n = -1;
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return n;
}

/* -1 = not known. */
static int64_t free_bytes(void)
{
    char line[128];
    long long kb = -1;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL &&
           sscanf(line, "MemAvailable: %lld kB", &kb) != 1) {
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    int64_t bytes = kb >= 0 ? (int64_t)kb << 10 : -1;
    int64_t limit = read_number("/sys/fs/cgroup/memory.max");
    int64_t used = read_number("/sys/fs/cgroup/memory.current");
    if (limit >= 0 && used >= 0 && (bytes < 0 || limit - used < bytes)) {
        bytes = limit > used ? limit - used : 0;
    }
    return bytes;
}

int room_lanes(const struct model *m, int batch_size, int n)
{
    if (n > FAULT_LANES && fault_hit("trainer.room")) {
        return FAULT_LANES;
    }
    int64_t have = n > 1 ? free_bytes() : -1;
    if (have < 0) {
        return n;
    }
    double fit = SHARE * (double)have / (double)room_lane_bytes(m, batch_size);
    return fit >= n ? n : fit < 1 ? 1 : (int)fit;
}
