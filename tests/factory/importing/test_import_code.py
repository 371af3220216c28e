"""Code in a checkpoint: refused and named, and never run."""

from __future__ import annotations

import argparse
import datetime
import decimal
import fractions
import functools
import io
import os
import re
import subprocess
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from zoo.errors import ZooError
from zoo.weights.foreign.reading import read_checkpoint

from .checkpoints import Call, pickled, rewrite, zip_with_pickle
from .reading import GOOD, refused, saved


def _dotted(module: str, name: str) -> bytes:
    """A protocol 4 pickle that calls module.name("touch CANARY")."""
    text = lambda value: b"\x8c" + bytes([len(value)]) + value.encode()  # noqa: E731
    return b"\x80\x04" + text(module) + text(name) + b"\x93" + text("touch CANARY") + b"\x85R."


_LOOKED_UP = (
    b"\x80\2cbuiltins\ngetattr\n(ctorch._C\n_VariableFunctionsClass\nX\x09\0\0\0from_filetR"
)


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
        "a function of torch's, called": zip_with_pickle(_LOOKED_UP + b"(X\x06\0\0\0CANARYtR."),
        "a function of torch's, an object of it": zip_with_pickle(_LOOKED_UP + b")\x81."),
        "getattr for later": zip_with_pickle(
            b"\x80\2cfunctools\npartial\n(cbuiltins\ngetattr\ntR."
        ),
        "getattr of a class's method, called": zip_with_pickle(
            b"\x80\2cbuiltins\ngetattr\n(cmine\nNet\nX\6\0\0\0createtR)R."
        ),
        "getattr of a hidden name": zip_with_pickle(
            b"\x80\2cbuiltins\ngetattr\n(cmine\nNet\nX\x08\0\0\0__dict__tR."
        ),
        "getattr in a list": zip_with_pickle(b"\x80\2]cbuiltins\ngetattr\na."),
        "getattr, OBJ": zip_with_pickle(b"\x80\2(cbuiltins\ngetattr\nX\1\0\0\0aX\5\0\0\0uppero."),
        "getattr, INST": zip_with_pickle(b"\x80\2(X\1\0\0\0aX\5\0\0\0upperibuiltins\ngetattr\n."),
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


@pytest.mark.parametrize(
    "kind", [kind for kind in _evil_pickles() if "torch's" in kind or "getattr" in kind]
)
def test_a_function_of_torch_may_be_named_and_no_more(kind: str) -> None:
    error = refused(_evil_pickles()[kind])
    assert error.code == "unsafe_code"
    assert "names builtins.getattr" in str(error)


@pytest.mark.parametrize(
    ("calls", "names"),
    [
        ((exec,), "builtins.exec."),
        ((exec, os.system), "builtins.exec, posix.system."),
        ((exec, os.system, subprocess.run), "builtins.exec, posix.system and 1 more."),
    ],
)
def test_two_names_of_code_are_told_and_the_others_counted(
    calls: tuple[Callable[..., Any], ...], names: str
) -> None:
    error = refused(saved({str(i): Call(call, "x") for i, call in enumerate(calls)}))
    assert f"its pickle names {names}" in str(error).replace(f"{os.name}.system", "posix.system")


class Config:
    """A class that only its maker has."""


class Settings(dict):
    """The same, made of a builtin."""


class Sequence(list):
    """Filled by items and by keys."""

    def __reduce__(self):
        return Sequence, (), None, iter([1, 2]), iter([("a", 1)])


