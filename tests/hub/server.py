"""A small Hub in memory for tests of downloads: the routes that the client reads, and faults.

Metadata is served at http://127.0.0.1:PORT, large files by redirect at http://localhost:PORT:
another origin, as on the real Hub, so that the client reads the headers of the redirect itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

NOBODY = "http://127.0.0.1:1"  # nothing listens there
LFS_SUFFIXES = (".safetensors", ".onnx", ".bin")


def closed_network(home: Path) -> dict[str, str]:
    """Variables of a process that reaches this machine only and keeps its files below `home`."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), NOBODY),
        "no_proxy": "127.0.0.1,localhost",
    }


def git_oid(data: bytes) -> str:
    """Git's hash of a blob: the entity tag of a file outside LFS."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repo:
    """One model repository: commits are dictionaries of files, refs are names of commits."""

    name: str
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], *refs: str) -> str:
        """Add a commit with exactly these files; ``main`` and `refs` point to it."""
        sha = hashlib.sha1(f"{self.name} {len(self.commits)}".encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.refs.update(dict.fromkeys(("main", *refs), sha))
        return sha

    def resolve(self, revision: str) -> str | None:
        """The full hash of a branch, tag or commit."""
        sha = self.refs.get(revision, revision)
        return sha if sha in self.commits else None


@dataclass
class Fault:
    """What goes wrong with the next `times` answers whose method and path contain `match`.

    Kinds: "corrupt" flips a bit of the body, "short" drops its last byte and says so in the
    length, "truncate" cuts the connection half-way, "status" answers with `status` and `body`.
    """

    kind: str
    match: str
    times: int = 1_000_000
    status: int = 503
    body: bytes = b""


class HubServer(ThreadingHTTPServer):
    """The server with its repositories, faults and request log (method, path, headers)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str, dict[str, str]]] = []
        self.unhandled: list[str] = []
        self.tokens: set[str] = set()
        self.lock = threading.Lock()
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
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
def running() -> Iterator[HubServer]:
    """A served `HubServer`."""
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._route()

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.form = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self._route()

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.log.append((self.command, path, dict(self.headers)))
        self.fault = self.server.fault(f"{self.command} {path}")
        if self.fault is not None and self.fault.kind == "status":
            return self._send(self.fault.status, self.fault.body)
        parts = path.strip("/").split("/")
        if parts[0] == "cdn":
            return self._cdn("/".join(parts[1:3]), parts[-1])
        if parts[:2] == ["api", "models"]:
            return self._repository("/".join(parts[2:4]), "api/" + "/".join(parts[4:5]), parts[5:])
        return self._repository("/".join(parts[:2]), "/".join(parts[2:3]), parts[3:])

    def _repository(self, name: str, action: str, rest: list[str]) -> None:
        """Answer ``/NAME/ACTION/REVISION/PATH`` or ``/api/models/NAME/ACTION/REVISION``."""
        repo = self.server.repos.get(name)
        if repo is None:
            return self._refuse(401, "RepoNotFound")
        if not self._allowed(repo, action):
            return None
        sha = repo.resolve(rest[0] if rest else "main")
        if sha is None:
            return self._refuse(404, "RevisionNotFound")
        if action == "resolve":
            return self._resolve(repo, sha, "/".join(rest[1:]))
        if action in ("api/", "api/revision"):
            return self._json(self._info(repo, sha))
        files = repo.commits[sha]
        if action == "api/tree":
            return self._json([_entry(path, files[path]) for path in files])
        if action == "api/paths-info":
            wanted = [path for path in parse_qs(self.form).get("paths", []) if path in files]
            return self._json([_entry(path, files[path]) for path in wanted])
        self.server.unhandled.append(f"{self.command} {self.path}")
        return self._refuse(404, "")

    def _allowed(self, repo: Repo, action: str) -> bool:
        """True if access is granted; else the answer is sent."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token in self.server.tokens:
            return True
        if token:
            message = "Invalid credentials in Authorization header"
            self._send(401, b"", **{"X-Error-Message": message})
        elif repo.private:
            self._refuse(401, "RepoNotFound")
        elif repo.gated and action == "resolve":
            self._refuse(401, "GatedRepo")
        else:
            return True
        return False

    def _resolve(self, repo: Repo, sha: str, path: str) -> None:
        data = repo.commits[sha].get(path)
        commit = {"X-Repo-Commit": sha}
        if data is None:
            return self._refuse(404, "EntryNotFound", **commit)
        if not path.endswith(LFS_SUFFIXES):
            return self._send(200, data, **commit, ETag=f'"{git_oid(data)}"')
        digest = hashlib.sha256(data).hexdigest()
        return self._send(
            302,
            b"",
            **commit,
            **{"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))},
            Location=f"{self.server.cdn}/{repo.name}/{digest}",
        )

    def _cdn(self, name: str, digest: str) -> None:
        repo = self.server.repos[name]
        blobs = [data for files in repo.commits.values() for data in files.values()]
        data = next(data for data in blobs if hashlib.sha256(data).hexdigest() == digest)
        headers = {"Accept-Ranges": "bytes"}
        wanted = self.headers.get("Range")
        if wanted is None:
            return self._send(200, data, **headers)
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return self._send(206, data[start:], **headers)

    def _info(self, repo: Repo, sha: str) -> dict[str, Any]:
        return {
            "_id": sha[:24],
            "id": repo.name,
            "modelId": repo.name,
            "sha": sha,
            "private": repo.private,
            "gated": "manual" if repo.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": path} for path in repo.commits[sha]],
        }

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), **{"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, **headers: str) -> None:
        self._send(status, b"", **headers, **({"X-Error-Code": code} if code else {}))

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        kind = self.fault.kind if self.fault is not None and body else ""
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
        if kind == "truncate":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.wfile.write(body)


def _entry(path: str, data: bytes) -> dict[str, Any]:
    """One file as the tree and paths-info routes list it."""
    entry: dict[str, Any] = {
        "type": "file",
        "oid": git_oid(data),
        "size": len(data),
        "path": path,
    }
    if path.endswith(LFS_SUFFIXES):
        digest = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
    return entry
