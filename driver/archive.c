/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/archive.h"

#include "base/alloc.h"
#include "driver/driver_internal.h"

#include <stdlib.h>

struct storage *archive_storage(struct driver *d, struct mag_err *err)
{
    if (d->archive_storage == NULL) {
        char *root = xasprintf("%s/%s", d->storage_url, store_uuid(d->store));
        if (storage_open(root, &d->archive_storage, err) != MAG_OK) {
            d->archive_storage = NULL;
        }
        free(root);
    }
    return d->archive_storage;
}
