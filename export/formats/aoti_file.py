"""AOTInductor packages: a captured program compiled to a shared library, for use without Python.

A package holds machine code for the kind of processor that made it, and is made only where a C++
compiler is. Sources and absolute paths of the building machine are taken out of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ExportError, MissingDependencyError
from zoo.factory.description import PretrainedCfg
from zoo.files.processes import safe_children

from ..graph.checks import root_cause
from ..spec import OUTPUT_NAME, ExportSpec
from .axes import Axes
from .capture import quiet
from .metadata import metadata_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram


_KEY = "convattn"  # of our metadata among those of the package
_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_CODE = "/data/aotinductor/"


def write_aoti(
    program: ExportedProgram,
    path: Path,
    cfg: PretrainedCfg,
    spec: ExportSpec,
    axes: Axes,
    outputs: Sequence[str] = (OUTPUT_NAME,),
) -> None:
    """Compile a captured program and write the package; no parity. Takes about a minute.

    Raises: MissingDependencyError without a C++ compiler, ExportError.
    """
    import torch

    compilers = (os.environ.get("CXX", ""), "g++", "clang++", "c++")
    if not any(name and shutil.which(name) for name in compilers):
        raise MissingDependencyError(
            "an AOTInductor package is compiled: it needs a C++ compiler (g++, clang++, c++, or "
            "CXX); use the format pt2"
        )
    metadata = {_KEY: json.dumps(metadata_of(cfg, spec, axes, outputs))}
    with tempfile.TemporaryDirectory() as folder:
        home = os.path.realpath(folder)
        made = Path(home) / "model.pt2"
        try:
            with quiet(), torch.no_grad(), _compiling_in(home), safe_children():
                torch._inductor.aoti_compile_and_package(
                    program,
                    package_path=str(made),
                    inductor_configs={"aot_inductor.metadata": metadata},
                )
        except Exception as error:  # the compiler raises whatever its parts raise
            raise ExportError(
                f"AOTInductor could not compile {cfg.name}: {root_cause(error)}"
            ) from error
        places = (home, str(Path(torch.__file__).resolve().parents[1]), os.getcwd())
        path.write_bytes(_cleaned(made.read_bytes(), places))


@contextlib.contextmanager
def _compiling_in(folder: str) -> Iterator[None]:
    """The compiler's cache in a folder: what it writes there is named in the library."""
    before = os.environ.get(_CACHE)
    os.environ[_CACHE] = folder
    try:
        yield
    finally:
        del os.environ[_CACHE]
        if before is not None:
            os.environ[_CACHE] = before


def _cleaned(archive: bytes, places: Sequence[str]) -> bytes:
    """The package without its sources, and with paths of this machine overwritten in the library by
    as many characters, so that nothing in it moves.
    """
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(found, "w") as new:
        for entry in old.infolist():
            if entry.filename.endswith(".cpp"):
                continue
            data = old.read(entry)
            for place in places:
                data = data.replace(place.encode(), b"." + b"/" * (len(place.encode()) - 1))
            new.writestr(zipfile.ZipInfo(entry.filename), data)
    return found.getvalue()


def is_aoti(data: bytes) -> bool:
    """Whether an archive is such a package, not a torch.export program."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(_CODE in name for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def open_aoti(data: bytes) -> tuple[Any, str]:
    """A package, from the very bytes that were checked, as a function; and our metadata as JSON.

    It is machine code: only for files that are trusted. Raises: what torch raises.
    """
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt2"
        path.write_bytes(data)
        model = torch._inductor.aoti_load_package(str(path))
    return model, model.get_metadata().get(_KEY, "")
