"""Where a measured number comes from: command, versions, machine, commit. Written beside every
number.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from .. import __version__


def provenance(seed: int | None = None) -> dict[str, Any]:
    """JSON values that say how a number was made."""
    return {
        "command": command(),
        "versions": versions(),
        "machine": machine(),
        "seed": seed,
        "parent_commit": parent_commit(),
    }


_INSIDE = re.compile(r"(?<=[=:])/(?!/)(?:[^/]*/)*(?=[^/])")  # folders of a path inside a word


def command() -> str:
    """The command line, with absolute paths cut to their last part: they tell of one machine
    only. So are those in ``--data=/here/photos`` and ``py:/here/net.py:Net``.
    """
    parts = [
        Path(part).name if os.path.isabs(part) else _INSIDE.sub("", part) for part in sys.argv[1:]
    ]
    program = Path(sys.argv[0])
    measuring = program.parent.name == "benchmarks"
    return " ".join([f"python -m benchmarks.{program.stem}" if measuring else "convattn", *parts])


def versions() -> dict[str, str]:
    """Versions of Python, the zoo and the packages that compute."""
    from importlib import metadata

    found = {"python": platform.python_version(), "convattn-zoo": __version__}
    for name in (
        "torch",
        "timm",
        "numpy",
        "pillow",
        "onnxruntime-gpu",
        "onnxruntime",
        "openvino",
        "scikit-learn",
    ):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor and cores."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.system()}


def parent_commit() -> str:
    """Commit of the checkout that contains this package, or "" outside one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def package_versions() -> dict[str, str]:
    """Versions of what writes and runs exports; packages that are not installed are left out."""
    from importlib import metadata

    found = {"convattn-zoo": __version__}
    for name in ("torch", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
