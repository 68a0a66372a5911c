/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/secure.h"

#include "base/alloc.h"
#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
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

/* The file's text into `out`; `what` names it in errors. */
static enum mag_status read_pem(const char *what, const char *path, struct buf *out,
                                struct mag_err *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return mag_fail(err, MAG_INVALID, "%s %s: %s", what, path, strerror(errno));
    }
    enum mag_status st = MAG_OK;
    char part[4096];
    ssize_t n = 0;
    while (st == MAG_OK && (n = read(fd, part, sizeof(part))) != 0) {
        if (n < 0 && errno != EINTR) {
            st = mag_fail(err, MAG_IO, "%s %s: %s", what, path, strerror(errno));
        } else if (n > 0 && out->len + (size_t)n > SECURE_FILE_MAX) {
            st = mag_fail(err, MAG_LIMIT, "%s %s is larger than %d bytes", what, path,
                          SECURE_FILE_MAX);
        } else if (n > 0) {
            buf_add(out, part, (size_t)n);
        }
    }
    (void)close(fd);
    if (st == MAG_OK && (out->len == 0 || memchr(out->data, 0, out->len) != NULL ||
                         strstr(out->data, "-----BEGIN ") == NULL)) {
        st = mag_fail(err, MAG_INVALID, "%s %s is no PEM file (-----BEGIN …)", what, path);
    }
    return st;
}

/* Overwrites what was a key before the memory is given back. */
static void forget(struct buf *secret)
{
    if (secret->data != NULL) {
        explicit_bzero(secret->data, secret->len);
    }
    buf_fini(secret);
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
    struct buf cert_pem = {0};
    struct buf key_pem = {0};
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
            rv = nng_tls_config_own_cert(c, cert_pem.data, key_pem.data, NULL);
        }
        st = made(rv, c, ret, "TLS certificate and key", cert, err);
    }
    buf_fini(&cert_pem);
    forget(&key_pem);
    return st;
}

/* The HOST of tls+tcp://HOST:PORT, without the brackets of an IPv6 address; malloc'ed. */
static char *host_of(const char *url)
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
    struct buf pem = {0};
    enum mag_status st = read_pem("certificates", ca, &pem, err);
    if (st == MAG_OK) {
        char *host = host_of(url);
        nng_tls_config *c = NULL;
        int rv = nng_tls_config_alloc(&c, NNG_TLS_MODE_CLIENT);
        if (rv == 0) {
            rv = nng_tls_config_auth_mode(c, NNG_TLS_AUTH_MODE_REQUIRED);
        }
        if (rv == 0) {
            rv = nng_tls_config_server_name(c, host);
        }
        if (rv == 0) {
            rv = nng_tls_config_ca_chain(c, pem.data, NULL);
        }
        free(host);
        st = made(rv, c, ret, "certificates", ca, err);
    }
    buf_fini(&pem);
    return st;
}

void secure_free(struct nng_tls_config *c)
{
    if (c != NULL) {
        nng_tls_config_free(c);
    }
}
