"""github.com on this machine: a proxy that ends TLS with a throw-away CA and serves `git archive`.

A process with `https_proxy` and `SSL_CERT_FILE` set reaches it by unchanged torch.hub over genuine
HTTPS; every other host is refused and noted.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

HOSTS = ("github.com", "api.github.com", "codeload.github.com")


def make_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """A CA that signs one certificate for `HOSTS`: paths of CA, certificate and its key."""
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    names = ",".join(f"DNS:{host}" for host in HOSTS)
    (folder / "ext").write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n")
    key = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-subj", "/CN=throw-away CA", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    openssl("req", *key, "-keyout", "host.key", "-out", "host.csr", "-subj", "/CN=github.com")
    openssl("x509", "-req", "-in", "host.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "host.pem", "-days", "2", "-extfile", "ext")  # fmt: skip
    return folder / "ca.pem", folder / "host.pem", folder / "host.key"


class GitHub(ThreadingHTTPServer):
    """The proxy with one repository: archives by tag, and the log of hosts and paths."""

    daemon_threads = True

    def __init__(self, repo: str, archives: dict[str, bytes], certificate: Path, key: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repo, self.archives = repo, archives
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.log: list[str] = []
        self.unhandled: list[str] = []
        self.rate_limited = False
        self.address = f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def serving(
    repo: str, archives: dict[str, bytes], certificate: Path, key: Path
) -> Iterator[GitHub]:
    """A served `GitHub`."""
    with GitHub(repo, archives, certificate, key) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: GitHub
    host = ""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        host = self.path.partition(":")[0]
        if host not in HOSTS:
            self.server.unhandled.append(host)
            return self.send_error(403)
        self.send_response(200)
        self.end_headers()
        self.host = host
        self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", 0)
        self.close_connection = False  # urllib asks for the tunnel in HTTP/1.0
        return None

    def finish(self) -> None:
        super().finish()
        if self.host:
            self.connection.close()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.log.append(f"{self.host}{url.path}")
        home = f"/{self.server.repo}"
        tag = url.path.rpartition("/")[2]
        if self.host == "api.github.com" and self.server.rate_limited:
            return self._answer(403, b"{}")
        if self.host == "api.github.com" and url.path.startswith(f"/repos{home}/"):
            first = parse_qs(url.query)["page"] == ["1"]
            names = list(self.server.archives) if tag == "tags" else ["main"]
            refs = [{"name": name, "commit": {"sha": "0" * 40}} for name in names]
            return self._answer(200, json.dumps(refs if first else []).encode())
        if self.host == "github.com" and url.path.startswith(f"{home}/zipball/"):
            place = f"https://codeload.github.com{home}/legacy.zip/{tag}"
            return self._answer(302, b"", Location=place)
        if self.host == "codeload.github.com" and tag in self.server.archives:
            return self._answer(200, self.server.archives[tag])
        self.server.unhandled.append(f"{self.host}{self.path}")
        return self._answer(404, b"")

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
