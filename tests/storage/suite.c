/* SPDX-License-Identifier: Apache-2.0
 *
 * What every scheme of storage/ promises, as a program: `storage_suite --list` names the cases,
 * `storage_suite URL CASE` runs one below URL and ends with 0 or says what is wrong. Settings and
 * credentials come from the environment, as in the real programs. `storage_suite URL VERB ...` does
 * single things for tests that look from outside (see `verbs`).
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "storage/storage.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            (void)fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond);                       \
            (void)fprintf(stderr, "" __VA_ARGS__);                                                 \
            (void)fputc('\n', stderr);                                                             \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
#define OK(call)                                                                                   \
    do {                                                                                           \
        struct mag_err err_ = {0};                                                                 \
        struct mag_err *err = &err_;                                                               \
        enum mag_status st_ = (call);                                                              \
        CHECK(st_ == MAG_OK, "%s: %s", mag_status_name(st_), err_.text);                           \
    } while (0)
#define FAILS(status, call)                                                                        \
    do {                                                                                           \
        struct mag_err err_ = {0};                                                                 \
        struct mag_err *err = &err_;                                                               \
        enum mag_status st_ = (call);                                                              \
        CHECK(st_ == (status), "%s, not %s: %s", mag_status_name(st_), mag_status_name(status),    \
              err_.text);                                                                          \
        (void)snprintf(said, sizeof(said), "%s", err_.text);                                       \
    } while (0)

static char said[512]; /* by the last FAILS */
static char dir[64];   /* on this host */
static const char *base;
static struct storage *st;

static bool is_hdfs(void)
{
    return strstr(base, "hdfs:") != NULL;
}

static char *local(const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

static void write_local(const char *name, const char *bytes, size_t len)
{
    char *path = local(name);
    char *parent = xstrdup(path);
    *strrchr(parent, '/') = '\0';
    OK(storage_make_local(parent, err));
    FILE *f = fopen(path, "w");
    CHECK(f != NULL && fwrite(bytes, 1, len, f) == len && fclose(f) == 0, "%s", path);
    free(parent);
    free(path);
}

static void write_text(const char *name, const char *text)
{
    write_local(name, text, strlen(text));
}

static bool collect(void *arg, const char *name)
{
    buf_addf(arg, "%s ", name);
    return true;
}

static char *listed(const char *key)
{
    struct buf names = {0};
    OK(storage_list(st, key, collect, &names, err));
    return buf_take(&names);
}

static void expect_list(const char *key, const char *want)
{
    char *got = listed(key);
    CHECK(strcmp(got, want) == 0, "%s: \"%s\", not \"%s\"", key, got, want);
    free(got);
}

static void expect_object(const char *key, const char *want)
{
    char *text = NULL;
    size_t len = 0;
    OK(storage_get(st, key, 1 << 20, &text, &len, err));
    CHECK(len == strlen(want) && strcmp(text, want) == 0, "%s: %zu bytes \"%.40s\"", key, len,
          text);
    free(text);
}

static void put_text(const char *key, const char *text)
{
    OK(storage_put(st, key, text, strlen(text), true, err));
}

/* ---- objects ---- */

static void objects_are_put_replaced_listed_and_removed(void)
{
    char *text = NULL;
    size_t len = 0;
    put_text("a/b/one", "1");
    put_text("a/b/one", "two");
    put_text("a/b/c/deep", "");
    put_text("a/bc", "beside");
    expect_object("a/b/one", "two");
    expect_object("a/b/c/deep", "");
    FAILS(MAG_LIMIT, storage_get(st, "a/b/one", 2, &text, &len, err));
    FAILS(MAG_NOTFOUND, storage_get(st, "a/none", 20, &text, &len, err));
    expect_list("a/b", "c/ one ");
    expect_list("a", "b/ bc ");
    expect_list("a/nothing", "");
    OK(storage_remove(st, "a/b", err));
    OK(storage_remove(st, "a/b", err));
    expect_list("a/b", "");
    expect_object("a/bc", "beside");
    OK(storage_remove(st, "a/bc", err));
    FAILS(MAG_NOTFOUND, storage_get(st, "a/bc", 20, &text, &len, err));
}

static void parts_are_read_from_either_end(void)
{
    static const struct {
        int64_t offset;
        size_t max;
        const char *want;
        int64_t at;
    } cases[] = {{0, 4, "0123", 0},          {7, 100, "789", 7}, {-1, 4, "6789", 6},
                 {-1, 100, "0123456789", 0}, {10, 5, "", 10},    {400, 5, "", 400}};
    struct storage_part part = {0};
    put_text("a/log", "0123456789");
    put_text("a/empty", "");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        OK(storage_read(st, "a/log", cases[i].offset, cases[i].max, &part, err));
        CHECK(strcmp(part.bytes, cases[i].want) == 0, "case %zu: \"%s\"", i, part.bytes);
        CHECK(part.len == strlen(cases[i].want) && part.offset == cases[i].at && part.size == 10,
              "case %zu: %zu bytes at %lld of %lld", i, part.len, (long long)part.offset,
              (long long)part.size);
        free(part.bytes);
    }
    for (int64_t from = -1; from < 2; from++) {
        OK(storage_read(st, "a/empty", from, 7, &part, err));
        CHECK(part.len == 0 && part.size == 0, "%zu of %lld", part.len, (long long)part.size);
        free(part.bytes);
    }
    FAILS(MAG_NOTFOUND, storage_read(st, "a/none", 0, 5, &part, err));
    FAILS(MAG_NOTFOUND, storage_read(st, "a", 0, 5, &part, err));
}

