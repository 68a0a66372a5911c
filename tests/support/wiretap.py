# SPDX-License-Identifier: Apache-2.0
"""Listens in: passes connections on to a port of this host and keeps every byte of them.

    with Wiretap(port) as tap: ...   # tap.port stands for it; tap.seen: the bytes of both directions
"""
import socket
import threading

BLOCK = 65536


class Wiretap:
    def __init__(self, port):
        self.target = port
        self.seen = bytearray()
        self.lock = threading.Lock()
        self.open = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in [self.listener] + self.open:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it ended before
            s.close()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            self.open += [near, far]
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    def _pass(self, a, b):
        try:
            while data := a.recv(BLOCK):
                with self.lock:
                    self.seen += data
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one side has gone
