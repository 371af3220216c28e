"""AOTInductor packages: compiled, run, judged, and treated as the code that they are."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import export
from export.formats.aoti_file import _cleaned, is_aoti
from export.runtime.opening import open_session
from export.runtime.providers import SessionSettings
from export.spec import ExportSpec
from zoo.catalog.weights_records import InputSpec
from zoo.errors import InputError, IntegrityError, MissingDependencyError, ProviderError
from zoo.factory.create import create_random
from zoo.factory.description import PretrainedCfg
from zoo.files.ledger import remember
from zoo.files.local import sha256_file

SPEC = ExportSpec(batches=(1, 3))


class Small(nn.Module):
    """A convolution, a mean and a layer: little to compile."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().mean((2, 3)))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler (g++)")
def test_a_package_is_compiled_run_judged_and_trusted_by_digest(tmp_path: Path) -> None:
    from export.formats.aoti_file import write_aoti
    from export.formats.axes import axes_of
    from export.formats.capture import capture
    from export.formats.outputs import own_form
    from export.parity.measure import References, check_file

    torch.manual_seed(0)
    model = Small().eval()
    cfg = PretrainedCfg(
        architecture="", architecture_version=0, num_classes=4, input=InputSpec(size=(8, 8))
    )
    axes = axes_of(model, cfg.input, SPEC).strided
    path = tmp_path / "model.aoti.pt2"
    write_aoti(capture(model, 3, axes), path, cfg, SPEC, axes)
    rows, _ = check_file(path, "pt2", path.name, References(own_form(model), cfg, SPEC, axes))
    assert {row.batch for row in rows} == {1, 3}
    assert all(row.passed for row in rows)
    assert max(row.max_abs_error for row in rows) < 1e-6

    with zipfile.ZipFile(path) as archive:
        names, content = archive.namelist(), b"".join(map(archive.read, archive.namelist()))
    assert any(name.endswith(".so") for name in names)
    assert not any(name.endswith(".cpp") for name in names)
    assert str(Path(torch.__file__).resolve().parents[1]).encode() not in content
    assert str(tmp_path.parent).encode() not in content

    with pytest.raises(IntegrityError, match="code that was not exported here"):
        open_session(path)
    remember([sha256_file(path)])
    session = open_session(path)
    x = np.random.default_rng(0).standard_normal((5, 3, 8, 8), dtype=np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    assert np.abs(session.run(x) - expected).max() < 1e-6
    assert InputSpec.from_dict(session.metadata["input"]).size == (8, 8)
    with pytest.raises(InputError, match="expected float32 images"):
        session.run(x[:, :, :4])
    with pytest.raises(ProviderError):
        open_session(path, SessionSettings(provider="cuda"))


def test_without_a_compiler_the_format_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"needs a C\+\+ compiler"):
        export.export_model(create_random("convit_nano", 0), tmp_path / "out", ["aoti"], SPEC)
    assert not (tmp_path / "out").exists()


def test_sources_leave_the_package_and_paths_are_overwritten_in_place(tmp_path: Path) -> None:
    path = tmp_path / "p.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("p/data/aotinductor/model/a.wrapper.cpp", "// /home/someone/torch")
        archive.writestr("p/data/aotinductor/model/a.so", b"\0/home/someone/torch/x.h\0")
        archive.writestr("p/version", "1")
    assert is_aoti(path.read_bytes())
    path.write_bytes(_cleaned(path.read_bytes(), ["/home/someone"]))
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["p/data/aotinductor/model/a.so", "p/version"]
        found = archive.read("p/data/aotinductor/model/a.so")
    assert found == b"\0.////////////" + b"/torch/x.h\0"
    assert not is_aoti(b"PK\x03\x04 nothing")
