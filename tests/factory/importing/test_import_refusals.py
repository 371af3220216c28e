"""What is refused: other kinds of files, damage, tensors that are none."""

from __future__ import annotations

import gzip
import io
import os
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from zoo.errors import IntegrityError, WeightsFileError
from zoo.weights.foreign.reading import read_checkpoint

from .checkpoints import Call, pickled, rewrite, storage, view
from .reading import GOOD, refused, saved

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
    signal.alarm(300)  # opening it would wait for ever
    with pytest.raises(WeightsFileError, match="not a regular file"):
        zoo.import_checkpoint(tmp_path / "file.pth", "convit_nano", tmp_path / "out")
    signal.alarm(0)


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
    "after its end": saved(GOOD) + bytes(20),
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


def test_calls_that_take_memory_are_not_made() -> None:
    for call in (Call(torch.Tensor, 2**40), Call(bytearray, 2**40)):
        found = read_checkpoint(saved({"state_dict": GOOD, "w": call}), "file.pth")
        assert found.tensors.keys() == GOOD.keys()
        assert len(found.dropped_globals) == 1


def test_the_length_of_a_legacy_storage_is_compared_with_its_declaration() -> None:
    data = bytearray(saved({"w": torch.zeros(2)}, legacy=True))
    assert data[-16:-8] == (2).to_bytes(8, "little")
    data[-16] = 3
    assert refused(bytes(data)).code == "malformed"


def test_numbers_of_another_byte_order_are_refused() -> None:
    changed = rewrite(saved(GOOD), replace={"byteorder": b"big"})
    assert refused(changed).code == "unsupported_format"
    legacy = saved(GOOD, legacy=True)
    at = legacy.index(b"little_endian")
    flag = legacy.index(b"\x88", at)
    assert refused(legacy[:flag] + b"\x89" + legacy[flag + 1 :]).code == "unsupported_format"
