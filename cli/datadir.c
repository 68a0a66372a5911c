/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/datadir.h"

#include "base/alloc.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum mag_status make_all(char *path, struct mag_err *err)
{
    for (char *p = path + 1;; p++) {
        if (*p != '/' && *p != '\0') {
            continue;
        }
        char end = *p;
        *p = '\0';
        bool failed = mkdir(path, 0700) != 0 && errno != EEXIST;
        if (failed) {
            return mag_fail(err, MAG_IO, "data folder: cannot make %s: %s", path, strerror(errno));
        }
        *p = end;
        if (end == '\0') {
            return MAG_OK;
        }
    }
}

enum mag_status datadir_make(const char *path, char **ret, struct mag_err *err)
{
    if (path[0] == '\0') {
        return mag_fail(err, MAG_INVALID, "the data folder's name is empty");
    }
    char *copy = xstrdup(path);
    enum mag_status st = make_all(copy, err);
    free(copy);
    char *real = st == MAG_OK ? realpath(path, NULL) : NULL;
    struct stat s;
    if (st == MAG_OK && (real == NULL || stat(real, &s) != 0)) {
        st = mag_fail(err, MAG_IO, "data folder %s: %s", path, strerror(errno));
    } else if (st == MAG_OK && !S_ISDIR(s.st_mode)) {
        st = mag_fail(err, MAG_INVALID, "data folder %s: not a folder", path);
    }
    if (st != MAG_OK) {
        free(real);
        return st;
    }
    *ret = real;
    return MAG_OK;
}

void datadir_note_address(const char *dir, const char *http, const char *nng)
{
    char *tmp = xasprintf("%s/address.new", dir);
    char *path = xasprintf("%s/address", dir);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0) {
        bool ok = dprintf(fd, "http=%s nng=%s\n", http, nng) > 0;
        ok = close(fd) == 0 && ok;
        if (!ok || rename(tmp, path) != 0) {
            (void)unlink(tmp);
        }
    }
    free(tmp);
    free(path);
}

void datadir_forget_address(const char *dir)
{
    char *path = xasprintf("%s/address", dir);
    (void)unlink(path);
    free(path);
}

char *datadir_line(const char *dir, const char *name)
{
    char *path = xasprintf("%s/%s", dir, name);
    char *text = NULL;
    size_t len = 0;
    bool ok = mjson_read_file(path, 4096, &text, &len, NULL) == MAG_OK;
    free(path);
    if (ok) {
        text[strcspn(text, "\r\n")] = '\0';
    }
    return ok ? text : NULL;
}

char *datadir_field(const char *line, const char *key)
{
    size_t n = strlen(key);
    for (const char *p = line; p != NULL && *p != '\0';) {
        size_t word = strcspn(p, " \n");
        if (word > n && memcmp(p, key, n) == 0 && p[n] == '=') {
            return xstrndup(p + n + 1, word - n - 1);
        }
        p += word + (p[word] != '\0');
    }
    return NULL;
}

char *datadir_nng(const char *dir)
{
    char *line = datadir_line(dir, "address");
    char *url = datadir_field(line, "nng");
    free(line);
    return url;
}

char *datadir_token(const char *dir)
{
    return datadir_line(dir, "token");
}
