/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/json.h"
#include "worker/outlog.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[64];

static void make_dir(void)
{
    (void)snprintf(dir, sizeof(dir), "/tmp/magpie-outlog-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
}

static void remove_dir(void)
{
    char *path = xasprintf("%s/log", dir);
    (void)unlink(path);
    (void)rmdir(dir);
    free(path);
}

TestSuite(outlog, .init = make_dir, .fini = remove_dir);

static char *contents(size_t *ret_len)
{
    char *path = xasprintf("%s/log", dir);
    char *text = NULL;
    cr_assert_eq(mjson_read_file(path, 64 << 20, &text, ret_len, NULL), MAG_OK);
    free(path);
    return text;
}

static void open_log(struct outlog *o)
{
    char *path = xasprintf("%s/log", dir);
    outlog_open(o, path);
    free(path);
}

Test(outlog, keeps_what_was_written_and_its_last_line)
{
    struct outlog o;
    open_log(&o);
    cr_assert_null(outlog_last_line(&o));
    outlog_add(&o, "one\ntwo\n\n  \n", 12);
    outlog_note(&o, "note %d", 3);
    char *last = outlog_last_line(&o);
    cr_assert_str_eq(last, "[magpie] note 3");
    char *shown = outlog_shown(&o);
    cr_assert_str_eq(shown, "one\ntwo\n\n  \n[magpie] note 3\n");
    outlog_close(&o);
    outlog_close(&o);
    size_t len = 0;
    char *text = contents(&len);
    cr_assert_str_eq(text, "one\ntwo\n\n  \n[magpie] note 3\n");
    free(text);
    free(last);
    free(shown);
}

Test(outlog, a_flood_keeps_its_start_and_its_end)
{
    struct outlog o;
    open_log(&o);
    char line[32];
    int lines = 1000000; /* 12 MB */
    for (int i = 0; i < lines; i++) {
        int n = snprintf(line, sizeof(line), "line %06d\n", i);
        outlog_add(&o, line, (size_t)n);
    }
    outlog_close(&o);
    size_t len = 0;
    char *text = contents(&len);
    cr_assert_leq(len, (size_t)OUTLOG_HEAD_MAX + OUTLOG_TAIL_MAX + 200);
    cr_assert_eq(strncmp(text, "line 000000\nline 000001\n", 24), 0);
    cr_assert_not_null(strstr(text, " bytes left out here\n"));
    cr_assert_str_eq(text + len - 12, "line 999999\n");
    free(text);
}

/* Around the limit nothing is written twice and nothing is lost without a note. */
Test(outlog, output_just_over_the_limit_is_whole)
{
    for (int over = 0; over <= 3; over++) {
        struct outlog o;
        open_log(&o);
        char *block = xmalloc(OUTLOG_HEAD_MAX);
        memset(block, 'a', OUTLOG_HEAD_MAX);
        outlog_add(&o, block, OUTLOG_HEAD_MAX);
        outlog_add(&o, "xyz", (size_t)over);
        outlog_close(&o);
        size_t len = 0;
        char *text = contents(&len);
        cr_assert_eq(len, (size_t)OUTLOG_HEAD_MAX + (size_t)over);
        cr_assert_eq(memcmp(text + OUTLOG_HEAD_MAX, "xyz", (size_t)over), 0);
        free(text);
        free(block);
        remove_dir();
        make_dir();
    }
}
