/* SPDX-License-Identifier: Apache-2.0
 *
 * Folders in storage, the same for every scheme: the files first, then manifest.json with names,
 * sizes and SHA-256. A folder without a manifest does not exist for a reader.
 */
#include "storage/storage.h"

#include "base/alloc.h"
#include "base/json.h"
#include "storage/state.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MANIFEST "manifest.json"

struct put {
    struct storage *s;
    const char *key;
    json_t *files;
    int64_t n_files;
    int64_t bytes;
};

static enum mag_status put_one(struct put *p, const char *path, const char *name,
                               struct mag_err *err)
{
    int64_t size = 0;
    char sha[STORAGE_SHA256_HEX];
    char *key = xasprintf("%s/%s", p->key, name);
    enum mag_status st = MAG_OK;
    if (!storage_key_is_sound(key)) {
        st = mag_fail(err, MAG_INVALID, "%s: the name cannot be stored", path);
    } else if (++p->n_files > STORAGE_FILES_MAX) {
        st = mag_fail(err, MAG_LIMIT, "more than %d files", STORAGE_FILES_MAX);
    } else {
        st = p->s->ops->put_file(p->s->self, key, path, &size, sha, err);
    }
    if (st == MAG_OK) {
        p->bytes += size;
        json_t *entry =
            json_pack("{s:s, s:I, s:s}", "name", name, "size", (json_int_t)size, "sha256", sha);
        if (entry == NULL) {
            st = mag_fail(err, MAG_INVALID, "%s: the name is not UTF-8", path);
        } else {
            (void)json_array_append_new(p->files, entry);
        }
    }
    free(key);
    return st;
}

static enum mag_status put_tree(struct put *p, const char *dir, const char *prefix, int depth,
                                struct mag_err *err);

static enum mag_status put_entry(struct put *p, const char *dir, const char *prefix,
                                 const char *name, int depth, struct mag_err *err)
{
    char *path = xasprintf("%s/%s", dir, name);
    char *rel = prefix[0] != '\0' ? xasprintf("%s/%s", prefix, name) : xstrdup(name);
    struct stat sb;
    enum mag_status st = MAG_OK;
    if (lstat(path, &sb) != 0) {
        st = mag_fail(err, MAG_IO, "%s: %s", path, strerror(errno));
    } else if (S_ISDIR(sb.st_mode)) {
        st = depth >= STORAGE_DEPTH_MAX
                 ? mag_fail(err, MAG_LIMIT, "%s: folders nested more than %d deep", path,
                            STORAGE_DEPTH_MAX)
                 : put_tree(p, path, rel, depth + 1, err);
    } else if (S_ISREG(sb.st_mode)) {
        st = strcmp(rel, MANIFEST) == 0
                 ? mag_fail(err, MAG_INVALID, "%s: this name is magpie's own in a checkpoint", path)
                 : put_one(p, path, rel, err);
    } else {
        st = mag_fail(err, MAG_INVALID, "%s: only plain files and folders can be stored", path);
    }
    free(rel);
    free(path);
    return st;
}

static enum mag_status put_tree(struct put *p, const char *dir, const char *prefix, int depth,
                                struct mag_err *err)
{
    struct dirent **names = NULL;
    int n = scandir(dir, &names, NULL, alphasort);
    if (n < 0) {
        return mag_fail(err, MAG_IO, "%s: %s", dir, strerror(errno));
    }
    enum mag_status st = MAG_OK;
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        if (st == MAG_OK && strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            st = put_entry(p, dir, prefix, name, depth, err);
        }
        free(names[i]);
    }
    free(names);
    return st;
}

static enum mag_status put_manifest(struct put *p, const json_t *meta, struct storage_folder *ret,
                                    struct mag_err *err)
{
    json_t *doc = meta != NULL ? json_deep_copy(meta) : json_object();
    (void)json_object_set_new(doc, "format", json_integer(1));
    (void)json_object_set(doc, "files", p->files);
    char *text = mjson_dump(doc);
    char *key = xasprintf("%s/" MANIFEST, p->key);
    enum mag_status st = storage_put(p->s, key, text, strlen(text), true, err);
    if (st == MAG_OK) {
        *ret = (struct storage_folder){.files = p->n_files, .bytes = p->bytes};
        storage_sha256(text, strlen(text), ret->sha256);
    }
    free(key);
    free(text);
    json_decref(doc);
    return st;
}

static bool any(void *arg, const char *name)
{
    (void)name;
    *(bool *)arg = true;
    return false;
}

/* Mostly nothing lies there; far away a look costs less than a removal. */
static enum mag_status clear(struct storage *s, const char *key, struct mag_err *err)
{
    bool found = s->ops->local != NULL;
    enum mag_status st = found ? MAG_OK : storage_list(s, key, any, &found, err);
    return st == MAG_OK && found ? storage_remove(s, key, err) : st;
}

enum mag_status storage_put_folder(struct storage *s, const char *key, const char *local,
                                   const json_t *meta, struct storage_folder *ret,
                                   struct mag_err *err)
{
    /* What an earlier, interrupted try left is not mixed with this one. */
    enum mag_status st = clear(s, key, err);
    if (st != MAG_OK) {
        return st;
    }
    struct put p = {.s = s, .key = key, .files = json_array()};
    st = put_tree(&p, local, "", 0, err);
    if (st == MAG_OK && s->ops->seal != NULL) {
        st = s->ops->seal(s->self, key, err);
    }
    if (st == MAG_OK) {
        st = put_manifest(&p, meta, ret, err);
    }
    json_decref(p.files);
    return st;
}

