/* SPDX-License-Identifier: Apache-2.0
 *
 * The algorithms of this build, one line each. The order is that of docs and help.
 */
#include "optimizers/registry.h"

#include <string.h>

static const struct optimizer_ops *const registry[] = {
    &random_ops, &grid_ops, &asha_ops, &hyperband_ops, &de_ops, NULL,
};

const struct optimizer_ops *const *optimizer_registry(void)
{
    return registry;
}

const struct optimizer_ops *optimizer_find(const char *name)
{
    for (int i = 0; registry[i] != NULL; i++) {
        if (strcmp(registry[i]->name, name) == 0) {
            return registry[i];
        }
    }
    return NULL;
}
