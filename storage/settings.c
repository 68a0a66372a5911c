/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/settings.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The part of [p, end) without blanks around it. */
static char *trimmed(const char *p, const char *end)
{
    while (p < end && isspace((unsigned char)*p)) {
        p++;
    }
    while (end > p && isspace((unsigned char)end[-1])) {
        end--;
    }
    return xstrndup(p, (size_t)(end - p));
}

static char *unquoted(char *value_take)
{
    size_t n = strlen(value_take);
    if (n >= 2 && (value_take[0] == '"' || value_take[0] == '\'') &&
        value_take[n - 1] == value_take[0]) {
        memmove(value_take, value_take + 1, n - 2);
        value_take[n - 2] = '\0';
    }
    return value_take;
}

static enum mag_status take_line(struct settings *s, const char *file, int number, const char *line,
                                 const char *end, struct mag_err *err)
{
    char *text = trimmed(line, end);
    char *name = strncmp(text, "export ", 7) == 0 ? text + 7 : text;
    char *equals = strchr(name, '=');
    enum mag_status st = MAG_OK;
    if (text[0] == '\0' || text[0] == '#') {
        /* nothing */
    } else if (equals == NULL || equals == name) {
        /* The line may hold a secret, so it is not shown. */
        st = mag_fail(err, MAG_INVALID, "%s:%d: expected NAME=VALUE", file, number);
    } else {
        char *key = trimmed(name, equals);
        free(strmap_set(&s->file, key, unquoted(trimmed(equals + 1, equals + strlen(equals)))));
        free(key);
    }
    free(text);
    return st;
}

enum mag_status settings_init(struct settings *s, struct mag_err *err)
{
    const char *file = getenv("MAGPIE_STORAGE_CREDENTIALS");
    char *text = NULL;
    size_t len = 0;
    if (file == NULL || file[0] == '\0') {
        return MAG_OK;
    }
    enum mag_status st = mjson_read_file(file, SETTINGS_FILE_MAX, &text, &len, err);
    if (st != MAG_OK) {
        return mag_wrap(err, MAG_INVALID, "MAGPIE_STORAGE_CREDENTIALS");
    }
    int number = 1;
    for (const char *p = text; st == MAG_OK && *p != '\0'; number++) {
        const char *end = strchrnul(p, '\n');
        st = take_line(s, file, number, p, end, err);
        p = *end == '\n' ? end + 1 : end;
    }
    explicit_bzero(text, len);
    free(text);
    return st;
}

void settings_fini(struct settings *s)
{
    size_t cursor = 0;
    for (struct strmap_entry *e; (e = strmap_next(&s->file, &cursor)) != NULL;) {
        char *value = e->value;
        explicit_bzero(value, strlen(value));
        free(value);
    }
    strmap_fini(&s->file);
}

const char *settings_get(const struct settings *s, const char *name)
{
    const char *value = getenv(name);
    if (value == NULL || value[0] == '\0') {
        value = strmap_get(&s->file, name);
    }
    return value != NULL && value[0] != '\0' ? value : NULL;
}

const char *settings_first(const struct settings *s, const char *const names[])
{
    const char *value = NULL;
    for (int i = 0; value == NULL && names[i] != NULL; i++) {
        value = settings_get(s, names[i]);
    }
    return value;
}

enum mag_status settings_duration(const struct settings *s, const char *name, int64_t fallback_ms,
                                  int64_t *ret_ms, struct mag_err *err)
{
    const char *text = settings_get(s, name);
    *ret_ms = fallback_ms;
    if (text != NULL && duration_parse(text, ret_ms) != MAG_OK) {
        return mag_fail(err, MAG_INVALID, "%s=%.40s: expected a duration such as 30s or 2m", name,
                        text);
    }
    return MAG_OK;
}

enum mag_status settings_int(const struct settings *s, const char *name, int64_t fallback,
                             int64_t min, int64_t max, int64_t *ret, struct mag_err *err)
{
    const char *text = settings_get(s, name);
    *ret = fallback;
    if (text == NULL) {
        return MAG_OK;
    }
    char *end = NULL;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || v < min || v > max) {
        return mag_fail(err, MAG_INVALID,
                        "%s=%.40s: expected a whole number from %" PRId64 " to %" PRId64, name,
                        text, min, max);
    }
    *ret = v;
    return MAG_OK;
}

char *settings_ini(const char *text, const char *section, const char *key)
{
    bool inside = false;
    char *found = NULL;
    for (const char *p = text; *p != '\0';) {
        const char *end = strchrnul(p, '\n');
        char *line = trimmed(p, end);
        char *close = line[0] == '[' ? strchr(line, ']') : NULL;
        char *equals = strchr(line, '=');
        if (close != NULL) {
            char *name = trimmed(line + 1, close);
            inside = strcmp(name, section) == 0;
            free(name);
        } else if (inside && line[0] != '#' && line[0] != ';' && equals != NULL) {
            char *name = trimmed(line, equals);
            if (strcmp(name, key) == 0) {
                free(found);
                found = trimmed(equals + 1, equals + strlen(equals));
            }
            free(name);
        }
        explicit_bzero(line, strlen(line));
        free(line);
        p = *end == '\n' ? end + 1 : end;
    }
    return found;
}
