/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "base/json.h"
#include "worker/outlog.h"

#include <criterion/criterion.h>
#include <dirent.h>
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

/* Bytes of all segments' files; they are removed with `clean`. */
static size_t files(bool clean)
{
    char *path = xasprintf("%s/log", dir);
    DIR *d = opendir(path);
    size_t bytes = 0;
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        char *file = xasprintf("%s/%s", path, e->d_name);
        char *text = NULL;
        size_t len = 0;
        if (e->d_name[0] != '.' && mjson_read_file(file, 64 << 20, &text, &len, NULL) == MAG_OK) {
            bytes += len;
        }
        if (clean && e->d_name[0] != '.') {
            (void)unlink(file);
        }
        free(text);
        free(file);
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    if (clean) {
        (void)rmdir(path);
    }
    free(path);
    return bytes;
}

static void remove_dir(void)
{
    (void)files(true);
    (void)rmdir(dir);
}

TestSuite(outlog, .init = make_dir, .fini = remove_dir);

static void open_log(struct outlog *o, const struct masks *m, int64_t limit)
{
    char *path = xasprintf("%s/log", dir);
    outlog_open(o, path, m, limit);
    free(path);
}

/* What lies in the files, in order; where segments are missing a '|'. */
static char *contents(const struct outlog *o)
{
    struct buf b = {0};
    int64_t at = 0;
    for (int i = 0; i < o->n_segments; i++) {
        const struct outlog_segment *g = &o->segments[i];
        if (g->dropped) {
            continue;
        }
        char *path = outlog_file(o->dir, g->start);
        char *text = NULL;
        size_t len = 0;
        cr_assert_eq(mjson_read_file(path, 64 << 20, &text, &len, NULL), MAG_OK);
        cr_assert_eq((int64_t)len, g->len);
        buf_adds(&b, g->start > at ? "|" : "");
        buf_add(&b, text, len);
        at = g->start + g->len;
        free(text);
        free(path);
    }
    return buf_take(&b);
}

Test(outlog, keeps_what_was_written_and_its_last_line)
{
    struct outlog o;
    int64_t end = 0;
    open_log(&o, NULL, 0);
    cr_assert_null(outlog_last_line(&o));
    outlog_add(&o, "one\ntwo\n\n  \n", 12);
    outlog_note(&o, "note %d", 3);
    outlog_add(&o, "unfinished", 10);
    char *last = outlog_last_line(&o);
    cr_assert_str_eq(last, "[magpie] note 3");
    free(last);
    char *shown = outlog_shown(&o, 4096, &end);
    cr_assert_str_eq(shown, "one\ntwo\n\n  \n[magpie] note 3\n");
    cr_assert_eq(end, 28);
    free(shown);
    outlog_flush(&o);
    last = outlog_last_line(&o);
    cr_assert_str_eq(last, "unfinished");
    free(last);
    char *text = contents(&o);
    cr_assert_str_eq(text, "one\ntwo\n\n  \n[magpie] note 3\nunfinished");
    free(text);
    outlog_close(&o);
    outlog_close(&o);
}

Test(outlog, a_chatty_program_keeps_its_start_and_its_end_within_the_limit)
{
    struct outlog o;
    open_log(&o, NULL, 1 << 20);
    char line[32];
    for (int i = 0; i < 1000000; i++) { /* 12 MB */
        int n = snprintf(line, sizeof(line), "line %06d\n", i);
        outlog_add(&o, line, (size_t)n);
    }
    cr_assert_leq(files(false), (size_t)1 << 20);
    cr_assert_geq(files(false), (size_t)1 << 19);
    cr_assert_eq(o.total, 12000000);
    char *text = contents(&o);
    size_t len = strlen(text);
    cr_assert_eq(strncmp(text, "line 000000\nline 000001\n", 24), 0);
    cr_assert_str_eq(text + len - 12, "line 999999\n");
    const char *gap = strchr(text, '|');
    cr_assert_not_null(gap);
    cr_assert_null(strchr(gap + 1, '|'), "one gap");
    cr_assert_eq((int64_t)len - 1 + o.lost, o.total, "what is left out is counted");
    free(text);
    outlog_close(&o);
}

Test(outlog, nothing_is_left_out_up_to_the_limit_and_a_segment_beyond_it)
{
    for (int over = 0; over <= 1; over++) {
        struct outlog o;
        open_log(&o, NULL, OUTLOG_LIMIT_MIN);
        char line[65];
        memset(line, 'a', 63);
        line[63] = '\n';
        for (int i = 0; i < OUTLOG_LIMIT_MIN / 64 + over; i++) {
            outlog_add(&o, line, 64);
        }
        cr_assert_eq(o.lost, over == 0 ? 0 : OUTLOG_SEGMENT_MIN);
        cr_assert_leq(files(false), (size_t)OUTLOG_LIMIT_MIN);
        outlog_close(&o);
        remove_dir();
        make_dir();
    }
}

