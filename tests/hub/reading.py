"""The routes of the embedded Hub that read: resolve, info, tree, refs, and the file host."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

from .repository import blob, git_oid, lfs_sha256

if TYPE_CHECKING:
    from .repository import Repo

SIGNATURE = "5ecretsignature"  # of every address of the file host


class Reading:
    """Mixed into the handler, which brings `server`, `headers`, `body` and the ways to answer."""

    def read(self: Any, parts: list[str]) -> None:
        """Answer GET and HEAD, and the one POST that only reads."""
        if parts[0] == "cdn":
            return self._file("/".join(parts[1:3]), parts[-1])
        if parts == ["api", "whoami-v2"]:
            return self._whoami()
        if parts[:2] == ["api", "models"]:
            return self._api("/".join(parts[2:4]), "/".join(parts[4:5]), parts[5:])
        if parts[2:3] == ["resolve"]:
            return self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return self.unknown()

    def _whoami(self: Any) -> None:
        if self.token() not in self.server.tokens | self.server.strangers:
            message = "Invalid credentials in Authorization header"
            return self.send(401, b"", **{"X-Error-Message": message})
        role = "write" if self.token() in self.server.tokens else "read"
        token = {"accessToken": {"role": role}}
        return self.json({"type": "user", "name": "tester", "orgs": [], "auth": token})

    def allowed(self: Any, name: str, reads_files: bool) -> Repo | None:
        """The repository if it may be seen; else the answer is sent."""
        repo = self.server.repos.get(name)
        token = self.token()
        if token and token not in self.server.tokens | self.server.strangers:
            message = "Invalid credentials in Authorization header"
            return self.send(401, b"", **{"X-Error-Message": message})
        hidden = repo is None or (repo.private and token not in self.server.tokens)
        if hidden:
            return self.refuse(404 if token else 401, "RepoNotFound")
        if repo.gated and reads_files and token not in self.server.tokens:
            return self.refuse(403 if token else 401, "GatedRepo")
        return repo

    def _api(self: Any, name: str, action: str, rest: list[str]) -> None:
        repo = self.allowed(name, reads_files=False)
        if repo is None:
            return None
        if action == "refs":
            return self.json(_refs(repo))
        if action not in ("", "revision", "commits", "tree", "paths-info"):
            return self.unknown()
        sha = repo.resolve(rest[0] if rest else "main")
        if sha is None:
            return self.refuse(404, "RevisionNotFound")
        files = repo.commits[sha]
        if action in ("", "revision"):
            return self.json(_info(repo, sha))
        if action == "commits":
            when = "2024-01-01T00:00:00.000Z"
            entries = [
                {"id": s, "title": t, "message": "", "date": when, "authors": [{"user": "tester"}]}
                for s, t in repo.titles.items()
            ]
            return self.json(entries[::-1])
        if action == "tree":
            return self._tree(files)
        wanted = parse_qs(self.body.decode()).get("paths", [])
        return self.json([_entry(path, files[path]) for path in wanted if path in files])

    def _tree(self: Any, files: dict[str, bytes]) -> None:
        """All files, in pages if the server was told so."""
        entries = [_entry(path, files[path]) for path in sorted(files)]
        if not self.server.page:
            return self.json(entries)
        url = urlsplit(self.path)
        start = int(parse_qs(url.query).get("cursor", ["0"])[0])
        end = start + self.server.page
        following = f"{self.server.endpoint}{url.path.removeprefix(self.server.prefix)}"
        link = f'<{following}?recursive=true&cursor={end}>; rel="next"'
        return self.json(entries[start:end], **({"Link": link} if end < len(entries) else {}))

    def _resolve(self: Any, name: str, revision: str, path: str) -> None:
        repo = self.allowed(name, reads_files=True)
        if repo is None:
            return None
        sha = repo.resolve(revision)
        if sha is None:
            return self.refuse(404, "RevisionNotFound")
        data = repo.commits[sha].get(path)
        commit = {"X-Repo-Commit": sha}
        if data is None:
            return self.refuse(404, "EntryNotFound", **commit)
        digest = lfs_sha256(path, data)
        if not digest:
            return self.send(200, data, **commit, ETag=f'"{git_oid(data)}"')
        return self.send(
            302,
            b"",
            **commit,
            **{"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))},
            Location=f"{self.server.cdn}/{quote(repo.name)}/{digest}?X-Amz-Signature={SIGNATURE}",
        )

    def _file(self: Any, name: str, digest: str) -> None:
        """An LFS object; the file host knows no tokens."""
        repo = self.server.repos[name]
        contents = [data for files in repo.commits.values() for data in files.values()]
        data = next(data for data in contents if hashlib.sha256(data).hexdigest() == digest)
        headers = {"Accept-Ranges": "bytes"}
        wanted = self.headers.get("Range")
        if wanted is None or (self.fault and self.fault.kind == "norange"):
            return self.send(200, data, **headers)
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return self.send(206, data[start:], **headers)


def _refs(repo: Repo) -> dict[str, Any]:
    def entry(kind: str, name: str, sha: str) -> dict[str, str]:
        return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha}

    heads = [entry("heads", "main", repo.refs["main"])] if "main" in repo.refs else []
    tags = [entry("tags", name, sha) for name, sha in repo.tags.items()]
    return {"branches": heads, "tags": tags, "converts": []}


def _info(repo: Repo, sha: str) -> dict[str, Any]:
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


def _entry(path: str, data: bytes) -> dict[str, Any]:
    """One file as the tree and paths-info routes list it."""
    stored = blob(path, data)
    entry: dict[str, Any] = {
        "type": "file",
        "oid": git_oid(stored),
        "size": len(data),
        "path": path,
    }
    digest = lfs_sha256(path, data)
    if digest:
        entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": len(stored)}
    return entry
