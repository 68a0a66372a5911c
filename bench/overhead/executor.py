# SPDX-License-Identifier: Apache-2.0
"""A trial program that does nothing: each trial's value is its x."""
import json
import os
import socket


def main():
    channel = socket.socket(fileno=int(os.environ["MAGPIE_FD"]))
    channel.sendall(b'{"type":"ready"}\n')
    for line in channel.makefile("rb"):
        message = json.loads(line)
        if message["type"] == "exit":
            return
        if message["type"] == "start":
            value = {message["metric"]: message["params"]["x"]}
            result = {"type": "result", "trial": message["trial"], "status": "completed", "metrics": value}
            channel.sendall(json.dumps(result).encode() + b'\n{"type":"ready"}\n')


main()
