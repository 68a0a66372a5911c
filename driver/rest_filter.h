/* SPDX-License-Identifier: Apache-2.0
 *
 * What lists have in common: limit, cursor, sort and filter. A filter is conditions joined by
 * commas, all of which must hold: "state=running|paused,value>0.9,param.lr<0.01". A list is walked
 * once; the page holds the first `limit` entries after the cursor in the order asked for.
 */
#ifndef MAG_DRIVER_REST_FILTER_H
#define MAG_DRIVER_REST_FILTER_H

#include "driver/rest.h"

#define FILTER_CONDITIONS_MAX 16

struct filter_condition {
    char field[160];
    char op[3];
    char text[256]; /* alternatives separated by '|' */
    double number;  /* NaN when the text is none */
};

struct filter {
    struct filter_condition items[FILTER_CONDITIONS_MAX];
    int n;
};

/* A field of an entry: a number, a text, or neither (absent). */
struct filter_value {
    double number;    /* NaN = none */
    const char *text; /* NULL = none */
};

/* Reads ?filter= and, for convenience, ?state=. */
void filter_parse(const struct http_call *c, struct filter *ret, struct mjson_issues *is);
bool filter_holds(const struct filter_condition *f, const struct filter_value *v);

/* ---- a page in order ---- */
struct page_entry {
    double key; /* NaN sorts last */
    int64_t id;
};

struct page {
    struct page_entry *items; /* in order */
    int n, limit;
    bool down; /* largest key first */
    bool has_cursor;
    struct page_entry cursor; /* the last entry of the page before */
    bool more;                /* entries follow the page */
};

/* Reads ?limit=, ?cursor= and the direction of ?sort= ("-name" = down); *ret_field is the name. */
void page_init(struct page *p, const struct http_call *c, const char *default_field,
               const char **ret_field, struct mjson_issues *is);
/* Offers an entry; kept when it belongs to the page. */
void page_offer(struct page *p, double key, int64_t id);
/* ,"next":"cursor" or null */
void page_add_next(const struct page *p, struct buf *out);
void page_fini(struct page *p);

#endif
