/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/driver/study_damage.h"

#include "driver/study.h"

#include <stdlib.h>
#include <string.h>

/* Applies one line, "KIND TEXT", as the next recorded event. False when it is refused. */
static bool apply_line(struct study *s, const char *line, size_t len)
{
    struct event ev;
    struct mag_err err = {0};
    int kind = 0;
    size_t i = 0;
    while (i < len && i < 3 && line[i] >= '0' && line[i] <= '9') {
        kind = kind * 10 + (line[i++] - '0');
    }
    if (i == 0 || i >= len || line[i] != ' ') {
        return false;
    }
    enum mag_status st = event_decode((enum event_kind)kind, line + i + 1, len - i - 1,
                                      study_spec(s)->space->n, &ev, &err);
    if (st != MAG_OK) {
        MAG_ASSERT(st == MAG_CORRUPT && err.text[0] != '\0', "%s", mag_status_name(st));
        return false;
    }
    ev.seq = study_seq(s) + 1;
    ev.wall_ms = 1700000000000 + ev.seq;
    st = study_apply(s, &ev, 0, &err);
    MAG_ASSERT(st == MAG_OK || (st == MAG_CORRUPT && err.text[0] != '\0'), "%s: %s",
               mag_status_name(st), err.text);
    event_fini(&ev);
    return st == MAG_OK;
}

int damage_replay(struct spec *spec_take, const char *lines, size_t len)
{
    struct study *s = study_create(spec_take);
    int n = 0;
    while (len > 0) {
        const char *end = memchr(lines, '\n', len);
        size_t one = end != NULL ? (size_t)(end - lines) : len;
        if (!apply_line(s, lines, one)) {
            break;
        }
        n++;
        lines += one + (end != NULL);
        len -= one + (end != NULL);
    }
    char why[256];
    MAG_ASSERT(study_why(s, why, sizeof(why)) != NULL && study_seq(s) == n, "%d", n);
    (void)study_best(s);
    (void)study_digest(s);
    study_rearm(s, 1000);
    (void)study_deadline(s);
    study_destroy(s);
    return n;
}
