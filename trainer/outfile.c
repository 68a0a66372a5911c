/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/outfile.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum mag_status taken(const char *path, struct mag_err *err)
{
    return mag_fail(err, MAG_CONFLICT, "%s is there already: remove it, or give another --output",
                    path);
}

enum mag_status outfile_begin(struct outfile *o, const char *path, struct mag_err *err)
{
    *o = (struct outfile){.path = xstrdup(path),
                          .beside = xasprintf("%s.new-%ld", path, (long)getpid())};
    if (access(path, F_OK) == 0) {
        enum mag_status st = taken(path, err);
        return outfile_end(o, st, NULL);
    }
    o->f = fopen(o->beside, "wbxe");
    if (o->f == NULL) {
        enum mag_status st = mag_fail(err, MAG_IO, "cannot write %s: %s", path, strerror(errno));
        return outfile_end(o, st, NULL);
    }
    return MAG_OK;
}

enum mag_status outfile_end(struct outfile *o, enum mag_status st, struct mag_err *err)
{
    if (o->f != NULL) {
        bool bad = ferror(o->f) != 0 || fflush(o->f) != 0 || fsync(fileno(o->f)) != 0;
        int e = errno;
        bad = fclose(o->f) != 0 || bad;
        if (st == MAG_OK && bad) {
            st = mag_fail(err, MAG_IO, "cannot write %s: %s", o->path, strerror(e));
        }
        if (st == MAG_OK && link(o->beside, o->path) != 0) {
            st = errno == EEXIST
                     ? taken(o->path, err)
                     : mag_fail(err, MAG_IO, "cannot make %s: %s", o->path, strerror(errno));
        }
        (void)unlink(o->beside);
    }
    free(o->path);
    free(o->beside);
    *o = (struct outfile){0};
    return st;
}
