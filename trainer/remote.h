/* SPDX-License-Identifier: Apache-2.0
 *
 * Data sets that lie in shared storage (s3://, swift://, hdfs://, file:): fetched once a host into a
 * cache folder, which is bounded, and read there. A fetch appears whole or not at all; of several
 * processes that want the same, one fetches and the others wait for it. What lies in the cache is
 * used while the storage still holds the same version (ETag, or time and size).
 *
 *   CACHE/lock                     held while room is made
 *   CACHE/<url's hash>.lock        held exclusively to fetch or remove, shared to read; used last when
 *   CACHE/<url's hash>/<version>/  the file or the folder, by its own name
 *   CACHE/<url's hash>/part/       a fetch that is under way, or was when its process died
 */
#ifndef MAG_TRAINER_REMOTE_H
#define MAG_TRAINER_REMOTE_H

#include "trainer/dataset.h"

#define REMOTE_FILES_MAX 10000  /* files of one folder */
#define REMOTE_CACHE_GB 64      /* bound of the cache, unless MAGPIE_DATA_CACHE_GB says another */
#define REMOTE_CACHE_GB_MAX (1 << 20)
#define REMOTE_TRIES 3 /* fetches of what changes meanwhile */

bool remote_is_url(const char *path);

/* A source whose paths are all on this host; what was fetched stays in place until it is released. */
struct remote {
    struct dataset_source local; /* shallow: only the paths below are its own */
    char *paths[4];
    int locks[4];
};
/* Fetches what `s` names by URLs. NOTFOUND, LIMIT, INVALID and IO tell the URL. */
enum mag_status remote_open(const struct dataset_source *s, struct remote *ret,
                            struct mag_err *err) MAG_MUSTCHECK;
void remote_close(struct remote *r);

#endif
