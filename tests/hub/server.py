"""A small Hub in memory: the routes that the genuine client uses to read and publish, and faults.

Metadata is served at http://127.0.0.1:PORT, large files by redirect at http://localhost:PORT:
another origin, as on the real Hub, so that the client reads the headers of the redirect itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .reading import Reading
from .repository import Repo
from .writing import Writing

NOBODY = "http://127.0.0.1:1"  # nothing listens there


def closed_network(home: Path) -> dict[str, str]:
    """Variables of a process that reaches this machine only and keeps its files below `home`."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), NOBODY),
        "no_proxy": "127.0.0.1,localhost",
    }


@dataclass
class Fault:
    """What goes wrong with the next `times` answers whose method and path contain `match`.

    Kinds: "corrupt" flips a bit of the body, "short" drops its last byte and says so in the
    length, "truncate" cuts the connection after `at` bytes of the file (default: half of the body),
    "stall" sends half and then nothing, "delay" waits `seconds`, "norange" ignores a Range header,
    "status" answers with `status` and `body`.
    """

    kind: str
    match: str
    times: int = 1_000_000
    status: int = 503
    body: bytes = b""
    at: int = 0
    seconds: float = 1.0


class HubServer(ThreadingHTTPServer):
    """The server with its repositories, faults and request log (method, path, headers).

    `tokens` may read and write everything, `strangers` are valid tokens without any right. With
    `page` the lists of files come in pages; with `part` uploads of more bytes go in parts.
    """

    daemon_threads = True

    def __init__(self, prefix: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.prefix = prefix
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}  # uploaded LFS objects by SHA-256
        self.parts: dict[str, dict[int, bytes]] = {}
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str, dict[str, str]]] = []
        self.unhandled: list[str] = []
        self.tokens: set[str] = set()
        self.strangers: set[str] = set()
        self.page = self.part = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.endpoint = f"http://127.0.0.1:{self.server_port}{prefix}"
        self.cdn = f"http://localhost:{self.server_port}/cdn"

    def repo(self, name: str, files: dict[str, bytes], **options: Any) -> Repo:
        """Create a repository with one commit."""
        repo = self.repos[name] = Repo(name, **options)
        repo.commit(files)
        return repo

    def requests(self, match: str = "") -> list[str]:
        """``"METHOD path"`` of the requests so far that contain `match`."""
        lines = [f"{method} {path}" for method, path, _ in self.log]
        return [line for line in lines if match in line]

    def fault(self, line: str) -> Fault | None:
        """The fault for a request, counted down."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.match in line:
                    fault.times -= 1
                    return fault
        return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error; anything else is, and the test shows it."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            self.unhandled.append(f"internal error: {error!r}")


@contextlib.contextmanager
def running(prefix: str = "") -> Iterator[HubServer]:
    """A served `HubServer`; its address has `prefix` as its path."""
    with HubServer(prefix) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


class _Handler(Reading, Writing, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._route()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if not path.startswith("/cdn/"):
            path = path.removeprefix(self.server.prefix)
        self.server.log.append((self.command, path, dict(self.headers)))
        self.fault = self.server.fault(f"{self.command} {path}")
        if self.fault is not None and self.fault.kind == "delay":
            time.sleep(self.fault.seconds)
        if self.fault is not None and self.fault.kind == "status":
            return self.send(self.fault.status, self.fault.body)
        # A revision with a slash is one part of the address, so it is split before it is unquoted.
        raw = urlsplit(self.path).path
        raw = raw if raw.startswith("/cdn/") else raw.removeprefix(self.server.prefix)
        parts = [unquote(part) for part in raw.strip("/").split("/")]
        if self.command in ("GET", "HEAD") or parts[4:5] == ["paths-info"]:
            return self.read(parts)
        return self.write(parts)

    def token(self) -> str:
        """The token that the client sent."""
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def unknown(self) -> None:
        """A route that this Hub does not have: the suite fails on it."""
        self.server.unhandled.append(f"{self.command} {self.path}")
        self.refuse(404, "")

    def json(self, value: Any, status: int = 200, **headers: str) -> None:
        self.send(
            status, json.dumps(value).encode(), **headers, **{"Content-Type": "application/json"}
        )

    def refuse(self, status: int, code: str, **headers: str) -> None:
        self.send(status, b"", **headers, **({"X-Error-Code": code} if code else {}))

    def send(self, status: int, body: bytes, **headers: str) -> None:
        """Answer, with the fault that was asked for."""
        fault = self.fault if self.fault is not None and body else None
        kind = fault.kind if fault else ""
        if kind == "corrupt":
            body = body[:-1] + bytes([body[-1] ^ 1])
        elif kind == "short":
            body = body[:-1]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is None or kind not in ("truncate", "stall"):
            self.wfile.write(body)
            return
        self.wfile.write(body[: fault.at or len(body) // 2])
        self.wfile.flush()
        if kind == "stall":
            self.server.closing.wait(60)
        self.connection.close()
        self.close_connection = True
