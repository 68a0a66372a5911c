/* SPDX-License-Identifier: Apache-2.0
 *
 * Who we are at an OpenStack cloud: TempAuth (ST_AUTH, ST_USER, ST_KEY), Keystone v3 (OS_*: a
 * password or an application credential) or a token that is given (OS_STORAGE_URL, OS_AUTH_TOKEN).
 */
#include "storage/swift.h"

#include "base/alloc.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

static const char *get(const struct swift *s, const char *name)
{
    return settings_get(&s->settings, name);
}

static enum mag_status auth_prepare(void *self, const struct web_call *call, char **ret_url,
                                    struct curl_slist **headers, struct mag_err *err)
{
    (void)self;
    (void)headers;
    (void)err;
    *ret_url = xstrdup(call->path); /* whole addresses */
    return MAG_OK;
}

static enum web_verdict auth_judge(void *self, const struct web_call *call,
                                   const struct web_reply *r)
{
    (void)self;
    (void)call;
    (void)r;
    return WEB_TAKE;
}

static void auth_explain(void *self, const struct web_reply *r, struct buf *detail,
                         struct buf *remedy)
{
    const struct swift *s = self;
    (void)detail;
    if (r->status == 401 || r->status == 403) {
        buf_adds(remedy, get(s, "OS_AUTH_URL") == NULL
                             ? "check ST_USER and ST_KEY"
                             : "check OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME and their domains");
    } else if (r->status == 404) {
        buf_adds(remedy, get(s, "OS_AUTH_URL") == NULL
                             ? "check ST_AUTH, e.g. http://host:8080/auth/v1.0"
                             : "check OS_AUTH_URL, e.g. https://host:5000/v3");
    }
}

static const struct web_scheme auth_web = {
    .prepare = auth_prepare, .judge = auth_judge, .explain = auth_explain};

static bool have(const struct swift *s, const char *a, const char *b)
{
    return get(s, a) != NULL && get(s, b) != NULL;
}

static bool is_v1(const struct swift *s)
{
    return have(s, "ST_USER", "ST_KEY") && get(s, "ST_AUTH") != NULL;
}

static bool is_v3(const struct swift *s)
{
    return get(s, "OS_AUTH_URL") != NULL &&
           (get(s, "OS_PASSWORD") != NULL || get(s, "OS_APPLICATION_CREDENTIAL_SECRET") != NULL);
}

enum mag_status swift_configure(struct swift *s, struct mag_err *err)
{
    if (!is_v1(s) && !is_v3(s) && !have(s, "OS_STORAGE_URL", "OS_AUTH_TOKEN")) {
        return mag_fail(err, MAG_INVALID,
                        "no credentials for Swift: set ST_AUTH, ST_USER and ST_KEY (TempAuth), or "
                        "OS_AUTH_URL, OS_USERNAME, OS_PASSWORD and OS_PROJECT_NAME (Keystone v3), "
                        "or OS_STORAGE_URL and OS_AUTH_TOKEN");
    }
    return web_init(&s->auth, &auth_web, s, &s->settings, err);
}

static void keep(char **at, char *value_take)
{
    if (*at != NULL) {
        explicit_bzero(*at, strlen(*at));
    }
    free(*at);
    *at = value_take;
}

bool swift_drop_token(struct swift *s)
{
    if (!is_v1(s) && !is_v3(s)) {
        return false;
    }
    keep(&s->token, NULL);
    return true;
}

void swift_auth_fini(struct swift *s)
{
    keep(&s->token, NULL);
    free(s->root);
    web_fini(&s->auth);
}

/* ---- version 1 ---- */

