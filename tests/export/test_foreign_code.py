"""Files that run code when they are opened, handed to everything that opens files: none runs
unless code is trusted. Each such file writes a canary.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import export
import zoo
from zoo.cli import main
from zoo.errors import IntegrityError, ZooError
from zoo.files.manifest import make_manifest, read_manifest

SCAN = str(Path(__file__).resolve().parents[2] / "examples" / "digit_7.png")
KINDS = ("script", "sample_inputs", "weights", "constants")


class _Canary:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (self.path,)


def _script(canary: Path, path: Path) -> None:
    """TorchScript whose state, when it is set, maps a new file into memory."""

    class Writes(nn.Module):
        def __init__(self, where: str) -> None:
            super().__init__()
            self.where = where

        @torch.jit.export
        def __getstate__(self) -> tuple[str, bool]:
            return self.where, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[str, bool]) -> None:
            self.where = state[0]
            self.training = bool(torch.from_file(self.where, True, 4, dtype=torch.uint8).any())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    torch.jit.script(Writes(str(canary))).save(str(path))


class _Offset(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 1)
        self.offset = torch.ones(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.offset


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small torch.export archive that is as it should be."""
    path = tmp_path_factory.mktemp("archive") / "good.pt2"
    program = torch.export.export(_Offset(), (torch.zeros(1, 1, 8, 8),))
    torch.export.save(program, path)
    return path


def _tampered(archive: Path, part: str, canary: Path, path: Path) -> None:
    """The archive with a pickle of the canary in place of each member of a part."""
    buffer = io.BytesIO()
    torch.save(_Canary(canary), buffer)
    with zipfile.ZipFile(archive) as good, zipfile.ZipFile(path, "w") as bad:
        for member in good.infolist():
            data = good.read(member)
            if f"/{part}/" in member.filename:
                data = (
                    data.replace(b'"use_pickle": false', b'"use_pickle": true')
                    if member.filename.endswith(".json")
                    else buffer.getvalue()
                )
            bad.writestr(member.filename, data)


@pytest.fixture(params=KINDS)
def hostile(request: pytest.FixtureRequest, archive: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A file with code in it, and the canary that it would write."""
    canary = tmp_path / "canary"
    if request.param == "script":
        path = tmp_path / "model.pt"
        _script(canary, path)
    else:
        path = tmp_path / "model.pt2"
        _tampered(archive, request.param, canary, path)
    assert not canary.exists()
    return path, canary


@pytest.fixture
def directory(hostile: tuple[Path, Path], exported: Path, tmp_path: Path) -> Path:
    """An export whose only exported file is the hostile one; its manifest vouches for it."""
    out = Path(shutil.copytree(exported, tmp_path / "theirs"))
    shutil.rmtree(out / "onnx")
    (out / "model.pt").unlink()
    shutil.copy(hostile[0], out)
    stated = read_manifest(out)
    files = [p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()]
    files.remove("manifest.json")
    manifest = make_manifest(
        out, sorted(files), stated.name, stated.version, stated.architecture_version
    )
    (out / "manifest.json").write_text(manifest.to_json())
    return out


def status(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0)


def test_the_canary_is_written_once_code_is_trusted(hostile: tuple[Path, Path]) -> None:
    path, canary = hostile
    with contextlib.suppress(ZooError):  # what is left of it is no model
        export.open_file(path, trust_code=True)
    assert canary.exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("predict", "{file}", SCAN), 4),
        (("predict", "{file}", SCAN, "--like", "convit_nano", "--threads", "1"), 4),
        (("predict", "{file}", SCAN, "--untrusted"), 4),
        (("predict", "{directory}", SCAN, "--precision", "float32"), 4),
        (("predict", "{directory}/{file.name}", SCAN), 4),
        (("evaluate", "{file}", "--data", "digits"), 4),
        (("verify", "{directory}/{file.name}"), 4),
        (("bench", "model", "{file}", "--rounds", "3"), 4),
        (("analyze", "noise", "{file}", "--data", "digits", "--fast", "--out", "{new}"), 4),
        (("analyze", "robustness", "{file}", "--data", "digits", "--fast", "--out", "{new}"), 4),
        (("embed", "{file}", "--data", "digits", "--out", "{new}.npz"), 4),
        (("export", "{file}", "--out", "{new}"), 3),
        (("bundle", "{file}", "--out", "{new}"), 3),
        (("import", "{file}", "--model", "convit_nano", "--out", "{new}"), 3),
        (("predict", "convit_nano", SCAN, "--weights", "{file}"), 3),
    ],
)
def test_no_verb_runs_the_file(
    words: tuple[str, ...],
    expected: int,
    hostile: tuple[Path, Path],
    directory: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    file, canary = hostile
    new = tmp_path / "new"
    found = status(*(word.format(file=file, directory=directory, new=new) for word in words))
    assert not canary.exists()
    error = capfd.readouterr().err
    assert found == expected, error
    if expected == 4:
        assert "--trust-code" in error
    assert not list(tmp_path.glob("new*"))


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "{directory}", SCAN),
        ("evaluate", "{directory}", "--data", "digits"),
        ("bench", "load", "{directory}"),
        pytest.param(("export", "{directory}", "--out", "{new}"), marks=pytest.mark.slow),
        pytest.param(("bundle", "{directory}", "--out", "{new}"), marks=pytest.mark.slow),
    ],
)
def test_no_verb_runs_a_file_that_lies_beside_the_weights(
    words: tuple[str, ...], hostile: tuple[Path, Path], directory: Path, tmp_path: Path
) -> None:
    assert status(*(word.format(directory=directory, new=tmp_path / "new") for word in words)) == 0
    assert not hostile[1].exists()


def test_verify_says_that_foreign_code_was_not_run(
    hostile: tuple[Path, Path], directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, canary = hostile
    assert status("verify", directory) == 0
    assert f"{path.name}: not run: it is code that was not exported here" in capfd.readouterr().out
    assert not canary.exists()


def test_the_library_does_not_run_it_either(hostile: tuple[Path, Path], directory: Path) -> None:
    path, canary = hostile
    for place in (path, directory, directory / path.name):
        for call in (export.open_file, export.open_predictor):
            with pytest.raises(IntegrityError, match="trust_code=True") as caught:
                call(place)
            assert caught.value.code == "code_not_trusted"
    zoo.create_model(str(directory), pretrained=True)
    assert not canary.exists()


def test_untrusted_and_trusted_exclude_each_other(tmp_path: Path) -> None:
    assert status("predict", tmp_path / "a.pt", SCAN, "--untrusted", "--trust-code") == 2
    with pytest.raises(ZooError, match="not both"):
        export.open_predictor(tmp_path / "a.pt", untrusted=True, trust_code=True)
