"""The web server of the models' pages: static files, on one address.

python ops/page_server.py 8300 --bind 127.0.0.1 --directory .evergreen/pages
"""

import argparse
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
    """Serve until the process is stopped. The options are those of `python -m http.server`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--directory", required=True)
    options = parser.parse_args()
    pages = functools.partial(Pages, directory=options.directory)
    PageServer((options.bind, options.port), pages).serve_forever()


if __name__ == "__main__":
    main()
