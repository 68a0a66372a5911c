/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target: the first byte picks the algorithm, the rest is a record. Start it with a
 * corpus of true records (study_damage_test writes one when MAGPIE_CORPUS names a folder).
 */
#include "tests/driver/study_damage.h"
#include "tests/driver/study_lab.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0) {
        (void)damage_replay(lab_spec(lab_search(data[0])), (const char *)data + 1, size - 1);
    }
    return 0;
}
