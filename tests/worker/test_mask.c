/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"
#include "worker/mask.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define V(text) ((char[]){text}) /* environ is not const */

static struct masks *with(const char *pattern, char *const *env)
{
    struct masks *m = NULL;
    struct mag_err err = {0};
    cr_assert_eq(masks_create(&m, NULL, &pattern, pattern != NULL, env, &err), MAG_OK, "%s",
                 err.text);
    return m;
}

static void check(const struct masks *m, const char *in, const char *want)
{
    char *got = masks_text(m, in);
    cr_expect_str_eq(got, want, "%s -> %s", in, got);
    free(got);
}

Test(mask, known_forms_are_replaced_and_words_like_them_are_not)
{
    struct masks *m = with(NULL, NULL);
    check(m, "Authorization: Bearer abc.DEF-123_456 ok", "Authorization: Bearer *** ok");
    check(m, "{\"bearer\": \"0123456789\"}", "{\"bearer\": \"***\"}");
    check(m, "id AKIAIOSFODNN7EXAMPLE.", "id ***.");
    check(m, "ASIAIOSFODNN7EXAMPLEX is one too long", "ASIAIOSFODNN7EXAMPLEX is one too long");
    check(m, "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
          "aws_secret_access_key = ***");
    check(m, "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY;x",
          "AWS_SECRET_ACCESS_KEY=***;x");
    check(m, "ghp_0123456789abcdefghijABCDEFGHIJ012345", "***");
    check(m, "hf_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh loads", "*** loads");
    check(m, "task-0123456789012345678901 a bearer of news, loss=0.25",
          "task-0123456789012345678901 a bearer of news, loss=0.25");
    check(m, "", "");
    masks_destroy(m);
}

Test(mask, values_of_secret_variables_are_replaced)
{
    char *env[] = {V("MY_TOKEN=tok-en-1"),
                   V("DB_PASSWORD=hunter22"),
                   V("api_key=qwertz"),
                   V("SHORT_KEY=12345"),
                   V("HOME=/home/somebody"),
                   V("KEYBOARD=querty-de"),
                   V("CLIENT_SECRET=l1-l1-l1\nl2-l2-l2\n"),
                   NULL};
    struct masks *m = with(NULL, env);
    check(m, "a tok-en-1 b hunter22hunter22 c qwertz", "a *** b *** c ***");
    check(m, "12345 /home/somebody querty-de", "12345 /home/somebody querty-de");
    check(m, "l1-l1-l1\nl2-l2-l2\n", "***\n***\n");
    masks_destroy(m);
}

Test(mask, names_of_secrets_are_known)
{
    static const char *const yes[] = {"A_TOKEN",    "a_key",  "MYSECRETS",
                                      "PGPASSWORD", "X_PASS", "GOOGLE_CREDENTIALS"};
    static const char *const no[] = {"TOKENS", "KEY", "PATH", "COMPASS", "MONKEY", ""};
    for (size_t i = 0; i < 6; i++) {
        cr_expect(masks_is_secret_name(yes[i], strlen(yes[i])), "%s", yes[i]);
        cr_expect_not(masks_is_secret_name(no[i], strlen(no[i])), "%s", no[i]);
    }
}

Test(mask, patterns_are_replaced_and_overlapping_secrets_are_one)
{
    char *env[] = {V("A_KEY=abcdef"), V("B_KEY=defghi"), NULL};
    struct masks *outer = with("card [0-9]{4}", env);
    struct masks *m = NULL;
    const char *inner = "^user .*$";
    cr_assert_eq(masks_create(&m, outer, &inner, 1, NULL, NULL), MAG_OK);
    check(m, "card 1234, abcdefghi\nuser bob\nan user", "***, ***\n***\nan user");
    check(m, "Bearer 12345678", "Bearer ***");
    masks_destroy(m);
    masks_destroy(outer);
}

Test(mask, a_pattern_that_matches_nothing_ends)
{
    struct masks *m = with("x*", NULL);
    check(m, "axxb", "a***b");
    masks_destroy(m);
}

