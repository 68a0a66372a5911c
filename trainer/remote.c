/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/remote.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fault.h"
#include "storage/storage.h"
#include "trainer/cache.h"
#include "trainer/format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const schemes[] = {"s3://", "swift://", "hdfs://", "webhdfs://", "swebhdfs://"};

bool remote_is_url(const char *path)
{
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (strncmp(path, schemes[i], strlen(schemes[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- what lies there ---- */

struct remote_file {
    char *key; /* of the storage */
    struct storage_stat stat;
};

/* One URL while it is fetched. */
struct fetch {
    const char *url;
    struct storage *storage;
    char *name; /* the last part of the URL: the key of the file or folder */
    struct remote_file *files;
    int n;
    int64_t bytes;
    char version[STORAGE_SHA256_HEX];
    struct mag_err *err;
};

static void forget_files(struct fetch *f)
{
    for (int i = 0; i < f->n; i++) {
        free(f->files[i].key);
    }
    free(f->files);
    f->files = NULL;
    f->n = 0;
    f->bytes = 0;
}

static enum mag_status add_file(struct fetch *f, const char *key, const struct storage_stat *stat)
{
    if (f->n == REMOTE_FILES_MAX) {
        return mag_fail(f->err, MAG_LIMIT,
                        "%s: over %d files; put them into fewer, larger ones (npz, tfrecord)", f->url,
                        REMOTE_FILES_MAX);
    }
    f->files = xreallocarray(f->files, (size_t)f->n + 1, sizeof(*f->files));
    f->files[f->n++] = (struct remote_file){.key = xstrdup(key), .stat = *stat};
    f->bytes += stat->size;
    return MAG_OK;
}

struct names {
    char **texts;
    int n;
};

static bool add_name(void *arg, const char *name)
{
    struct names *names = arg;
    names->texts = xreallocarray(names->texts, (size_t)names->n + 1, sizeof(char *));
    names->texts[names->n++] = xstrdup(name);
    return names->n <= REMOTE_FILES_MAX;
}

static enum mag_status walk(struct fetch *f, const char *key, int depth)
{
    struct names names = {0};
    enum mag_status st = depth > STORAGE_DEPTH_MAX
                             ? mag_fail(f->err, MAG_LIMIT, "%s: folders over %d deep", f->url,
                                        STORAGE_DEPTH_MAX)
                             : storage_list(f->storage, key, add_name, &names, f->err);
    for (int i = 0; i < names.n; i++) {
        size_t n = strlen(names.texts[i]);
        bool folder = n > 0 && names.texts[i][n - 1] == '/';
        char *child = xasprintf("%s/%.*s", key, (int)(n - folder), names.texts[i]);
        if (st == MAG_OK && folder) {
            st = walk(f, child, depth + 1);
        } else if (st == MAG_OK) {
            struct storage_stat stat;
            st = storage_stat(f->storage, child, &stat, f->err);
            st = st == MAG_OK ? add_file(f, child, &stat) : st;
        }
        free(child);
        free(names.texts[i]);
    }
    free(names.texts);
    return st;
}

static void make_version(struct fetch *f)
{
    struct buf b = {0};
    for (int i = 0; i < f->n; i++) {
        buf_addf(&b, "%s\n%s\n%lld\n", f->files[i].key, f->files[i].stat.tag,
                 (long long)f->files[i].stat.size);
    }
    storage_sha256(b.data, b.len, f->version);
    f->version[40] = '\0';
    buf_fini(&b);
}

/* Asks the storage what it holds now. */
static enum mag_status look(struct fetch *f)
{
    struct storage_stat stat;
    struct mag_err why = {0};
    forget_files(f);
    enum mag_status st = storage_stat(f->storage, f->name, &stat, &why);
    if (st == MAG_OK) {
        st = add_file(f, f->name, &stat);
    } else if (st == MAG_NOTFOUND) {
        st = walk(f, f->name, 0);
        if (st == MAG_OK && f->n == 0) {
            st = mag_fail(f->err, MAG_NOTFOUND, "%s: nothing is there", f->url);
        }
    } else {
        return mag_fail(f->err, st, "%s", why.text);
    }
    if (st == MAG_OK) {
        make_version(f);
    }
    return st;
}

/* ---- fetching ---- */

static enum mag_status sync_file(const char *path, struct mag_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    int e = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    return good ? MAG_OK : mag_fail(err, MAG_IO, "cannot write %s: %s", path, strerror(e));
}

static enum mag_status fetch_file(struct fetch *f, const struct remote_file *file, const char *part)
{
    char *path = xasprintf("%s/%s", part, file->key);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    enum mag_status st = storage_make_local(path, f->err);
    *slash = '/';
    if (st == MAG_OK) {
        st = storage_fetch(f->storage, file->key, &file->stat, path, f->err);
    }
    if (st == MAG_OK && fault_hit("trainer.fetch")) {
        st = mag_fail(f->err, MAG_IO, "a fault was asked for at a fetch");
    }
    if (st == MAG_OK) {
        st = sync_file(path, f->err);
    }
    free(path);
    return st;
}

/* All files into the entry's part, and that into its place. *changed: the storage holds another
 * version by now. */
static enum mag_status fetch_all(struct fetch *f, struct cache_entry *e, bool *changed)
{
    char before[STORAGE_SHA256_HEX];
    char *part = NULL;
    enum mag_status st = cache_begin(e, f->bytes, &part, f->err);
    memcpy(before, f->version, sizeof(before));
    for (int i = 0; i < f->n && st == MAG_OK; i++) {
        st = fetch_file(f, &f->files[i], part);
    }
    *changed = st == MAG_CONFLICT; /* storage_fetch: it is not what stat told */
    if (st == MAG_OK) {
        st = look(f);
        *changed = st == MAG_OK && strcmp(before, f->version) != 0;
    }
    if (st == MAG_OK && !*changed) {
        st = cache_publish(e, f->version, f->err);
    } else {
        cache_abandon(e);
    }
    free(part);
    return *changed ? MAG_CONFLICT : st;
}

/* Is everything there in the size that the storage tells? */
static bool is_whole(const struct fetch *f, const char *folder)
{
    bool whole = true;
    for (int i = 0; i < f->n && whole; i++) {
        struct stat info;
        char *path = xasprintf("%s/%s", folder, f->files[i].key);
        whole = stat(path, &info) == 0 && (int64_t)info.st_size == f->files[i].stat.size;
        free(path);
    }
    return whole;
}

static bool is_there(const struct fetch *f, const struct cache_entry *e)
{
    char *folder = cache_path(e, f->version);
    bool there = is_whole(f, folder);
    free(folder);
    return there;
}

/* Fetches until what was fetched is what the storage holds. The entry is excluded. */
static enum mag_status fetch_until_same(struct fetch *f, struct cache_entry *e)
{
    struct mag_err *err = f->err;
    enum mag_status st = is_there(f, e) ? MAG_OK : MAG_CONFLICT;
    for (int k = 0; st == MAG_CONFLICT && k < REMOTE_TRIES; k++) {
        bool changed = false;
        struct mag_err why = {0};
        f->err = &why;
        st = fetch_all(f, e, &changed);
        if (changed) {
            why = (struct mag_err){0};
            st = look(f);
            st = st == MAG_OK ? MAG_CONFLICT : st;
        }
        if (st != MAG_OK && st != MAG_CONFLICT) {
            (void)mag_fail(err, st, "%s", why.text);
        }
    }
    f->err = err;
    return st == MAG_CONFLICT
               ? mag_fail(err, MAG_CONFLICT, "%s: it keeps changing while it is read", f->url)
               : st;
}

/* Has the entry hold what the storage holds, and shares it. Between two kinds of lock somebody else
 * may make room: then again. */
static enum mag_status provide(struct fetch *f, struct cache_entry *e)
{
    enum mag_status st = look(f);
    for (int k = 0; st == MAG_OK && !is_there(f, e); k++) {
        if (k == REMOTE_TRIES) {
            return mag_fail(f->err, MAG_LIMIT,
                            "%s: others need the room of the cache at once; raise "
                            "MAGPIE_DATA_CACHE_GB",
                            f->url);
        }
        st = cache_exclude(e, f->err);
        if (st == MAG_OK) {
            st = fetch_until_same(f, e);
        }
        if (st == MAG_OK) {
            st = cache_share(e, f->err);
        }
    }
    return st;
}

/* "s3://bucket/a/b" -> the storage "s3://bucket/a" and the key "b". */
static enum mag_status split(const char *url, char **ret_parent, char **ret_name, struct mag_err *err)
{
    size_t n = strlen(url);
    while (n > 0 && url[n - 1] == '/') {
        n--;
    }
    size_t start = (size_t)(strstr(url, "://") + 3 - url);
    size_t at = n;
    while (at > start && url[at - 1] != '/') {
        at--;
    }
    if (at <= start || at == n) {
        return mag_fail(err, MAG_INVALID, "%s: it names no file or folder below its root", url);
    }
    *ret_parent = xstrndup(url, at - 1);
    *ret_name = xstrndup(url + at, n - at);
    return MAG_OK;
}

/* The local path of what lies at `url`; *ret_lock keeps it there. */
static enum mag_status fetch(const char *url, char **ret, int *ret_lock, struct mag_err *err)
{
    struct fetch f = {.url = url, .err = err};
    struct cache_entry e = {.lock = -1};
    char *parent = NULL;
    enum mag_status st = split(url, &parent, &f.name, err);
    if (st == MAG_OK) {
        st = storage_open(parent, &f.storage, err);
    }
    if (st == MAG_OK) {
        st = cache_enter(url, &e, err);
    }
    if (st == MAG_OK) {
        st = provide(&f, &e);
    }
    if (st == MAG_OK) {
        char *folder = cache_path(&e, f.version);
        *ret = xasprintf("%s/%s", folder, f.name);
        *ret_lock = cache_take_lock(&e);
        free(folder);
    }
    cache_leave(&e);
    forget_files(&f);
    storage_close(f.storage);
    free(f.name);
    free(parent);
    return st == MAG_OK || strstr(err->text, url) != NULL ? st : mag_wrap(err, st, "%s", url);
}

/* ---- sources ---- */

static enum mag_status make_local(struct remote *r, int i, char **path, struct mag_err *err)
{
    if (*path == NULL) {
        return MAG_OK;
    }
    if (remote_is_url(*path)) {
        struct mag_err why = {0};
        enum mag_status st = fetch(*path, &r->paths[i], &r->locks[i], &why);
        *path = r->paths[i];
        return st == MAG_OK ? st : mag_fail(err, st, "%s", why.text);
    }
    if (strncmp(*path, "file:", 5) == 0) {
        r->paths[i] = xstrdup(*path + (strncmp(*path + 5, "//", 2) == 0 ? 7 : 5));
        *path = r->paths[i];
    }
    return MAG_OK;
}

enum mag_status remote_open(const struct dataset_source *s, struct remote *ret, struct mag_err *err)
{
    *ret = (struct remote){.local = *s, .locks = {-1, -1, -1, -1}};
    enum mag_status st = make_local(ret, 0, &ret->local.path, err);
    if (s->format->label_is_file) {
        char **paths[] = {&ret->local.label, &ret->local.test_input, &ret->local.test_label};
        for (int i = 0; i < 3 && st == MAG_OK; i++) {
            st = make_local(ret, i + 1, paths[i], err);
        }
    }
    if (st != MAG_OK) {
        remote_close(ret);
    }
    return st;
}

void remote_close(struct remote *r)
{
    for (int i = 0; i < 4; i++) {
        free(r->paths[i]);
        if (r->locks[i] >= 0) {
            (void)close(r->locks[i]);
        }
    }
    *r = (struct remote){.locks = {-1, -1, -1, -1}};
}
