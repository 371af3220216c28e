"""The routes of the embedded Hub that publish: create, preupload, LFS, commit, tag."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from .repository import Repo, git_oid, is_lfs, lfs_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


class Writing:
    """Mixed into the handler, which brings `server`, `headers`, `body` and the ways to answer."""

    def write(self: Any, parts: list[str]) -> None:
        """Answer POST, PUT and DELETE."""
        if parts == ["api", "validate-yaml"]:
            return self.json({"errors": [], "warnings": []})
        if parts[0] == "cdn":
            return self._store(parts[-1], parts[-2])
        if self.token() not in self.server.tokens:
            return self.refuse(403 if self.token() in self.server.strangers else 401, "")
        if parts == ["api", "repos", "create"]:
            return self._create(json.loads(self.body))
        if parts[2:4] == ["info", "lfs"]:
            return self._lfs(parts[0] + "/" + parts[1].removesuffix(".git"), parts[-1])
        repo = self.server.repos.get("/".join(parts[2:4]))
        if parts[:2] != ["api", "models"] or repo is None:
            return self.unknown()
        if parts[4] == "preupload":
            return self._preupload(repo, parts[5])
        if parts[4] == "commit":
            return self._commit(repo, parts[5])
        if parts[4] == "tag":
            return self._tag(repo, parts[5])
        return self.unknown()

    def _create(self: Any, wanted: dict[str, Any]) -> None:
        name = f"{wanted.get('organization') or 'tester'}/{wanted['name']}"
        url = {"url": f"{self.server.endpoint}/{name}"}
        if name in self.server.repos:
            return self.json({**url, "error": "exists"}, 409)
        private = wanted.get("private") or wanted.get("visibility") == "private"
        self.server.repo(name, {".gitattributes": ATTRIBUTES}, private=bool(private))
        return self.json(url)

    def _preupload(self: Any, repo: Repo, revision: str) -> None:
        there = repo.commits[repo.refs[revision]]
        answers = []
        for file in json.loads(self.body)["files"]:
            path, sample = file["path"], base64.b64decode(file["sample"])
            lfs = is_lfs(path, sample, file["size"])
            oid = None
            if path in there:
                oid = lfs_sha256(path, there[path]) or git_oid(there[path])
            mode = "lfs" if lfs else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return self.json({"files": answers})

    def _lfs(self: Any, name: str, action: str) -> None:
        wanted = json.loads(self.body)
        if action == "verify":
            stored = self.server.objects.get(wanted["oid"])
            good = stored is not None and len(stored) == wanted["size"]
            return self.refuse(200 if good else 404, "")
        objects = [self._offer(name, **entry) for entry in wanted["objects"]]
        return self.json({"transfer": "basic", "objects": objects})

    def _offer(self: Any, name: str, oid: str, size: int) -> dict[str, Any]:
        """How one object is uploaded: not at all if it is there, in parts if it is large."""
        if oid in self.server.objects:
            return {"oid": oid, "size": size}
        place = f"{self.server.cdn}/upload"
        header: dict[str, str] = {}
        if self.server.part and size > self.server.part:
            count = -(-size // self.server.part)
            header = {str(n): f"{place}/{n}/{oid}" for n in range(1, count + 1)}
            header["chunk_size"] = str(self.server.part)
        verify = f"{self.server.endpoint}/{name}.git/info/lfs/objects/verify"
        actions = {
            "upload": {"href": f"{place}/whole/{oid}", "header": header},
            "verify": {"href": verify, "header": {}},
        }
        return {"oid": oid, "size": size, "actions": actions}

    def _store(self: Any, oid: str, part: str) -> None:
        """A body or one part of it; the whole must have the digest under which it is stored."""
        parts = self.server.parts.setdefault(oid, {})
        if self.command == "PUT" and part != "whole":
            parts[int(part)] = self.body
            return self.send(200, b"", ETag=f'"{part}"')
        data = self.body
        if self.command == "POST":
            data = b"".join(parts[number] for number in sorted(parts))
        if hashlib.sha256(data).hexdigest() != oid:
            return self.refuse(400, "")
        self.server.objects[oid] = data
        return self.send(200, b"", ETag='"whole"')

    def _commit(self: Any, repo: Repo, revision: str) -> None:
        with self.server.lock:
            lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
            header = next(line["value"] for line in lines if line["key"] == "header")
            parent = repo.refs[revision]
            if header.get("parentCommit") not in (None, parent):
                message = "A commit has happened since. Please refresh and try again."
                return self.send(412, b"", **{"X-Error-Message": message})
            files = dict(repo.commits[parent])
            for path, data in self._changes(lines):
                if data is None:
                    del files[path]
                else:
                    files[path] = data
            sha = repo.commit(files, title=header["summary"])
        url = f"{self.server.endpoint}/{repo.name}/commit/{sha}"
        return self.json({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def _changes(self: Any, lines: list[dict[str, Any]]) -> Iterator[tuple[str, bytes | None]]:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                yield value["path"], base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                yield value["path"], self.server.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                yield value["path"], None
            elif line["key"] != "header":
                self.server.unhandled.append(f"commit operation {line['key']}")

    def _tag(self: Any, repo: Repo, name: str) -> None:
        """POST /tag/REVISION with the name in the body; DELETE /tag/NAME."""
        if self.command == "DELETE":
            repo.refs.pop(name)
            return self.refuse(200, "")
        sha, tag = repo.resolve(name), json.loads(self.body)["tag"]
        if sha is None:
            return self.refuse(404, "RevisionNotFound")
        if tag in repo.refs:
            return self.refuse(409, "")
        repo.refs[tag] = sha
        return self.refuse(201, "")
