/* SPDX-License-Identifier: Apache-2.0
 *
 * Labels that are texts: numbered as they come, then in sorted order.
 */
#include "base/alloc.h"
#include "trainer/format.h"

#include <stdlib.h>
#include <string.h>

int classes_add(struct classes *c, const char *text, int max)
{
    uintptr_t k = (uintptr_t)strmap_get(&c->map, text);
    if (k == 0) {
        if (c->n == max) {
            return -1;
        }
        k = (uintptr_t)++c->n;
        (void)strmap_set(&c->map, text, (void *)k);
    }
    return (int)k - 1;
}

char **classes_texts(const struct classes *c)
{
    char **texts = xcalloc((size_t)c->n + 1, sizeof(char *));
    size_t cursor = 0;
    for (int i = 0; i < c->n; i++) {
        texts[i] = xstrdup(strmap_next(&c->map, &cursor)->key);
    }
    return texts;
}

static int by_name(const void *a, const void *b)
{
    const struct strmap_entry *x = a;
    const struct strmap_entry *y = b;
    double nx = strtod(x->key, NULL);
    double ny = strtod(y->key, NULL);
    return nx != ny ? (nx < ny ? -1 : 1) : strcmp(x->key, y->key);
}

void classes_finish(struct classes *c, struct dataset *d)
{
    struct strmap_entry *e = xcalloc((size_t)c->n + 1, sizeof(*e));
    int32_t *rank = xcalloc((size_t)c->n + 1, sizeof(*rank));
    size_t cursor = 0;
    for (int i = 0; i < c->n; i++) {
        e[i] = *strmap_next(&c->map, &cursor);
    }
    qsort(e, (size_t)c->n, sizeof(*e), by_name);
    d->class_names = xcalloc((size_t)c->n + 1, sizeof(char *));
    for (int i = 0; i < c->n; i++) {
        rank[(uintptr_t)e[i].value - 1] = i;
        d->class_names[i] = xstrdup(e[i].key);
    }
    for (uint32_t i = 0; i < d->n_rows; i++) {
        d->labels[i] = rank[d->labels[i]];
    }
    free(e);
    free(rank);
    d->n_classes = c->n;
}

void classes_fini(struct classes *c)
{
    strmap_fini(&c->map);
    *c = (struct classes){0};
}
