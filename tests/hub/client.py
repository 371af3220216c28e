"""Processes with the genuine client: fresh homes, and no way to any other host than this one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from zoo.catalog.weights_records import Metric
from zoo.files.manifest import make_manifest, read_manifest

from .server import closed_network

ROOT = Path(__file__).resolve().parents[2]
FILE = "model.safetensors"
TOKEN = "hf_maintainer"
METRICS = (Metric(name="acc1_percent", value=12.5, dataset="a test", source="made up for it"),)


# TorchScript, and how the client hands an upload to its HTTP library: not ours to change.
_DEPRECATED = (
    "ignore:`torch.jit:DeprecationWarning",
    "ignore:`torch.jit:FutureWarning",
    "ignore:Use 'content:DeprecationWarning",
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pinning(repo: str, data: bytes, revision: str) -> dict[str, Any]:
    """The weights record of a file in a repository, as in a CONVATTN_CATALOG file."""
    return {
        "model": "convit_nano",
        "tag": "digits",
        "version": "1.0.0",
        "sha256": sha256(data),
        "size_bytes": len(data),
        "repo": repo,
        "revision": revision,
    }


def environment(home: Path, endpoint: str, **variables: str) -> dict[str, str]:
    """Variables of a process whose caches are below `home` and whose Hub is `endpoint`."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        **closed_network(home),
        # Another release of the client is tested by putting it on PYTHONPATH.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "PYTHONWARNINGS": ",".join(["error", *_DEPRECATED]),
        "OMP_NUM_THREADS": "1",
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "CONVATTN_HOME": str(home / "convattn"),
        "TORCH_HOME": str(home / "torch"),
        **variables,
    }


def python(script: str, home: Path, endpoint: str, given: object = None, **variables: str) -> Any:
    """Run a script in a fresh process with its own cache below `home`; JSON in, JSON out."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(given),
        env=environment(home, endpoint, **variables),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def convattn(home: Path, endpoint: str, *arguments: str | Path, **variables: str) -> Ran:
    """Run the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "zoo", *map(str, arguments)],
        env=environment(home, endpoint, **variables),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def publish(home: Path, endpoint: str, bundle: Path, repo: str, tag: str, *options: str) -> Ran:
    """`convattn publish --yes --json` as the maintainer."""
    arguments = ("publish", bundle, "--repo", repo, "--tag", tag, "--yes", "--json", *options)
    return convattn(home, endpoint, *arguments, HF_TOKEN=TOKEN)


def resign(bundle: Path) -> None:
    """Make manifest.json agree with files that were changed."""
    old = read_manifest(bundle)
    paths = [p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()]
    listed = [p for p in paths if p not in ("manifest.json", "provenance.json")]
    new = make_manifest(bundle, listed, old.name, old.version, old.architecture_version)
    (bundle / "manifest.json").write_text(new.to_json())


def blobs(home: Path, name: str) -> list[Path]:
    """Files and links that the cache holds for a repository: blobs and snapshots, not refs."""
    folder = home / "hf" / "hub" / f"models--{name.replace('/', '--')}"
    kinds = (folder / "blobs", folder / "snapshots")
    return [p for kind in kinds for p in kind.rglob("*") if p.is_symlink() or p.is_file()]


def catalog(path: Path, *records: dict[str, Any]) -> dict[str, str]:
    """A CONVATTN_CATALOG file of records, as a variable."""
    path.write_text(json.dumps(records))
    return {"CONVATTN_CATALOG": str(path)}


# Loads [name, reference, keywords], one after the other; prints digests or errors.
LOAD = """
import json, sys
import zoo
from zoo.errors import ZooError

def load(reference, keywords):
    try:
        if "revision" in keywords:
            model = zoo.from_pretrained(reference, **keywords)
        else:
            model = zoo.create_model(reference, pretrained=True, **keywords)
    except ZooError as error:
        return {"error": type(error).__name__, "code": error.code, "message": str(error)}
    cfg = model.pretrained_cfg
    return {"name": cfg.name, "version": cfg.version, "sha256": cfg.sha256}

print(json.dumps({name: load(*call) for name, *call in json.load(sys.stdin)}))
"""

# The two releases of the fixture `published`.
BOTH = [
    ["old", "convit_nano.wide@1.0.0", {}],
    ["new", "convit_nano.wide@1.1.0", {}],
    ["newest", "convit_nano.wide", {}],
]