static void odd_names_are_names(void)
{
    static const char *const names[] = {"a b+c,d",     "100%%41 %2F",
                                        "a&b=c;d",     "quo'te\"<tag>",
                                        "#hash?query", "t\xc3\xa4st \xe6\x97\xa5\xe6\x9c\xac",
                                        "~@at!$*",     "(x)[y]{z}|^`\\"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char *key = xasprintf("odd/%s/%s", names[i], names[i]);
        char *folder = xasprintf("odd/%s", names[i]);
        char *want = xasprintf("%s ", names[i]);
        put_text(key, names[i]);
        expect_object(key, names[i]);
        expect_list(folder, want);
        OK(storage_remove(st, folder, err));
        expect_list(folder, "");
        free(want);
        free(folder);
        free(key);
    }
}

static void long_listings_come_whole_and_sorted(void)
{
    struct buf want = {0};
    char key[64];
    for (int i = 0; i < 11; i++) {
        (void)snprintf(key, sizeof(key), "many/%02d-x/deep", i);
        put_text(key, "1");
        (void)snprintf(key, sizeof(key), "many/%02d-y", i);
        put_text(key, "2");
        buf_addf(&want, "%02d-x/ %02d-y ", i, i);
    }
    expect_list("many", want.data);
    OK(storage_remove(st, "many", err));
    expect_list("many", "");
    buf_fini(&want);
}

/* ---- readers beside a writer ---- */

struct watcher {
    pthread_t thread;
    char *url;
    int seen;
    bool stop;
    char wrong[128];
};

static void *watch(void *arg)
{
    struct watcher *w = arg;
    struct storage *mine = NULL;
    struct mag_err err = {0};
    if (storage_open(w->url, &mine, &err) != MAG_OK) {
        (void)snprintf(w->wrong, sizeof(w->wrong), "%.100s", err.text);
        return NULL;
    }
    while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE) && w->wrong[0] == '\0') {
        char *text = NULL;
        size_t len = 0;
        if (storage_get(mine, "w/object", 1 << 20, &text, &len, &err) != MAG_OK) {
            (void)snprintf(w->wrong, sizeof(w->wrong), "%.100s", err.text);
            break;
        }
        if (len != 200000 || strspn(text, (char[]){text[0], '\0'}) != len) {
            (void)snprintf(w->wrong, sizeof(w->wrong), "%zu bytes, not of one kind", len);
        }
        free(text);
        w->seen++;
    }
    storage_close(mine);
    return NULL;
}

