/* SPDX-License-Identifier: Apache-2.0
 *
 * Conditions from text to a stack program, by recursive descent, types checked on the way. The
 * first fault ends it: what follows a fault in one line of text is guesswork.
 */
#include "space/expr_impl.h"

#include "base/alloc.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum token { T_END, T_NUMBER, T_STRING, T_NAME, T_SIGN, T_BAD };

/* What an operand is. A string becomes a number only when it is compared: the parameter on the
 * other side says which label it is. */
enum kind { K_NUMBER, K_TRUTH, K_LABEL, K_STRING };

struct operand {
    enum kind kind;
    int param;  /* LABEL */
    int from;   /* its first operation */
    int string; /* STRING: index in strings */
    int column;
};

struct parser {
    const struct space *s;
    const char *pointer;
    struct mjson_issues *is;
    struct expr *e;
    const char *at; /* the byte after the token */
    enum token token;
    const char *start; /* of the token */
    char *name;        /* NAME, STRING: its text */
    bool quoted;       /* NAME: ${…}, never a word of the language */
    double number;
    char sign[3];
    char **strings;
    int n_strings;
    int depth, pending;
    bool failed;
};

static const char *const words[] = {"and", "or", "not", "implies", "in", NULL};

static const struct function {
    const char *name;
    enum expr_code code;
    bool several;
} functions[] = {
    {"min", EX_MIN, true},        {"max", EX_MAX, true},  {"abs", EX_ABS, false},
    {"log", EX_LOG, false},       {"exp", EX_EXP, false}, {"sqrt", EX_SQRT, false},
    {"active", EX_ACTIVE, false},
};

#define N_FUNCTIONS (sizeof(functions) / sizeof(functions[0]))

static void fault(struct parser *p, int column, const char *fmt, ...) MAG_PRINTF(3, 4);
static void fault(struct parser *p, int column, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    if (p->failed) {
        return;
    }
    p->failed = true;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    mjson_issue(p->is, p->pointer, "column %d: %s", column, text);
}

static int column_of(const struct parser *p)
{
    return (int)(p->start - p->e->text) + 1;
}

/* ---- words ---- */

static void read_string(struct parser *p)
{
    char quote = *p->at++;
    struct buf b = {0};
    while (*p->at != quote && *p->at != '\0') {
        p->at += *p->at == '\\' && p->at[1] != '\0';
        buf_addc(&b, *p->at++);
    }
    p->token = T_STRING;
    if (*p->at == '\0') {
        fault(p, column_of(p), "this string has no end: a %c is missing", quote);
    } else {
        p->at++;
    }
    p->name = buf_take(&b);
}

static void read_name(struct parser *p)
{
    const char *from = p->at;
    p->token = T_NAME;
    if (p->at[0] == '$') {
        const char *end = strchr(p->at, '}');
        if (p->at[1] != '{' || end == NULL) {
            fault(p, column_of(p), "a parameter of any name is written ${name}");
            end = p->at;
        }
        p->quoted = true;
        p->name = xstrndup(from + 2, end > from + 2 ? (size_t)(end - from - 2) : 0);
        p->at = end + 1;
        return;
    }
    while (isalnum((unsigned char)*p->at) || *p->at == '_' || *p->at == '.' ||
           (unsigned char)*p->at >= 0x80) {
        p->at++;
    }
    p->name = xstrndup(from, (size_t)(p->at - from));
}

static void read_number(struct parser *p)
{
    char text[64];
    size_t n = strspn(p->at, "0123456789.");
    if ((p->at[n] == 'e' || p->at[n] == 'E') &&
        isdigit((unsigned char)p->at[n + 1 + (p->at[n + 1] == '-' || p->at[n + 1] == '+')])) {
        n += 2; /* e and its sign or first digit */
        n += strspn(p->at + n, "0123456789");
    }
    char *end = NULL;
    p->token = T_NUMBER;
    if (n < sizeof(text)) {
        memcpy(text, p->at, n);
        text[n] = '\0';
        p->number = strtod(text, &end);
    }
    if (end == NULL || *end != '\0' || !isfinite(p->number)) {
        fault(p, column_of(p), "\"%.*s\" is no number", n < 40 ? (int)n : 40, p->at);
    }
    p->at += n;
}

