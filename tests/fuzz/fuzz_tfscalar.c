/* SPDX-License-Identifier: Apache-2.0
 *
 * Event files that a trial program writes: what is heard is the same whole and in pieces. Byte 0 chooses
 * their size; with its high bit set the rest is made one sound record, so that the messages in it
 * are reached without guessing a check.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/tfrecord.h"
#include "worker/tfscalar.h"

#include <inttypes.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void on_scalar(void *arg, int64_t step, const char *tag, double v)
{
    MAG_ASSERT(step >= 0 && tag[0] != '\0' && strlen(tag) <= TFSCALAR_TAG_MAX, "step %" PRId64, step);
    buf_addf(arg, "%" PRId64 "%s%a;", step, tag, v);
}

static void hear(const char *bytes, size_t n, size_t part, struct buf *heard)
{
    struct tfscalars t = {0};
    buf_add(heard, "", 0);
    for (size_t at = 0; at < n; at += part) {
        tfscalars_add(&t, bytes + at, n - at < part ? n - at : part, on_scalar, heard);
    }
    MAG_ASSERT(t.partial.len <= TFSCALAR_RECORD_MAX + 65536 + TFRECORD_HEAD + TFRECORD_FOOT,
               "%zu bytes are kept", t.partial.len);
    tfscalars_fini(&t);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct buf file = {0};
    struct buf whole = {0};
    struct buf pieces = {0};
    if (size < 2) {
        return 0;
    }
    if ((data[0] & 0x80) != 0) {
        tfrecord_add(&file, data + 1, size - 1);
    } else {
        buf_add(&file, data + 1, size - 1);
    }
    hear(file.data, file.len, file.len, &whole);
    hear(file.data, file.len, (size_t)(data[0] & 0x7f) + 1, &pieces);
    MAG_ASSERT(strcmp(whole.data, pieces.data) == 0, "%s is not %s", whole.data, pieces.data);
    buf_fini(&file);
    buf_fini(&whole);
    buf_fini(&pieces);
    return 0;
}