static void a_reader_sees_a_whole_object(void)
{
    struct watcher w = {.url = xstrdup(storage_url(st))};
    char *bytes = xmalloc(200000);
    memset(bytes, 'a', 200000);
    OK(storage_put(st, "w/object", bytes, 200000, false, err));
    CHECK(pthread_create(&w.thread, NULL, watch, &w) == 0, "thread");
    for (int i = 0; i < 20; i++) {
        memset(bytes, 'a' + i % 26, 200000);
        OK(storage_put(st, "w/object", bytes, 200000, i % 2 == 0, err));
    }
    __atomic_store_n(&w.stop, true, __ATOMIC_RELEASE);
    (void)pthread_join(w.thread, NULL);
    CHECK(w.wrong[0] == '\0', "%s", w.wrong);
    CHECK(w.seen > 0, "the reader saw nothing");
    free(bytes);
    free(w.url);
}

/* ---- folders ---- */

static char *read_local(const char *folder, const char *name)
{
    char *path = xasprintf("%s/%s", folder, name);
    char text[256] = "";
    FILE *f = fopen(path, "r");
    CHECK(f != NULL, "%s", path);
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    (void)fclose(f);
    free(path);
    return xstrdup(text);
}

static void expect_local(const char *folder, const char *name, const char *want)
{
    char *got = read_local(folder, name);
    CHECK(strcmp(got, want) == 0, "%s: \"%s\"", name, got);
    free(got);
}

static void folders_come_back_as_they_were(void)
{
    struct storage_folder f = {0};
    char *from = local("from");
    char *path = NULL;
    char *text = NULL;
    size_t len = 0;
    char sha[STORAGE_SHA256_HEX];
    json_t *meta = json_pack("{s:i}", "step", 3);
    write_text("from/model.bin", "weights");
    write_text("from/empty", "");
    write_text("from/sub/more/state json", "{}");
    OK(storage_put_folder(st, "c/3-1", from, meta, &f, err));
    CHECK(f.files == 3 && f.bytes == 9, "%lld files", (long long)f.files);
    OK(storage_get(st, "c/3-1/manifest.json", 65536, &text, &len, err));
    storage_sha256(text, len, sha);
    CHECK(strcmp(sha, f.sha256) == 0 && strstr(text, "\"step\":3") != NULL, "%s", text);
    free(text);
    OK(storage_get_folder(st, "c/3-1", dir, &path, err));
    expect_local(path, "model.bin", "weights");
    expect_local(path, "empty", "");
    expect_local(path, "sub/more/state json", "{}");
    free(path);
    write_text("from/model.bin", "other");
    char *gone = local("from/sub");
    storage_remove_local(gone);
    OK(storage_put_folder(st, "c/3-1", from, NULL, &f, err));
    OK(storage_get_folder(st, "c/3-1", dir, &path, err));
    expect_local(path, "model.bin", "other");
    expect_list("c/3-1", "empty manifest.json model.bin ");
    expect_list("c", "3-1/ ");
    json_decref(meta);
    free(gone);
    free(path);
    free(from);
}

static void damage_to_a_folder_is_found(void)
{
    struct storage_folder f = {0};
    char *from = local("from");
    char *path = NULL;
    write_text("from/model.bin", "weights");
    write_text("from/other", "x");
    for (int harm = 0; harm < 5; harm++) {
        OK(storage_put_folder(st, "c/1-1", from, NULL, &f, err));
        enum mag_status want = MAG_CORRUPT;
        switch (harm) {
        case 0:
            put_text("c/1-1/model.bin", "weighty");
            break;
        case 1:
            put_text("c/1-1/model.bin", "weights and more");
            break;
        case 2:
            OK(storage_remove(st, "c/1-1/model.bin", err));
            break;
        case 3:
            put_text("c/1-1/manifest.json", "{\"files\":[{\"name\":\"../x\",\"sha256\":\"0\"}]}");
            break;
        default:
            OK(storage_remove(st, "c/1-1/manifest.json", err));
            want = MAG_NOTFOUND;
        }
        FAILS(want, storage_get_folder(st, "c/1-1", dir, &path, err));
        CHECK(harm > 2 || strstr(said, "model.bin") != NULL, "%s", said);
    }
    free(from);
}

