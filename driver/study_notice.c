/* SPDX-License-Identifier: Apache-2.0
 *
 * What the webhook of an experiment has still to be told. A change of the experiment's state owes
 * notices; an event says that one was delivered (or given up), so a driver that was killed in
 * between tells it again.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"

#include <string.h>

static const char *const names[NOTICE_KINDS] = {
    [NOTICE_TARGET] = "target", [NOTICE_FAILURE] = "failure", [NOTICE_END] = "end"};

const char *study_notice_name(enum study_notice_kind kind)
{
    return names[kind];
}

static bool wants(const struct study *s, enum study_notice_kind kind)
{
    const json_t *on = json_object_get(s->spec->notify, "on");
    for (size_t i = 0; i < json_array_size(on); i++) {
        if (strcmp(json_string_value(json_array_get(on, i)), names[kind]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_due(const struct study *s, enum study_notice_kind kind)
{
    const char *code = s->why_code != NULL ? s->why_code : "";
    switch (kind) {
    case NOTICE_TARGET:
        return s->state == STUDY_COMPLETED && strcmp(code, "target-reached") == 0;
    case NOTICE_FAILURE: /* by itself: a person who pauses it knows */
        return s->state == STUDY_PAUSED && strcmp(code, "experiment-paused") != 0;
    case NOTICE_END:
        return study_state_is_final(s->state);
    case NOTICE_KINDS:
    default:
        return false;
    }
}

void notice_note(struct study *s, const struct event *ev)
{
    if (s->spec->notify == NULL || (ev->decided && !s->spec->notify_recorded)) {
        return; /* an old record does not say what was delivered */
    }
    for (int k = 0; k < NOTICE_KINDS; k++) {
        enum study_notice_kind kind = (enum study_notice_kind)k;
        if (!is_due(s, kind) || !wants(s, kind)) {
            continue;
        }
        s->notices = xreallocarray(s->notices, (size_t)s->n_notices + 1, sizeof(*s->notices));
        s->notices[s->n_notices++] =
            (struct study_notice){.seq = s->seq + 1, .kind = kind, .wall_ms = ev->wall_ms};
    }
}

const struct study_notice *study_notices(const struct study *s, int *ret_n)
{
    *ret_n = s->n_notices;
    return s->notices;
}

static int find(const struct study *s, int64_t seq, const char *kind)
{
    for (int i = 0; i < s->n_notices; i++) {
        if (s->notices[i].seq == seq && strcmp(names[s->notices[i].kind], kind) == 0) {
            return i;
        }
    }
    return -1;
}

enum mag_status handle_notified(struct study *s, struct event *ev, struct mag_err *err)
{
    int64_t seq = json_integer_value(json_object_get(ev->detail, "seq"));
    const char *kind = json_string_value(json_object_get(ev->detail, "event"));
    if (seq < 1 || kind == NULL || json_object_size(ev->detail) != 2) {
        return mag_fail(err, ev->decided ? MAG_CORRUPT : MAG_INVALID,
                        "a notice is named by its \"seq\" and \"event\"");
    }
    int i = find(s, seq, kind);
    if (i >= 0) {
        s->n_notices--;
        memmove(&s->notices[i], &s->notices[i + 1],
                (size_t)(s->n_notices - i) * sizeof(*s->notices));
    } else {
        s->answered = !ev->decided;
    }
    return MAG_OK;
}
