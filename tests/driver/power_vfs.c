/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/driver/power_vfs.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/pcg.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512
#define FILES_MAX 8

struct pending {
    bool truncate;
    int64_t at;
    size_t len;
    char *bytes;
};

/* One file by name: outlives its descriptors. */
struct disk_file {
    char path[512];
    struct buf durable;
    struct pending *pending;
    size_t n_pending;
};

struct power_file {
    sqlite3_file base;
    struct disk_file *disk;
    sqlite3_file *real; /* lies behind this struct */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct disk_file files[FILES_MAX];
static int n_files;
static int syncs;
static int fail_at;
static bool dead;

/* ---- the disk ---- */

static void drop_pending(struct disk_file *d)
{
    for (size_t i = 0; i < d->n_pending; i++) {
        free(d->pending[i].bytes);
    }
    free(d->pending);
    d->pending = NULL;
    d->n_pending = 0;
}

static void apply(struct buf *image, const struct pending *p, size_t len)
{
    size_t end = (size_t)p->at + len;
    if (p->truncate) {
        if (image->len > (size_t)p->at) {
            image->len = (size_t)p->at;
        }
        return;
    }
    while (image->len < end) {
        buf_addc(image, '\0');
    }
    if (len > 0) {
        memcpy(image->data + p->at, p->bytes, len);
    }
}

static void record(struct disk_file *d, const struct pending *p)
{
    d->pending = xreallocarray(d->pending, d->n_pending + 1, sizeof(*d->pending));
    d->pending[d->n_pending++] = *p;
}

static struct disk_file *find_file(const char *path, bool create)
{
    for (int i = 0; i < n_files; i++) {
        if (strcmp(files[i].path, path) == 0) {
            return &files[i];
        }
    }
    if (!create || n_files == FILES_MAX) {
        return NULL;
    }
    struct disk_file *d = &files[n_files++];
    *d = (struct disk_file){0};
    (void)snprintf(d->path, sizeof(d->path), "%s", path);
    FILE *f = fopen(path, "re");
    for (int c; f != NULL && (c = fgetc(f)) != EOF;) {
        buf_addc(&d->durable, (char)c);
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return d;
}

/* ---- file methods ---- */

#define SELF(f) ((struct power_file *)(void *)(f))
#define REAL(f) (SELF(f)->real)

static int p_close(sqlite3_file *f)
{
    return REAL(f)->pMethods->xClose(REAL(f));
}

static int p_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at)
{
    return REAL(f)->pMethods->xRead(REAL(f), to, n, at);
}

static int p_write(sqlite3_file *f, const void *from, int n, sqlite3_int64 at)
{
    (void)pthread_mutex_lock(&lock);
    bool failed = dead;
    if (!failed && SELF(f)->disk != NULL) {
        struct pending p = {.at = at, .len = (size_t)n, .bytes = xmalloc((size_t)n)};
        memcpy(p.bytes, from, (size_t)n);
        record(SELF(f)->disk, &p);
    }
    (void)pthread_mutex_unlock(&lock);
    return failed ? SQLITE_IOERR_WRITE : REAL(f)->pMethods->xWrite(REAL(f), from, n, at);
}

static int p_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    (void)pthread_mutex_lock(&lock);
    bool failed = dead;
    if (!failed && SELF(f)->disk != NULL) {
        record(SELF(f)->disk, &(struct pending){.truncate = true, .at = size});
    }
    (void)pthread_mutex_unlock(&lock);
    return failed ? SQLITE_IOERR_TRUNCATE : REAL(f)->pMethods->xTruncate(REAL(f), size);
}

/* The system's sync is not called: what this VFS holds is the disk. */
static int p_sync(sqlite3_file *f, int flags)
{
    (void)pthread_mutex_lock(&lock);
    struct disk_file *d = SELF(f)->disk;
    if (!dead) {
        syncs++;
        dead = syncs == fail_at;
    }
    if (!dead && d != NULL) {
        for (size_t i = 0; i < d->n_pending; i++) {
            apply(&d->durable, &d->pending[i], d->pending[i].len);
        }
        drop_pending(d);
    }
    bool failed = dead;
    (void)pthread_mutex_unlock(&lock);
    return failed ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static int p_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return REAL(f)->pMethods->xFileSize(REAL(f), size);
}

static int p_lock(sqlite3_file *f, int level)
{
    return REAL(f)->pMethods->xLock(REAL(f), level);
}

static int p_unlock(sqlite3_file *f, int level)
{
    return REAL(f)->pMethods->xUnlock(REAL(f), level);
}

static int p_reserved(sqlite3_file *f, int *out)
{
    return REAL(f)->pMethods->xCheckReservedLock(REAL(f), out);
}

static int p_control(sqlite3_file *f, int op, void *arg)
{
    return REAL(f)->pMethods->xFileControl(REAL(f), op, arg);
}

static int p_sector(sqlite3_file *f)
{
    return REAL(f)->pMethods->xSectorSize(REAL(f));
}

static int p_traits(sqlite3_file *f)
{
    return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f));
}

static int p_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
    return REAL(f)->pMethods->xShmMap(REAL(f), page, size, extend, out);
}

static int p_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
    return REAL(f)->pMethods->xShmLock(REAL(f), at, n, flags);
}

static void p_shm_barrier(sqlite3_file *f)
{
    REAL(f)->pMethods->xShmBarrier(REAL(f));
}

