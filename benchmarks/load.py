"""Send requests to a server over persistent connections, one thread per client, and print the cost.

    python -m benchmarks.load PORT PATH BODY_FILE CLIENTS SECONDS

Prints one line of JSON: requests per second, and the 50th and 99th percentile of a request's milliseconds. Any answer but 200 is an error.
"""

import json
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np

WARM = 0.5
"""Seconds at the beginning that are not measured."""


def request(path: str, body: bytes) -> bytes:
    """Return a whole request; without a body a GET."""
    method, content_type = ("POST", b"Content-Type: application/json\r\n") if body else ("GET", b"")
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n".encode()
    return head + content_type + b"\r\n" + body


def ask(connection: socket.socket, content: bytes) -> None:
    """Send one request and read its answer to the end."""
    connection.sendall(content)
    received = b""
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += _more(connection)
    head = received[:end].lower()
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise RuntimeError(f"the server answered {received[:300]!r}")
    length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    while len(received) < end + 4 + length:
        received += _more(connection)


def _more(connection: socket.socket) -> bytes:
    part = connection.recv(1 << 20)
    if not part:
        raise RuntimeError("the server has closed the connection")
    return part


def load(port: int, path: str, body: bytes, clients: int, seconds: float) -> dict[str, float]:
    """Measure a server with some clients for some seconds."""
    content = request(path, body)
    times: list[float] = []
    failed: list[Exception] = []
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
        times.extend(own)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed or not times:
        raise RuntimeError(f"{len(failed)} of {clients} clients failed: {failed[:1]}")
    p50, p99 = (1000 * float(np.percentile(times, share)) for share in (50, 99))
    return {"rps": len(times) / seconds, "p50": p50, "p99": p99}


if __name__ == "__main__":
    port, path, body, clients, seconds = sys.argv[1:]
    content = Path(body).read_bytes() if body != "-" else b""
    print(json.dumps(load(int(port), path, content, int(clients), float(seconds))))
