"""Damaged bytes of every format that is read from elsewhere: read, or refused with a type of ours.

Never another error, a crash, or an end that does not come (the processor time is bounded).
"""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from onnx import TensorProto, helper

from export.runtime.model_files import read_model
from tests.surroundings import write_anew
from zoo.errors import ZooError
from zoo.weights.foreign.reading import read_checkpoint
from zoo.weights.safetensors_file import read_tensors

STATE = {
    "layer.weight": torch.arange(6.0).reshape(2, 3),
    "layer.bias": torch.ones(2),
    "count": torch.tensor(3),
    "half": torch.ones(4, dtype=torch.float16),
}


def _saved(zipped: bool) -> bytes:
    out = io.BytesIO()
    content = {"state_dict": STATE, "epoch": 3, "extra": {1, 2}, "lr": np.float64(0.1)}
    torch.save(content, out, _use_new_zipfile_serialization=zipped)
    return out.getvalue()


def _onnx() -> bytes:
    shape = ["batch", 3, 4, 4]
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ],
        "graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor("w", TensorProto.FLOAT, [48, 2], [0.5] * 96)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    helper.set_model_props(model, {"name": "m", "input": "{}"})
    return bytes(model.SerializeToString())


def _read_onnx(data: bytes, folder: Path) -> object:
    path = folder / "model.onnx"
    write_anew(path, data)
    return read_model(path)


Reader = Callable[[bytes, Path], object]
FORMATS: dict[str, tuple[bytes, Reader, int]] = {  # the last: inputs of a full run
    "safetensors": (safetensors.torch.save(STATE), lambda d, _: read_tensors(d, "f"), 55_000),
    "zip": (_saved(True), lambda d, _: read_checkpoint(d, "f"), 17_000),
    "legacy": (_saved(False), lambda d, _: read_checkpoint(d, "f"), 17_000),
    "onnx": (_onnx(), _read_onnx, 8_000),
}


def _changed(data: bytes, dice: np.random.Generator) -> bytes:
    """Flip, overwrite, drop, repeat or cut, at one to four places; the head is hit more often."""
    found = bytearray(data)
    for _ in range(int(dice.integers(1, 5))):
        if not found:
            break
        reach = len(found) if dice.random() < 0.5 else min(len(found), 400)
        place, kind = int(dice.integers(max(reach, 1))), int(dice.integers(6))
        if kind == 0:
            found[place] ^= 1 << int(dice.integers(8))
        elif kind == 1:
            found[place : place + 1] = dice.bytes(1)
        elif kind == 2:
            extreme = (b"\xff" * 8, b"\0" * 8, b"\xff" * 7 + b"\x7f", b"9" * 12)
            found[place : place + 8] = extreme[int(dice.integers(4))]
        elif kind == 3:
            del found[place : place + int(dice.integers(1, 16))]
        elif kind == 4:
            found[place:place] = found[place : place + int(dice.integers(1, 64))]
        else:
            found = found[: max(place, 1)]
    return bytes(found)


def _outcomes(kind: str, count: int, folder: Path) -> Counter[str]:
    """What became of `count` damaged inputs; any error without a type of ours ends the test."""
    data, read, _ = FORMATS[kind]
    dice = np.random.default_rng(count)
    found: Counter[str] = Counter()
    for _ in range(count):
        changed = _changed(data, dice)
        started = time.process_time()
        try:
            read(changed, folder)
            found["read"] += 1
        except ZooError as error:
            found[error.code] += 1
            assert len(str(error)) <= 300 + len(str(folder)), str(error)  # noqa: PT017
        if time.process_time() - started > 5:
            found["slow"] += 1
    return found


@pytest.mark.parametrize("kind", FORMATS)
def test_a_sample_of_damaged_bytes_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    found = _outcomes(kind, 300, tmp_path)
    assert found["slow"] == 0
    assert len(found) > 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_bytes_are_read_or_refused(
    kind: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    found = _outcomes(kind, FORMATS[kind][2], tmp_path)
    record_property("inputs", found.total())
    record_property("read", found["read"])
    assert found["slow"] == 0


def test_a_full_run_has_at_least_100_000_inputs() -> None:
    images = 3_000  # tests/data/test_odd_images.py
    assert sum(count for _, _, count in FORMATS.values()) + images >= 100_000
