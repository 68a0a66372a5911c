# SPDX-License-Identifier: Apache-2.0
"""A relay between a client and a real server that breaks things on the way, one request a connection:

    r = Relay("http://127.0.0.1:8080", plan)       # r.url stands for the server; or as a proxy, http_proxy=r.url
    r.requests                                       # [(method, path), ...]
    r.flips                                       # bytes that were damaged
    r.up, r.down                                     # bytes of bodies that came from, and went to, the client

plan(method, path, n) is asked for the n-th request (from 0) and answers None (pass it on) or one of
    ("status", 503)     answer so, without asking the server
    ("cut-up", N)       pass on N bytes of the body, then close
    ("cut-down", N)     pass back N bytes of the answer's body, then close
    ("flip", N)         damage the N-th byte of the body on its way to the server
    ("lose",)           let the server do it, and drop its answer
    ("stall",)          say nothing until the client gives up
"""
import os
import select
import socket
import ssl
import threading
import urllib.parse

BLOCK = 65536


class Relay:
    def __init__(self, target=None, plan=None, listen=None, tls=None):
        self.plan = plan or (lambda method, path, n: None)
        u = urllib.parse.urlsplit(target) if target else None
        self.target = (u.hostname, u.port) if u else None
        self.listener = listen or socket.create_server(("127.0.0.1", 0))
        self.tls = tls
        host, port = self.listener.getsockname()
        self.url = f"http{'s' if tls else ''}://{host}:{port}"
        self.requests, self.up, self.down, self.flips = [], 0, 0, 0
        self.lock = threading.Lock()
        self.closing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.closing = True
        self.listener.close()

    def reset(self, plan=None):
        with self.lock:
            self.requests, self.up, self.down, self.flips = [], 0, 0, 0
            self.plan = plan or (lambda method, path, n: None)

    def env(self):
        """For use as a proxy of everything."""
        return {"http_proxy": self.url, "no_proxy": "", "NO_PROXY": ""}

    def _accept(self):
        while not self.closing:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(c,), daemon=True).start()

    def _serve(self, c):
        try:
            if self.tls:
                c = self.tls.wrap_socket(c, server_side=True)
            with c:
                self._exchange(c)
        except (OSError, ssl.SSLError, ValueError):
            pass

    def _head(self, s, data=b""):
        while b"\r\n\r\n" not in data:
            more = s.recv(BLOCK)
            if not more:
                return None, b""
            data += more
        head, rest = data.split(b"\r\n\r\n", 1)
        return head, rest

    def _exchange(self, c):
        head, rest = self._head(c)
        if head is None:
            return
        first, *headers = head.split(b"\r\n")
        method, path, version = first.decode().split(" ", 2)
        target = self.target
        if path.startswith("http://"):
            u = urllib.parse.urlsplit(path)
            target = target if self.target and not u.hostname else (u.hostname, u.port or 80)
            path = u.path + ("?" + u.query if u.query else "")
        with self.lock:
            n = len(self.requests)
            self.requests.append((method, path))
            fault = self.plan(method, path, n) or ("none",)
        if fault[0] == "status":
            self._refuse(c, fault[1], headers, rest)
            return
        if fault[0] == "stall":
            while c.recv(BLOCK):
                pass
            return
        skip = (b"connection:", b"proxy-connection:")
        lines = [f"{method} {path} {version}".encode(), *[h for h in headers if not h.lower().startswith(skip)], b"Connection: close"]
        with socket.create_connection(target) as s:
            s.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
            self._pump(c, s, rest, fault)

    def _refuse(self, c, status, headers, rest):
        length = next((int(h.split(b":")[1]) for h in headers if h.lower().startswith(b"content-length:")), 0)
        expect = any(h.lower().startswith(b"expect:") for h in headers)
        got = len(rest)
        while not expect and got < length:
            more = c.recv(BLOCK)
            if not more:
                return
            got += len(more)
        c.sendall(f"HTTP/1.1 {status} Broken on the way\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    def _flip(self, data, fault, seen):
        at = fault[1] - seen if fault[0] == "flip" else -1
        if not 0 <= at < len(data):
            return data
        with self.lock:
            self.flips += 1
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]

    def _send(self, s, data, left):
        """Sends, at most `left` bytes when that is a number; False when that is used up."""
        if left is None:
            s.sendall(data)
            return True
        s.sendall(data[:left[0]])
        left[0] -= len(data[:left[0]])
        return left[0] > 0

    def _pump(self, c, s, rest, fault):
        up = [fault[1]] if fault[0] == "cut-up" else None
        down = [fault[1]] if fault[0] == "cut-down" else None
        head, answer_head, lose = True, b"", fault[0] == "lose"
        with self.lock:
            self.up += len(rest)
        if not self._send(s, self._flip(rest, fault, 0), up):
            return
        seen = len(rest)
        open_up = True
        while True:
            ready, _, _ = select.select([s] + ([c] if open_up else []), [], [], 60)
            if not ready:
                return
            if c in ready:
                data = c.recv(BLOCK)
                if not data:
                    open_up = False
                    if not lose:
                        return
                with self.lock:
                    self.up += len(data)
                if data and not self._send(s, self._flip(data, fault, seen), up):
                    return
                seen += len(data)
            if s in ready:
                data = s.recv(BLOCK)
                if not data:
                    return
                if lose and b" 100 " not in data[:16]:
                    continue  # it was done; nobody hears of it
                if head:
                    answer_head += data
                    if b"\r\n\r\n" not in answer_head:
                        continue
                    first, data = answer_head.split(b"\r\n\r\n", 1)
                    c.sendall(first + b"\r\n\r\n")
                    answer_head = b""
                    head = b" 100 " in first[:16]  # the real answer is still to come
                    if not data:
                        continue
                    if head:
                        answer_head, head = b"", False
                with self.lock:
                    self.down += len(data)
                if not self._send(c, data, down):
                    return


def self_signed(folder, run):
    """(certificate file, TLS context of a server) for 127.0.0.1; `run` runs a command."""
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context
