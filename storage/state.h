/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to storage/: an open storage.
 */
#ifndef MAG_STORAGE_STATE_H
#define MAG_STORAGE_STATE_H

#include "storage/scheme.h"

struct storage {
    const struct storage_ops *ops;
    void *self;
    char *url;
};

#endif
