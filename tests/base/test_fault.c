/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

/* Each Criterion test is a process of its own, so each has its own MAGPIE_FAULTS. */
static void faults(const char *text)
{
    cr_assert_eq(setenv("MAGPIE_FAULTS", text, 1), 0);
}

Test(fault, nothing_fires_without_the_variable)
{
    (void)unsetenv("MAGPIE_FAULTS");
    for (int i = 0; i < 100; i++) {
        cr_assert_not(fault_hit("store.commit"));
    }
}

#ifdef MAG_FAULTS
Test(fault, the_countdown_fires_once)
{
    faults("store.commit:3=fail,other=fail");
    const bool want[] = {false, false, true, false, false};
    for (size_t i = 0; i < 5; i++) {
        cr_assert_eq(fault_hit("store.commit"), want[i], "pass %zu", i + 1);
    }
    cr_assert(fault_hit("other"), "points count for themselves");
    cr_assert_not(fault_hit("nobody-named-this"));
}

Test(fault, sleep_holds_the_thread_and_does_not_fail)
{
    struct timespec a, b;
    faults("slow=sleep30");
    (void)clock_gettime(CLOCK_MONOTONIC, &a);
    cr_assert_not(fault_hit("slow"));
    (void)clock_gettime(CLOCK_MONOTONIC, &b);
    cr_assert_geq((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000, 29);
}

Test(fault, a_star_fires_on_all_later_passes)
{
    faults("disk:2=fail*");
    const bool want[] = {false, true, true, true};
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(fault_hit("disk"), want[i], "pass %zu", i + 1);
    }
}

Test(fault, broken_text_is_ignored)
{
    faults(",,x,=,a:b=fail,ok=fail");
    cr_assert_not(fault_hit("x"));
    cr_assert(fault_hit("ok"));
}

Test(fault, kill_is_sigkill, .signal = SIGKILL)
{
    faults("point:2=kill");
    cr_assert_not(fault_hit("point"));
    (void)fault_hit("point");
}

Test(fault, abort_aborts, .signal = SIGABRT)
{
    faults("point=abort");
    (void)fault_hit("point");
}

Test(fault, exit_has_status_3, .exit_code = 3)
{
    faults("point=exit");
    (void)fault_hit("point");
}
#endif
