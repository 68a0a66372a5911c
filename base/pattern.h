/* SPDX-License-Identifier: Apache-2.0
 *
 * Regular expressions that people write into files: POSIX extended ones, without what lets a short
 * text take for ever or fill the memory (back-references, repeats of repeats).
 */
#ifndef MAG_BASE_PATTERN_H
#define MAG_BASE_PATTERN_H

#include "base/err.h"

#include <regex.h>

#define PATTERN_BYTES_MAX 1024
#define PATTERN_GROUPS_MAX 32    /* one within another */
#define PATTERN_SIZE_MAX 2000    /* characters once all repeats are written out: a+ is aa* */

/* Compiles `text`; regfree it after OK only. INVALID: `err` says what is wrong with it, beginning
 * with "is" or "has", for a sentence about the pattern. Pure. */
enum mag_status pattern_compile(const char *text, regex_t *ret, struct mag_err *err) MAG_MUSTCHECK;

#endif
