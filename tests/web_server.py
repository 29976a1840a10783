"""A web server in a thread, which serves bytes by path and misbehaves as a test wants."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web:
    """Files by path, and faults: `answers` are statuses for the next requests, `cuts` the bytes after which next bodies end."""

    def __init__(self, address):
        self.address, self.files, self.moved = address, {}, {}
        self.answers, self.cuts, self.seen = [], [], []
        self.tag, self.ranges, self.says_length = '"1"', True, True

    def url(self, path):
        return f"{self.address}/{path}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        web, path = self.server.web, self.path.lstrip("/")
        web.seen.append((path, self.headers.get("Range")))
        if path in web.moved:
            self.send_response(302)
            self.send_header("Location", web.moved[path])
            self.end_headers()
            return
        status = web.answers.pop(0) if web.answers else 200 if path in web.files else 404
        if status != 200:
            self.send_error(status)
            return
        self.send_body(web, web.files[path])

    def send_body(self, web, content):
        total, start = len(content), 0
        wanted, only_if = self.headers.get("Range"), self.headers.get("If-Range")
        if wanted and web.ranges and only_if in (None, web.tag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start and start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if web.tag:
            self.send_header("ETag", web.tag)
        if web.says_length:
            self.send_header("Content-Length", str(total - start))
        self.end_headers()
        body = content[start:]
        self.wfile.write(body[: web.cuts.pop(0)] if web.cuts else body)


@contextmanager
def served():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.web = Web(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
