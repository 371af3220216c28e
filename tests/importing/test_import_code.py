"""Code in a checkpoint: refused and named, and never run."""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import zoo
from zoo.checkpoint_reader import read_checkpoint
from zoo.errors import ZooError

from .checkpoints import Call, pickled, rewrite, zip_with_pickle
from .reading import GOOD, read, refused, saved


def _dotted(module: str, name: str) -> bytes:
    """A protocol 4 pickle that calls module.name("touch CANARY")."""
    text = lambda value: b"\x8c" + bytes([len(value)]) + value.encode()  # noqa: E731
    return b"\x80\x04" + text(module) + text(name) + b"\x93" + text("touch CANARY") + b"\x85R."


def _evil_pickles() -> dict[str, bytes]:
    command = f"{sys.executable} -c \"open('CANARY', 'w')\""
    system = Call(os.system, command)
    return {
        "zip": saved({"state_dict": GOOD, "x": system}),
        "zip, inside the state dict": saved({**GOOD, "x": system}),
        "zip, after the weights": saved([GOOD, system]),
        "legacy": saved({"state_dict": GOOD, "x": system}, legacy=True),
        "legacy, before the magic number": pickled(system) + saved(GOOD, legacy=True),
        "legacy, among the storage keys": saved(GOOD, legacy=True).replace(
            b"]q", b"cos\nsystem\n]q"
        ),
        "plain pickle": pickled(system),
        "plain pickle, protocol 5": pickled(system, 5),
        "plain pickle, protocol 0": pickled(system, 0),
        "eval": saved({"x": Call(eval, "open('CANARY', 'w')")}),
        "exec": saved({"x": Call(exec, "open('CANARY', 'w')")}, legacy=True),
        "open": saved({"x": Call(open, "CANARY", "w")}),
        "getattr": saved({"x": Call(getattr, "text", "upper")}),
        "subprocess": saved({"x": Call(subprocess.run, ["touch", "CANARY"])}),
        "torch.load": saved({"x": Call(torch.load, "CANARY")}),
        "a name with dots": zip_with_pickle(_dotted("os", "path.os.system")),
        "a name on the stack": zip_with_pickle(_dotted("posix", "system")),
        "INST": zip_with_pickle(b"\x80\x02(X\x0c\x00\x00\x00touch CANARYiposix\nsystem\n."),
        "OBJ": zip_with_pickle(b"\x80\x02(cposix\nsystem\nX\x0c\x00\x00\x00touch CANARYo."),
        "hidden in a second pickle": rewrite(
            saved(GOOD), add={"archive/DATA.PKL": pickled(system)}
        ),
    }


@pytest.mark.parametrize("kind", _evil_pickles())
def test_code_is_refused_and_never_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.pth").write_bytes(_evil_pickles()[kind])
    with pytest.raises(ZooError):
        zoo.import_checkpoint("file.pth", "convit_nano", "out")
    assert os.listdir(tmp_path) == ["file.pth"], "the canary, or something half-written"


@pytest.mark.parametrize(
    "kind", ["zip", "legacy", "plain pickle", "plain pickle, protocol 5", "a name on the stack"]
)
def test_the_error_names_the_code(kind: str) -> None:
    error = refused(_evil_pickles()[kind])
    assert error.code == "unsafe_code"
    assert "system" in str(error)
    assert "nothing of it was run" in str(error)


def test_an_allowed_name_is_read_as_an_empty_object() -> None:
    data = saved({"args": argparse.Namespace(lr=0.1), "state_dict": GOOD, "out": Path("runs")})
    path = f"{type(Path()).__module__}.{type(Path()).__name__}"
    found = read_checkpoint(data, "file.pth", ("argparse.Namespace", path))
    assert found.dropped_globals == ("argparse.Namespace", path)
    assert found.dropped_keys == ("args", "out")
    assert torch.equal(found.tensors["layer.weight"], GOOD["layer.weight"])


class Config:
    """A class that no record allows."""


def test_other_classes_are_refused_with_the_way_out() -> None:
    error = refused(saved({"config": Config(), "state_dict": GOOD}))
    assert error.code == "unlisted_global"
    assert "test_import_code.Config" in str(error)
    assert 'torch.save(checkpoint["state_dict"], "state.pth")' in str(error)


def test_namespace_is_refused_unless_the_record_allows_it() -> None:
    data = saved({"args": argparse.Namespace(), "state_dict": GOOD})
    assert refused(data).code == "unlisted_global"
    assert read(data, "argparse.Namespace")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_whole_module_gets_a_recipe(legacy: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)  # sources are not saved
        data = saved(zoo.create_model("convit_nano"), legacy=legacy)
    error = refused(data)
    assert error.code == "not_state_dict"
    assert "a whole pickled module" in str(error)
    assert "torch.save(model.state_dict()" in str(error)


def test_torchscript_is_named() -> None:
    out = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), out)
    assert "TorchScript" in str(refused(out.getvalue()))
