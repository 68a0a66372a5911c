/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/frame.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

const char *const column_kind_names[] = {"number", "category", "text", "tokens", "sparse", NULL};

struct column *frame_add(struct frame *f, const char *name, enum column_kind kind)
{
    f->columns = xreallocarray(f->columns, (size_t)f->n + 1, sizeof(*f->columns));
    struct column *c = &f->columns[f->n++];
    *c = (struct column){.name = xstrdup(name), .kind = kind, .width = 1, .stride = 1, .groups = 1};
    return c;
}

int frame_find(const struct frame *f, const char *name)
{
    for (int i = 0; i < f->n; i++) {
        if (strcmp(f->columns[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

void frame_borrow(struct frame *to, const struct frame *from)
{
    *to = (struct frame){.n_rows = from->n_rows, .n = from->n};
    to->columns = xcalloc((size_t)from->n + 1, sizeof(*to->columns));
    for (int i = 0; i < from->n; i++) {
        to->columns[i] = from->columns[i];
        to->columns[i].name = xstrdup(from->columns[i].name);
        to->columns[i].borrowed = true;
    }
}

void column_fini(struct column *c)
{
    if (!c->borrowed) {
        for (int i = 0; i < c->n_levels; i++) {
            free(c->levels[i]);
        }
        free(c->values);
        free(c->octets);
        free(c->codes);
        free(c->levels);
        free(c->bytes);
        free(c->start);
        free(c->sparse.start);
        free(c->sparse.index);
        free(c->sparse.value);
    }
    free(c->name);
    *c = (struct column){0};
}

void frame_fini(struct frame *f)
{
    for (int i = 0; i < f->n; i++) {
        column_fini(&f->columns[i]);
    }
    free(f->columns);
    *f = (struct frame){0};
}