static void read_sign(struct parser *p)
{
    static const char *const pairs[] = {"**", "==", "!=", "<=", ">=", NULL};
    static const struct {
        const char *wrong, *text;
    } foreign[] = {
        {"&&", "write \"and\" for \"&&\""},
        {"||", "write \"or\" for \"||\""},
        {"=>", "write \"implies\" for \"=>\", or \">=\" for \"at least\""},
        {"->", "write \"implies\" for \"->\""},
        {"<>", "write \"!=\" for \"<>\""},
        {"//", "write \"/\" for \"//\""},
        {"!", "write \"not\" for \"!\""},
        {"=", "write \"==\" to compare"},
        {"^", "write \"**\" for powers"},
        {"&", "write \"and\" for \"&\""},
        {"|", "write \"or\" for \"|\""},
    };
    p->token = T_SIGN;
    for (int i = 0; pairs[i] != NULL; i++) {
        if (strncmp(p->at, pairs[i], 2) == 0) {
            memcpy(p->sign, pairs[i], 3);
            p->at += 2;
            return;
        }
    }
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        if (strncmp(p->at, foreign[i].wrong, strlen(foreign[i].wrong)) == 0) {
            fault(p, column_of(p), "%s", foreign[i].text);
        }
    }
    if (strchr("+-*/%<>()[],", *p->at) == NULL) {
        fault(p, column_of(p), "\"%c\" has no meaning here",
              isprint((unsigned char)*p->at) ? *p->at : '?');
    }
    p->sign[0] = *p->at++;
    p->sign[1] = '\0';
}

static void next(struct parser *p)
{
    free(p->name);
    p->name = NULL;
    p->quoted = false;
    p->at += strspn(p->at, " \t\r\n");
    p->start = p->at;
    unsigned char c = (unsigned char)*p->at;
    if (c == '\0' || p->failed) {
        p->token = T_END;
    } else if (c == '\'' || c == '"') {
        read_string(p);
    } else if (isdigit(c) || (c == '.' && isdigit((unsigned char)p->at[1]))) {
        read_number(p);
    } else if (isalpha(c) || c == '_' || c == '$' || c >= 0x80) {
        read_name(p);
    } else {
        read_sign(p);
    }
    p->token = p->failed ? T_END : p->token;
}

static bool is_sign(const struct parser *p, const char *sign)
{
    return p->token == T_SIGN && strcmp(p->sign, sign) == 0;
}

static bool is_word(const struct parser *p, const char *word)
{
    return p->token == T_NAME && !p->quoted && strcmp(p->name, word) == 0;
}

static bool take_sign(struct parser *p, const char *sign)
{
    bool is = is_sign(p, sign);
    if (is) {
        next(p);
    }
    return is;
}

static bool take_word(struct parser *p, const char *word)
{
    bool is = is_word(p, word);
    if (is) {
        next(p);
    }
    return is;
}

/* What stands here, for messages. */
static const char *here(const struct parser *p, char *buf, size_t size)
{
    if (p->token == T_END) {
        return "the end";
    }
    int n = (int)(p->at - p->start);
    (void)snprintf(buf, size, "\"%.*s\"", n < 40 ? n : 40, p->start);
    return buf;
}

static void expect_sign(struct parser *p, const char *sign)
{
    char buf[48];
    if (!take_sign(p, sign)) {
        fault(p, column_of(p), "\"%s\" is missing before %s", sign, here(p, buf, sizeof(buf)));
    }
}

/* ---- the program ---- */

/* `change`: how many values more lie on the stack afterwards. */
static void emit(struct parser *p, enum expr_code code, int arg, double num, int change)
{
    struct expr *e = p->e;
    if (p->failed) {
        return;
    }
    p->pending += change;
    if (p->pending > EXPR_STACK_MAX) {
        fault(p, column_of(p),
              "too much in one condition: more than %d values at once; write several",
              EXPR_STACK_MAX);
        return;
    }
    if (e->n == e->cap) {
        e->cap = e->cap > 0 ? 2 * e->cap : 16;
        e->ops = xreallocarray(e->ops, (size_t)e->cap, sizeof(*e->ops));
    }
    e->ops[e->n++] = (struct expr_op){.code = code, .arg = arg, .num = num};
}

