/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/peer.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <nng/nng.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool peer_host_is_loopback(const char *host)
{
    return strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
           strcmp(host, "::1") == 0;
}

/* The user that owns the loopback socket `ip`:`port` talking to our port, from the kernel's table
 * of connections; -1 when it is not found. Ports are in network byte order as nng gives them. */
static long tcp_owner(const char *table, const char *local_hex, unsigned port)
{
    FILE *f = fopen(table, "re");
    char line[512];
    long owner = -1;
    while (f != NULL && owner < 0 && fgets(line, sizeof(line), f) != NULL) {
        char addr[64];
        unsigned p = 0;
        long uid = -1;
        int n = sscanf(line, " %*d: %63[0-9A-F]:%x %*[0-9A-F]:%*x %*x %*x:%*x %*x:%*x %*x %ld",
                       addr, &p, &uid);
        if (n == 3 && p == port && strcmp(addr, local_hex) == 0) {
            owner = uid;
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return owner;
}

static bool is_own(long uid)
{
    return uid == 0 || (uid >= 0 && (uid_t)uid == geteuid());
}

static void look_at_in(const struct nng_sockaddr_in *in, struct bridge_peer *ret)
{
    char ip[INET_ADDRSTRLEN];
    unsigned port = ntohs(in->sa_port);
    (void)inet_ntop(AF_INET, &in->sa_addr, ip, sizeof(ip));
    (void)snprintf(ret->text, sizeof(ret->text), "tcp://%s:%u", ip, port);
    ret->local = (ntohl(in->sa_addr) >> 24) == 127;
    if (ret->local) {
        char hex[16];
        (void)snprintf(hex, sizeof(hex), "%08X", (unsigned)in->sa_addr);
        ret->own_user = is_own(tcp_owner("/proc/net/tcp", hex, port));
    }
}

static void look_at_in6(const struct nng_sockaddr_in6 *in6, struct bridge_peer *ret)
{
    char ip[INET6_ADDRSTRLEN];
    unsigned port = ntohs(in6->sa_port);
    (void)inet_ntop(AF_INET6, in6->sa_addr, ip, sizeof(ip));
    (void)snprintf(ret->text, sizeof(ret->text), "tcp://[%s]:%u", ip, port);
    static const uint8_t loopback[16] = {[15] = 1};
    ret->local = memcmp(in6->sa_addr, loopback, 16) == 0;
    if (ret->local) {
        uint32_t words[4];
        char hex[40];
        memcpy(words, in6->sa_addr, sizeof(words));
        (void)snprintf(hex, sizeof(hex), "%08X%08X%08X%08X", words[0], words[1], words[2],
                       words[3]);
        ret->own_user = is_own(tcp_owner("/proc/net/tcp6", hex, port));
    }
}

bool peer_lookup(uint32_t pipe, struct bridge_peer *ret)
{
    nng_pipe p = {.id = pipe};
    nng_sockaddr sa;
    *ret = (struct bridge_peer){.pipe = pipe};
    if (nng_pipe_get_addr(p, NNG_OPT_REMADDR, &sa) != 0) {
        return false;
    }
    uint64_t uid = 0;
    switch (sa.s_family) {
    case NNG_AF_INET:
        look_at_in(&sa.s_in, ret);
        break;
    case NNG_AF_INET6:
        look_at_in6(&sa.s_in6, ret);
        break;
    case NNG_AF_IPC:
        (void)snprintf(ret->text, sizeof(ret->text), "ipc");
        ret->local = true;
        ret->own_user =
            nng_pipe_get_uint64(p, NNG_OPT_IPC_PEER_UID, &uid) == 0 && is_own((long)uid);
        break;
    default:
        (void)snprintf(ret->text, sizeof(ret->text), "unknown");
        break;
    }
    return true;
}
