"""One flipped bit anywhere in a finished directory is found before anything of it is used."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

import zoo
from tests.surroundings import write_anew
from zoo.errors import ZooError
from zoo.files.manifest import check_files, make_manifest, read_manifest

FILES = {"model.safetensors": 60_000, "config.json": 900, "onnx/model.onnx": 70_000}


def test_a_thousand_flipped_bits_are_found(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    dice = random.Random(0)
    for name, size in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(dice.randbytes(size))
    manifest = make_manifest(tmp_path, FILES, "convit_nano.x", "1.0.0", 1)
    (tmp_path / "manifest.json").write_text(manifest.to_json())
    check_files(tmp_path, read_manifest(tmp_path))
    found = 0
    for number in range(1000):
        path = tmp_path / list(FILES)[number % len(FILES)]
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        write_anew(path, bytes(changed))
        with pytest.raises(ZooError):
            check_files(tmp_path, read_manifest(tmp_path))
        write_anew(path, whole)
        found += 1
    record_property("flips", found)


def test_layers_that_were_swapped_are_found(tmp_path: Path) -> None:
    """The container is made anew, so that only the digest tells."""
    import safetensors.torch

    model = zoo.create_model("convit_nano.digits", pretrained=True)
    state = dict(model.state_dict())
    one, other = "blocks.0.mlp.fc1.weight", "blocks.1.mlp.fc1.weight"
    state[one], state[other] = state[other].clone(), state[one].clone()
    from zoo.catalog.registry import get_record
    from zoo.files.pins import verify_bytes

    record = get_record("convit_nano.digits").selected
    assert record is not None
    with pytest.raises(ZooError) as caught:
        verify_bytes(safetensors.torch.save(state, metadata={"format": "pt"}), record)
    assert caught.value.code in ("hash", "truncated", "integrity")
