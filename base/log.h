/* SPDX-License-Identifier: Apache-2.0
 *
 * One line per event on standard error: time, level, subsystem, message id, key=value pairs.
 *   log_info("driver", "trial-moved", "trial=%d from=%s to=%s", …);
 * Only programs' shells log above debug; base/, space/, wire/ and optimizers/ do not. Secrets are
 * never formatted. Thread-safe (one write per line).
 */
#ifndef MAG_BASE_LOG_H
#define MAG_BASE_LOG_H

enum log_level { LOG_DEBUG = 0, LOG_INFO = 1, LOG_WARN = 2, LOG_ERROR = 3 };

/* The level from MAGPIE_LOG (debug, info, warn, error); info otherwise. */
void log_init_from_env(void);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
void log_write(enum log_level level, const char *subsystem, const char *id, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* A value for key=value pairs, quoted when it holds blanks, quotes or controls. Thread-local ring of
 * 4 buffers of 512 bytes. */
const char *log_quote(const char *value);

#define log_debug(sub, id, ...)                                                                     \
    do {                                                                                            \
        if (log_get_level() == LOG_DEBUG) {                                                         \
            log_write(LOG_DEBUG, sub, id, __VA_ARGS__);                                             \
        }                                                                                           \
    } while (0)
#define log_info(sub, id, ...) log_write(LOG_INFO, sub, id, __VA_ARGS__)
#define log_warn(sub, id, ...) log_write(LOG_WARN, sub, id, __VA_ARGS__)
#define log_error(sub, id, ...) log_write(LOG_ERROR, sub, id, __VA_ARGS__)

#endif