static void emit_parameter(struct parser *p, enum expr_code code, int j)
{
    emit(p, code, j, 0, 1);
    p->e->reads[j / 64] |= UINT64_C(1) << (j % 64);
}

static const char *kind_text(enum kind k)
{
    static const char *const texts[] = {"a number", "a condition", "a categorical parameter",
                                        "a string"};
    return texts[k];
}

static bool need(struct parser *p, const struct operand *o, enum kind k, const char *by)
{
    if (!p->failed && o->kind != k) {
        fault(p, o->column, "\"%s\" needs %s here, not %s", by, kind_text(k), kind_text(o->kind));
    }
    return !p->failed;
}

/* ---- operands ---- */

static struct operand parse_condition(struct parser *p);
static struct operand parse_sum(struct parser *p);

static int find_parameter(struct parser *p)
{
    int j = space_find(p->s, p->name);
    if (j < 0 && !p->failed) {
        const char **names = xcalloc((size_t)p->s->n + 1, sizeof(*names));
        for (int i = 0; i < p->s->n; i++) {
            names[i] = p->s->params[i].name;
        }
        const char *near = mjson_nearest(p->name, names);
        fault(p, column_of(p), "no parameter \"%.60s\"%s%s%s; strings stand in quotes", p->name,
              near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
              near != NULL ? "\"?" : "");
        free(names);
    }
    return j;
}

static struct operand parse_parameter(struct parser *p)
{
    struct operand o = {.kind = K_NUMBER, .from = p->e->n, .column = column_of(p)};
    int j = find_parameter(p);
    if (j >= 0) {
        o.kind = p->s->params[j].type == PARAM_CATEGORICAL ? K_LABEL : K_NUMBER;
        o.param = j;
        emit_parameter(p, EX_PARAM, j);
    }
    next(p);
    return o;
}

static void parse_arguments(struct parser *p, const struct function *f)
{
    int n = 0;
    do {
        struct operand o = parse_sum(p);
        (void)need(p, &o, K_NUMBER, f->name);
        n++;
        if (f->several && n > 1) {
            emit(p, f->code, 0, 0, -1);
        }
    } while (take_sign(p, ","));
    if (f->several ? n < 2 : n != 1) {
        fault(p, column_of(p), "\"%s\" takes %s", f->name,
              f->several ? "two arguments or more" : "one argument");
    }
    if (!f->several) {
        emit(p, f->code, 0, 0, 0);
    }
}

static struct operand parse_function(struct parser *p, const struct function *f)
{
    struct operand o = {.from = p->e->n, .column = column_of(p)};
    next(p);
    expect_sign(p, "(");
    if (f->code != EX_ACTIVE) {
        parse_arguments(p, f);
    } else if (p->token != T_NAME) {
        fault(p, column_of(p), "\"active\" takes the name of a parameter");
    } else {
        int j = find_parameter(p);
        o.kind = K_TRUTH;
        if (j >= 0) {
            emit_parameter(p, EX_ACTIVE, j);
        }
        next(p);
    }
    expect_sign(p, ")");
    return o;
}

static const struct function *function_here(const struct parser *p)
{
    if (p->token != T_NAME || p->quoted || p->at[strspn(p->at, " \t\r\n")] != '(') {
        return NULL;
    }
    for (size_t i = 0; i < N_FUNCTIONS; i++) {
        if (strcmp(functions[i].name, p->name) == 0) {
            return &functions[i];
        }
    }
    return NULL;
}

static void no_operand(struct parser *p)
{
    char buf[48];
    if (p->token == T_NAME) {
        for (int i = 0; words[i] != NULL; i++) {
            if (is_word(p, words[i])) {
                fault(p, column_of(p),
                      "a number, a parameter or a condition is missing before \"%s\"; a parameter "
                      "of this name is written ${%s}",
                      words[i], words[i]);
            }
        }
    }
    fault(p, column_of(p), "a number, a parameter or a condition is missing before %s",
          here(p, buf, sizeof(buf)));
}

static bool is_operand_name(const struct parser *p)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (is_word(p, words[i])) {
            return false;
        }
    }
    return p->token == T_NAME;
}

