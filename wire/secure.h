/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS for the connections between workers and driver: nng's tls+tcp://HOST:PORT, version 1.2. The
 * driver shows a certificate, the worker checks that it was signed by whom it trusts and carries
 * the HOST by which the driver was called; the worker proves itself by its token, as without TLS.
 */
#ifndef MAG_WIRE_SECURE_H
#define MAG_WIRE_SECURE_H

#include "base/err.h"

#include <stdbool.h>

#define SECURE_FILE_MAX (1 << 20) /* bytes of a file of certificates or of a key */

struct nng_tls_config;

/* Does the address ask for TLS? */
bool secure_is_url(const char *url);

/* The HOST of SCHEME://HOST:PORT, without the brackets of an IPv6 address; malloc'ed. */
char *secure_host(const char *url);

/* MAG_INVALID when others may read the private key, MAG_NOTFOUND when it is not there. */
enum mag_status secure_check_key(const char *path, struct mag_err *err) MAG_MUSTCHECK;

/* What a listener shows: PEM files of the certificate (with its chain) and its private key. Freed
 * by secure_free; nng holds what it uses. */
enum mag_status secure_server(const char *cert, const char *key, struct nng_tls_config **ret,
                              struct mag_err *err) MAG_MUSTCHECK;
/* What a dialer of `url` trusts: the certificates in the PEM file `ca`; NULL = the system's. */
enum mag_status secure_client(const char *url, const char *ca, struct nng_tls_config **ret,
                              struct mag_err *err) MAG_MUSTCHECK;
/* NULL is allowed. */
void secure_free(struct nng_tls_config *c);

#endif
