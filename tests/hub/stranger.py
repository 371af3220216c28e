"""The environment of somebody who has this project's wheel, or nothing of it at all.

It shares the packages that the project depends on, by a .pth file, so that it is made in seconds;
this checkout is not on its path.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from .client import ROOT, environment

_SOURCES = ("zoo", "export", "pyproject.toml", "README.md", "LICENSE", "THIRD_PARTY.md")
_PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


class Stranger:
    """A virtual environment that shares the dependencies of the running one.

    Args:
        home: directory to make it in.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        venv.create(self.home, symlinks=True)
        self.python = self.home / "bin" / "python"
        [packages] = self.home.glob("lib/python*/site-packages")
        torch = importlib.util.find_spec("torch")
        assert torch is not None
        assert torch.origin is not None
        # of a directory named in a .pth file Python reads no further .pth: nothing editable
        (packages / "shared.pth").write_text(f"{Path(torch.origin).parents[1]}\n")

    def install(self) -> Path:
        """Build the wheel of this checkout and install it, without its dependencies."""
        wheel = build_wheel(self.home)
        _run(*_PIP, "--python", str(self.python), "install", "--no-deps", "--no-index", str(wheel))
        return wheel

    def run(self, script: str, home: Path, endpoint: str) -> str:
        """What a script prints that has its caches below `home` and the Hub at `endpoint`."""
        variables = environment(home, endpoint, PYTHONWARNINGS="ignore")
        del variables["PYTHONPATH"]
        return _run(str(self.python), "-P", "-c", script, cwd=home, env=variables).strip()


def build_wheel(place: Path) -> Path:
    """The wheel of this checkout, written into a directory, from a copy: a build leaves files."""
    source = place / "source"
    source.mkdir()
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            leave = shutil.ignore_patterns("__pycache__", "node_modules")
            shutil.copytree(ROOT / name, source / name, ignore=leave)
        else:
            shutil.copy(ROOT / name, source / name)
    build = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place))
    _run(*_PIP, *build, str(source))
    shutil.rmtree(source)
    [wheel] = place.glob("convattn_zoo-*.whl")
    return wheel


def _run(*command: str, **options: object) -> str:
    options.setdefault("env", {**os.environ, "PYTHONPATH": ""})
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"{' '.join(command)[:200]}\n{done.stderr or done.stdout}")
    return str(done.stdout)
