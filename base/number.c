/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers as JSON: of "%.15g", "%.16g" and "%.17g" the first that reads back as the same double. The
 * 17 digits are made once; the shorter forms are those digits rounded, unless they end in a tie (the
 * exact value may lie on either side), and need not be tried where the rounding is greater than half
 * the distance to the next double. Records hold these texts: they must never change by a byte.
 */
#include "base/buf.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HALF_ULP_MAX 12 /* of a double, in units of its 17th digit: 10^17 / 2^53, rounded up */

/* digits / 10^(n - 1) * 10^exp */
struct decimal {
    uint64_t digits;
    int n, exp;
    bool negative;
};

static void slow_add(struct buf *b, double v)
{
    char text[40];
    int n = snprintf(text, sizeof(text), "%.15g", v);
    if (strtod(text, NULL) != v) {
        n = snprintf(text, sizeof(text), "%.16g", v);
        if (strtod(text, NULL) != v) {
            n = snprintf(text, sizeof(text), "%.17g", v);
        }
    }
    buf_add(b, text, (size_t)n);
}

static struct decimal digits17(double v)
{
    char text[40];
    (void)snprintf(text, sizeof(text), "%.16e", fabs(v)); /* d.dddddddddddddddde-ddd */
    struct decimal d = {.digits = (uint64_t)(text[0] - '0'), .n = 17, .negative = signbit(v) != 0};
    for (int i = 2; i < 18; i++) {
        d.digits = d.digits * 10 + (uint64_t)(text[i] - '0');
    }
    d.exp = (int)strtol(text + 19, NULL, 10);
    return d;
}

/* To 16 or 15 digits. False: a tie. */
static bool shorten(const struct decimal *d, int n, struct decimal *ret, uint64_t *ret_off)
{
    uint64_t unit = n == 16 ? 10 : 100;
    uint64_t rest = d->digits % unit;
    uint64_t digits = d->digits / unit + (2 * rest > unit);
    if (2 * rest == unit) {
        return false;
    }
    *ret_off = 2 * rest > unit ? unit - rest : rest;
    *ret = (struct decimal){.digits = digits, .n = n, .exp = d->exp, .negative = d->negative};
    if (digits == (n == 16 ? 10000000000000000U : 1000000000000000U)) {
        ret->digits /= 10;
        ret->exp++;
    }
    return true;
}

static char *put_exponent(char *p, int exp)
{
    *p++ = 'e';
    *p++ = exp < 0 ? '-' : '+';
    exp = exp < 0 ? -exp : exp;
    if (exp >= 100) {
        *p++ = (char)('0' + exp / 100);
    }
    *p++ = (char)('0' + exp / 10 % 10);
    *p++ = (char)('0' + exp % 10);
    return p;
}

/* As "%.<n>g" writes it. */
static size_t write_g(const struct decimal *d, char out[64])
{
    char digits[24];
    char *p = out;
    uint64_t u = d->digits;
    int n = d->n;
    for (int i = n - 1; i >= 0; i--, u /= 10) {
        digits[i] = (char)('0' + u % 10);
    }
    while (n > 1 && digits[n - 1] == '0') {
        n--;
    }
    if (d->negative) {
        *p++ = '-';
    }
    bool scientific = d->exp < -4 || d->exp >= d->n;
    int whole = scientific ? 1 : d->exp + 1; /* digits before the point */
    if (whole <= 0) {
        *p++ = '0';
        *p++ = '.';
        memset(p, '0', (size_t)-whole);
        p += -whole;
        whole = 0;
    }
    for (int i = 0; i < n || i < whole; i++) {
        if (i == whole && i > 0) {
            *p++ = '.';
        }
        *p++ = i < n ? digits[i] : '0';
    }
    if (scientific) {
        p = put_exponent(p, d->exp);
    }
    *p = '\0';
    return (size_t)(p - out);
}

void buf_add_json_number(struct buf *b, double v)
{
    if (!isfinite(v)) {
        buf_adds(b, "null");
        return;
    }
    if (v == floor(v) && fabs(v) < 1e15 && !(v == 0 && signbit(v))) {
        buf_add_int(b, (int64_t)v);
        return;
    }
    if (v == 0 || !isnormal(v)) {
        slow_add(b, v);
        return;
    }
    struct decimal d = digits17(v), shorter;
    char text[64];
    for (int n = 15; n <= 16; n++) {
        uint64_t off = 0;
        if (!shorten(&d, n, &shorter, &off)) {
            slow_add(b, v);
            return;
        }
        size_t len = off <= HALF_ULP_MAX ? write_g(&shorter, text) : 0;
        if (len > 0 && strtod(text, NULL) == v) {
            buf_add(b, text, len);
            return;
        }
    }
    buf_add(b, text, write_g(&d, text));
}
