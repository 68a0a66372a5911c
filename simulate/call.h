/* SPDX-License-Identifier: Apache-2.0
 *
 * The short form of a model in a file or flag: a name with numbers, such as "lognormal(0.5)" or
 * "mfh3(2.5, 2)".
 */
#ifndef MAG_SIMULATE_CALL_H
#define MAG_SIMULATE_CALL_H

#include "base/err.h"

#define SIM_CALL_ARGS_MAX 8
#define SIM_CALL_NAME_MAX 64 /* bytes, NUL included */

struct sim_call {
    char name[SIM_CALL_NAME_MAX];
    double args[SIM_CALL_ARGS_MAX];
    int n;
};

/* Blanks between the parts are free. MAG_INVALID says what is wrong and shows the form. */
enum mag_status sim_call_parse(const char *text, struct sim_call *ret,
                               struct mag_err *err) MAG_MUSTCHECK;

#endif
