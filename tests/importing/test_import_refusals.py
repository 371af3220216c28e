"""What is refused: code, modules, other kinds of files, tensors that are none. Nothing is run."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import os
import random
import struct
import subprocess
import sys
import tarfile
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.checkpoint_reader import read_checkpoint
from zoo.errors import IntegrityError, WeightsFileError, WeightsMismatchError, ZooError

from .checkpoints import Call, pickled, rewrite, save_legacy, storage, view, zip_with_pickle


def saved(value: Any, *, legacy: bool = False) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


def read(data: bytes, *allowed: str, **options: Any) -> dict[str, torch.Tensor]:
    return read_checkpoint(data, "file.pth", allowed, **options).tensors


def refused(data: bytes, *allowed: str) -> ZooError:
    """The error for these bytes. No message recommends unsafe loading, and all are short."""
    with pytest.raises(ZooError) as caught:
        read(data, *allowed)
    text = str(caught.value)
    assert "weights_only" not in text
    assert "safe_globals" not in text
    assert len(text) <= 400
    return caught.value


GOOD = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}


# Code


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
    assert "test_import_refusals.Config" in str(error)
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


# Other kinds of files


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    return out.getvalue()


KINDS = {
    "an HTML page": b"<!DOCTYPE html><html><body>Sign in to Google Drive</body></html>",
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "gzip": gzip.compress(b"weights"),
    "a tar archive": _tar(),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "a NumPy array": b"\x93NUMPY" + bytes(64),
    "JSON": b'{"error": "quota exceeded", "status": 403}',
    "torch.save did not write": pickled({"a": [1.0, 2.0]}),
    "a zip archive": rewrite(saved(GOOD), drop=("data.pkl",)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_file_is_named(kind: str) -> None:
    error = refused(KINDS[kind])
    assert kind in str(error)
    assert error.code == "wrong_kind"


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file.pth")
    started = time.monotonic()
    with pytest.raises(WeightsFileError, match="not a regular file"):
        zoo.import_checkpoint(tmp_path / "file.pth", "convit_nano", tmp_path / "out")
    assert time.monotonic() - started < 1


# Damage


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.6, 0.95, 0.999])
@pytest.mark.parametrize("legacy", [False, True])
def test_every_cut_is_found(share: float, legacy: bool) -> None:
    data = saved({"w": torch.rand(5000)}, legacy=legacy)
    error = refused(data[: int(share * len(data))])
    assert isinstance(error, (IntegrityError, WeightsFileError))
    if share in (0.0, 0.3, 0.6, 0.95):
        assert error.code == "truncated"


def test_one_flipped_bit_in_a_weight_is_found() -> None:
    data = bytearray(saved({"w": torch.zeros(5000)}))
    data[len(data) // 2] ^= 1
    assert refused(bytes(data)).code in ("checksum", "truncated")


def test_bytes_after_the_tensors_are_refused() -> None:
    assert refused(saved(GOOD, legacy=True) + b"more").code == "integrity"


ARCHIVES: dict[str, bytes] = {
    "compressed": rewrite(saved(GOOD), compress=True),
    "two members of one name": rewrite(saved(GOOD), add={"archive/data.PKL": b""}),
    "a comment": rewrite(saved(GOOD), comment=b"hello"),
    "in front of": b"PK\x03\x04" + bytes(60) + saved(GOOD),
}


@pytest.mark.parametrize("problem", ARCHIVES)
def test_archives_that_pytorch_never_writes_are_refused(problem: str) -> None:
    error = refused(ARCHIVES[problem])
    assert error.code == "archive"
    assert problem in str(error)


def test_too_many_members_are_refused() -> None:
    data = rewrite(saved(GOOD), add={f"archive/data/x{i}": b"" for i in range(20_001)})
    assert refused(data).code == "archive"


# Storages and views


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (5,), (1,)),
        (3, (2,), (1,)),
        (0, (2, 2), (3, 1)),
        (0, (2**40,), (1,)),
        (2**62, (1,), (1,)),
        (-1, (1,), (1,)),
        (0, (-1,), (1,)),
        (0, (4,), (-1,)),
        (0, (2, 2), (1,)),
        (0, (1,) * 20, (1,) * 20),
        ("0", (4,), (1,)),
        (0, [4], (1,)),
    ],
)
def test_views_outside_their_storage_are_refused(
    offset: Any, size: Any, stride: Any, legacy: bool
) -> None:
    """PyTorch would enlarge the storage, or hand out memory that nothing was written to."""
    bad = view(storage(1, 2, 3, 4), offset, size, stride)
    assert refused(saved({"w": bad}, legacy=legacy)).code == "malformed"


@pytest.mark.parametrize("legacy", [False, True])
def test_one_number_repeated_without_end_is_refused_without_memory(legacy: bool) -> None:
    huge = view(storage(1.0), 0, (10**6, 10**6), (0, 0))
    error = refused(saved({"w": huge}, legacy=legacy))
    assert error.code == "limit"
    assert ".contiguous()" in str(error)


def test_a_thousand_names_of_one_tensor_are_refused() -> None:
    one = torch.rand(10_000)
    assert refused(saved({f"w{i}": one for i in range(1000)})).code == "limit"


@pytest.mark.parametrize("legacy", [False, True])
def test_tied_and_strided_tensors_come_out_apart_and_contiguous(legacy: bool) -> None:
    base = torch.arange(60.0).reshape(6, 10)
    state = {
        "a": base,
        "b": base,
        "t": base.t(),
        "part": base[1:3, 2:5],
        "e": base[:1].expand(3, 10),
    }
    found = read_checkpoint(saved(state, legacy=legacy), "file.pth")
    for key, value in state.items():
        assert torch.equal(found.tensors[key], value)
        assert found.tensors[key].is_contiguous()
    memory = {t.untyped_storage().data_ptr() for t in found.tensors.values()}
    assert len(memory) == len(state)
    assert set(found.copied) == set(state)


def test_a_storage_that_the_file_does_not_hold_is_refused() -> None:
    data = saved({"w": torch.rand(100)})
    shorter = rewrite(data, replace={"data/0": bytes(16)})
    missing = rewrite(data, drop=("data/0",))
    for changed in (shorter, missing):
        assert "declares a storage of 400 bytes" in str(refused(changed))


def test_legacy_storages_that_are_not_listed_are_refused() -> None:
    """PyTorch would hand out whatever is in that memory."""
    data = saved({"w": torch.zeros(2)}, legacy=True)
    end = data.rindex(b"\x80\x02]q")
    assert refused(data[:end] + b"\x80\x02].").code == "malformed"


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("quantised", lambda: torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)),
        ("meta", lambda: torch.ones(4, device="meta")),
        ("sparse", lambda: torch.eye(3).to_sparse()),
        ("complex", lambda: torch.ones(2, dtype=torch.complex64)),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_unusual_tensors_are_named(kind: str, make: Callable[[], torch.Tensor]) -> None:
    error = refused(saved({"w": make()}))
    assert error.code == "tensor_kind"
    assert kind in str(error)


def test_changing_a_tensor_after_making_it_is_refused() -> None:
    """A second shape would escape the check of the first one."""

    class Rebuilt:
        def __reduce__(self) -> Any:
            made = view(storage(1, 2, 3, 4), 0, (4,), (1,)).__reduce__()
            return (*made, (storage(1, 2), 0, (99,), (1,)))

    assert refused(saved({"w": Rebuilt()})).code == "malformed"


def test_calls_that_take_memory_are_refused() -> None:
    for call in (Call(torch.Tensor, 2**30), Call(bytearray, 2**40)):
        assert refused(saved({"w": call})).code == "unlisted_global"


# Structures


def _nested(depth: int) -> bytes:
    return zip_with_pickle(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")


def test_structures_without_end_are_refused() -> None:
    loop: dict[str, Any] = {}
    loop["state_dict"] = loop
    deep: Any = GOOD
    for _ in range(20):
        deep = {"model": deep}
    for value in (loop, deep):
        error = refused(saved(value))
        assert error.code == "not_state_dict"
        assert "wraps its state dict more than 8 times" in str(error)


def test_deep_lists_and_tuples_are_harmless() -> None:
    assert refused(_nested(200_000)).code == "not_state_dict"
    tuples = zip_with_pickle(b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.")
    assert refused(tuples).code == "malformed"


def test_keys_that_are_slow_to_look_up_are_refused() -> None:
    collide = {i * (2**61 - 1): None for i in range(1, 50)}
    assert refused(saved({"x": collide, "state_dict": GOOD})).code == "malformed"
    assert refused(saved({"x": Counter([1, 2]), "y": {(1, 2): 3}})).code == "malformed"


def test_a_pickle_of_endless_steps_is_refused_in_seconds() -> None:
    started = time.monotonic()
    error = refused(zip_with_pickle(b"\x80\x02" + b"N" * 3_000_000 + b"."))
    assert "more than 2000000 steps" in str(error)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "value",
    [5, [GOOD], "text", None, {}, {"epoch": 3}, {"state_dict": [1]}, torch.ones(3)],
    ids=["int", "list", "str", "none", "empty", "no tensors", "wrapped list", "one tensor"],
)
def test_what_is_no_state_dict_is_explained(value: Any) -> None:
    assert refused(saved(value)).code == "not_state_dict"


@pytest.mark.parametrize("name", ["../w", "w\0", "w\n", "w" * 300, "wé", "\u202ew", ""])
def test_odd_names_are_refused_and_escaped(name: str) -> None:
    error = refused(saved({name: torch.ones(1)}))
    assert error.code == "tensor_name"
    assert str(error).isascii()


def test_entries_that_are_no_tensors_are_dropped_and_listed() -> None:
    state = OrderedDict(GOOD, version=3, note="hello")
    state._metadata = {"": {"version": 1}}
    found = read_checkpoint(saved({"state_dict": state, "epoch": 9}), "file.pth")
    assert found.tensors.keys() == GOOD.keys()
    assert found.dropped_keys == ("epoch", "state_dict.version", "state_dict.note")


# Models


def test_a_checkpoint_of_another_size_names_the_one_that_fits(tmp_path: Path) -> None:
    torch.save(zoo.create_model("convit_small").state_dict(), tmp_path / "file")
    with pytest.raises(WeightsMismatchError, match=r"its tensors fit --model convit_small$"):
        zoo.import_checkpoint(tmp_path / "file", "convit_tiny", tmp_path / "out")


def test_a_checkpoint_of_another_family_names_the_model_that_fits(tmp_path: Path) -> None:
    model = zoo.create_model("alternet_nano", num_classes=7)
    torch.save(model.state_dict(), tmp_path / "file")
    with pytest.raises(WeightsMismatchError, match=r"its tensors fit --model alternet_nano$"):
        zoo.import_checkpoint(tmp_path / "file", "convit_nano", tmp_path / "out")


def test_a_checkpoint_of_no_model_lists_the_differences(tmp_path: Path) -> None:
    state = zoo.create_model("convit_nano").state_dict()
    state["more.weight"] = state.pop("norm.bias")
    torch.save(state, tmp_path / "file")
    with pytest.raises(WeightsMismatchError) as caught:
        zoo.import_checkpoint(tmp_path / "file", "convit_nano", tmp_path / "out")
    for text in ("1 missing: norm.bias", "1 unexpected: more.weight", "--set KEY=VALUE"):
        assert text in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    state = {k: v.double() for k, v in zoo.create_model("convit_nano").state_dict().items()}
    state["head.bias"][-1] = value
    torch.save(state, tmp_path / "file")
    with pytest.raises(WeightsFileError, match="not finite") as caught:
        zoo.import_checkpoint(tmp_path / "file", "convit_nano", tmp_path / "out")
    assert caught.value.code == "not_finite"
    assert not (tmp_path / "out").exists()


def test_integers_in_place_of_weights_are_refused(tmp_path: Path) -> None:
    state = zoo.create_model("convit_nano").state_dict()
    state["norm.bias"] = state["norm.bias"].long()
    torch.save(state, tmp_path / "file")
    with pytest.raises(WeightsMismatchError, match=r"norm\.bias"):
        zoo.import_checkpoint(tmp_path / "file", "convit_nano", tmp_path / "out")


# Anything at all


@pytest.mark.parametrize("legacy", [False, True])
def test_mutated_files_are_read_or_refused_with_one_error(legacy: bool) -> None:
    data = saved({"args": argparse.Namespace(lr=1), "state_dict": GOOD}, legacy=legacy)
    dice = random.Random(0)
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        with contextlib.suppress(ZooError):
            read(bytes(changed), "argparse.Namespace")


def test_mutated_pickles_are_read_or_refused_with_one_error() -> None:
    """The pickle alone is changed, so that no checksum protects it."""
    whole = saved({"args": argparse.Namespace(lr=1), "state_dict": GOOD})
    start = whole.index(b"\x80\x02")
    pickle_bytes = whole[start : whole.index(b"PK\x03\x04", start)].rstrip(b"\0")
    dice = random.Random(1)
    for _ in range(400):
        changed = bytearray(pickle_bytes)
        changed[dice.randrange(len(changed))] = dice.randrange(256)
        with contextlib.suppress(ZooError):
            read(rewrite(whole, replace={"data.pkl": bytes(changed)}), "argparse.Namespace")


def test_a_huge_header_length_is_no_pickle() -> None:
    assert refused(struct.pack("<Q", 2**62) + b"{}").code == "wrong_kind"


def test_legacy_files_of_tensors_alone_are_read(tmp_path: Path) -> None:
    save_legacy(GOOD, tmp_path / "file")
    found = read((tmp_path / "file").read_bytes())
    assert torch.equal(found["layer.weight"], GOOD["layer.weight"])
