/* SPDX-License-Identifier: Apache-2.0
 *
 * Text files line by line; zlib reads plain and .gz files alike.
 */
#include "base/alloc.h"
#include "trainer/format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum mag_status lines_open(struct lines *l, const char *path, struct mag_err *err)
{
    struct stat info;
    *l = (struct lines){.path = path};
    l->gz = gzopen(path, "rbe");
    if (l->gz == NULL) {
        return mag_fail(err, errno == ENOENT ? MAG_NOTFOUND : MAG_IO, "%s: %s", path,
                        strerror(errno));
    }
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        return mag_fail(err, MAG_INVALID, "%s: a folder; a file is expected", path);
    }
    l->line = xmalloc(DATASET_LINE_MAX + 2);
    return MAG_OK;
}

static enum mag_status end_of_file(struct lines *l, bool *more, struct mag_err *err)
{
    int code = 0;
    const char *why = gzerror(l->gz, &code);
    *more = false;
    return code == Z_OK || code == Z_STREAM_END
               ? MAG_OK
               : mag_fail(err, MAG_CORRUPT, "%s: damaged near line %d: %s", l->path, l->number, why);
}

enum mag_status lines_next(struct lines *l, bool *more, struct mag_err *err)
{
    l->number++;
    if (gzgets(l->gz, l->line, DATASET_LINE_MAX + 2) == NULL) {
        return end_of_file(l, more, err);
    }
    size_t n = strlen(l->line);
    bool ended = n > 0 && l->line[n - 1] == '\n';
    if (n - ended > DATASET_LINE_MAX) {
        return mag_fail(err, MAG_LIMIT, "%s:%d: line of over %d bytes", l->path, l->number,
                        DATASET_LINE_MAX);
    }
    if (!ended && !gzeof(l->gz)) {
        return mag_fail(err, MAG_CORRUPT, "%s:%d: a NUL byte: this is no text in UTF-8", l->path,
                        l->number);
    }
    while (n > 0 && (l->line[n - 1] == '\n' || l->line[n - 1] == '\r')) {
        l->line[--n] = '\0';
    }
    if (l->number == 1 && strncmp(l->line, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark */
        n -= 3;
        memmove(l->line, l->line + 3, n + 1);
    }
    l->len = n;
    *more = true;
    return MAG_OK;
}

void lines_close(struct lines *l)
{
    free(l->line);
    if (l->gz != NULL) {
        (void)gzclose(l->gz);
    }
    *l = (struct lines){0};
}
