/* SPDX-License-Identifier: Apache-2.0
 *
 * Strict JSON over jansson: parsing with clear errors, places (line and column) found again from the
 * text only when an error needs them, and lists of issues, so that a user sees every fault at once.
 */
#ifndef MAG_BASE_JSON_H
#define MAG_BASE_JSON_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>

/* Stored state and digests: compact, keys sorted, shortest exact numbers. */
#define MJSON_CANON (JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17))
#define MJSON_DEPTH_MAX 64
#define MJSON_ISSUES_MAX 100

/* Parses one RFC 8259 text. Duplicate keys, trailing bytes, NUL bytes, depth over MJSON_DEPTH_MAX
 * and non-UTF-8 are errors whose text starts "line L, column C: ". New reference in *ret. */
enum mag_status mjson_parse(const char *text, size_t len, json_t **ret, struct mag_err *err) MAG_MUSTCHECK;

/* As mjson_parse, but the bare tokens NaN, Infinity and -Infinity are read as null. */
enum mag_status mjson_parse_nan(const char *text, size_t len, json_t **ret, struct mag_err *err) MAG_MUSTCHECK;

/* Reads a whole file (at most `max` bytes) into a malloc'ed, NUL-terminated *ret. */
enum mag_status mjson_read_file(const char *path, size_t max, char **ret, size_t *ret_len,
                                struct mag_err *err) MAG_MUSTCHECK;

/* Line and column (from 1, columns in bytes) of the value at an RFC 6901 pointer in `text`, which
 * must be valid JSON. False when the pointer names nothing: then the nearest parent's place is given
 * when there is one. */
bool mjson_locate(const char *text, size_t len, const char *pointer, int *ret_line, int *ret_column);

/* ---- issues: what is wrong with a document, all of it ---- */
struct mjson_issue {
    char *pointer; /* RFC 6901, "" = the document */
    char *text;    /* one sentence: what is wrong and how to mend it */
    int line;      /* 0 = not placed */
    int column;
};
struct mjson_issues {
    struct mjson_issue items[MJSON_ISSUES_MAX];
    int n;     /* stored, at most MJSON_ISSUES_MAX */
    int total; /* found */
};
void mjson_issue(struct mjson_issues *is, const char *pointer, const char *fmt, ...) MAG_PRINTF(3, 4);
/* The issue is about `pointer` + "/" + escaped key. */
void mjson_issue_at(struct mjson_issues *is, const char *pointer, const char *key, const char *fmt, ...)
    MAG_PRINTF(4, 5);
/* Fills line and column of every issue from the text the document came from. */
void mjson_issues_place(struct mjson_issues *is, const char *text, size_t len);
/* "FILE:LINE:COLUMN: /pointer: text\n" for each; `file` NULL leaves "line L, column C". */
void mjson_issues_print(const struct mjson_issues *is, const char *file, struct buf *out);
/* [{"pointer","line","column","detail"}], new reference. */
json_t *mjson_issues_json(const struct mjson_issues *is);
void mjson_issues_fini(struct mjson_issues *is);

/* Writes `pointer` + "/" + key (with ~0 ~1 escapes) into a malloc'ed string. */
char *mjson_pointer(const char *pointer, const char *key);
char *mjson_pointer_index(const char *pointer, size_t index);

/* Reports every key of `object` that is not in `known` (NULL-terminated), naming the nearest one. */
void mjson_check_keys(const json_t *object, const char *const known[], const char *pointer,
                      struct mjson_issues *is);
/* The entry of `known` (NULL-terminated) nearest to `word` by edit distance, or NULL when none is near. */
const char *mjson_nearest(const char *word, const char *const known[]);

/* "an object", "a string", "a whole number", "a number", "true", … for messages. */
const char *mjson_kind(const json_t *value);

/* Compact canonical text, malloc'ed. */
char *mjson_dump(const json_t *value);

#endif
