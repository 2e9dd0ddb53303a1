"""A registry of images: as much of the OCI distribution API as a push and a pull need."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

UPLOAD = "/upload"


class Registry(http.server.HTTPServer):
    """What was pushed: blobs by digest, and manifests by ``NAME@DIGEST`` and ``NAME:TAG``. One request at a time: two uploads would mix."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.held: dict[str, bytes] = {}
        self.kinds: dict[str, str] = {}
        self.coming = b""


class Handler(http.server.BaseHTTPRequestHandler):
    """The API."""

    protocol_version = "HTTP/1.1"
    server: Registry

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Give a blob or a manifest."""
        key = self._key()
        if self.path == "/v2/":
            self._answer(200)
        elif key in self.server.held:
            body = self.server.held[key]
            kind = self.server.kinds.get(key, "application/octet-stream")
            self._answer(200, body, Content_Type=kind, Docker_Content_Digest=_digest(body))
        else:
            self._answer(404)

    def do_HEAD(self) -> None:
        """Say whether it is there."""
        self.do_GET()

    def do_POST(self) -> None:
        """Begin an upload."""
        self._body()
        self.server.coming = b""
        self._answer(202, Location=UPLOAD, Range="0-0")

    def do_PATCH(self) -> None:
        """Take a part of it."""
        self.server.coming += self._body()
        self._answer(202, Location=UPLOAD, Range=f"0-{len(self.server.coming) - 1}")

    def do_PUT(self) -> None:
        """End an upload, or take a manifest."""
        body = self._body()
        if self.path.startswith(UPLOAD):
            digest = parse_qs(urlsplit(self.path).query)["digest"][0]
            self.server.held[digest] = self.server.coming + body
        else:
            digest = _digest(body)
            name = re.split("[@:]", self._key())[0]
            for key in (self._key(), f"{name}@{digest}"):
                self.server.held[key], self.server.kinds[key] = body, self.headers["Content-Type"]
        self._answer(201, Docker_Content_Digest=digest)

    def _key(self) -> str:
        if found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", self.path):
            return f"{found[1]}{'@' if ':' in found[2] else ':'}{found[2]}"
        return self.path.rpartition("/")[2]

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@contextmanager
def registry() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Give the address of a registry, and what it holds."""
    server = Registry()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", server.held
    finally:
        server.shutdown()
        server.server_close()
