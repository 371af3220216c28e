"""Checkpoints made for tests: golden weights, and PyTorch files with a pickle of one's own."""

from __future__ import annotations

import functools
import io
import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import zoo
from tests.goldens import fill

GOLDENS = Path(fill.__file__).parent
CASES = {c["id"]: c for c in json.loads((GOLDENS / "manifest.json").read_text("utf-8"))["cases"]}


@functools.lru_cache(maxsize=2)
def golden_state(case: str) -> dict[str, torch.Tensor]:
    """The weights of a golden case under the original's names."""
    entry = CASES[case]
    rows = fill.load_spec(GOLDENS / entry["spec"])
    filled = fill.fill_state_dict(rows, entry["seed"], entry["gain"])
    return {key: torch.from_numpy(value) for key, value in filled.items()}


def golden_errors(case: str, directory: Path) -> list[float]:
    """Relative errors in float64 of the outputs of an imported model."""
    entry = CASES[case]
    model = zoo.create_model(str(directory), pretrained=True).double().eval()
    x = fill.make_input(entry["inputs"][0]["shape"], entry["seed"])
    with torch.no_grad():
        outputs = model(torch.from_numpy(x).double())
    outputs = outputs if isinstance(outputs, list) else [outputs]
    errors = []
    with np.load(GOLDENS / entry["file"]) as recorded:
        for name, output in zip(entry["output_names"], outputs, strict=True):
            about = entry["arrays"][f"{name}.f64"]
            value = output.numpy()
            value = fill.subsample(value, about["subsampled"]) if "subsampled" in about else value
            errors.append(fill.relative_error(value, recorded[f"{name}.f64"]))
    return errors


def save_legacy(value: Any, path: Path) -> None:
    """Save as PyTorch did before version 1.6."""
    torch.save(value, path, _use_new_zipfile_serialization=False)


class Call:
    """Pickled as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def storage(*values: float) -> Any:
    """Some float32 numbers as a storage that torch.save writes."""
    tensor = torch.tensor(values, dtype=torch.float32)
    return torch.storage.TypedStorage(
        wrap_storage=tensor.untyped_storage(), dtype=torch.float32, _internal=True
    )


def view(numbers: Any, offset: Any, size: Any, stride: Any) -> Call:
    """Pickled as a tensor with this shape, possible or not."""
    rebuild = torch._utils._rebuild_tensor_v2
    return Call(rebuild, numbers, offset, size, stride, False, OrderedDict())


def rewrite(data: bytes, **changes: Any) -> bytes:
    """A torch zip file with other members: `replace` name -> bytes, `drop`, `add`, `compress`."""
    out = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if changes.get("compress") else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", method) as new:
        for info in old.infolist():
            name = info.filename.partition("/")[2]
            if name not in changes.get("drop", ()):
                new.writestr(info.filename, changes.get("replace", {}).get(name, old.read(info)))
        for name, content in changes.get("add", {}).items():
            new.writestr(name, content)
        new.comment = changes.get("comment", b"")
    return out.getvalue()


def zip_with_pickle(content: bytes) -> bytes:
    """A torch zip file with this pickle and no storage."""
    out = io.BytesIO()
    torch.save({}, out)
    return rewrite(out.getvalue(), replace={"data.pkl": content})


def pickled(value: Any, protocol: int = 2) -> bytes:
    """A plain pickle."""
    return pickle.dumps(value, protocol)
