"""test_data_set_N: inputs and the float64 reference beside an export, as ONNX test vectors.

With them `verify` needs neither torch nor onnx: output_0.pb holds float64 logits,
eager_float32_error.pb the error that eager float32 makes, samples.json what each row is. Further
sets (test_data_set_1, ...) are of other image sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from zoo.catalog.checked_json import Document
from zoo.errors import IntegrityError
from zoo.files.json_text import to_json
from zoo.files.listed import read_document, read_listed

from ..runtime.wire import read_tensor
from ..spec import INPUT_NAME, OUTPUT_NAME
from .inputs import TestInputs
from .reference import Reference

Array = np.ndarray[Any, Any]

_PREFIX = "test_data_set_"
TEST_DATA = f"{_PREFIX}0"


class _Kinds(TypedDict):
    kinds: list[str]


class _Samples(_Kinds, total=False):
    output: str


SAMPLES = Document(
    _Samples, "list of the kinds of inputs", "test_vector", "export again", IntegrityError
)
_SET = re.compile(r"(test_data_set_\d+)/input_0\.pb")


def write_test_data(directory: Path, references: Mapping[tuple[int, int], Reference]) -> None:
    """Write references by image size, the model's own first, a folder each. Raises: OSError."""
    for number, reference in enumerate(references.values()):
        _write_folder(directory / f"{_PREFIX}{number}", reference)


def _write_folder(folder: Path, reference: Reference) -> None:
    folder.mkdir()
    _write_tensor(folder / "input_0.pb", INPUT_NAME, reference.inputs.batch)
    _write_tensor(folder / "output_0.pb", reference.output, reference.logits)
    _write_tensor(folder / "eager_float32_error.pb", "eager_float32_error", reference.eager_error)
    samples = {"kinds": list(reference.inputs.kinds), "output": reference.output}
    (folder / "samples.json").write_text(to_json(samples) + "\n")


def _write_tensor(path: Path, name: str, array: Array) -> None:
    from onnx import numpy_helper

    path.write_bytes(numpy_helper.from_array(np.ascontiguousarray(array), name).SerializeToString())


def read_test_data(directory: str | Path, name: str = TEST_DATA) -> Reference:
    """One stored reference of an export directory; needs neither torch nor onnx.

    Raises: IntegrityError if the set is damaged, NotFoundError, ResourceError.
    """
    folder = Path(directory) / name

    def read(file: str) -> Array:
        return read_tensor(read_listed(folder / file, "test vector"))[1]

    batch, logits = read("input_0.pb"), read("output_0.pb")
    error = read("eager_float32_error.pb")
    samples = read_document(SAMPLES, folder / "samples.json")
    kinds, output = tuple(samples["kinds"]), samples.get("output", OUTPUT_NAME)
    rows = {len(batch), len(logits), len(error), len(kinds)}
    if len(rows) != 1 or batch.ndim != 4 or logits.ndim != 2 or error.ndim != 1:
        raise _damaged(
            name, f"shapes {batch.shape}, {logits.shape}, {error.shape} and {len(kinds)} kinds"
        )
    return Reference(TestInputs(batch, kinds), logits, error, output)


def list_test_data(paths: Iterable[str]) -> list[str]:
    """Names of the test data sets among the files of a manifest, in order."""
    found = [match[1] for path in paths if (match := _SET.fullmatch(path))]
    return sorted(found, key=lambda name: int(name.rpartition("_")[2]))


def _damaged(name: str, why: str) -> IntegrityError:
    return IntegrityError(f"{name} does not fit together: {why}; export again", code="test_vector")
