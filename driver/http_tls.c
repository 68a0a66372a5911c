/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTPS: evhttp's connections over OpenSSL. TLS 1.2 at least; the private key must not be readable
 * by others.
 */
#include "driver/http_internal.h"

#include "base/log.h"
#include "wire/secure.h"

#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

/* The one translation of an OpenSSL failure. */
static enum mag_status tls_fail(const char *doing, const char *path, struct mag_err *err)
{
    char text[256] = "unknown error";
    unsigned long code = ERR_get_error();
    if (code != 0) {
        ERR_error_string_n(code, text, sizeof(text));
    }
    ERR_clear_error();
    return mag_fail(err, MAG_INVALID, "%s %s: %s", doing, path, text);
}

static struct bufferevent *new_connection(struct event_base *base, void *arg)
{
    SSL *ssl = SSL_new(arg);
    return ssl != NULL ? bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                                        BEV_OPT_CLOSE_ON_FREE)
                       : NULL;
}

enum mag_status tls_start(struct http *h, const char *cert, const char *key, struct mag_err *err)
{
    enum mag_status st = secure_check_key(key, err);
    if (st != MAG_OK) {
        return st;
    }
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1) {
        st = tls_fail("starting", "TLS", err);
    } else if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1) {
        st = tls_fail("TLS certificate", cert, err);
    } else if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
               SSL_CTX_check_private_key(ctx) != 1) {
        st = tls_fail("TLS key", key, err);
    }
    if (st != MAG_OK) {
        SSL_CTX_free(ctx);
        return st;
    }
    h->tls = ctx;
    evhttp_set_bevcb(h->server, new_connection, ctx);
    return MAG_OK;
}

void tls_stop(struct http *h)
{
    SSL_CTX_free(h->tls);
    h->tls = NULL;
}