static void an_unfinished_folder_is_not_there(void)
{
    struct storage_folder f = {0};
    char *from = local("from");
    char *link = local("from/z-link");
    char *path = NULL;
    write_text("from/a", "1");
    CHECK(symlink("/etc/passwd", link) == 0, "symlink");
    FAILS(MAG_INVALID, storage_put_folder(st, "c/1-1", from, NULL, &f, err));
    FAILS(MAG_NOTFOUND, storage_get_folder(st, "c/1-1", dir, &path, err));
    expect_list("c", "1-1/ "); /* and what is left of it can be found and removed */
    OK(storage_remove(st, "c/1-1", err));
    expect_list("c", "");
    free(link);
    free(from);
}

static void a_large_file_goes_in_pieces(void)
{
    enum { SIZE = (11 << 20) + 12345 };
    struct storage_folder f = {0};
    struct storage_part part = {0};
    char *from = local("from");
    char *path = NULL;
    char *bytes = xmalloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        bytes[i] = (char)(i * 2654435761U >> 13);
    }
    write_local("from/sub/big", bytes, SIZE);
    write_text("from/small", "1");
    OK(storage_put_folder(st, "c/9-1", from, NULL, &f, err));
    CHECK(f.bytes == SIZE + 1, "%lld", (long long)f.bytes);
    OK(storage_get_folder(st, "c/9-1", dir, &path, err));
    char *big = xasprintf("%s/sub/big", path);
    struct stat sb;
    CHECK(stat(big, &sb) == 0 && sb.st_size == SIZE, "%s", big);
    OK(storage_read(st, "c/9-1/sub/big", (5 << 20) - 3, 7, &part, err));
    CHECK(part.len == 7 && part.size == SIZE && memcmp(part.bytes, bytes + (5 << 20) - 3, 7) == 0,
          "a part across two pieces");
    expect_list("c/9-1", "manifest.json small sub/ ");
    expect_list("c/9-1/sub", "big ");
    OK(storage_remove(st, "c/9-1", err));
    expect_list("c", "");
    free(part.bytes);
    free(big);
    free(path);
    free(bytes);
    free(from);
}

/* ---- claims ---- */

static void the_marker_ties_a_root_to_one_store(void)
{
    FAILS(MAG_NOTFOUND, storage_check(st, "u1", err));
    CHECK(strstr(said, "--storage") != NULL, "%s", said);
    OK(storage_claim(st, "u1", err));
    OK(storage_claim(st, "u1", err));
    OK(storage_check(st, "u1", err));
    FAILS(MAG_CONFLICT, storage_claim(st, "u2", err));
    CHECK(strstr(said, "another store") != NULL, "%s", said);
    FAILS(MAG_CONFLICT, storage_check(st, "u2", err));
}

struct claimer {
    pthread_t thread;
    char *url;
    char uuid[8];
    enum mag_status status;
};

static void *claim(void *arg)
{
    struct claimer *c = arg;
    struct storage *mine = NULL;
    c->status = storage_open(c->url, &mine, NULL);
    if (c->status == MAG_OK) {
        c->status = storage_claim(mine, c->uuid, NULL);
    }
    storage_close(mine);
    return NULL;
}

static void of_many_claims_at_once_one_wins(void)
{
    struct claimer all[6] = {0};
    int won = 0;
    for (int i = 0; i < 6; i++) {
        all[i].url = xstrdup(storage_url(st));
        (void)snprintf(all[i].uuid, sizeof(all[i].uuid), "u%d", i);
        CHECK(pthread_create(&all[i].thread, NULL, claim, &all[i]) == 0, "thread");
    }
    for (int i = 0; i < 6; i++) {
        (void)pthread_join(all[i].thread, NULL);
        CHECK(all[i].status == MAG_OK || all[i].status == MAG_CONFLICT, "%s",
              mag_status_name(all[i].status));
        won += all[i].status == MAG_OK;
        if (all[i].status == MAG_OK) {
            OK(storage_check(st, all[i].uuid, err));
        }
        free(all[i].url);
    }
    CHECK(won == 1, "%d won", won);
}

static void unsound_keys_are_refused(void)
{
    static const char *const bad[] = {"", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\nb"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        FAILS(MAG_INVALID, storage_put(st, bad[i], "x", 1, false, err));
        FAILS(MAG_INVALID, storage_remove(st, bad[i], err));
        FAILS(MAG_INVALID, storage_list(st, bad[i], collect, NULL, err));
    }
    if (is_hdfs()) { /* HDFS has no colons in names: its refusal must be one sentence */
        FAILS(MAG_INVALID, storage_put(st, "a:b", "x", 1, false, err));
        CHECK(strchr(said, '\n') == NULL && strstr(said, "a:b") != NULL, "%s", said);
    } else {
        put_text("a:b", "x");
        expect_object("a:b", "x");
    }
}