static struct operand parse_string(struct parser *p)
{
    struct operand o = {.kind = K_STRING, .from = p->e->n, .column = column_of(p)};
    o.string = p->n_strings;
    p->strings = xreallocarray(p->strings, (size_t)p->n_strings + 1, sizeof(*p->strings));
    p->strings[p->n_strings++] = xstrdup(p->name);
    emit(p, EX_NUMBER, 0, NAN, 1);
    next(p);
    return o;
}

static void unknown_function(struct parser *p)
{
    const char *names[N_FUNCTIONS + 1] = {NULL};
    for (size_t i = 0; i < N_FUNCTIONS; i++) {
        names[i] = functions[i].name;
    }
    const char *near = mjson_nearest(p->name, names);
    fault(p, column_of(p),
          "no function \"%.40s\"%s%s%s; there are min, max, abs, log, exp, sqrt and active",
          p->name, near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
          near != NULL ? "\"?" : "");
}

static struct operand parse_primary(struct parser *p)
{
    struct operand o = {.from = p->e->n, .column = column_of(p)};
    const struct function *f = function_here(p);
    if (f != NULL) {
        return parse_function(p, f);
    }
    if (is_operand_name(p)) {
        if (!p->quoted && p->at[strspn(p->at, " \t\r\n")] == '(') {
            unknown_function(p);
        }
        return parse_parameter(p);
    }
    if (p->token == T_STRING) {
        return parse_string(p);
    }
    if (p->token == T_NUMBER) {
        emit(p, EX_NUMBER, 0, p->number, 1);
        next(p);
    } else if (take_sign(p, "(")) {
        int column = o.column;
        o = parse_condition(p);
        o.column = column;
        expect_sign(p, ")");
    } else {
        no_operand(p);
    }
    return o;
}

/* Everything that nests passes here. */
static struct operand parse_unary(struct parser *p)
{
    struct operand o = {.from = p->e->n, .column = column_of(p)};
    if (p->depth >= EXPR_DEPTH_MAX) {
        fault(p, column_of(p), "nested more than %d deep; write several conditions",
              EXPR_DEPTH_MAX);
        return o;
    }
    p->depth++;
    if (take_sign(p, "-")) {
        struct operand inner = parse_unary(p);
        if (need(p, &inner, K_NUMBER, "-")) {
            emit(p, EX_NEG, 0, 0, 0);
        }
    } else {
        o = parse_primary(p);
        if (is_sign(p, "**") && need(p, &o, K_NUMBER, "**")) {
            next(p);
            struct operand power = parse_unary(p);
            if (need(p, &power, K_NUMBER, "**")) {
                emit(p, EX_POW, 0, 0, -1);
            }
        }
    }
    p->depth--;
    return o;
}

struct binary {
    const char *sign;
    enum expr_code code;
};

static const struct binary products[] = {{"*", EX_MUL}, {"/", EX_DIV}, {"%", EX_MOD}, {0}};
static const struct binary sums[] = {{"+", EX_ADD}, {"-", EX_SUB}, {0}};

static const struct binary *binary_here(const struct parser *p, const struct binary *table)
{
    for (; table->sign != NULL; table++) {
        if (is_sign(p, table->sign)) {
            return table;
        }
    }
    return NULL;
}

static struct operand parse_left(struct parser *p, const struct binary *table,
                                 struct operand (*part)(struct parser *))
{
    struct operand o = part(p);
    const struct binary *b = NULL;
    while ((b = binary_here(p, table)) != NULL && need(p, &o, K_NUMBER, b->sign)) {
        next(p);
        struct operand right = part(p);
        if (need(p, &right, K_NUMBER, b->sign)) {
            emit(p, b->code, 0, 0, -1);
        }
    }
    return o;
}

static struct operand parse_product(struct parser *p)
{
    return parse_left(p, products, parse_unary);
}

static struct operand parse_sum(struct parser *p)
{
    return parse_left(p, sums, parse_product);
}

/* ---- comparisons ---- */

/* The string becomes the index of its label among those of parameter j. */
static void resolve_string(struct parser *p, const struct operand *o, int j)
{
    const struct param *q = &p->s->params[j];
    const char *label = p->strings[o->string];
    for (uint32_t k = 0; k < q->n_values; k++) {
        if (strcmp(q->labels[k], label) == 0) {
            p->e->ops[o->from].num = k;
            return;
        }
    }
    const char **names = xcalloc((size_t)q->n_values + 1, sizeof(*names));
    for (uint32_t k = 0; k < q->n_values; k++) {
        names[k] = q->labels[k];
    }
    const char *near = mjson_nearest(label, names);
    fault(p, o->column, "'%.60s' is no value of \"%s\"%s%s%s", label, q->name,
          near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
          near != NULL ? "'?" : "");
    free(names);
}

