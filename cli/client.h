/* SPDX-License-Identifier: Apache-2.0
 *
 * The command line's side of the driver's REST interface. Finds the driver (flag, data folder,
 * environment, default), sends its token, and turns every failure into one sentence.
 */
#ifndef MAG_CLI_CLIENT_H
#define MAG_CLI_CLIENT_H

#include "base/flags.h"
#include "base/json.h"

#define CLIENT_DEFAULT_URL "http://127.0.0.1:8470"
#define CLIENT_BODY_MAX (256 << 20) /* bytes of an answer kept in memory */

struct client {
    /* Set by flags; borrowed. */
    const char *url;
    const char *data;
    bool json;
    /* Private. */
    void *curl;
    char *base;
    char *token;
};

/* The rows that every command with a client has. */
#define CLIENT_FLAGS(c)                                                                            \
    FLAG(FLAG_TEXT, "url", &(c)->url, "URL",                                                       \
         "the driver's address (else that of --data's driver, $MAGPIE_URL, the default folder's "  \
         "driver, " CLIENT_DEFAULT_URL ")"),                                                       \
        FLAG(FLAG_TEXT, "data", &(c)->data, "DIR",                                                 \
             "data folder: where its driver listens, and the token"),                              \
        FLAG(FLAG_BOOL, "json", &(c)->json, NULL, "print JSON")

/* Finds the address and the token; no connection is made yet. */
enum mag_status client_open(struct client *c, struct mag_err *err) MAG_MUSTCHECK;
void client_close(struct client *c);
const char *client_base(const struct client *c);

/* One exchange. `body` NULL: none. *ret is the JSON answer (new reference; NULL when it is empty).
 * Not 2xx: INVALID (400, 422), NOTFOUND (404), CONFLICT (409), … with the driver's words; CLOSED:
 * nobody answers there. */
enum mag_status client_call(struct client *c, const char *method, const char *path,
                            const char *body, size_t body_len, json_t **ret,
                            struct mag_err *err) MAG_MUSTCHECK;
/* As above; `fmt` makes the path. */
enum mag_status client_get(struct client *c, json_t **ret, struct mag_err *err, const char *fmt,
                           ...) MAG_MUSTCHECK MAG_PRINTF(4, 5);
enum mag_status client_post(struct client *c, const char *path, json_t *body_take, json_t **ret,
                            struct mag_err *err) MAG_MUSTCHECK;
/* The answer as it comes, any type, malloc'ed; *ret_len excludes the NUL. */
enum mag_status client_get_text(struct client *c, char **ret, size_t *ret_len, struct mag_err *err,
                                const char *fmt, ...) MAG_MUSTCHECK MAG_PRINTF(5, 6);

/* A part of a trial's output. */
struct client_log {
    char *text; /* malloc'ed */
    size_t len;
    int64_t offset; /* where it begins: beyond the one asked for where bytes were left out */
    int64_t size;   /* of all that is known */
    bool complete;  /* nothing more will come */
};
enum mag_status client_get_log(struct client *c, const char *path, struct client_log *ret,
                               struct mag_err *err) MAG_MUSTCHECK;

/* Every item of a paged list ("trials", "experiments", …) as one array, new reference; `query` such
 * as "sort=-id" or "". At most `max` items, 0 = all. */
enum mag_status client_list(struct client *c, const char *path, const char *query, const char *key,
                            int64_t max, json_t **ret, struct mag_err *err) MAG_MUSTCHECK;

/* "/api/v1/experiments/KEY" + suffix, malloc'ed. KEY: an experiment's number or its name. */
char *client_experiment(const struct client *c, const char *key, const char *suffix);
/* "sort=…&filter=…" with what is not NULL, escaped, malloc'ed. */
char *client_query(const struct client *c, const char *sort, const char *filter);
/* A value for a query, malloc'ed. */
char *client_escaped(const struct client *c, const char *text);
/* An experiment file to the driver, byte for byte, with an idempotency key beside it; tried again
 * while nobody answers. The experiment in *ret. */
enum mag_status client_submit(struct client *c, const char *text, size_t len, json_t **ret,
                              struct mag_err *err) MAG_MUSTCHECK;
/* As client_post, with an idempotency key, tried again while nobody answers. */
enum mag_status client_post_once(struct client *c, const char *path, json_t *body_take,
                                 json_t **ret, struct mag_err *err) MAG_MUSTCHECK;

#endif