Test(outlog, a_stored_segment_leaves_scratch_and_a_dropped_one_leaves_storage)
{
    struct outlog o;
    open_log(&o, NULL, OUTLOG_LIMIT_MIN);
    char *block = xmalloc(OUTLOG_SEGMENT_MIN);
    memset(block, 'b', OUTLOG_SEGMENT_MIN);
    block[OUTLOG_SEGMENT_MIN - 1] = '\n';
    cr_assert_not(outlog_has_news(&o));
    outlog_add(&o, block, OUTLOG_SEGMENT_MIN);
    outlog_add(&o, block, OUTLOG_SEGMENT_MIN);
    cr_assert(outlog_has_news(&o));
    outlog_stored(&o, 0, OUTLOG_SEGMENT_MIN);
    outlog_stored(&o, OUTLOG_SEGMENT_MIN, OUTLOG_SEGMENT_MIN);
    cr_assert_not(outlog_has_news(&o));
    cr_assert_eq(files(false), (size_t)OUTLOG_SEGMENT_MIN, "the last one may grow still");
    for (int i = 0; i < 3; i++) {
        outlog_add(&o, block, OUTLOG_SEGMENT_MIN);
    }
    /* The second one was stored, and had to go. */
    cr_assert(o.segments[1].dropped);
    cr_assert(outlog_has_news(&o));
    outlog_stored(&o, OUTLOG_SEGMENT_MIN, -1);
    cr_assert_eq(o.segments[1].start, 2 * OUTLOG_SEGMENT_MIN);
    /* The third one is dropped while it is on its way: then it must go there, too. */
    outlog_add(&o, block, OUTLOG_SEGMENT_MIN);
    outlog_stored(&o, 2 * OUTLOG_SEGMENT_MIN, OUTLOG_SEGMENT_MIN);
    cr_assert(o.segments[0].dropped);
    cr_assert_eq(o.segments[0].start, 2 * OUTLOG_SEGMENT_MIN);
    outlog_stored(&o, 2 * OUTLOG_SEGMENT_MIN, -1);
    cr_assert_not(o.segments[0].dropped);
    free(block);
    outlog_close(&o);
}

Test(outlog, memory_for_a_chatty_program_is_bounded)
{
    struct outlog o;
    open_log(&o, NULL, OUTLOG_LIMIT_MIN);
    char *block = xmalloc(1 << 20);
    memset(block, 'c', 1 << 20); /* not even a line's end */
    for (int i = 0; i < 8; i++) {
        outlog_add(&o, block, 1 << 20);
    }
    size_t held =
        o.tail.cap + o.in.held.cap + o.scratch.cap + (size_t)o.n_segments * sizeof(o.segments[0]);
    cr_assert_leq(held, (size_t)128 << 10, "%zu bytes", held);
    free(block);
    outlog_close(&o);
}

Test(outlog, last_lines_that_are_no_text_have_no_offset)
{
    static const char *const odd[] = {"\xff\n", "a\xc3\n", "\xed\xa0\x80\n", "\xc0\x80\n"};
    for (size_t i = 0; i < 4; i++) {
        struct outlog o;
        int64_t end = -1;
        open_log(&o, NULL, 0);
        outlog_add(&o, odd[i], strlen(odd[i]));
        free(outlog_shown(&o, 4096, &end));
        cr_expect_eq(end, 0, "case %zu", i);
        outlog_close(&o);
    }
    struct outlog o;
    int64_t end = -1;
    open_log(&o, NULL, 0);
    outlog_add(&o, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa6\n", 10);
    free(outlog_shown(&o, 4096, &end));
    cr_expect_eq(end, 10);
    outlog_close(&o);
}

Test(outlog, secrets_never_reach_a_file)
{
    static const char *const pattern[] = {"pin=[0-9]+"};
    struct masks *m = NULL;
    struct outlog o;
    cr_assert_eq(masks_create(&m, NULL, pattern, 1, NULL, NULL), MAG_OK);
    open_log(&o, m, 0);
    outlog_add(&o, "my pin=12", 9);
    outlog_add(&o, "34 is secret\n", 13);
    outlog_note(&o, "it said pin=77");
    char *text = contents(&o);
    cr_assert_str_eq(text, "my *** is secret\n[magpie] it said ***\n");
    free(text);
    outlog_close(&o);
    masks_destroy(m);
}
