/* SPDX-License-Identifier: Apache-2.0
 *
 * One encoder, one decoder and one destructor walk the field tables made from wire.h. A field table
 * ends with an entry without a name.
 */
#include "wire/wire.h"

#include "base/alloc.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum kind { K_INT, K_BOOL, K_STR, K_OBJECT, K_ARRAY, K_LIST };

struct field {
    const char *name;
    enum kind kind;
    bool required;
    int64_t lo, hi;
    size_t at;                /* offset in the struct */
    size_t at_n;              /* LIST: offset of its count */
    const struct field *part; /* LIST */
    size_t part_size;
    const char *part_name;
};

static const struct field fields_none[] = {{0}};
struct wire_none {
    int unused;
};

#define AT_N_INT(s, name) 0
#define AT_N_BOOL(s, name) 0
#define AT_N_STR(s, name) 0
#define AT_N_OBJECT(s, name) 0
#define AT_N_ARRAY(s, name) 0
#define AT_N_LIST(s, name) offsetof(struct s, n_##name)
/* `OWNER` is the struct the table belongs to; set before each use. */
#define F(k, f, req, l, h, p)                                                                      \
    {.name = #f,                                                                                   \
     .kind = K_##k,                                                                                \
     .required = (req),                                                                            \
     .lo = (l),                                                                                    \
     .hi = (h),                                                                                    \
     .at = offsetof(struct OWNER, f),                                                              \
     .at_n = AT_N_##k(OWNER, f),                                                                   \
     .part = fields_##p,                                                                           \
     .part_size = sizeof(struct wire_##p),                                                         \
     .part_name = #p},

#define OWNER wire_ref
static const struct field fields_ref[] = {WIRE_REF(F){0}};
#undef OWNER
#define OWNER wire_room
static const struct field fields_room[] = {WIRE_ROOM(F){0}};
#undef OWNER
#define OWNER wire_point
static const struct field fields_point[] = {WIRE_POINT(F){0}};
#undef OWNER
#define OWNER wire_report
static const struct field fields_report[] = {WIRE_REPORT(F){0}};
#undef OWNER
#define OWNER wire_result
static const struct field fields_result[] = {WIRE_RESULT(F){0}};
#undef OWNER
#define OWNER wire_grant
static const struct field fields_grant[] = {WIRE_GRANT(F){0}};
#undef OWNER
#define OWNER wire_order
static const struct field fields_order[] = {WIRE_ORDER(F){0}};
#undef OWNER
#define OWNER wire_pin
static const struct field fields_pin[] = {WIRE_PIN(F){0}};
#undef OWNER
#define OWNER wire_hello
static const struct field fields_hello[] = {WIRE_HELLO(F){0}};
#undef OWNER
#define OWNER wire_next
static const struct field fields_next[] = {WIRE_NEXT(F){0}};
#undef OWNER
#define OWNER wire_talk
static const struct field fields_talk[] = {WIRE_TALK(F){0}};
#undef OWNER
#define OWNER wire_bye
static const struct field fields_bye[] = {WIRE_BYE(F){0}};
#undef OWNER
#define OWNER wire_welcome
static const struct field fields_welcome[] = {WIRE_WELCOME(F){0}};
#undef OWNER
#define OWNER wire_work
static const struct field fields_work[] = {WIRE_WORK(F){0}};
#undef OWNER
#define OWNER wire_answer
static const struct field fields_answer[] = {WIRE_ANSWER(F){0}};
#undef OWNER
#define OWNER wire_refused
static const struct field fields_refused[] = {WIRE_REFUSED(F){0}};
#undef OWNER
#undef F

static const struct {
    const char *name;
    const struct field *fields;
} types[WIRE_TYPES] = {
#define M(id, text, body) [WIRE_##id] = {text, fields_##body},
    WIRE_MESSAGES(M)
#undef M
};

const char *wire_type_name(enum wire_type type)
{
    return type < WIRE_TYPES ? types[type].name : "?";
}

static void *slot_of(void *base, size_t at)
{
    return (char *)base + at;
}

static const void *const_slot_of(const void *base, size_t at)
{
    return (const char *)base + at;
}

/* ---- UTF-8 ---- */

/* Overlong forms, surrogates and numbers beyond U+10FFFF show in the first two bytes. */
static bool utf8_is_outside(unsigned char first, unsigned char second)
{
    switch (first) {
    case 0xe0:
        return second < 0xa0;
    case 0xed:
        return second > 0x9f;
    case 0xf0:
        return second < 0x90;
    case 0xf4:
        return second > 0x8f;
    default:
        return false;
    }
}

/* Bytes of the well-formed character at s (RFC 3629), or 0. */
static size_t utf8_len(const unsigned char *s, size_t left)
{
    if (s[0] < 0x80) {
        return 1;
    }
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || left < n || utf8_is_outside(s[0], s[1])) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return n;
}

void wire_add_string(struct buf *out, const char *s, size_t max)
{
    struct buf clean = {0};
    size_t len = strlen(s);
    size_t i = 0;
    while (i < len) {
        size_t n = utf8_len((const unsigned char *)s + i, len - i);
        size_t grown = clean.len + (n > 0 ? n : 3);
        if (grown > max) {
            break;
        }
        if (n > 0) {
            buf_add(&clean, s + i, n);
        } else {
            buf_adds(&clean, "\xef\xbf\xbd");
        }
        i += n > 0 ? n : 1;
    }
    buf_add_json_string(out, clean.data != NULL ? clean.data : "");
    buf_fini(&clean);
}

/* ---- encoding ---- */

static bool is_absent(const struct field *f, const void *base)
{
    const void *p = const_slot_of(base, f->at);
    switch (f->kind) {
    case K_INT:
        return *(const int64_t *)p == 0;
    case K_BOOL:
        return !*(const bool *)p;
    case K_STR:
    case K_OBJECT:
    case K_ARRAY:
        return *(void *const *)p == NULL;
    case K_LIST:
        return *(const size_t *)const_slot_of(base, f->at_n) == 0;
    default:
        return true;
    }
}

static void encode_fields(const struct field *f, const void *base, bool comma, struct buf *out);

static void encode_list(const struct field *f, const void *base, struct buf *out)
{
    const char *parts = *(char *const *)const_slot_of(base, f->at);
    size_t n = *(const size_t *)const_slot_of(base, f->at_n);
    buf_addc(out, '[');
    for (size_t i = 0; i < n; i++) {
        buf_adds(out, i > 0 ? ",{" : "{");
        encode_fields(f->part, parts + i * f->part_size, false, out);
        buf_addc(out, '}');
    }
    buf_addc(out, ']');
}

static void encode_value(const struct field *f, const void *base, struct buf *out)
{
    const void *p = const_slot_of(base, f->at);
    switch (f->kind) {
    case K_INT:
        buf_add_int(out, *(const int64_t *)p);
        break;
    case K_BOOL:
        buf_adds(out, *(const bool *)p ? "true" : "false");
        break;
    case K_STR: {
        const char *s = *(char *const *)p;
        wire_add_string(out, s != NULL ? s : "", (size_t)f->hi);
        break;
    }
    case K_OBJECT:
    case K_ARRAY: {
        char *text = mjson_dump(*(json_t *const *)p);
        buf_adds(out, text);
        free(text);
        break;
    }
    case K_LIST:
        encode_list(f, base, out);
        break;
    default:
        break;
    }
}

static void encode_fields(const struct field *f, const void *base, bool comma, struct buf *out)
{
    for (; f->name != NULL; f++) {
        if (!f->required && is_absent(f, base)) {
            continue;
        }
        if (comma) {
            buf_addc(out, ',');
        }
        comma = true;
        buf_addc(out, '"');
        buf_adds(out, f->name);
        buf_adds(out, "\":");
        encode_value(f, base, out);
    }
}

void wire_encode(const struct wire_msg *m, struct buf *out)
{
    buf_adds(out, "{\"type\":\"");
    buf_adds(out, wire_type_name(m->type));
    buf_addc(out, '"');
    if (m->session != NULL) {
        buf_adds(out, ",\"session\":");
        wire_add_string(out, m->session, WIRE_NAME_MAX);
    }
    if (m->seq != 0) {
        buf_adds(out, ",\"seq\":");
        buf_add_int(out, m->seq);
    }
    if (m->acked != 0) {
        buf_adds(out, ",\"acked\":");
        buf_add_int(out, m->acked);
    }
    if (m->open != 0) {
        buf_adds(out, ",\"open\":");
        buf_add_int(out, m->open);
    }
    encode_fields(types[m->type].fields, &m->hello, true, out);
    buf_addc(out, '}');
}

/* ---- destroying ---- */

static void fini_fields(const struct field *f, void *base)
{
    for (; f->name != NULL; f++) {
        void *p = slot_of(base, f->at);
        if (f->kind == K_STR) {
            free(*(char **)p);
            *(char **)p = NULL;
        } else if (f->kind == K_OBJECT || f->kind == K_ARRAY) {
            json_decref(*(json_t **)p);
            *(json_t **)p = NULL;
        } else if (f->kind == K_LIST) {
            size_t *n = slot_of(base, f->at_n);
            for (size_t i = 0; i < *n; i++) {
                fini_fields(f->part, *(char **)p + i * f->part_size);
            }
            free(*(void **)p);
            *(void **)p = NULL;
            *n = 0;
        }
    }
}

void wire_fini(struct wire_msg *m)
{
    fini_fields(types[m->type].fields, &m->hello);
    free(m->session);
    *m = (struct wire_msg){0};
}

#define P(part, table)                                                                             \
    void wire_##part##_fini(struct wire_##part *p)                                                 \
    {                                                                                              \
        fini_fields(fields_##part, p);                                                             \
        *p = (struct wire_##part){0};                                                              \
    }                                                                                              \
    struct wire_##part *wire_##part##_add(struct wire_##part **list, size_t *n)                    \
    {                                                                                              \
        *list = xreallocarray(*list, *n + 1, sizeof(**list));                                      \
        (*list)[*n] = (struct wire_##part){0};                                                     \
        return &(*list)[(*n)++];                                                                   \
    }
WIRE_PARTS(P)
#undef P

/* ---- decoding ---- */

static enum mag_status decode_fields(const struct field *f, const json_t *object, void *base,
                                     struct mag_err *err);

static enum mag_status wrong_kind(const struct field *f, const json_t *v, struct mag_err *err)
{
    static const char *const want[] = {"a whole number", "true or false", "a string",
                                       "an object",      "an array",      "an array"};
    return mag_fail(err, MAG_INVALID, "%s: expected %s, found %s", f->name, want[f->kind],
                    mjson_kind(v));
}

static enum mag_status decode_int(const struct field *f, const json_t *v, void *p,
                                  struct mag_err *err)
{
    if (!json_is_integer(v)) {
        return wrong_kind(f, v, err);
    }
    int64_t i = json_integer_value(v);
    if (i < f->lo || i > f->hi) {
        return mag_fail(err, MAG_INVALID, "%s: %" PRId64 " is not within %" PRId64 " to %" PRId64,
                        f->name, i, f->lo, f->hi);
    }
    *(int64_t *)p = i;
    return MAG_OK;
}

static enum mag_status decode_str(const struct field *f, const json_t *v, void *p,
                                  struct mag_err *err)
{
    if (!json_is_string(v)) {
        return wrong_kind(f, v, err);
    }
    size_t n = json_string_length(v);
    if (n < (size_t)f->lo || n > (size_t)f->hi) {
        return mag_fail(err, MAG_INVALID, "%s: %zu bytes, allowed are %" PRId64 " to %" PRId64,
                        f->name, n, f->lo, f->hi);
    }
    *(char **)p = xstrdup(json_string_value(v));
    return MAG_OK;
}

static enum mag_status decode_list(const struct field *f, const json_t *v, void *base,
                                   struct mag_err *err)
{
    if (!json_is_array(v)) {
        return wrong_kind(f, v, err);
    }
    size_t n = json_array_size(v);
    if (n > (size_t)f->hi) {
        return mag_fail(err, MAG_INVALID, "%s: %zu entries, at most %" PRId64 " are allowed",
                        f->name, n, f->hi);
    }
    char *parts = n > 0 ? xcalloc(n, f->part_size) : NULL;
    /* Set before decoding, so that a failure half-way is freed by the caller's fini. */
    *(char **)slot_of(base, f->at) = parts;
    *(size_t *)slot_of(base, f->at_n) = n;
    for (size_t i = 0; i < n; i++) {
        enum mag_status st =
            decode_fields(f->part, json_array_get(v, i), parts + i * f->part_size, err);
        if (st != MAG_OK) {
            return mag_wrap(err, st, "%s[%zu]", f->name, i);
        }
    }
    return MAG_OK;
}

static enum mag_status decode_value(const struct field *f, json_t *v, void *base,
                                    struct mag_err *err)
{
    void *p = slot_of(base, f->at);
    switch (f->kind) {
    case K_INT:
        return decode_int(f, v, p, err);
    case K_BOOL:
        if (!json_is_boolean(v)) {
            return wrong_kind(f, v, err);
        }
        *(bool *)p = json_is_true(v);
        return MAG_OK;
    case K_STR:
        return decode_str(f, v, p, err);
    case K_OBJECT:
    case K_ARRAY:
        if (f->kind == K_OBJECT ? !json_is_object(v) : !json_is_array(v)) {
            return wrong_kind(f, v, err);
        }
        *(json_t **)p = json_incref(v);
        return MAG_OK;
    case K_LIST:
        return decode_list(f, v, base, err);
    default:
        return MAG_BUG;
    }
}

static enum mag_status decode_fields(const struct field *f, const json_t *object, void *base,
                                     struct mag_err *err)
{
    if (!json_is_object(object)) {
        return mag_fail(err, MAG_INVALID, "expected an object, found %s", mjson_kind(object));
    }
    for (; f->name != NULL; f++) {
        json_t *v = json_object_get(object, f->name);
        if (v == NULL && f->required) {
            return mag_fail(err, MAG_INVALID, "%s: missing", f->name);
        }
        if (v == NULL) {
            continue;
        }
        enum mag_status st = decode_value(f, v, base, err);
        if (st != MAG_OK) {
            return st;
        }
    }
    return MAG_OK;
}

static enum mag_status find_type(const json_t *doc, enum wire_type *ret, struct mag_err *err)
{
    const char *name = json_string_value(json_object_get(doc, "type"));
    for (int i = 0; name != NULL && i < WIRE_TYPES; i++) {
        if (strcmp(types[i].name, name) == 0) {
            *ret = (enum wire_type)i;
            return MAG_OK;
        }
    }
    return mag_fail(err, MAG_INVALID, "type: missing or unknown%s%.40s", name != NULL ? ": " : "",
                    name != NULL ? name : "");
}

/* Another version's hello may differ in any field but this one, so it is looked at first. */
static enum mag_status check_version(const json_t *doc, enum wire_type type, struct mag_err *err)
{
    if (type != WIRE_HELLO && type != WIRE_WELCOME) {
        return MAG_OK;
    }
    const json_t *v = json_object_get(doc, "protocol");
    if (!json_is_integer(v) || json_integer_value(v) == WIRE_PROTOCOL) {
        return MAG_OK;
    }
    int64_t theirs = json_integer_value(v);
    bool older = theirs < WIRE_PROTOCOL;
    const char *who = type == WIRE_HELLO ? "worker" : "driver";
    return mag_fail(
        err, MAG_UNSUPPORTED,
        "the %s speaks protocol version %" PRId64 ", this side version %d: install the same "
        "magpie on both (the %s is the older one)",
        who, theirs, WIRE_PROTOCOL, older ? who : (type == WIRE_HELLO ? "driver" : "worker"));
}

static enum mag_status decode_envelope(const json_t *doc, struct wire_msg *m, struct mag_err *err)
{
    static const struct field envelope[] = {
        {.name = "session",
         .kind = K_STR,
         .lo = 1,
         .hi = WIRE_NAME_MAX,
         .at = offsetof(struct wire_msg, session)},
        {.name = "seq",
         .kind = K_INT,
         .lo = 0,
         .hi = WIRE_ID_NUM_MAX,
         .at = offsetof(struct wire_msg, seq)},
        {.name = "acked",
         .kind = K_INT,
         .lo = 0,
         .hi = WIRE_ID_NUM_MAX,
         .at = offsetof(struct wire_msg, acked)},
        {.name = "open",
         .kind = K_INT,
         .lo = 0,
         .hi = WIRE_ID_NUM_MAX,
         .at = offsetof(struct wire_msg, open)},
        {0},
    };
    return decode_fields(envelope, doc, m, err);
}

enum mag_status wire_decode(const char *text, size_t len, struct wire_msg *ret, struct mag_err *err)
{
    struct wire_msg m = {0};
    json_t *doc = NULL;
    *ret = m;
    if (len > WIRE_MESSAGE_MAX) {
        return mag_fail(err, MAG_LIMIT, "a message of %zu bytes; at most %d are allowed", len,
                        WIRE_MESSAGE_MAX);
    }
    enum mag_status st = mjson_parse(text, len, &doc, err);
    if (st != MAG_OK) {
        return mag_wrap(err, st, "message");
    }
    if (!json_is_object(doc)) {
        st = mag_fail(err, MAG_INVALID, "message: expected an object, found %s", mjson_kind(doc));
        goto out;
    }
    st = find_type(doc, &m.type, err);
    if (st == MAG_OK) {
        st = check_version(doc, m.type, err);
    }
    if (st == MAG_OK) {
        st = decode_envelope(doc, &m, err);
    }
    if (st == MAG_OK) {
        st = decode_fields(types[m.type].fields, doc, &m.hello, err);
        if (st != MAG_OK) {
            (void)mag_wrap(err, st, "%s", wire_type_name(m.type));
        }
    }
    if (st == MAG_OK) {
        *ret = m;
    } else {
        wire_fini(&m);
    }
out:
    json_decref(doc);
    return st;
}

/* ---- the table, for people ---- */

static void describe_range(const struct field *f, struct buf *out)
{
    static const char *const kinds[] = {"integer", "boolean", "string",
                                        "object",  "array",   "array of "};
    buf_adds(out, kinds[f->kind]);
    if (f->kind == K_LIST) {
        buf_addf(out, "%s, at most %" PRId64, f->part_name, f->hi);
    } else if (f->kind == K_STR) {
        buf_addf(out, ", at most %" PRId64 " bytes", f->hi);
    } else if (f->kind == K_INT && f->hi < WIRE_ID_NUM_MAX) {
        buf_addf(out, ", %" PRId64 " to %" PRId64, f->lo, f->hi);
    }
}

static void describe_one(const char *name, const struct field *f, struct buf *out)
{
    buf_addf(out, "| `%s` | ", name);
    for (const char *sep = ""; f->name != NULL; f++, sep = "; ") {
        buf_addf(out, "%s`%s`%s (", sep, f->name, f->required ? "" : "?");
        describe_range(f, out);
        buf_addc(out, ')');
    }
    buf_adds(out, " |\n");
}

void wire_describe(struct buf *out)
{
    buf_adds(out, "| message | fields (`?` = optional) |\n|---|---|\n");
    for (int i = 0; i < WIRE_TYPES; i++) {
        describe_one(types[i].name, types[i].fields, out);
    }
    buf_adds(out, "\n| part | fields |\n|---|---|\n");
#define P(part, table) describe_one(#part, fields_##part, out);
    WIRE_PARTS(P)
#undef P
}