static void compare_labels(struct parser *p, const struct operand *a, const struct operand *b,
                           enum expr_code code, const char *sign)
{
    const struct operand *label = a->kind == K_LABEL ? a : b;
    const struct operand *other = label == a ? b : a;
    bool order = code != EX_EQ && code != EX_NE;
    if (order && !p->s->params[label->param].ordered) {
        fault(p, label->column,
              "\"%s\" has no order for \"%s\": declare \"ordered\": true, or compare with == or in",
              p->s->params[label->param].name, sign);
    } else if (other->kind == K_STRING) {
        resolve_string(p, other, label->param);
        emit(p, code, 0, 0, -1);
    } else if (order) {
        fault(p, other->column, "compare the order of \"%s\" with one of its values",
              p->s->params[label->param].name);
    } else {
        emit(p, code == EX_EQ ? EX_SAME : EX_DIFFER, a->param * SPACE_PARAMS_MAX + b->param, 0, -1);
    }
}

static void compare(struct parser *p, const struct operand *a, const struct operand *b,
                    enum expr_code code, const char *sign)
{
    bool labels = (a->kind == K_LABEL && (b->kind == K_LABEL || b->kind == K_STRING)) ||
                  (b->kind == K_LABEL && a->kind == K_STRING);
    if (p->failed) {
        return;
    }
    if (labels) {
        compare_labels(p, a, b, code, sign);
    } else if (a->kind == K_NUMBER && b->kind == K_NUMBER) {
        emit(p, code, 0, 0, -1);
    } else {
        fault(p, b->column, "\"%s\" cannot compare %s with %s", sign, kind_text(a->kind),
              kind_text(b->kind));
    }
}

/* The values of `a in [x, y, …]`. */
static void parse_list(struct parser *p, const struct operand *a, bool negated)
{
    int n = 0;
    expect_sign(p, "[");
    if (is_sign(p, "]")) {
        fault(p, column_of(p), "an empty list holds nothing: name at least one value");
    }
    do {
        struct operand o = parse_sum(p);
        if (p->failed) {
            return;
        }
        if (a->kind == K_LABEL && o.kind == K_STRING) {
            resolve_string(p, &o, a->param);
        } else {
            (void)(need(p, a, K_NUMBER, "in") && need(p, &o, K_NUMBER, "in"));
        }
        n++;
    } while (take_sign(p, ","));
    expect_sign(p, "]");
    emit(p, EX_IN, n, 0, -n);
    if (negated) {
        emit(p, EX_NOT, 0, 0, 0);
    }
}

static const struct binary comparisons[] = {
    {"==", EX_EQ}, {"!=", EX_NE}, {"<=", EX_LE}, {">=", EX_GE}, {"<", EX_LT}, {">", EX_GT}, {0}};

/* The middle of a < b <= c is computed twice. */
static struct operand repeat(struct parser *p, const struct operand *o, int end)
{
    struct operand again = *o;
    again.from = p->e->n;
    for (int i = o->from; i < end && !p->failed; i++) {
        struct expr_op op = p->e->ops[i];
        emit(p, op.code, op.arg, op.num, i == o->from ? 1 : 0);
    }
    return again;
}

static void parse_chain(struct parser *p, struct operand a)
{
    const struct binary *b = NULL;
    for (int links = 0; !p->failed && (b = binary_here(p, comparisons)) != NULL; links++) {
        next(p);
        struct operand right = parse_sum(p);
        int end = p->e->n;
        compare(p, &a, &right, b->code, b->sign);
        if (links > 0) {
            emit(p, EX_AND, 0, 0, -1);
        }
        if (!p->failed && binary_here(p, comparisons) != NULL) {
            a = repeat(p, &right, end);
        }
    }
}