static enum mag_status ask_v1(struct swift *s, struct mag_err *err)
{
    struct web_reply r = {0};
    char *user = xasprintf("X-Auth-User: %s", get(s, "ST_USER"));
    char *key = xasprintf("X-Auth-Key: %s", get(s, "ST_KEY"));
    const struct web_call call =
        WEB_CALL(.method = "GET", .path = get(s, "ST_AUTH"), .headers = {user, key});
    enum mag_status st = web_expect(&s->auth, &call, &r, err);
    keep(&user, NULL);
    keep(&key, NULL);
    if (st == MAG_OK) {
        keep(&s->root, web_header(&r, "X-Storage-Url"));
        keep(&s->token, web_header(&r, "X-Auth-Token"));
    }
    web_reply_fini(&r);
    return st;
}

/* ---- Keystone ---- */

/* {"name": ..., "domain": ...} or {"id": ...}, of a user or project; NULL when nothing is set. */
static json_t *entity(const struct swift *s, const char *kind, const char *name)
{
    char key[64];
    (void)snprintf(key, sizeof(key), "OS_%s_ID", kind);
    if (get(s, key) != NULL) {
        return json_pack("{s:s}", "id", get(s, key));
    }
    if (name == NULL) {
        return NULL;
    }
    json_t *domain = NULL;
    (void)snprintf(key, sizeof(key), "OS_%s_DOMAIN_ID", kind);
    if (get(s, key) != NULL) {
        domain = json_pack("{s:s}", "id", get(s, key));
    } else {
        (void)snprintf(key, sizeof(key), "OS_%s_DOMAIN_NAME", kind);
        const char *given = get(s, key);
        domain =
            given != NULL ? json_pack("{s:s}", "name", given) : json_pack("{s:s}", "id", "default");
    }
    return json_pack("{s:s, s:o}", "name", name, "domain", domain);
}

static json_t *password_request(const struct swift *s)
{
    json_t *user = entity(s, "USER", get(s, "OS_USERNAME"));
    json_t *project = entity(s, "PROJECT", get(s, "OS_PROJECT_NAME"));
    if (user == NULL) {
        json_decref(project);
        return NULL;
    }
    (void)json_object_set_new(user, "password", json_string(get(s, "OS_PASSWORD")));
    json_t *auth = json_pack("{s:{s:[s], s:{s:o}}}", "identity", "methods", "password", "password",
                             "user", user);
    if (project != NULL) {
        (void)json_object_set_new(auth, "scope", json_pack("{s:o}", "project", project));
    }
    return json_pack("{s:o}", "auth", auth);
}

static json_t *application_request(const struct swift *s)
{
    json_t *credential = json_object();
    const char *id = get(s, "OS_APPLICATION_CREDENTIAL_ID");
    if (id != NULL) {
        (void)json_object_set_new(credential, "id", json_string(id));
    } else {
        json_t *user = entity(s, "USER", get(s, "OS_USERNAME"));
        const char *name = get(s, "OS_APPLICATION_CREDENTIAL_NAME");
        if (user == NULL || name == NULL) {
            json_decref(user);
            json_decref(credential);
            return NULL;
        }
        (void)json_object_set_new(credential, "name", json_string(name));
        (void)json_object_set_new(credential, "user", user);
    }
    (void)json_object_set_new(credential, "secret",
                              json_string(get(s, "OS_APPLICATION_CREDENTIAL_SECRET")));
    return json_pack("{s:{s:{s:[s], s:o}}}", "auth", "identity", "methods",
                     "application_credential", "application_credential", credential);
}

/* An endpoint names its region as "region_id", and older or templated catalogues as "region" alone.
 */
static bool is_in_region(const json_t *endpoint, const char *region)
{
    const char *id = json_string_value(json_object_get(endpoint, "region_id"));
    const char *name = json_string_value(json_object_get(endpoint, "region"));
    return region == NULL || (id != NULL && strcmp(id, region) == 0) ||
           (name != NULL && strcmp(name, region) == 0);
}

