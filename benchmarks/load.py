"""Ask a server again and again over kept connections, one thread for each client, and print what it took.

    python -m benchmarks.load PORT PATH BODY_FILE CLIENTS SECONDS

Prints one line of JSON: requests a second, and the 50th and 99th percentile of a request's milliseconds. Any answer but 200 fails it.
"""

import json
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np

WARM = 0.5
"""Seconds that do not count."""


def request(path: str, body: bytes) -> bytes:
    """A whole request; without a body a GET."""
    method, about = ("POST", b"Content-Type: application/json\r\n") if body else ("GET", b"")
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n".encode()
    return head + about + b"\r\n" + body


def ask(connection: socket.socket, content: bytes) -> None:
    """Send one request and read its answer to the end."""
    connection.sendall(content)
    got = b""
    while (end := got.find(b"\r\n\r\n")) < 0:
        got += _more(connection)
    head = got[:end].lower()
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise RuntimeError(f"the server says {got[:300]!r}")
    length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    while len(got) < end + 4 + length:
        got += _more(connection)


def _more(connection: socket.socket) -> bytes:
    part = connection.recv(1 << 20)
    if not part:
        raise RuntimeError("the server has closed the connection")
    return part


def load(port: int, path: str, body: bytes, clients: int, seconds: float) -> dict[str, float]:
    """What so many clients got out of a server for a while."""
    content, taken, failed = request(path, body), [], []
    begin = time.perf_counter() + WARM
    end = begin + seconds

    def client() -> None:
        own = []
        try:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while (started := time.perf_counter()) < end:
                    ask(connection, content)
                    if started >= begin:
                        own.append(time.perf_counter() - started)
        except (OSError, RuntimeError) as error:
            failed.append(error)
        taken.extend(own)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed or not taken:
        raise RuntimeError(f"{len(failed)} of {clients} clients failed: {failed[:1]}")
    p50, p99 = np.percentile(taken, [50, 99]) * 1000
    return {"rps": len(taken) / seconds, "p50": p50, "p99": p99}


if __name__ == "__main__":
    port, path, body, clients, seconds = sys.argv[1:]
    content = Path(body).read_bytes() if body != "-" else b""
    print(json.dumps(load(int(port), path, content, int(clients), float(seconds))))
