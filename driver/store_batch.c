/* SPDX-License-Identifier: Apache-2.0
 *
 * The rows of one turn, copied into one block so that the store's thread shares nothing with the
 * loop.
 */
#include "driver/store_internal.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

struct store_batch *store_batch_create(void)
{
    return xcalloc(1, sizeof(struct store_batch));
}

void store_batch_destroy(struct store_batch *b)
{
    if (b != NULL) {
        free(b->rows);
        buf_fini(&b->bytes);
        free(b);
    }
}

bool store_batch_is_empty(const struct store_batch *b)
{
    return b->n == 0;
}

size_t store_batch_rows(const struct store_batch *b)
{
    return b->n;
}

static struct batch_row *add_row(struct store_batch *b, enum batch_kind kind)
{
    if (b->n == b->cap) {
        b->cap = b->cap > 0 ? b->cap * 2 : 16;
        b->rows = xreallocarray(b->rows, b->cap, sizeof(*b->rows));
    }
    struct batch_row *row = &b->rows[b->n++];
    *row =
        (struct batch_row){.kind = kind, .text = -1, .resolved = -1, .request = -1, .summary = -1};
    return row;
}

/* The offset of a NUL-terminated copy, -1 for NULL. */
static int64_t add_text(struct store_batch *b, const char *text, size_t len)
{
    if (text == NULL) {
        return -1;
    }
    int64_t at = (int64_t)b->bytes.len;
    buf_add(&b->bytes, text, len);
    buf_addc(&b->bytes, '\0');
    return at;
}

static int64_t add_string(struct store_batch *b, const char *text)
{
    return add_text(b, text, text != NULL ? strlen(text) : 0);
}

void store_batch_event(struct store_batch *b, const struct store_event *ev)
{
    MAG_ASSERT(ev->seq >= 1 && ev->seq <= STORE_SEQ_MAX, "seq %lld", (long long)ev->seq);
    MAG_ASSERT(ev->experiment >= 1 && ev->experiment <= STORE_EXPERIMENT_MAX, "experiment %lld",
               (long long)ev->experiment);
    struct batch_row *row = add_row(b, BATCH_EVENT);
    row->event_kind = ev->kind;
    row->experiment = ev->experiment;
    row->seq = ev->seq;
    row->commit_seq = ev->commit_seq;
    row->trial = ev->trial;
    row->wall_ms = ev->wall_ms;
    row->up_ms = ev->up_ms;
    row->text_len = ev->text_len;
    row->text = add_text(b, ev->text, (size_t)ev->text_len);
}

void store_batch_experiment(struct store_batch *b, const struct store_experiment *x)
{
    MAG_ASSERT(x->id >= 1 && x->id <= STORE_EXPERIMENT_MAX, "experiment %lld", (long long)x->id);
    struct batch_row *row = add_row(b, BATCH_EXPERIMENT);
    row->experiment = x->id;
    row->wall_ms = x->created_ms;
    row->commit_seq = x->commit_seq;
    row->text_len = x->spec_len;
    row->text = add_text(b, x->spec_text, (size_t)x->spec_len);
    row->resolved = add_string(b, x->resolved);
    row->request = add_string(b, x->request);
    row->summary = add_string(b, x->summary);
}

void store_batch_delete(struct store_batch *b, int64_t experiment, int64_t commit_seq)
{
    struct batch_row *row = add_row(b, BATCH_DELETE);
    row->experiment = experiment;
    row->commit_seq = commit_seq;
}
