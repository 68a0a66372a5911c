/* SPDX-License-Identifier: Apache-2.0
 *
 * Conditions over the parameters of one space, as text:
 *
 *     units * layers <= 4096
 *     optimizer == 'sgd' implies lr > 0.001
 *     not (kernel == 3 and stride > 2)
 *     depth in [1, 2, 4] or not active(momentum)
 *
 * From loose to tight: implies (to the right), or, and, not, comparisons (== != < <= > >=, in
 * [...], not in [...]; chained as in a < b <= c), + -, * / %, unary -, ** (to the right).
 * Functions: min, max, abs, log, exp, sqrt, active. A name that is no plain word, or a reserved
 * one, is written
 * ${any name}. Strings stand in ' or "; backslash escapes. Checked for types once, when parsed.
 *
 * Inactive parameters: a comparison that reads one is neither true nor false (Kleene's third value)
 * and decides nothing: a condition excludes a point only when it is false. active(x) tells. A
 * number that does not exist (0 / 0, log of a negative) makes every comparison but != false.
 *
 * Rounding: numbers that differ by less than 1e-12 of what they were computed from count as equal
 * (0.1 + 0.2 == 0.3), whole numbers exactly.
 */
#ifndef MAG_SPACE_EXPR_H
#define MAG_SPACE_EXPR_H

#include "space/space.h"

#define EXPR_BYTES_MAX 1000 /* length of the text */
#define EXPR_DEPTH_MAX 32   /* of parentheses, signs and functions */
#define EXPR_STACK_MAX 256  /* values pending at once: bounds lists and arguments */

struct expr;

/* NULL after a fault, which goes to `is` under `pointer` with the column in the text. */
struct expr *expr_parse(const struct space *s, const char *text, const char *pointer,
                        struct mjson_issues *is);
void expr_destroy(struct expr *e);
const char *expr_text(const struct expr *e); /* as given */
/* Does it name parameter `index`? */
bool expr_reads(const struct expr *e, int index);
/* 0 when the condition holds or cannot be told; else how far the point is from meeting it, above 0,
 * in units that fall as a point comes nearer. `point` is normalized. */
double expr_violation(const struct expr *e, const struct space *s, const double *point);

#endif
