/* SPDX-License-Identifier: Apache-2.0
 *
 * Stages for texts, as in Spark's pipelines: words (RegexTokenizer), how often each comes up at the
 * place that its hash gives (HashingTF), less weight to words that are in many texts (IDF).
 */
#include "base/alloc.h"
#include "base/pattern.h"
#include "trainer/murmur3.h"
#include "trainer/prep.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#define SPACES "[[:space:]]+"

static json_t *no_state(const struct prep *p, const struct column *c, const json_t *spec,
                        struct mag_err *err)
{
    (void)p;
    (void)c;
    (void)spec;
    (void)err;
    return json_object();
}

/* ---- tokenize ---- */

static void tokenize_parse(const struct place *p, json_t *out)
{
    bool lowercase = true;
    bool gaps = true;
    int least = 1;
    (void)value_bool(p, "lowercase", &lowercase);
    (void)value_bool(p, "gaps", &gaps);
    (void)value_int(p, "min_length", false, 1, 1000, &least);
    char *at = mjson_pointer(p->pointer, "pattern");
    const json_t *given = json_object_get(p->object, "pattern");
    const json_t *v = given != NULL ? value_resolve(p->reader, given, at, NULL) : NULL;
    const char *pattern = v != NULL ? json_string_value(v) : gaps ? SPACES : "[^[:space:]]+";
    struct mag_err err = {0};
    regex_t re;
    if (pattern == NULL || *pattern == '\0') {
        mjson_issue(p->reader->issues, at, "\"pattern\" must be a regular expression, not %s",
                    v != NULL && json_is_string(v) ? "an empty text" : mjson_kind(v));
        pattern = SPACES;
    } else if (pattern_compile(pattern, &re, &err) == MAG_OK) {
        regfree(&re);
    } else {
        mjson_issue(p->reader->issues, at, "\"pattern\" %s", err.text);
    }
    (void)json_object_set_new(out, "lowercase", json_boolean(lowercase));
    (void)json_object_set_new(out, "gaps", json_boolean(gaps));
    (void)json_object_set_new(out, "min_length", json_integer(least));
    (void)json_object_set_new(out, "pattern", json_string(pattern));
    free(at);
}

struct tokenizer {
    bool lowercase, gaps;
    size_t least; /* characters */
    regex_t re;
    bool spaces; /* the usual pattern, taken without the regular expression */
    locale_t utf8;
    struct buf out;  /* words, each with its NUL */
    struct buf text; /* one, lowered and ended */
};

/* Lowers UTF-8; bytes that are no character stay as they are. */
static void lower(const struct tokenizer *t, const char *from, size_t n, struct buf *to)
{
    mbstate_t in = {0};
    locale_t before = uselocale(t->utf8);
    for (size_t i = 0; i < n;) {
        wchar_t c = 0;
        char room[16];
        unsigned char first = (unsigned char)from[i];
        if (first < 0x80) {
            buf_addc(to, first >= 'A' && first <= 'Z' ? (char)(first + 32) : (char)first);
            i++;
            continue;
        }
        size_t k = mbrtowc(&c, from + i, n - i, &in);
        if (k == 0 || k > n) {
            in = (mbstate_t){0};
            buf_addc(to, from[i++]);
            continue;
        }
        mbstate_t out = {0};
        size_t len = wcrtomb(room, (wchar_t)towlower_l((wint_t)c, t->utf8), &out);
        buf_add(to, len <= sizeof(room) ? room : from + i, len <= sizeof(room) ? len : k);
        i += k;
    }
    (void)uselocale(before);
}

/* Characters of n bytes of UTF-8. */
static size_t characters(const char *p, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        k += ((unsigned char)p[i] & 0xc0) != 0x80;
    }
    return k;
}

static void add_token(struct tokenizer *t, const char *p, size_t n)
{
    if (n > 0 && characters(p, n) >= t->least) {
        buf_add(&t->out, p, n);
        buf_addc(&t->out, '\0');
    }
}

static void cut_at_spaces(struct tokenizer *t, const char *p)
{
    static const char spaces[] = " \t\n\v\f\r";
    while (*p != '\0') {
        p += strspn(p, spaces);
        size_t n = strcspn(p, spaces);
        add_token(t, p, n);
        p += n;
    }
}