/* ---- reading ---- */

static enum mag_status read_manifest(struct storage *s, const char *key, json_t **ret,
                                     struct mag_err *err)
{
    char *name = xasprintf("%s/" MANIFEST, key);
    char *text = NULL;
    size_t len = 0;
    json_t *doc = NULL;
    enum mag_status st = storage_get(s, name, STORAGE_OBJECT_MAX, &text, &len, err);
    if (st == MAG_OK && mjson_parse(text, len, &doc, NULL) != MAG_OK) {
        st = mag_fail(err, MAG_CORRUPT, "%s: %s is not JSON", s->url, name);
    }
    if (st == MAG_OK && !json_is_array(json_object_get(doc, "files"))) {
        st = mag_fail(err, MAG_CORRUPT, "%s: %s lists no files", s->url, name);
    }
    if (st == MAG_OK) {
        *ret = doc;
        doc = NULL;
    }
    json_decref(doc);
    free(text);
    free(name);
    return st;
}

/* One file of the manifest: in its place (`remote` NULL) or fetched from `remote` into it. */
static enum mag_status read_file(struct storage *s, const char *remote, const char *path,
                                 int64_t *ret_size, char sha[STORAGE_SHA256_HEX],
                                 struct mag_err *err)
{
    struct mag_err why = {0};
    enum mag_status st = MAG_OK;
    if (remote == NULL) {
        st = storage_digest_file(path, -1, ret_size, sha, &why);
        /* The folder has a manifest, so what cannot be read in it is damage. */
        return st == MAG_OK ? st : mag_fail(err, MAG_CORRUPT, "%s", why.text);
    }
    char *parent = xstrdup(path);
    *strrchr(parent, '/') = '\0';
    st = storage_make_local(parent, err);
    free(parent);
    if (st == MAG_OK) {
        st = s->ops->get_file(s->self, remote, path, ret_size, sha, &why);
        st = st == MAG_OK ? st
                          : mag_fail(err, st == MAG_NOTFOUND ? MAG_CORRUPT : st, "%s", why.text);
    }
    return st;
}

static enum mag_status check_file(struct storage *s, const char *key, const char *dir,
                                  const json_t *entry, struct mag_err *err)
{
    const char *name = json_string_value(json_object_get(entry, "name"));
    const char *want = json_string_value(json_object_get(entry, "sha256"));
    if (name == NULL || want == NULL || !storage_key_is_sound(name)) {
        return mag_fail(err, MAG_CORRUPT, "%s/" MANIFEST ": a file without a sound name or SHA-256",
                        key);
    }
    char *path = xasprintf("%s/%s", dir, name);
    char *remote = s->ops->local == NULL ? xasprintf("%s/%s", key, name) : NULL;
    int64_t size = 0;
    char sha[STORAGE_SHA256_HEX];
    enum mag_status st = read_file(s, remote, path, &size, sha, err);
    if (st == MAG_OK &&
        (size != json_integer_value(json_object_get(entry, "size")) || strcmp(sha, want) != 0)) {
        st = mag_fail(err, MAG_CORRUPT,
                      "%s/%s/%s: not what was written (SHA-256 or size differ from the manifest)",
                      s->url, key, name);
    }
    free(remote);
    free(path);
    return st;
}

/* Where the folder will be read on this host; *ret_own: made by us. */
static enum mag_status place_folder(struct storage *s, const char *key, const char *scratch,
                                    char **ret, bool *ret_own, struct mag_err *err)
{
    if (s->ops->local != NULL) {
        *ret = s->ops->local(s->self, key);
        *ret_own = false;
        return MAG_OK;
    }
    const char *slash = strrchr(key, '/');
    char *path = xasprintf("%s/fetched-%s", scratch, slash != NULL ? slash + 1 : key);
    storage_remove_local(path);
    enum mag_status st = storage_make_local(path, err);
    if (st == MAG_OK) {
        *ret = path;
        *ret_own = true;
    } else {
        free(path);
    }
    return st;
}

enum mag_status storage_get_folder(struct storage *s, const char *key, const char *scratch,
                                   char **ret, struct mag_err *err)
{
    json_t *doc = NULL;
    char *path = NULL;
    bool own = false;
    enum mag_status st = storage_key_is_sound(key) ? read_manifest(s, key, &doc, err)
                                                   : mag_fail(err, MAG_INVALID, "storage: bad key");
    if (st == MAG_OK) {
        st = place_folder(s, key, scratch, &path, &own, err);
    }
    const json_t *files = json_object_get(doc, "files");
    for (size_t i = 0; st == MAG_OK && i < json_array_size(files); i++) {
        st = check_file(s, key, path, json_array_get(files, i), err);
    }
    if (st == MAG_OK) {
        *ret = path;
        path = NULL;
    } else if (own) {
        storage_remove_local(path); /* half a folder is of no use to anybody */
    }
    free(path);
    json_decref(doc);
    return st;
}