/* ---- the program ---- */

#define CASE(name)                                                                                 \
    {                                                                                              \
#name, name                                                                                \
    }
static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    CASE(objects_are_put_replaced_listed_and_removed),
    CASE(parts_are_read_from_either_end),
    CASE(odd_names_are_names),
    CASE(long_listings_come_whole_and_sorted),
    CASE(a_reader_sees_a_whole_object),
    CASE(folders_come_back_as_they_were),
    CASE(damage_to_a_folder_is_found),
    CASE(an_unfinished_folder_is_not_there),
    CASE(a_large_file_goes_in_pieces),
    CASE(the_marker_ties_a_root_to_one_store),
    CASE(of_many_claims_at_once_one_wins),
    CASE(unsound_keys_are_refused),
};

static int verdict(enum mag_status status, const struct mag_err *err)
{
    struct rusage use = {0};
    (void)getrusage(RUSAGE_SELF, &use);
    (void)printf("%s rss_kb=%ld %s\n", mag_status_name(status), use.ru_maxrss, err->text);
    return status == MAG_OK ? 0 : 1;
}

/* put-folder KEY DIR, get-folder KEY SCRATCH, put KEY TEXT, get KEY, remove KEY, list KEY, claim
 * UUID
 */
static int verbs(const char *verb, const char *key, const char *arg)
{
    struct mag_err err = {0};
    struct storage_folder f = {0};
    char *text = NULL;
    size_t len = 0;
    enum mag_status status = MAG_UNSUPPORTED;
    if (strcmp(verb, "put-folder") == 0) {
        status = storage_put_folder(st, key, arg, NULL, &f, &err);
    } else if (strcmp(verb, "get-folder") == 0) {
        status = storage_get_folder(st, key, arg, &text, &err);
        (void)printf("%s\n", status == MAG_OK ? text : "");
    } else if (strcmp(verb, "put") == 0) {
        status = storage_put(st, key, arg, strlen(arg), true, &err);
    } else if (strcmp(verb, "get") == 0) {
        status = storage_get(st, key, 1 << 20, &text, &len, &err);
        (void)printf("%s\n", status == MAG_OK ? text : "");
    } else if (strcmp(verb, "remove") == 0) {
        status = storage_remove(st, key, &err);
    } else if (strcmp(verb, "list") == 0) {
        struct buf names = {0};
        status = storage_list(st, key, collect, &names, &err);
        (void)printf("%s\n", names.len > 0 ? names.data : "");
        buf_fini(&names);
    } else if (strcmp(verb, "claim") == 0) {
        status = storage_claim(st, key, &err);
    } else if (strcmp(verb, "check") == 0) {
        status = storage_check(st, key, &err);
    } else {
        (void)snprintf(err.text, sizeof(err.text), "no verb %s", verb);
    }
    free(text);
    return verdict(status, &err);
}

static int run_case(const char *name)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (strcmp(cases[i].name, name) == 0) {
            (void)snprintf(dir, sizeof(dir), "/tmp/magpie-suite-XXXXXX");
            CHECK(mkdtemp(dir) != NULL, "%s", dir);
            cases[i].run();
            storage_remove_local(dir);
            return 0;
        }
    }
    return -1;
}

int main(int argc, char **argv)
{
    struct mag_err err = {0};
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            (void)puts(cases[i].name);
        }
        return 0;
    }
    if (argc < 3) {
        (void)fprintf(stderr, "usage: storage_suite --list | URL CASE | URL VERB KEY [ARG]\n");
        return 2;
    }
    base = argv[1];
    enum mag_status status = storage_open(argv[1], &st, &err);
    if (status != MAG_OK) {
        return verdict(status, &err);
    }
    int rv = run_case(argv[2]);
    if (rv < 0) {
        rv = verbs(argv[2], argc > 3 ? argv[3] : "", argc > 4 ? argv[4] : "");
    }
    storage_close(st);
    return rv;
}
