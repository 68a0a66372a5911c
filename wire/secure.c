/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/secure.h"

#include "base/alloc.h"
#include "base/json.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char scheme[] = "tls+tcp";

/* Where systems keep the certificates that they trust, the first that is there. */
static const char *const system_bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt", /* Debian, Alpine, Arch */
    "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora, RHEL */
    "/etc/ssl/ca-bundle.pem",             /* openSUSE */
    "/etc/ssl/cert.pem",
};

bool secure_is_url(const char *url)
{
    return strncmp(url, scheme, sizeof(scheme) - 1) == 0 &&
           strchr("46:", url[sizeof(scheme) - 1]) != NULL && url[sizeof(scheme) - 1] != '\0';
}

enum mag_status secure_check_key(const char *path, struct mag_err *err)
{
    struct stat sb;
    if (stat(path, &sb) != 0) {
        return mag_fail(err, MAG_NOTFOUND, "TLS key %s: %s", path, strerror(errno));
    }
    if ((sb.st_mode & 077) != 0) {
        return mag_fail(err, MAG_INVALID,
                        "TLS key %s may be read by others (mode %o): chmod 600 it", path,
                        sb.st_mode & 0777);
    }
    return MAG_OK;
}

/* The file's text; `what` names it in errors. */
static enum mag_status read_pem(const char *what, const char *path, char **ret, struct mag_err *err)
{
    size_t len = 0;
    struct mag_err why = {0};
    if (mjson_read_file(path, SECURE_FILE_MAX, ret, &len, &why) != MAG_OK) {
        return mag_fail(err, MAG_INVALID, "%s %s", what, why.text);
    }
    if (strstr(*ret, "-----BEGIN ") == NULL) {
        return mag_fail(err, MAG_INVALID, "%s %s is no PEM file (-----BEGIN …)", what, path);
    }
    return MAG_OK;
}

/* Overwrites what was a key before the memory is given back. */
static void forget(char *secret)
{
    if (secret != NULL) {
        explicit_bzero(secret, strlen(secret));
    }
    free(secret);
}

static enum mag_status made(int rv, nng_tls_config *c, struct nng_tls_config **ret,
                            const char *what, const char *path, struct mag_err *err)
{
    if (rv == 0) {
        *ret = c;
        return MAG_OK;
    }
    secure_free(c);
    if (rv == NNG_ENOTSUP) {
        return mag_fail(err, MAG_UNSUPPORTED, "this machine's nng was built without TLS");
    }
    return mag_fail(err, MAG_INVALID, "%s %s: %s", what, path,
                    rv == NNG_ECRYPTO ? "not a valid one" : nng_strerror(rv));
}

enum mag_status secure_server(const char *cert, const char *key, struct nng_tls_config **ret,
                              struct mag_err *err)
{
    char *cert_pem = NULL;
    char *key_pem = NULL;
    enum mag_status st = secure_check_key(key, err);
    if (st == MAG_OK) {
        st = read_pem("TLS certificate", cert, &cert_pem, err);
    }
    if (st == MAG_OK) {
        st = read_pem("TLS key", key, &key_pem, err);
    }
    if (st == MAG_OK) {
        nng_tls_config *c = NULL;
        int rv = nng_tls_config_alloc(&c, NNG_TLS_MODE_SERVER);
        if (rv == 0) {
            rv = nng_tls_config_own_cert(c, cert_pem, key_pem, NULL);
        }
        st = made(rv, c, ret, "TLS certificate and key", cert, err);
    }
    free(cert_pem);
    forget(key_pem);
    return st;
}

char *secure_host(const char *url)
{
    const char *at = strstr(url, "://");
    at = at != NULL ? at + 3 : url;
    if (*at == '[') {
        return xstrndup(at + 1, strcspn(at + 1, "]"));
    }
    return xstrndup(at, strcspn(at, ":/"));
}

enum mag_status secure_client(const char *url, const char *ca, struct nng_tls_config **ret,
                              struct mag_err *err)
{
    for (size_t i = 0; ca == NULL && i < sizeof(system_bundles) / sizeof(system_bundles[0]); i++) {
        ca = access(system_bundles[i], R_OK) == 0 ? system_bundles[i] : NULL;
    }
    if (ca == NULL) {
        return mag_fail(err, MAG_NOTFOUND,
                        "%s: no certificates to trust on this machine: give --ca FILE", url);
    }
    char *pem = NULL;
    enum mag_status st = read_pem("certificates", ca, &pem, err);
    if (st == MAG_OK) {
        char *host = secure_host(url);
        nng_tls_config *c = NULL;
        int rv = nng_tls_config_alloc(&c, NNG_TLS_MODE_CLIENT);
        if (rv == 0) {
            rv = nng_tls_config_auth_mode(c, NNG_TLS_AUTH_MODE_REQUIRED);
        }
        if (rv == 0) {
            rv = nng_tls_config_server_name(c, host);
        }
        if (rv == 0) {
            rv = nng_tls_config_ca_chain(c, pem, NULL);
        }
        free(host);
        st = made(rv, c, ret, "certificates", ca, err);
    }
    free(pem);
    return st;
}

void secure_free(struct nng_tls_config *c)
{
    if (c != NULL) {
        nng_tls_config_free(c);
    }
}
