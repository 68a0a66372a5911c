/* SPDX-License-Identifier: Apache-2.0
 *
 * What a trial program writes. Byte 0 chooses: its channel (each line is a message or has one
 * reason), or its output, which gives the same calls whole and in pieces; patterns come from the
 * input too, up to its first line feed.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/json.h"
#include "worker/lines.h"
#include "worker/said.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

#define CALLS_MAX (1 << 20) /* bytes of the account of what was called */

static void add_call(struct buf *b, const char *what, int64_t step, const json_t *metrics)
{
    char *text = metrics != NULL ? mjson_dump(metrics) : xstrdup("");
    MAG_ASSERT(step >= 0 && step <= LINES_STEP_MAX, "step %" PRId64, step);
    if (b->len < CALLS_MAX) {
        buf_addf(b, "%s%" PRId64 "%s\n", what, step, text);
    }
    free(text);
}

static void on_metrics(void *arg, int64_t step, const json_t *metrics)
{
    const char *name = NULL;
    json_t *v = NULL;
    json_object_foreach((json_t *)(uintptr_t)metrics, name, v)
    {
        MAG_ASSERT(json_is_number(v) || json_is_null(v), "%s", name);
    }
    add_call(arg, "m", step, metrics);
}

static void on_checkpoint(void *arg, int64_t step)
{
    add_call(arg, "c", step, NULL);
}

static void on_result(void *arg, const json_t *metrics)
{
    add_call(arg, "r", 0, metrics);
}

static void on_bad(void *arg, const char *why)
{
    MAG_ASSERT(why[0] != '\0', "no reason");
    add_call(arg, "b", 0, NULL);
}

static void feed(const json_t *patterns, const char *text, size_t len, size_t part, struct buf *calls)
{
    const struct lines_handler h = {.arg = calls,
                                    .metrics = on_metrics,
                                    .checkpoint = on_checkpoint,
                                    .result = on_result,
                                    .bad = on_bad};
    struct lines *l = NULL;
    buf_add(calls, "", 0);
    if (lines_create(&l, patterns, "a", 1, &h, NULL) != MAG_OK) {
        return;
    }
    for (size_t at = 0; at < len; at += part) {
        lines_add(l, text + at, len - at < part ? len - at : part);
    }
    lines_end(l);
    lines_destroy(l);
}

static void check_output(const char *text, size_t len)
{
    const char *nl = memchr(text, '\n', len);
    size_t first = nl != NULL ? (size_t)(nl - text) : 0;
    char *pattern = xstrndup(text, first);
    json_t *own = json_string(pattern);
    json_t *patterns = json_pack("{s:s, s:s}", "a", "a=([0-9.e+-]+|nan)", "step", "s([0-9]+)");
    struct buf whole = {0};
    struct buf pieces = {0};
    if (own != NULL && first > 0) {
        (void)json_object_set(patterns, "b", own);
    }
    feed(patterns, text, len, len > 0 ? len : 1, &whole);
    feed(patterns, text, len, 3, &pieces);
    MAG_ASSERT(strcmp(whole.data, pieces.data) == 0, "%s\nand in pieces\n%s", whole.data,
               pieces.data);
    lines_clean(pattern);
    MAG_ASSERT(strchr(pattern, '\033') == NULL && strchr(pattern, '\r') == NULL, "not clean");
    buf_fini(&whole);
    buf_fini(&pieces);
    json_decref(patterns);
    json_decref(own);
    free(pattern);
}

static void check_channel(const char *text, size_t len)
{
    struct said s;
    struct mag_err err = {0};
    if (said_parse(text, len, &s, &err) != MAG_OK) {
        MAG_ASSERT(err.text[0] != '\0', "no reason");
        return;
    }
    MAG_ASSERT(s.kind != SAID_REPORT || json_is_object(s.metrics), "a report");
    MAG_ASSERT(s.kind != SAID_CHECKPOINT || s.path != NULL, "a checkpoint");
    MAG_ASSERT(s.kind != SAID_RESULT || s.status != NULL, "a result");
    MAG_ASSERT(s.kind < SAID_ERROR || s.reason[0] != '\0', "no reason");
    said_fini(&s);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    char *text = xmalloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (data[0] % 2 == 0) {
        check_channel(text, size - 1);
    } else {
        check_output(text, size - 1);
    }
    free(text);
    return 0;
}
