"""Calls of `zoo.files.download` and `zoo.files.pins` in a process of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .client import pinning, python, sha256
from .server import HubServer

# Runs [name, function of zoo.files.download, arguments] in turn; prints the outcomes as JSON.
CLIENT = """
import dataclasses, hashlib, json, logging, sys, time
from zoo.files import download as hub, fetch
from zoo.catalog import registry
from zoo.errors import ZooError

slept, sleep = [], time.sleep
time.sleep = lambda seconds: (slept.append(seconds), sleep(seconds))

lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(f"{record.levelname} {record.getMessage()}")
logging.getLogger("zoo").addHandler(handler)

def outcome(function, *arguments):
    if function == "pinned":
        return outcome("download_verified", fetch.pin_on_first_use(*arguments))
    if arguments and isinstance(arguments[0], dict):
        arguments = [registry.weights_from_dict(arguments[0])]
    try:
        value = getattr(fetch if function.startswith("pin") else hub, function)(*arguments)
    except ZooError as error:
        return {"error": type(error).__name__, "code": error.code, "message": str(error)}
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    data, commit = value if isinstance(value, tuple) else (value, "")
    return {"sha256": hashlib.sha256(data).hexdigest(), "commit": commit}

results = {name: outcome(*call) for name, *call in json.load(sys.stdin)}
results["log"] = lines
results["slept"] = sum(slept)
results["torch"] = "torch" in sys.modules
print(json.dumps(results))
"""


def content(name: str) -> bytes:
    """Bytes that differ for each repository; "org/big" needs more than two chunks of 10 MiB."""
    if name == "org/big":
        return bytes(22 << 20)
    return b"".join(sha256(f"{name} {i}".encode()).encode() for i in range(40))


def record(server: HubServer, name: str, data: bytes | None = None) -> dict[str, Any]:
    """The weights record of a repository, as in a CONVATTN_CATALOG file."""
    data = content(name) if data is None else data
    known = name in server.repos
    return pinning(name, data, server.repos[name].refs["main"] if known else "0" * 40)


def client(home: Path, endpoint: str, *steps: list[Any], **variables: str) -> dict[str, Any]:
    """Run steps with `CLIENT`, which also proves that nothing else is printed to stdout."""
    results: dict[str, Any] = python(CLIENT, home, endpoint, steps, **variables)
    return results
