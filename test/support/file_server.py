"""A published file of a few kilobytes, and a server that misbehaves on request."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aopsam_ros.weights.known import Weights

CONTENT = bytes(range(256)) * 300
# Made by `git hash-object` and `sha256sum`.
GIT_BLOB = "b0ae7e65ee352e982340b7abfee52b373b6d1673"
SHA256 = "f8b0585eb91f58c007a5634362c9f90d8543822c113f702523bc7b73408a9392"


def small_weights(url):
    return Weights("small", "small.pt", url, len(CONTENT), SHA256, GIT_BLOB, "MIT", "for tests")


class FileServer(ThreadingHTTPServer):
    """Serves `content` at `url`; counts the `requests`.

    How it misbehaves:
        status: is sent in place of the file, unless it is 200.
        most: bytes of an answer, after which the connection is closed.
        gate: an answer's content waits for this event.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.status, self.most = CONTENT, 200, len(CONTENT) + 1000
        self.gate = threading.Event()
        self.gate.set()
        self.requests = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/folder/small.pt"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.gate.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        """Keep quiet about clients that left."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests += 1
        if server.status != 200:
            self.send_error(server.status)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(server.content)))
        self.end_headers()
        server.gate.wait()
        self.wfile.write(server.content[: server.most])

    def log_message(self, *_):
        """Say nothing."""