BENIGN = {
    "filled by items and by keys": Sequence(),
    "a simple namespace": types.SimpleNamespace(a=1),
    "an ellipsis": ...,
    "a byte array": bytearray(b"abc"),
    "a function": torch.nn.functional.relu,
    "a function with arguments": functools.partial(torch.nn.LayerNorm, eps=1e-6),
    "keys that are tuples": {(1, 2): 3, None: 4, b"a": 5},
    "a layout": torch.strided,
    "numpy's old generator": np.random.RandomState(0),
    "a named deque": deque([1, 2], maxlen=3),
    "a namespace": argparse.Namespace(lr=0.1),
    "a path": Path("runs"),
    "a Windows path": PureWindowsPath("runs"),
    "numpy's number": np.float64(0.5),
    "numpy's integer": np.int64(5),
    "numpy's array": np.arange(6.0).reshape(2, 3),
    "numpy's text": np.array(["a", "b"]),
    "numpy's generator": np.random.default_rng(0),
    "a date": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "a duration": datetime.timedelta(seconds=5),
    "a set": {1, 2},
    "a frozen set": frozenset({1}),
    "a complex number": 1j,
    "a fraction": fractions.Fraction(1, 3),
    "a decimal": decimal.Decimal("0.1"),
    "a default dictionary": defaultdict(list, {"loss": [1.0]}),
    "a nested default dictionary": defaultdict(dict, {"loss": {"a": 1}}),
    "a counter": Counter("abc"),
    "an ordered dictionary": OrderedDict(a=1),
    "an enumeration": re.RegexFlag.I,  # by getattr or not, as the version of Python says
    "a class's member by name": Call(getattr, re.RegexFlag, "I"),
    "a custom object": Config(),
    "a custom dictionary": Settings(a=1),
    "bytes": b"abc",
    "a range": range(3),
    "a builtin function": len,
    "a function of torch's own": torch.tanh,
    "a file in memory": io.BytesIO(b"abc"),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", BENIGN)
def test_what_lies_beside_the_weights_is_dropped_and_listed(
    kind: str, legacy: bool, protocol: int
) -> None:
    value = BENIGN[kind]
    content = {"state_dict": GOOD, "extra": value, "list": [value, value]}
    data = saved(content, legacy=legacy, protocol=protocol)
    found = read_checkpoint(data, "file.pth")
    assert found.tensors.keys() == GOOD.keys()
    assert all(torch.equal(found.tensors[key], value) for key, value in GOOD.items())
    assert found.dropped_keys == ("extra", "list")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.quint8),
        lambda: torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint32),
        lambda: torch.ones(4).to(torch.float8_e4m3fn),
        lambda: torch.ones(4, dtype=torch.uint16),
        lambda: torch.ones(4, device="meta"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_unusual_tensors_beside_the_weights_are_dropped(
    make: Callable[[], torch.Tensor], legacy: bool
) -> None:
    data = saved({"optimizer": {"state": [make()]}, "state_dict": GOOD}, legacy=legacy)
    found = read_checkpoint(data, "file.pth")
    assert all(torch.equal(found.tensors[key], value) for key, value in GOOD.items())
    assert found.dropped_keys == ("optimizer",)
    assert found.dropped_globals[0].startswith("torch._utils._rebuild")


def test_a_tensor_with_attributes_is_the_tensor() -> None:
    """Some libraries note on a tensor where it came from."""
    state = {"w": torch.arange(6.0).reshape(2, 3).T, "p": torch.nn.Parameter(torch.ones(2))}
    for value in state.values():
        value.came_from = "elsewhere"
    data = saved({"model": state, "act": torch.nn.functional.gelu})
    found = read_checkpoint(data, "file.pth")
    assert found.tensors.keys() == state.keys()
    assert all(torch.equal(found.tensors[key], value) for key, value in state.items())
    assert found.dropped_globals == ("torch.Tensor", "torch._C._nn.gelu")


def test_the_names_of_what_was_dropped_are_told() -> None:
    data = saved({"args": argparse.Namespace(lr=0.1), "state_dict": GOOD, "config": Config()})
    found = read_checkpoint(data, "file.pth")
    assert found.dropped_globals == ("argparse.Namespace", f"{Config.__module__}.Config")


def test_a_dropped_object_never_runs_a_method_of_its_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = saved({"state_dict": GOOD, "config": Config()})

    def fail(*_: object) -> None:
        pytest.fail("a foreign class was used")

    monkeypatch.setattr(Config, "__new__", fail)
    monkeypatch.setattr(Config, "__setstate__", fail, raising=False)
    read_checkpoint(data, "file.pth")


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
