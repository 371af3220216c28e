"""A model repository in memory with git's own object hashes: blobs, pointers, trees, commits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

LFS_SUFFIXES = (".safetensors", ".onnx", ".bin", ".pt", ".pt2")
LFS_BYTES = 10 << 20
SAMPLE_BYTES = 512  # what a client sends before the file, so that the Hub can choose


def git_oid(data: bytes, kind: str = "blob") -> str:
    """Git's hash of an object: of a blob, it is the entity tag of a file outside LFS."""
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()


def is_lfs(path: str, sample: bytes, size: int) -> bool:
    """Whether the Hub keeps a file in LFS: by name, because it is binary, or large."""
    return path.endswith(LFS_SUFFIXES) or b"\0" in sample or size > LFS_BYTES


def lfs_sha256(path: str, data: bytes) -> str:
    """The LFS object of a file, or "" if it is an ordinary one."""
    stored = is_lfs(path, data[:SAMPLE_BYTES], len(data))
    return hashlib.sha256(data).hexdigest() if stored else ""


def blob(path: str, data: bytes) -> bytes:
    """What git stores: the file, or the pointer to its LFS object."""
    digest = lfs_sha256(path, data)
    if not digest:
        return data
    head = "version https://git-lfs.github.com/spec/v1"
    return f"{head}\noid sha256:{digest}\nsize {len(data)}\n".encode()


def tree_oid(files: dict[str, bytes]) -> str:
    """Git's hash of the tree of these files."""
    here: dict[str, bytes] = {}
    folders: dict[str, dict[str, bytes]] = {}
    for path, data in files.items():
        first, _, rest = path.partition("/")
        if rest:
            folders.setdefault(first, {})[rest] = data
        else:
            here[first] = data
    entries = [(name, "100644", git_oid(blob(name, data))) for name, data in here.items()]
    entries += [(name, "40000", tree_oid(inside)) for name, inside in folders.items()]
    entries.sort(key=lambda entry: entry[0] + ("/" if entry[1] == "40000" else ""))
    lines = [f"{mode} {name}\0".encode() + bytes.fromhex(oid) for name, mode, oid in entries]
    return git_oid(b"".join(lines), "tree")


@dataclass
class Repo:
    """One model repository: commits are dictionaries of files, refs are names of commits."""

    name: str
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], *refs: str, title: str = "change") -> str:
        """Add a commit with exactly these files; ``main`` and `refs` point to it."""
        parent = self.refs.get("main")
        who = f"hub <hub@localhost> {1_700_000_000 + len(self.commits)} +0000"
        lines = [f"tree {tree_oid(files)}", *([f"parent {parent}"] if parent else [])]
        lines += [f"author {who}", f"committer {who}", "", title, ""]
        sha = git_oid("\n".join(lines).encode(), "commit")
        self.commits[sha] = dict(files)
        self.titles[sha] = title
        self.refs.update(dict.fromkeys(("main", *refs), sha))
        return sha

    def resolve(self, revision: str) -> str | None:
        """The full hash of a branch, tag or commit."""
        sha = self.refs.get(revision, revision)
        return sha if sha in self.commits else None

    @property
    def tags(self) -> dict[str, str]:
        """All refs but the branch ``main``."""
        return {name: sha for name, sha in self.refs.items() if name != "main"}
