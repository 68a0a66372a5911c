/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/machine.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static const char *listed(const struct machine *m)
{
    static char text[256];
    text[0] = '\0';
    for (int i = 0; i < m->n_gpus; i++) {
        size_t n = strlen(text);
        (void)snprintf(text + n, sizeof(text) - n, "%s%s", i > 0 ? "," : "", m->gpus[i]);
    }
    return text;
}

Test(machine, gpus_are_listed_as_cuda_lists_them)
{
    static const struct {
        const char *list, *want;
    } cases[] = {
        {"0,2", "0,2"},
        {"4, 4 ,5", "4,5"},
        {"", ""},
        {"-1", ""},
        {"1,-1,2", "1"},
        {"NoDevFiles", ""},
        {"none", ""},
        {"GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-8932f937", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"},
        {"MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0", "MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0"},
        {"MIG-5c3d5fd2-0d5d-5d2e-9e0e-0c8b6d0a1f3b", "MIG-5c3d5fd2-0d5d-5d2e-9e0e-0c8b6d0a1f3b"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct machine m = {0};
        struct mag_err err = {0};
        cr_assert_eq(machine_add_gpus(&m, cases[i].list, &err), MAG_OK, "%s", err.text);
        cr_assert_str_eq(listed(&m), cases[i].want);
        machine_fini(&m);
    }
    struct machine m = {0};
    struct mag_err err = {0};
    cr_assert_eq(machine_add_gpus(&m, "0;1", &err), MAG_INVALID);
    cr_assert_not_null(strstr(err.text, "\"0;1\""), "%s", err.text);
    machine_fini(&m);
}

Test(machine, visible_gpus_are_narrowed_and_never_replaced)
{
    static const struct {
        const char *wanted, *visible, *want;
    } cases[] = {
        {"5", "4,5,6", "5"},
        {"6,4", "4,5,6", "6,4"},
        {"GPU-8932f937", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-8932f937"},
        {"0", "4,5,6", NULL},
        {"0", "", NULL},
        {"MIG-1", "GPU-8932f937", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct machine m = {0};
        struct mag_err err = {0};
        enum mag_status st = machine_narrow_gpus(&m, cases[i].wanted, cases[i].visible, &err);
        if (cases[i].want != NULL) {
            cr_assert_eq(st, MAG_OK, "%s", err.text);
            cr_assert_str_eq(listed(&m), cases[i].want);
        } else {
            cr_assert_eq(st, MAG_INVALID);
            cr_assert_not_null(strstr(err.text, "is not among CUDA_VISIBLE_DEVICES="), "%s", err.text);
        }
        machine_fini(&m);
    }
}
