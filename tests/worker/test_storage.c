/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/buf.h"
#include "storage/storage.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];
static struct storage *st;

static void begin(void)
{
    struct mag_err err = {0};
    (void)snprintf(dir, sizeof(dir), "/tmp/magpie-storage-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    char *url = xasprintf("file:%s/root", dir);
    cr_assert_eq(storage_open(url, &st, &err), MAG_OK, "%s", err.text);
    free(url);
}

static void end(void)
{
    storage_close(st);
    storage_remove_local(dir);
    cr_assert_neq(access(dir, F_OK), 0);
}

TestSuite(storage, .init = begin, .fini = end);

static void write_file(const char *name, const char *text)
{
    char *path = xasprintf("%s/%s", dir, name);
    char *parent = xstrdup(path);
    *strrchr(parent, '/') = '\0';
    cr_assert_eq(storage_make_local(parent, NULL), MAG_OK);
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    (void)fputs(text, f);
    (void)fclose(f);
    free(parent);
    free(path);
}

static char *local(const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

static bool collect(void *arg, const char *name)
{
    buf_addf(arg, "%s ", name);
    return true;
}

Test(storage, objects_are_put_got_listed_and_removed)
{
    struct mag_err err = {0};
    char *text = NULL;
    size_t len = 0;
    struct buf names = {0};
    buf_add(&names, "", 0);
    cr_assert_eq(storage_put(st, "a/b/one", "1", 1, true, &err), MAG_OK, "%s", err.text);
    cr_assert_eq(storage_put(st, "a/b/one", "two", 3, false, &err), MAG_OK, "replaces");
    cr_assert_eq(storage_put(st, "a/b/c/deep", "", 0, false, &err), MAG_OK);
    cr_assert_eq(storage_get(st, "a/b/one", 10, &text, &len, &err), MAG_OK);
    cr_assert_str_eq(text, "two");
    free(text);
    cr_assert_eq(storage_get(st, "a/b/one", 2, &text, &len, &err), MAG_LIMIT);
    cr_assert_eq(storage_get(st, "a/none", 2, &text, &len, NULL), MAG_NOTFOUND);
    cr_assert_eq(storage_list(st, "a/b", collect, &names, NULL), MAG_OK);
    cr_assert_str_eq(names.data, "c/ one ");
    cr_assert_eq(storage_remove(st, "a/b", NULL), MAG_OK);
    cr_assert_eq(storage_remove(st, "a/b", NULL), MAG_OK, "nothing there is no error");
    buf_reset(&names);
    cr_assert_eq(storage_list(st, "a/b", collect, &names, NULL), MAG_OK);
    cr_assert_str_eq(names.data, "");
    buf_fini(&names);
}

Test(storage, keys_never_leave_the_root)
{
    static const char *const bad[] = {"",   "/etc/passwd", "..",  "a/../b", "a//b",
                                      "a/", "./a",         "a/.", "a\nb",   "a\x7f"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(storage_put(st, bad[i], "x", 1, false, NULL), MAG_INVALID, "\"%s\"", bad[i]);
        cr_assert_eq(storage_remove(st, bad[i], NULL), MAG_INVALID, "\"%s\"", bad[i]);
    }
    static const char *const good[] = {"a", "a.b/..c", "...", "a b/\xc3\xbc"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        cr_assert(storage_key_is_sound(good[i]), "\"%s\"", good[i]);
    }
    char *longest = xcalloc(STORAGE_KEY_MAX + 2, 1);
    memset(longest, 'k', STORAGE_KEY_MAX);
    cr_assert(storage_key_is_sound(longest));
    longest[STORAGE_KEY_MAX] = 'k';
    cr_assert_not(storage_key_is_sound(longest));
    free(longest);
}

Test(storage, a_folder_comes_back_verified)
{
    struct mag_err err = {0};
    struct storage_folder f = {0};
    char *path = NULL;
    write_file("out/model.bin", "weights");
    write_file("out/sub/opt.bin", "momenta");
    char *from = local("out");
    json_t *meta = json_pack("{s:i}", "step", 3);
    cr_assert_eq(storage_put_folder(st, "c/3-1", from, meta, &f, &err), MAG_OK, "%s", err.text);
    cr_assert_eq(f.files, 2);
    cr_assert_eq(f.bytes, 14);
    cr_assert_eq(strlen(f.sha256), 64);
    cr_assert_eq(storage_get_folder(st, "c/3-1", dir, &path, &err), MAG_OK, "%s", err.text);
    char *file = xasprintf("%s/sub/opt.bin", path);
    cr_assert_eq(access(file, R_OK), 0);
    /* The manifest holds the meta data and the published SHA-256 of "weights". */
    char *text = NULL;
    size_t len = 0;
    cr_assert_eq(storage_get(st, "c/3-1/manifest.json", 4096, &text, &len, NULL), MAG_OK);
    cr_assert_not_null(strstr(text, "\"step\":3"));
    char sha[STORAGE_SHA256_HEX];
    storage_sha256("abc", 3, sha);
    cr_assert_str_eq(sha, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    free(text);
    free(file);
    free(path);
    free(from);
    json_decref(meta);
}

Test(storage, damage_is_found)
{
    struct storage_folder f = {0};
    char *path = NULL;
    char *from = local("out");
    static const char *const harms[] = {"flip", "shorten", "remove", "manifest", "no-manifest"};
    for (size_t i = 0; i < sizeof(harms) / sizeof(harms[0]); i++) {
        write_file("out/model.bin", "weights");
        cr_assert_eq(storage_put_folder(st, "c/1-1", from, NULL, &f, NULL), MAG_OK);
        char *file = xasprintf("%s/root/c/1-1/%s", dir, i < 3 ? "model.bin" : "manifest.json");
        FILE *w = i == 0 || i == 1 || i == 3 ? fopen(file, "w") : NULL;
        if (w != NULL) {
            (void)fputs(i == 0 ? "weightz" : i == 1 ? "weight" : "{\"files\":7}", w);
            (void)fclose(w);
        } else {
            cr_assert_eq(unlink(file), 0);
        }
        struct mag_err err = {0};
        enum mag_status want = i == 4 ? MAG_NOTFOUND : MAG_CORRUPT;
        cr_assert_eq(storage_get_folder(st, "c/1-1", dir, &path, &err), want, "%s: %s", harms[i],
                     err.text);
        cr_assert_neq(err.text[0], '\0');
        free(file);
    }
    free(from);
}

Test(storage, only_plain_files_and_folders_are_stored)
{
    struct storage_folder f = {0};
    struct mag_err err = {0};
    char *from = local("out");
    char *link = local("out/link");
    char *path = NULL;
    write_file("out/a", "x");
    cr_assert_eq(symlink("/etc/passwd", link), 0);
    cr_assert_eq(storage_put_folder(st, "c/1-1", from, NULL, &f, &err), MAG_INVALID);
    cr_assert_not_null(strstr(err.text, "link"), "%s", err.text);
    cr_assert_eq(storage_get_folder(st, "c/1-1", dir, &path, NULL), MAG_NOTFOUND,
                 "readers see nothing of it");
    cr_assert_eq(unlink(link), 0);
    cr_assert_eq(storage_put_folder(st, "c/1-1", from, NULL, &f, NULL), MAG_OK,
                 "and it can be tried again");
    write_file("out/manifest.json", "{}");
    err = (struct mag_err){0};
    cr_assert_eq(storage_put_folder(st, "c/2-1", from, NULL, &f, &err), MAG_INVALID);
    cr_assert_not_null(strstr(err.text, "magpie's own"), "%s", err.text);
    free(link);
    free(from);
}

Test(storage, an_empty_folder_is_a_checkpoint_too)
{
    struct storage_folder f = {0};
    char *from = local("empty");
    char *path = NULL;
    cr_assert_eq(storage_make_local(from, NULL), MAG_OK);
    cr_assert_eq(storage_put_folder(st, "c/1-1", from, NULL, &f, NULL), MAG_OK);
    cr_assert_eq(storage_get_folder(st, "c/1-1", dir, &path, NULL), MAG_OK);
    free(path);
    free(from);
}

Test(storage, parts_of_an_object_are_read_from_either_end)
{
    static const struct {
        int64_t offset;
        size_t max;
        const char *want;
        int64_t at;
    } cases[] = {{0, 4, "0123", 0},          {7, 100, "789", 7}, {-1, 4, "6789", 6},
                 {-1, 100, "0123456789", 0}, {10, 5, "", 10},    {400, 5, "", 400}};
    struct mag_err err = {0};
    cr_assert_eq(storage_put(st, "a/log", "0123456789", 10, false, &err), MAG_OK, "%s", err.text);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct storage_part part = {0};
        cr_assert_eq(storage_read(st, "a/log", cases[i].offset, cases[i].max, &part, &err), MAG_OK);
        cr_assert_str_eq(part.bytes, cases[i].want, "case %zu", i);
        cr_assert_eq(part.offset, cases[i].at, "case %zu", i);
        cr_assert_eq(part.size, 10);
        free(part.bytes);
    }
    struct storage_part none = {0};
    cr_assert_eq(storage_read(st, "a", 0, 5, &none, NULL), MAG_NOTFOUND, "a folder is no object");
    cr_assert_eq(storage_read(st, "b", 0, 5, &none, NULL), MAG_NOTFOUND);
}

Test(storage, the_marker_ties_a_root_to_one_store)
{
    struct mag_err err = {0};
    cr_assert_eq(storage_check(st, "u1", &err), MAG_NOTFOUND);
    cr_assert_not_null(strstr(err.text, "--storage"), "%s", err.text);
    err = (struct mag_err){0};
    cr_assert_eq(storage_claim(st, "u1", &err), MAG_OK, "%s", err.text);
    cr_assert_eq(storage_claim(st, "u1", NULL), MAG_OK, "again");
    cr_assert_eq(storage_check(st, "u1", NULL), MAG_OK);
    cr_assert_eq(storage_claim(st, "u2", &err), MAG_CONFLICT);
    cr_assert_not_null(strstr(err.text, "another store"), "%s", err.text);
}

Test(storage, addresses_are_understood_or_explained)
{
    struct storage *s = NULL;
    struct mag_err err = {0};
    static const struct {
        const char *url, *says;
    } bad[] = {{"s3://b/x", "3 to 63 letters"},
               {"s3:bucket", "s3://BUCKET/PREFIX"},
               {"s3://bucket/../x", "s3://BUCKET"},
               {"s3://bucket/x", "AWS_ACCESS_KEY_ID"},
               {"swift:///x", "swift://CONTAINER"},
               {"swift://c/x", "ST_AUTH"},
               {"hdfs:///x", "MAGPIE_WEBHDFS_ENDPOINT"},
               {"hdfs:/x", "hdfs://NAMENODE:PORT/PATH"},
               {"webhdfs://h/a//b", "webhdfs://NAMENODE"},
               {"gopher://x", "swift://container"}};
    static const char *const unset[] = {"AWS_ACCESS_KEY_ID",
                                        "AWS_SHARED_CREDENTIALS_FILE",
                                        "HOME",
                                        "ST_AUTH",
                                        "OS_AUTH_URL",
                                        "OS_STORAGE_URL",
                                        "MAGPIE_WEBHDFS_ENDPOINT",
                                        "MAGPIE_STORAGE_CREDENTIALS"};
    for (size_t i = 0; i < sizeof(unset) / sizeof(unset[0]); i++) {
        (void)unsetenv(unset[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        err = (struct mag_err){0};
        cr_assert_eq(storage_open(bad[i].url, &s, &err), MAG_INVALID, "%s", bad[i].url);
        cr_assert_not_null(strstr(err.text, bad[i].says), "%s: %s", bad[i].url, err.text);
    }
    cr_assert_eq(storage_open("gopher://x", &s, NULL), MAG_INVALID);
    cr_assert_eq(storage_open("file://host/x", &s, NULL), MAG_INVALID);
    cr_assert_eq(storage_open("", &s, NULL), MAG_INVALID);
    char *plain = local("p/q");
    cr_assert_eq(storage_open(plain, &s, NULL), MAG_OK, "a plain path is a folder");
    char *uri = storage_uri(s, "experiments/1/trials/2/checkpoints/3-1");
    char *key = storage_key_of(s, uri);
    cr_assert_str_eq(key, "experiments/1/trials/2/checkpoints/3-1");
    free(key);
    key = storage_key_of(s, "file:/moved/elsewhere/experiments/1/trials/2/checkpoints/3-1");
    cr_assert_str_eq(key, "experiments/1/trials/2/checkpoints/3-1");
    free(key);
    cr_assert_null(storage_key_of(s, "s3://mine/model"));
    cr_assert_null(storage_key_of(s, "file:/x/experiments/../../etc"));
    free(uri);
    free(plain);
    storage_close(s);
}
