/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading values out of a recipe's objects: "${name}" is replaced by the parameter, kinds and
 * ranges are checked, and what is wrong becomes an issue at the value's pointer. Private to
 * recipe*.c.
 */
#ifndef MAG_TRAINER_VALUE_H
#define MAG_TRAINER_VALUE_H

#include "base/json.h"
#include "trainer/recipe.h"

#include <stdbool.h>

struct reader {
    const struct recipe_context *ctx;
    struct mjson_issues *issues;
};

/* One object being read. */
struct place {
    struct reader *reader;
    const json_t *object;
    const char *pointer;
};

/* `value` with "${name}" replaced: NULL when the parameter is inactive (or the reference is wrong,
 * which adds an issue). Borrowed. `name`, when not NULL, gets the parameter's name or NULL. */
const json_t *value_resolve(struct reader *r, const json_t *value, const char *pointer,
                            const char **name);

/* Is `value`, or anything inside it, an inactive parameter? */
bool value_has_inactive(struct reader *r, const json_t *value);

/* The object's value for `key`: false when it is absent or inactive, and then `*to` keeps its
 * default. With `required` that adds an issue. */
bool value_int(const struct place *p, const char *key, bool required, int lo, int hi, int *to);
bool value_number(const struct place *p, const char *key, bool required, double lo, double hi,
                  double *to);
/* true or false; as a parameter's value also 1 or 0, or "true" or "false". */
bool value_bool(const struct place *p, const char *key, bool *to);
/* One of `names` (NULL-terminated); *to gets the index. */
bool value_choice(const struct place *p, const char *key, bool required, const char *const names[],
                  int *to);

#endif
