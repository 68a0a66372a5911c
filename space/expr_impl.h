/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the parser (expr.c) and the evaluator (expr_eval.c) of conditions: a program for a stack
 * machine. Nobody else includes this.
 */
#ifndef MAG_SPACE_EXPR_IMPL_H
#define MAG_SPACE_EXPR_IMPL_H

#include "space/expr.h"

enum expr_code {
    EX_NUMBER, /* push num */
    EX_PARAM,  /* push the value of parameter arg; CATEGORICAL: the index of its label */
    EX_NEG,
    EX_ADD,
    EX_SUB,
    EX_MUL,
    EX_DIV,
    EX_MOD,
    EX_POW,
    EX_MIN, /* of two */
    EX_MAX,
    EX_ABS,
    EX_LOG,
    EX_EXP,
    EX_SQRT,
    EX_ACTIVE, /* push whether parameter arg is active */
    EX_LT,
    EX_LE,
    EX_GT,
    EX_GE,
    EX_EQ,
    EX_NE,
    EX_SAME,   /* two categorical parameters, arg = first * SPACE_PARAMS_MAX + second: same label */
    EX_DIFFER, /* the opposite */
    EX_IN,     /* the arg topmost values hold the one below them */
    EX_NOT,
    EX_AND,
    EX_OR,
    EX_IMPLIES,
};

struct expr_op {
    enum expr_code code;
    int arg;
    double num; /* NUMBER: itself; comparisons: the usual distance, see expr_calibrate */
};

struct expr {
    char *text;
    struct expr_op *ops;
    int n, cap;
    uint64_t reads[SPACE_PARAMS_MAX / 64];
};

/* Measures how far apart the sides of each comparison usually are, so that violations of different
 * comparisons are of one size and equal distances count the same anywhere in the space. */
void expr_calibrate(struct expr *e, const struct space *s);

#endif
