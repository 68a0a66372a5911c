/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts that many trials share (holders, reasons to wait, where they ran) are kept once.
 */
#include "driver/study_impl.h"

#include "base/alloc.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WHERES_MAX                                                                                 \
    4096 /* distinct descriptions kept for sharing; more are kept by their trials                  \
          */

struct shared {
    int64_t refs;
    char text[];
};

/* The text stands in its count's own block: only the last user has to look it up. */
static struct shared *shared_of(const char *text)
{
    return (struct shared *)((uintptr_t)text - offsetof(struct shared, text));
}

static void drop(struct study *s, const char *text)
{
    struct shared *h = shared_of(text);
    if (--h->refs == 0) {
        bool ours = strmap_remove(&s->texts, text) == h;
        MAG_ASSERT(ours, "text %s", text);
        free(h);
    }
}

static const char *take(struct study *s, const char *text)
{
    struct shared *h = strmap_get(&s->texts, text);
    if (h == NULL) {
        size_t size = strlen(text) + 1;
        h = xmalloc(sizeof(*h) + size);
        h->refs = 0;
        memcpy(h->text, text, size);
        (void)strmap_set(&s->texts, text, h);
    }
    h->refs++;
    return h->text;
}

void study_text_set(struct study *s, const char **slot, const char *text)
{
    const char *old = *slot;
    if (old == text || (old != NULL && text != NULL && strcmp(old, text) == 0)) {
        return;
    }
    *slot = text != NULL ? take(s, text) : NULL;
    if (old != NULL) {
        drop(s, old);
    }
}

json_t *study_where(struct study *s, json_t *where)
{
    if (where == NULL) {
        return NULL;
    }
    char *text = mjson_dump(where);
    json_t *known = strmap_get(&s->wheres, text);
    if (known == NULL && s->wheres.live < WHERES_MAX) {
        known = json_deep_copy(where); /* the event's may be changed by its owner */
        (void)strmap_set(&s->wheres, text, known);
    }
    free(text);
    return known != NULL ? json_incref(known) : json_deep_copy(where);
}

void study_texts_fini(struct study *s)
{
    size_t cursor = 0;
    struct strmap_entry *e;
    while ((e = strmap_next(&s->texts, &cursor)) != NULL) {
        free(e->value);
    }
    strmap_fini(&s->texts);
    cursor = 0;
    while ((e = strmap_next(&s->wheres, &cursor)) != NULL) {
        json_decref(e->value);
    }
    strmap_fini(&s->wheres);
}
