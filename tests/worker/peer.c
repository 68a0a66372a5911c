/* SPDX-License-Identifier: Apache-2.0
 *
 * `peer URL TEXT…`: sends each text to a driver as one request and prints the replies, one a line;
 * for tests of what a stranger may send. `peer --serve URL TEXT` answers every request with TEXT
 * instead. In a text "*" stands for the session of the reply before.
 */
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define TIMEOUT_MS 10000

static int fail(const char *what, int rv)
{
    (void)fprintf(stderr, "peer: %s: %s\n", what, nng_strerror(rv));
    return 1;
}

/* The text with the session put in for its first "*"; static memory. */
static const char *with_session(const char *text, const char *session)
{
    static char buf[8192];
    const char *star = session[0] != '\0' ? strchr(text, '*') : NULL;
    if (star == NULL) {
        return text;
    }
    (void)snprintf(buf, sizeof(buf), "%.*s%s%s", (int)(star - text), text, session, star + 1);
    return buf;
}

static void note_session(const char *reply, size_t len, char session[65])
{
    static const char key[] = "\"session\":\"";
    const char *at = memmem(reply, len, key, sizeof(key) - 1);
    if (at != NULL) {
        (void)sscanf(at + sizeof(key) - 1, "%64[0-9a-f]", session);
    }
}

static int ask(const char *url, char **texts)
{
    char session[65] = "";
    nng_socket s;
    int rv = nng_req0_open(&s);
    if (rv == 0) {
        rv = nng_socket_set_ms(s, NNG_OPT_RECVTIMEO, TIMEOUT_MS);
    }
    if (rv == 0) {
        rv = nng_dial(s, url, NULL, 0);
    }
    for (; rv == 0 && *texts != NULL; texts++) {
        char *reply = NULL;
        size_t len = 0;
        const char *text = with_session(*texts, session);
        rv = nng_send(s, (void *)(uintptr_t)text, strlen(text), 0);
        if (rv == 0) {
            rv = nng_recv(s, &reply, &len, NNG_FLAG_ALLOC);
        }
        if (rv == 0) {
            (void)printf("%.*s\n", (int)len, reply);
            note_session(reply, len, session);
            nng_free(reply, len);
        }
    }
    return rv == 0 ? 0 : fail(url, rv);
}

static int serve(const char *url, char *text)
{
    nng_socket s;
    nng_listener l;
    int rv = nng_rep0_open(&s);
    if (rv == 0) {
        rv = nng_listen(s, url, &l, 0);
    }
    if (rv == 0) {
        (void)printf("ready\n");
        (void)fflush(stdout);
    }
    while (rv == 0) {
        nng_msg *m = NULL;
        rv = nng_recvmsg(s, &m, 0);
        if (rv == 0) {
            nng_msg_free(m);
            rv = nng_send(s, text, strlen(text), 0);
        }
    }
    return fail(url, rv);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--serve") == 0) {
        return serve(argv[2], argv[3]);
    }
    if (argc < 3) {
        (void)fprintf(stderr, "usage: peer URL TEXT... | peer --serve URL TEXT\n");
        return 2;
    }
    return ask(argv[1], argv + 2);
}
