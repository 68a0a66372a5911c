/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/archive.h"

#include "base/alloc.h"
#include "driver/driver_internal.h"

#include <stdlib.h>

#define ARCHIVE_MS 5000 /* a person waits for it */

struct storage *archive_storage(struct driver *d, struct mag_err *err)
{
    struct storage *opened = d->archive_storage;
    if (opened == NULL) {
        char *root = xasprintf("%s/%s", d->storage_url, store_uuid(d->store));
        if (storage_open(root, &opened, err) == MAG_OK) {
            storage_set_patience(opened, ARCHIVE_MS);
            __atomic_store_n(&d->archive_storage, opened, __ATOMIC_RELEASE);
        }
        free(root);
    }
    return opened;
}

void archive_cancel(struct driver *d)
{
    storage_cancel(__atomic_load_n(&d->archive_storage, __ATOMIC_ACQUIRE));
}
