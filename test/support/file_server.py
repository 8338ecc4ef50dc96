"""A server of one file on this machine, which misbehaves on request."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves `content` at `url`; counts the `requests`.

    How it misbehaves:
        status: is sent in place of the file, unless it is 200.
        most: bytes of an answer, after which the connection is closed.
        gate: an answer's content waits for this event.
    """

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.status, self.most = content, 200, len(content) + 1000
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
        server.gate.wait(10)
        self.wfile.write(server.content[: server.most])

    def log_message(self, *_):
        """Say nothing."""