static void cut_by_pattern(struct tokenizer *t, const char *p)
{
    regmatch_t m;
    const char *start = p;
    int flags = 0;
    while (*p != '\0' && regexec(&t->re, p, 1, &m, flags) == 0) {
        if (m.rm_eo == m.rm_so) { /* an empty match divides nothing: go on behind the next byte */
            p += m.rm_so < 1 ? 1 : m.rm_so;
            flags = REG_NOTBOL;
            continue;
        }
        if (t->gaps) {
            add_token(t, start, (size_t)(p + m.rm_so - start));
        } else {
            add_token(t, p + m.rm_so, (size_t)(m.rm_eo - m.rm_so));
        }
        p += m.rm_eo;
        start = p;
        flags = REG_NOTBOL;
    }
    if (t->gaps) {
        add_token(t, start, strlen(start));
    }
}

static void cut(struct tokenizer *t, const char *from, size_t n)
{
    buf_reset(&t->text);
    if (t->lowercase) {
        lower(t, from, n, &t->text);
    } else {
        buf_add(&t->text, from, n);
    }
    for (size_t i = 0; i < t->text.len; i++) { /* a NUL would end the text */
        t->text.data[i] = t->text.data[i] == '\0' ? ' ' : t->text.data[i];
    }
    if (t->text.len == 0) {
        return;
    }
    if (t->spaces) {
        cut_at_spaces(t, t->text.data);
    } else {
        cut_by_pattern(t, t->text.data);
    }
}

static enum mag_status tokenizer_init(struct tokenizer *t, const struct prep *p,
                                      const struct column *c, const json_t *spec,
                                      struct mag_err *err)
{
    const char *pattern = json_string_value(json_object_get(spec, "pattern"));
    *t = (struct tokenizer){
        .lowercase = json_is_true(json_object_get(spec, "lowercase")),
        .gaps = json_is_true(json_object_get(spec, "gaps")),
        .least = (size_t)json_integer_value(json_object_get(spec, "min_length"))};
    if (pattern == NULL || pattern_compile(pattern, &t->re, NULL) != MAG_OK) {
        return prep_damaged(p, c, err);
    }
    t->spaces = t->gaps && strcmp(pattern, SPACES) == 0;
    t->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (t->utf8 == (locale_t)0) {
        regfree(&t->re);
        return mag_fail(err, MAG_UNSUPPORTED,
                        "%s: tokenize: this host has no locale C.UTF-8, which lowercase needs",
                        p->what);
    }
    return MAG_OK;
}

static enum mag_status tokenize_apply(struct prep *p, int i, const json_t *spec, const json_t *state,
                                      struct mag_err *err)
{
    (void)state;
    struct column *c = &p->frame.columns[i];
    struct tokenizer t;
    enum mag_status st = tokenizer_init(&t, p, c, spec, err);
    if (st != MAG_OK) {
        return st;
    }
    struct column words = {
        .name = xstrdup(c->name), .kind = COLUMN_TOKENS, .width = 1, .groups = 1};
    words.start = xcalloc((size_t)p->frame.n_rows + 1, sizeof(*words.start));
    for (uint32_t r = 0; r < p->frame.n_rows && st == MAG_OK; r++) {
        cut(&t, c->bytes + c->start[r], (size_t)(c->start[r + 1] - c->start[r]));
        words.start[r + 1] = t.out.len;
        if ((long long)t.out.len > FRAME_TEXT_MAX) {
            st = mag_fail(err, MAG_LIMIT, "%s: over %lld bytes of words", p->what, FRAME_TEXT_MAX);
        }
    }
    words.bytes = buf_take(&t.out);
    buf_fini(&t.text);
    regfree(&t.re);
    freelocale(t.utf8);
    if (st != MAG_OK) {
        column_fini(&words);
        return st;
    }
    column_fini(c);
    *c = words;
    return MAG_OK;
}

static const char *const tokenize_keys[] = {"lowercase", "pattern", "gaps", "min_length", NULL};
const struct stage_ops stage_tokenize = {.name = "tokenize",
                                         .keys = tokenize_keys,
                                         .kinds = 1 << COLUMN_TEXT,
                                         .parse = tokenize_parse,
                                         .fit = no_state,
                                         .apply = tokenize_apply};

/* ---- hashing_tf ---- */

static void hashing_parse(const struct place *p, json_t *out)
{
    int features = 4096;
    bool binary = false;
    (void)value_int(p, "features", false, 1, DATASET_WIDTH_MAX, &features);
    (void)value_bool(p, "binary", &binary);
    (void)json_object_set_new(out, "features", json_integer(features));
    (void)json_object_set_new(out, "binary", json_boolean(binary));
}

