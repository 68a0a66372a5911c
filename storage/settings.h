/* SPDX-License-Identifier: Apache-2.0
 *
 * Settings and secrets of storages: environment variables first, then the file that
 * MAGPIE_STORAGE_CREDENTIALS names (lines NAME=VALUE, # for remarks). Never in arguments or logs.
 */
#ifndef MAG_STORAGE_SETTINGS_H
#define MAG_STORAGE_SETTINGS_H

#include "base/err.h"
#include "base/strmap.h"

#define SETTINGS_FILE_MAX (1 << 20) /* bytes of a file with credentials */

struct settings {
    struct strmap file; /* name -> malloc'ed value */
};

enum mag_status settings_init(struct settings *s, struct mag_err *err) MAG_MUSTCHECK;
void settings_fini(struct settings *s);
/* Borrowed until settings_fini; NULL when it is not set or empty. */
const char *settings_get(const struct settings *s, const char *name);
/* The first of the names (NULL-terminated) that is set. */
const char *settings_first(const struct settings *s, const char *const names[]);
/* A duration in milliseconds ("2m"); INVALID names the setting. */
enum mag_status settings_duration(const struct settings *s, const char *name, int64_t fallback_ms,
                                  int64_t *ret_ms, struct mag_err *err) MAG_MUSTCHECK;
/* A whole number from `min` to `max`. */
enum mag_status settings_int(const struct settings *s, const char *name, int64_t fallback,
                             int64_t min, int64_t max, int64_t *ret,
                             struct mag_err *err) MAG_MUSTCHECK;
/* The value of `key` in section [`section`] of an ini text as AWS writes it; malloc'ed or NULL. */
char *settings_ini(const char *text, const char *section, const char *key);

#endif
