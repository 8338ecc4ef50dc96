"""A server of one file on this machine, which can be told to misbehave."""

import re
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves `content` at `url`; keeps each request's Range header, or None, in `ranges`.

    How it misbehaves:
        status: is sent in place of the file, unless it is 200.
        honours_ranges: False answers every request with the whole file.
        content_range: is sent in place of the right Content-Range; '' sends none.
        announces: False leaves Content-Length out.
        most: bytes of an answer, after which it ends: with "close", "reset" or "stall".
        gate: an answer's content waits for this event.
    """

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.status = 200
        self.honours_ranges = True
        self.content_range = None
        self.announces = True
        self.most = len(content) + 1000
        self.end = "close"
        self.gate = threading.Event()
        self.gate.set()
        self.stopped = threading.Event()
        self.ranges = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/folder/small.pt"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.gate.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        """Keep quiet about clients that left."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.ranges.append(wanted)
        start = 0
        if wanted and server.honours_ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted).group(1))
        status = 416 if start and start >= len(server.content) else server.status
        if status != 200:
            self.send_error(status)
            return
        self._describe(start)
        server.gate.wait(10)
        self.wfile.write(server.content[start:][: server.most])
        self._end()

    def _describe(self, start):
        size = len(self.server.content)
        self.send_response(206 if start else 200)
        if self.server.announces:
            self.send_header("Content-Length", str(size - start))
        part = self.server.content_range
        part = f"bytes {start}-{size - 1}/{size}" if part is None else part
        if start and part:
            self.send_header("Content-Range", part)
        self.end_headers()

    def _end(self):
        if self.server.end == "stall":
            self.server.stopped.wait(10)
        elif self.server.end == "reset":
            self.wfile.flush()
            at_once = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            self.connection.close()

    def log_message(self, *_):
        """Say nothing."""