static struct operand parse_comparison(struct parser *p)
{
    struct operand a = parse_sum(p);
    struct operand truth = {.kind = K_TRUTH, .from = a.from, .column = a.column};
    if (binary_here(p, comparisons) != NULL) {
        parse_chain(p, a);
        return truth;
    }
    bool negated = is_word(p, "not");
    if (negated) {
        next(p);
        if (!is_word(p, "in")) {
            fault(p, column_of(p), "only \"in\" follows \"not\" here");
        }
    }
    if (take_word(p, "in")) {
        parse_list(p, &a, negated);
        return truth;
    }
    return a;
}

/* ---- conditions ---- */

static struct operand parse_not(struct parser *p)
{
    struct operand o = {.kind = K_TRUTH, .from = p->e->n, .column = column_of(p)};
    if (!is_word(p, "not")) {
        return parse_comparison(p);
    }
    int nots = 0;
    while (take_word(p, "not")) {
        nots++;
    }
    struct operand inner = parse_comparison(p);
    if (need(p, &inner, K_TRUTH, "not") && nots % 2 == 1) {
        emit(p, EX_NOT, 0, 0, 0);
    }
    return o;
}

static struct operand parse_word(struct parser *p, const char *word, enum expr_code code,
                                 struct operand (*part)(struct parser *))
{
    struct operand o = part(p);
    while (is_word(p, word) && need(p, &o, K_TRUTH, word)) {
        next(p);
        struct operand right = part(p);
        if (need(p, &right, K_TRUTH, word)) {
            emit(p, code, 0, 0, -1);
        }
    }
    return o;
}

static struct operand parse_and(struct parser *p)
{
    return parse_word(p, "and", EX_AND, parse_not);
}

static struct operand parse_or(struct parser *p)
{
    return parse_word(p, "or", EX_OR, parse_and);
}

static struct operand parse_condition(struct parser *p)
{
    struct operand o = parse_or(p);
    int n = 0;
    /* a implies b implies c is a implies (b implies c): the operations come after all operands. */
    while (is_word(p, "implies") && need(p, &o, K_TRUTH, "implies")) {
        next(p);
        struct operand right = parse_or(p);
        (void)need(p, &right, K_TRUTH, "implies");
        n++;
    }
    for (int i = 0; i < n; i++) {
        emit(p, EX_IMPLIES, 0, 0, -1);
    }
    return o;
}

static void parse_all(struct parser *p)
{
    char buf[48];
    next(p);
    if (p->token == T_END) {
        fault(p, 1, "the condition is empty");
    }
    struct operand o = parse_condition(p);
    if (!p->failed && p->token != T_END) {
        fault(p, column_of(p), "%s cannot follow here; \"and\" joins conditions",
              here(p, buf, sizeof(buf)));
    }
    if (!p->failed && o.kind != K_TRUTH) {
        fault(p, o.column, "this is %s, not a condition: compare it with something",
              kind_text(o.kind));
    }
    for (size_t i = 0; !p->failed && i < sizeof(p->e->reads) / sizeof(p->e->reads[0]); i++) {
        if (p->e->reads[i] != 0) {
            return;
        }
    }
    fault(p, 1, "the condition names no parameter: it is always the same");
}

struct expr *expr_parse(const struct space *s, const char *text, const char *pointer,
                        struct mjson_issues *is)
{
    struct parser p = {.s = s, .pointer = pointer, .is = is};
    p.e = xcalloc(1, sizeof(*p.e));
    p.e->text = xstrdup(text);
    p.at = p.e->text;
    if (strlen(text) > EXPR_BYTES_MAX) {
        fault(&p, EXPR_BYTES_MAX + 1, "longer than %d bytes; write several conditions",
              EXPR_BYTES_MAX);
    } else {
        parse_all(&p);
    }
    for (int i = 0; i < p.n_strings; i++) {
        free(p.strings[i]);
    }
    free(p.strings);
    free(p.name);
    if (p.failed) {
        expr_destroy(p.e);
        return NULL;
    }
    expr_calibrate(p.e, s);
    return p.e;
}

void expr_destroy(struct expr *e)
{
    if (e != NULL) {
        free(e->text);
        free(e->ops);
        free(e);
    }
}

const char *expr_text(const struct expr *e)
{
    return e->text;
}

bool expr_reads(const struct expr *e, int index)
{
    return (e->reads[index / 64] >> (index % 64) & 1) != 0;
}
