"""A disk that is full at any moment: a typed error, nothing left, the old one whole."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import zoo
from zoo.errors import ResourceError
from zoo.files.local import write_bytes
from zoo.files.staging import staged_directory
from zoo.training.checkpoint import write_checkpoint

from .kill_driver import strays_below

TINY = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
STEPS = 20


def _directory(place: Path, byte: bytes) -> None:
    with staged_directory(place, replace=True) as folder:
        for name in ("a", "b", "c"):
            (folder / name).write_bytes(byte * 30_000)
        (folder / "manifest.json").write_bytes(byte * 500)


def _file(place: Path, byte: bytes) -> None:
    place.mkdir(exist_ok=True)
    write_bytes(place / "file", byte * 30_000)


def _checkpoint(place: Path, byte: bytes) -> None:
    place.mkdir(exist_ok=True)
    write_checkpoint(place, {"model": {"a": torch.full((7500,), float(byte[0]))}}, {"epoch": 1})


def _import(place: Path, byte: bytes) -> None:
    torch.manual_seed(byte[0])
    source = place.parent / f"{byte[0]}.pth"
    if not source.exists():
        model = zoo.create_model("convit_nano", **TINY, local_up_to_layer=1)
        torch.save(model.state_dict(), source)
    settings = {**TINY, "local_up_to_layer": 1}
    zoo.import_checkpoint(source, "convit_nano", place, overwrite=True, **settings)


WRITERS = {"directory": _directory, "file": _file, "checkpoint": _checkpoint, "import": _import}


def _content(place: Path) -> dict[str, bytes]:
    files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    # what an import notes of time and machine differs from run to run
    return {p.name: p.read_bytes() for p in files if p.name != "provenance.json"}


def _limited(work: Callable[[], None], size: int) -> int:
    """Run `work` in a child whose files may have `size` bytes; 0 done, 3 a typed error, else 1."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            work()
            code = 0
        except ResourceError as error:
            code = 3 if error.code == "disk_full" else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_a_typed_error_that_leaves_the_old_one_whole(
    writer: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    write, place = WRITERS[writer], tmp_path / "out"
    write(place, b"n")
    new = _content(place)
    write(place, b"o")
    old = _content(place)
    assert old != new
    largest = max(map(len, new.values()))
    outcomes = []
    for step in range(STEPS):
        outcomes.append(_limited(lambda: write(place, b"n"), largest * step // STEPS))
        assert outcomes[-1] == 3
        assert _content(place) == old
        assert strays_below(tmp_path) == []
    assert _limited(lambda: write(place, b"n"), 2 * largest) == 0
    assert _content(place) == new
    record_property("limits", len(outcomes))