static int p_shm_unmap(sqlite3_file *f, int del)
{
    return REAL(f)->pMethods->xShmUnmap(REAL(f), del);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = p_close,
    .xRead = p_read,
    .xWrite = p_write,
    .xTruncate = p_truncate,
    .xSync = p_sync,
    .xFileSize = p_size,
    .xLock = p_lock,
    .xUnlock = p_unlock,
    .xCheckReservedLock = p_reserved,
    .xFileControl = p_control,
    .xSectorSize = p_sector,
    .xDeviceCharacteristics = p_traits,
    .xShmMap = p_shm_map,
    .xShmLock = p_shm_lock,
    .xShmBarrier = p_shm_barrier,
    .xShmUnmap = p_shm_unmap,
};

/* ---- the VFS ---- */

static sqlite3_vfs power;
static sqlite3_vfs *system_vfs;

static int p_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *f, int flags, int *out_flags)
{
    struct power_file *self = SELF(f);
    self->real = (sqlite3_file *)(void *)(self + 1);
    self->base.pMethods = NULL;
    int rc = system_vfs->xOpen(system_vfs, path, self->real, flags, out_flags);
    if (rc != SQLITE_OK) {
        return rc;
    }
    (void)pthread_mutex_lock(&lock);
    self->disk =
        path != NULL &&
                (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL)) != 0
            ? find_file(path, true)
            : NULL;
    (void)pthread_mutex_unlock(&lock);
    self->base.pMethods = &methods;
    return SQLITE_OK;
}

static int p_delete(sqlite3_vfs *vfs, const char *path, int sync_dir)
{
    (void)pthread_mutex_lock(&lock);
    bool failed = dead;
    struct disk_file *d = failed ? NULL : find_file(path, false);
    if (d != NULL) {
        drop_pending(d);
        buf_reset(&d->durable);
    }
    (void)pthread_mutex_unlock(&lock);
    return failed ? SQLITE_IOERR_DELETE : system_vfs->xDelete(system_vfs, path, sync_dir);
}

void power_install(void)
{
    system_vfs = sqlite3_vfs_find(NULL);
    power = *system_vfs;
    power.zName = "power";
    power.szOsFile = (int)sizeof(struct power_file) + system_vfs->szOsFile;
    power.xOpen = p_open;
    power.xDelete = p_delete;
    (void)sqlite3_vfs_register(&power, 1);
}

void power_reset(int fail_at_sync)
{
    (void)pthread_mutex_lock(&lock);
    for (int i = 0; i < n_files; i++) {
        drop_pending(&files[i]);
        buf_fini(&files[i].durable);
    }
    n_files = 0;
    syncs = 0;
    fail_at = fail_at_sync;
    dead = false;
    (void)pthread_mutex_unlock(&lock);
}

int power_syncs(void)
{
    (void)pthread_mutex_lock(&lock);
    int n = syncs;
    (void)pthread_mutex_unlock(&lock);
    return n;
}

bool power_failed(void)
{
    (void)pthread_mutex_lock(&lock);
    bool failed = dead;
    (void)pthread_mutex_unlock(&lock);
    return failed;
}

int64_t power_unsynced(void)
{
    int64_t bytes = 0;
    (void)pthread_mutex_lock(&lock);
    for (int i = 0; i < n_files; i++) {
        for (size_t k = 0; k < files[i].n_pending; k++) {
            bytes += (int64_t)files[i].pending[k].len;
        }
    }
    (void)pthread_mutex_unlock(&lock);
    return bytes;
}

/* How much of a write without a sync reached the disk: whole sectors from its start. */
static size_t kept_bytes(const struct pending *p, size_t index, enum power_loss loss,
                         struct pcg64 *g)
{
    switch (loss) {
    case POWER_KEEP_ALL:
        return p->len;
    case POWER_KEEP_FIRST:
        return index == 0 ? p->len : 0;
    case POWER_MIXED: {
        uint64_t dice = pcg64_below(g, 3);
        size_t sectors = p->len / SECTOR;
        return dice == 0 ? 0 : dice == 1 ? p->len : (size_t)pcg64_below(g, sectors + 1) * SECTOR;
    }
    case POWER_DROP_ALL:
    case POWER_LOSSES:
    default:
        return 0;
    }
}

void power_image(const char *folder, enum power_loss loss, uint64_t seed)
{
    struct pcg64 g;
    pcg_stream(&g, seed, "power", 0);
    (void)pthread_mutex_lock(&lock);
    for (int i = 0; i < n_files; i++) {
        struct buf image = {0};
        buf_add(&image, files[i].durable.data, files[i].durable.len);
        for (size_t k = 0; k < files[i].n_pending; k++) {
            const struct pending *p = &files[i].pending[k];
            size_t kept = kept_bytes(p, k, loss, &g);
            if (p->truncate ? loss == POWER_KEEP_ALL : kept > 0) {
                apply(&image, p, kept);
            }
        }
        char *path = xasprintf("%s/%s", folder, strrchr(files[i].path, '/') + 1);
        FILE *f = fopen(path, "we");
        MAG_ASSERT(f != NULL && fwrite(image.data, 1, image.len, f) == image.len, "%s", path);
        (void)fclose(f);
        free(path);
        buf_fini(&image);
    }
    (void)pthread_mutex_unlock(&lock);
}
