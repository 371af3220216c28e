"""Structures that are no state dict, state dicts that fit no model, and damage at random."""

from __future__ import annotations

import argparse
import io
import json
import random
import struct
import time
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.errors import WeightsFileError, WeightsMismatchError, ZooError
from zoo.weights.foreign.pickle_scan import scan
from zoo.weights.foreign.reading import read_checkpoint
from zoo.weights.foreign.values import Report

from .checkpoints import rewrite, save_legacy, zip_with_pickle
from .reading import GOOD, read, refused, saved

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
    assert refused(_nested(100_000)).code == "not_state_dict"
    tuples = zip_with_pickle(b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.")
    assert refused(tuples).code == "not_state_dict"


class _Watched(bytes):
    """Bytes that count what is copied out of them."""

    copied = 0

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        self.copied += len(found) if isinstance(at, slice) else 0
        return found


def test_a_file_is_not_copied_once_for_every_tensor() -> None:
    """A ResNet-50 of 320 tensors took half a minute of copying."""
    data = _Watched(saved({f"layers.{n}.weight": torch.ones(8) for n in range(200)}))
    assert len(read_checkpoint(data, "file.pth").tensors) == 200
    assert 0 < data.copied < len(data)


def test_keys_of_any_kind_are_described_and_never_looked_up() -> None:
    collide = {i * (2**61 - 1): None for i in range(1, 50)}
    beside = {"x": collide, "y": Counter([1, 2]), (1, 2): 3, None: 4, "state_dict": GOOD}
    found = read_checkpoint(saved(beside), "file.pth")
    assert found.dropped_keys == ("x", "y", "(a tuple)", "(a NoneType)")
    assert refused(saved({(1, 2): torch.ones(1)})).code == "tensor_name"


def test_numbers_of_parts_that_would_collide_in_a_table_are_refused() -> None:
    step = b"Np%d\n0"
    numbers = b"".join(step % (i * (2**61 - 1)) for i in range(1, 50))
    assert refused(zip_with_pickle(b"\x80\x02" + numbers + b"}.")).code == "malformed"


def test_a_pickle_of_endless_steps_is_refused_in_seconds() -> None:
    started = time.process_time()
    error = refused(zip_with_pickle(b"\x80\x02" + b"N" * 3_000_000 + b"."))
    assert "more than 500000 steps" in str(error)
    assert time.process_time() - started < 10


_MANY = 20_000
_AGAIN = b"h\2h\1R0" * 1_000  # a call of what lies in the memory, its answer dropped


@pytest.mark.parametrize(
    "content",
    [
        b"](NN\x86q\3" + b"h\3" * _MANY + b"e\x85q\1ccollections\nOrderedDict\nq\2",
        b"(K\1" + b"K\1" * _MANY + b"tq\3(NK\0h\3h\3tq\1ctorch._utils\n_rebuild_tensor_v2\nq\2",
    ],
    ids=["pairs", "sizes"],
)
def test_one_long_list_is_not_handed_to_call_after_call(content: bytes) -> None:
    data = b"\x80\2" + content + _AGAIN + b"."
    with pytest.raises(ValueError, match="its calls take more than 5000000 parts"):
        scan(io.BytesIO(data), Report())
    assert refused(zip_with_pickle(data)).code == "malformed"


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


def _outcome(data: bytes) -> str:
    """ "read" or "refused"; any error that is not ours ends the test."""
    try:
        read(data)
    except ZooError:
        return "refused"
    return "read"


@pytest.mark.parametrize("legacy", [False, True])
def test_mutated_files_are_read_or_refused_with_one_error(legacy: bool) -> None:
    data = saved({"args": argparse.Namespace(lr=1), "state_dict": GOOD}, legacy=legacy)
    dice = random.Random(0)
    outcomes: Counter[str] = Counter()
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        outcomes[_outcome(bytes(changed))] += 1
    assert outcomes["refused"] > 0


def test_mutated_pickles_are_read_or_refused_with_one_error() -> None:
    """The pickle alone is changed, so that no checksum protects it."""
    whole = saved({"args": argparse.Namespace(lr=1), "state_dict": GOOD})
    start = whole.index(b"\x80\x02")
    pickle_bytes = whole[start : whole.index(b"PK\x03\x04", start)].rstrip(b"\0")
    dice = random.Random(1)
    outcomes: Counter[str] = Counter()
    for _ in range(400):
        changed = bytearray(pickle_bytes)
        changed[dice.randrange(len(changed))] = dice.randrange(256)
        outcomes[_outcome(rewrite(whole, replace={"data.pkl": bytes(changed)}))] += 1
    assert outcomes["refused"] > 0


def test_a_huge_header_length_is_no_pickle() -> None:
    assert refused(struct.pack("<Q", 2**62) + b"{}").code == "wrong_kind"


def test_legacy_files_of_tensors_alone_are_read(tmp_path: Path) -> None:
    save_legacy(GOOD, tmp_path / "file")
    found = read((tmp_path / "file").read_bytes())
    assert torch.equal(found["layer.weight"], GOOD["layer.weight"])


@pytest.mark.parametrize("first", [0x08, 0x80])
def test_a_safetensors_file_whose_length_begins_like_another_kind_is_read(first: int) -> None:
    header = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode().ljust(0x100 + first)
    data = struct.pack("<Q", len(text)) + text + struct.pack("<f", 2.5)
    assert data[0] == first
    assert read(data)["a"].tolist() == [2.5]


def test_a_dictionary_made_of_pairs_is_read_and_of_anything_else_refused() -> None:
    """As Python 2 pickled an OrderedDict: a call with a list of lists."""
    start = b"\x80\x02ccollections\nOrderedDict\n]]"
    pair = b"(X\x01\x00\x00\x00aK\x01ea\x85R."
    assert "it has the keys 'a'" in str(refused(zip_with_pickle(start + pair)))
    three = pair.replace(b"K\x01", b"K\x01K\x02")
    assert "something else than pairs" in str(refused(zip_with_pickle(start + three)))