static int by_place(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* The places of a row's words, sorted and counted. */
static void count_row(struct pairs *pairs, uint32_t *at, size_t n, bool binary)
{
    if (n > 0) {
        qsort(at, n, sizeof(*at), by_place);
    }
    for (size_t i = 0; i < n;) {
        size_t k = i;
        while (k < n && at[k] == at[i]) {
            k++;
        }
        pairs_add(pairs, at[i], binary ? 1 : (float)(k - i));
        i = k;
    }
    pairs_end_row(pairs);
}

static enum mag_status hashing_apply(struct prep *p, int i, const json_t *spec, const json_t *state,
                                     struct mag_err *err)
{
    (void)state;
    const struct column *c = &p->frame.columns[i];
    int features = (int)json_integer_value(json_object_get(spec, "features"));
    bool binary = json_is_true(json_object_get(spec, "binary"));
    if (features < 1 || features > DATASET_WIDTH_MAX) {
        return prep_damaged(p, c, err);
    }
    struct pairs pairs;
    uint32_t *at = NULL;
    size_t cap = 0;
    pairs_begin(&pairs, p->frame.n_rows);
    for (uint32_t r = 0; r < p->frame.n_rows; r++) {
        size_t n = 0;
        for (uint64_t k = c->start[r]; k < c->start[r + 1];) {
            size_t len = strlen(c->bytes + k);
            if (n == cap) {
                cap = cap > 0 ? cap * 2 : 256;
                at = xreallocarray(at, cap, sizeof(*at));
            }
            at[n++] = murmur3_place(c->bytes + k, len, (uint32_t)features);
            k += len + 1;
        }
        count_row(&pairs, at, n, binary);
    }
    free(at);
    prep_make_sparse(p, i, features, &pairs);
    p->frame.columns[i].counts = true;
    return MAG_OK;
}

static const char *const hashing_keys[] = {"features", "binary", NULL};
const struct stage_ops stage_hashing_tf = {.name = "hashing_tf",
                                           .keys = hashing_keys,
                                           .kinds = 1 << COLUMN_TOKENS,
                                           .parse = hashing_parse,
                                           .fit = no_state,
                                           .apply = hashing_apply};

/* ---- idf: times log((texts + 1) / (texts with the word + 1)) ---- */

static void idf_parse(const struct place *p, json_t *out)
{
    int least = 0;
    (void)value_int(p, "min_docs", false, 0, DATASET_ROWS_MAX, &least);
    (void)json_object_set_new(out, "min_docs", json_integer(least));
}

static bool idf_wants(const json_t *spec, const struct column *c)
{
    (void)spec;
    return c->counts;
}

static json_t *idf_fit(const struct prep *p, const struct column *c, const json_t *spec,
                       struct mag_err *err)
{
    (void)err;
    json_int_t least = json_integer_value(json_object_get(spec, "min_docs"));
    uint32_t *docs = xcalloc((size_t)c->width, sizeof(*docs));
    for (uint32_t i = 0; i < p->n_train; i++) {
        uint32_t r = p->train[i];
        for (uint64_t k = c->sparse.start[r]; k < c->sparse.start[r + 1]; k++) {
            docs[c->sparse.index[k]]++;
        }
    }
    json_t *list = json_array();
    for (int k = 0; k < c->width; k++) {
        double w = docs[k] >= least ? log((p->n_train + 1.0) / (docs[k] + 1.0)) : 0;
        (void)json_array_append_new(list, json_real(w));
    }
    free(docs);
    return json_pack("{s:o}", "weights", list);
}

static enum mag_status idf_apply(struct prep *p, int i, const json_t *spec, const json_t *state,
                                 struct mag_err *err)
{
    (void)spec;
    const struct column *c = &p->frame.columns[i];
    double *w = prep_numbers(state, "weights", c->width);
    if (w == NULL) {
        return prep_damaged(p, c, err);
    }
    prep_scale_sparse(p, i, w);
    free(w);
    return MAG_OK;
}

static const char *const idf_keys[] = {"min_docs", NULL};
const struct stage_ops stage_idf = {.name = "idf",
                                    .keys = idf_keys,
                                    .kinds = 1 << COLUMN_SPARSE,
                                    .parse = idf_parse,
                                    .wants = idf_wants,
                                    .fit = idf_fit,
                                    .apply = idf_apply};