/* The address of the object store in a token's catalogue; malloc'ed or NULL. */
static char *find_endpoint(const struct swift *s, const json_t *catalog)
{
    const char *region = get(s, "OS_REGION_NAME");
    const char *face = get(s, "OS_INTERFACE");
    size_t i, k;
    json_t *service, *e;
    face = face != NULL ? face : "public";
    json_array_foreach(catalog, i, service)
    {
        const char *type = json_string_value(json_object_get(service, "type"));
        if (type == NULL || strcmp(type, "object-store") != 0) {
            continue;
        }
        json_array_foreach(json_object_get(service, "endpoints"), k, e)
        {
            const char *in = json_string_value(json_object_get(e, "interface"));
            const char *url = json_string_value(json_object_get(e, "url"));
            if (url != NULL && in != NULL && strcmp(in, face) == 0 && is_in_region(e, region)) {
                return xstrdup(url);
            }
        }
    }
    return NULL;
}

static enum mag_status take_token(struct swift *s, const struct web_reply *r, struct mag_err *err)
{
    json_t *doc = NULL;
    enum mag_status st =
        mjson_parse(r->body.data != NULL ? r->body.data : "", r->body.len, &doc, err);
    if (st != MAG_OK) {
        return mag_wrap(err, MAG_CORRUPT, "Keystone's answer");
    }
    const char *given = get(s, "OS_STORAGE_URL");
    const json_t *catalog = json_object_get(json_object_get(doc, "token"), "catalog");
    keep(&s->root, given != NULL ? xstrdup(given) : find_endpoint(s, catalog));
    keep(&s->token, web_header(r, "X-Subject-Token"));
    if (s->root == NULL) {
        st = mag_fail(err, MAG_INVALID,
                      "Keystone knows no object store for us: check OS_PROJECT_NAME, "
                      "OS_REGION_NAME and OS_INTERFACE, or set OS_STORAGE_URL");
    }
    json_decref(doc);
    return st;
}

static enum mag_status ask_v3(struct swift *s, struct mag_err *err)
{
    const char *url = get(s, "OS_AUTH_URL");
    struct web_reply r = {0};
    json_t *request = get(s, "OS_APPLICATION_CREDENTIAL_SECRET") != NULL ? application_request(s)
                                                                         : password_request(s);
    if (request == NULL) {
        return mag_fail(err, MAG_INVALID,
                        "Keystone needs OS_USERNAME or OS_USER_ID (and the name or id of an "
                        "application credential beside its secret)");
    }
    size_t n = strlen(url);
    while (n > 0 && url[n - 1] == '/') {
        n--;
    }
    bool versioned = n >= 3 && strncmp(url + n - 3, "/v3", 3) == 0;
    char *at = xasprintf("%.*s%s/auth/tokens", (int)n, url, versioned ? "" : "/v3");
    char *body = mjson_dump(request);
    const struct web_call call =
        WEB_CALL(.method = "POST", .path = at, .bytes = body, .len = strlen(body),
                 .headers = {"Content-Type: application/json", "Accept: application/json"});
    enum mag_status st = web_expect(&s->auth, &call, &r, err);
    if (st == MAG_OK) {
        st = take_token(s, &r, err);
    }
    web_reply_fini(&r);
    keep(&body, NULL);
    free(at);
    json_decref(request);
    return st;
}

enum mag_status swift_authenticate(struct swift *s, struct mag_err *err)
{
    enum mag_status st = MAG_OK;
    if (s->root != NULL && s->token != NULL) {
        return MAG_OK;
    }
    if (is_v1(s)) {
        st = ask_v1(s, err);
    } else if (is_v3(s)) {
        st = ask_v3(s, err);
    } else {
        keep(&s->root, xstrdup(get(s, "OS_STORAGE_URL")));
        keep(&s->token, xstrdup(get(s, "OS_AUTH_TOKEN")));
    }
    if (st == MAG_OK && (s->root == NULL || s->token == NULL)) {
        st = mag_fail(err, MAG_INVALID, "the answer to our credentials has no token or address");
    }
    for (size_t n = s->root != NULL ? strlen(s->root) : 0; n > 0 && s->root[n - 1] == '/'; n--) {
        s->root[n - 1] = '\0';
    }
    return st;
}