Test(mask, bad_patterns_are_refused_with_their_text)
{
    struct masks *m = NULL;
    struct mag_err err = {0};
    const char *bad = "(open";
    cr_assert_eq(masks_create(&m, NULL, &bad, 1, NULL, &err), MAG_INVALID);
    cr_assert_not_null(strstr(err.text, "\"(open\" is no POSIX"));
    char *most = xmalloc(MASK_PATTERN_MAX + 2);
    memset(most, 'a', MASK_PATTERN_MAX + 1);
    most[MASK_PATTERN_MAX + 1] = '\0';
    const char *long_one = most;
    cr_assert_eq(masks_create(&m, NULL, &long_one, 1, NULL, &err), MAG_INVALID);
    long_one = most + 1;
    cr_assert_eq(masks_create(&m, NULL, &long_one, 1, NULL, &err), MAG_OK);
    masks_destroy(m);
    free(most);
    const char *many[MASK_PATTERNS_MAX + 1];
    for (int i = 0; i <= MASK_PATTERNS_MAX; i++) {
        many[i] = "a";
    }
    cr_assert_eq(masks_create(&m, NULL, many, MASK_PATTERNS_MAX + 1, NULL, &err), MAG_LIMIT);
    cr_assert_eq(masks_create(&m, NULL, many, MASK_PATTERNS_MAX, NULL, &err), MAG_OK);
    masks_destroy(m);
}

/* ---- the stream ---- */

static char *stream(const struct masks *m, const char *text, size_t n, size_t chunk)
{
    struct mask_stream s = {0};
    struct buf out = {0};
    for (size_t i = 0; i < n; i += chunk) {
        mask_stream_add(&s, m, text + i, chunk < n - i ? chunk : n - i, &out);
        cr_assert_leq(s.held.len, (size_t)MASK_HOLD_MAX);
    }
    mask_stream_end(&s, m, &out);
    return buf_take(&out);
}

Test(mask, a_secret_is_masked_wherever_the_bytes_are_cut)
{
    char *env[] = {V("A_TOKEN=s3cr3t-value"), NULL};
    struct masks *m = with("pin=[0-9]+", env);
    static const char text[] =
        "x s3cr3t-value y\nBearer 0123456789abc\rpin=1234 z\nend s3cr3t-value";
    static const char want[] = "x *** y\nBearer ***\r*** z\nend ***";
    for (size_t chunk = 1; chunk <= sizeof(text); chunk++) {
        char *got = stream(m, text, sizeof(text) - 1, chunk);
        cr_assert_str_eq(got, want, "cut each %zu bytes", chunk);
        free(got);
    }
    masks_destroy(m);
}

/* A line that never ends leaves in pieces, and no secret lies across two of them. */
Test(mask, a_secret_in_a_line_without_end_is_masked_wherever_it_lies)
{
    char *env[] = {V("A_TOKEN=s3cr3t-value"), NULL};
    struct masks *m = with(NULL, env);
    size_t n = MASK_HOLD_MAX + 2 * MASK_SPAN_MAX;
    char *text = xmalloc(n);
    static const char *const secrets[] = {"s3cr3t-value", "Bearer 0123456789abc"};
    for (size_t k = 0; k < 2; k++) {
        size_t len = strlen(secrets[k]);
        for (size_t at = MASK_HOLD_MAX - 2 * MASK_SPAN_MAX; at + len < n; at += 7) {
            memset(text, '.', n);
            text[at - 1] = ' ';
            memcpy(text + at, secrets[k], len);
            text[at + len] = ' ';
            char *got = stream(m, text, n, 5000);
            cr_assert_null(strstr(got, "s3cr3t"), "at %zu", at);
            cr_assert_null(strstr(got, "3456789abc"), "at %zu", at);
            cr_assert_not_null(strstr(got, MASK_TEXT));
            free(got);
        }
    }
    free(text);
    masks_destroy(m);
}

Test(mask, a_secret_longer_than_what_is_held_is_masked_to_its_end)
{
    struct masks *m = with(NULL, NULL);
    size_t n = 5 * MASK_HOLD_MAX;
    char *text = xmalloc(n + 64);
    (void)snprintf(text, n, "begin Bearer ");
    size_t head = strlen(text);
    memset(text + head, 'k', n - head);
    (void)snprintf(text + n, 64, " end\nnext line\n");
    for (size_t chunk = 1000; chunk < 70000; chunk += 3001) {
        char *got = stream(m, text, strlen(text), chunk);
        cr_assert_null(strstr(got, "kkkk"), "cut each %zu bytes", chunk);
        cr_assert_not_null(strstr(got, " end\nnext line\n"));
        cr_assert_eq(strncmp(got, "begin Bearer ***", 16), 0);
        free(got);
    }
    free(text);
    masks_destroy(m);
}
