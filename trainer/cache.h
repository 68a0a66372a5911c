/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to remote.c: the folder of fetched data sets, with its locks and its bound
 * (trainer/remote.h draws it). Several processes use it at once.
 */
#ifndef MAG_TRAINER_CACHE_H
#define MAG_TRAINER_CACHE_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct cache_entry {
    char *root, *folder; /* of the cache; of this URL */
    int lock;            /* -1 = not held */
};

/* Waits until nobody fetches the entry of that URL, and keeps it from being fetched or removed. */
enum mag_status cache_enter(const char *url, struct cache_entry *ret,
                            struct mag_err *err) MAG_MUSTCHECK;
/* Waits until nobody reads it either. Somebody else may have had it in between. */
enum mag_status cache_exclude(struct cache_entry *e, struct mag_err *err) MAG_MUSTCHECK;
/* Where a version lies, or would; malloc'ed. */
char *cache_path(const struct cache_entry *e, const char *version);
/* Of an excluded entry: removes other versions and what a dead process left, makes room for `bytes` by removing entries
 * that were not used for longest, and gives the folder to fetch into. LIMIT: there is not enough. */
enum mag_status cache_begin(struct cache_entry *e, int64_t bytes, char **ret_part,
                            struct mag_err *err) MAG_MUSTCHECK;
/* What was fetched is the version from now on. */
enum mag_status cache_publish(struct cache_entry *e, const char *version,
                              struct mag_err *err) MAG_MUSTCHECK;
/* Nothing came of the fetch. */
void cache_abandon(struct cache_entry *e);
/* Lets others read too. */
enum mag_status cache_share(struct cache_entry *e, struct mag_err *err) MAG_MUSTCHECK;
/* Gives the lock to the caller: nobody removes the entry until he closes it. */
int cache_take_lock(struct cache_entry *e);
void cache_leave(struct cache_entry *e);

#endif
