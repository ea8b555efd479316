"""The web server of the models' pages: static files, on one address.

python -m ops.page_server PORT HOST FOLDER
"""

import functools
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class PageServer(ThreadingHTTPServer):
    """A server in whose log a reader who has closed the page is no error."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log an error of a request, unless the browser has closed the connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Pages(SimpleHTTPRequestHandler):
    """Files of the folder. A browser asks each time whether a file has changed: the pages of a run must not be mixed with older ones."""

    def end_headers(self) -> None:
        """Add a header that makes the browser ask."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()


def main() -> None:
    """Serve until the process is stopped."""
    port, host, folder = sys.argv[1:]
    PageServer((host, int(port)), functools.partial(Pages, directory=folder)).serve_forever()


if __name__ == "__main__":
    main()
