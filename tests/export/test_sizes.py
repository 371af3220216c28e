"""Image sizes that a file does not declare are refused before they are answered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import export
from export.runtime.opening import open_session
from export.spec import ExportSpec
from zoo.errors import ConfigError, InputError

from .test_export import one_block

FILES = ("onnx/model.onnx", "model.pt2", "model.pt")


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ConViT whose patches are 4 pixels, with height and width free."""
    out = tmp_path_factory.mktemp("dynamic")
    spec = ExportSpec(dynamic_size=True, whole_strides=True)
    export.export_model(one_block().eval(), out, ["onnx", "pt2", "torchscript"], spec)
    return out


def image(height: int, width: int) -> np.ndarray:
    return np.zeros((2, 3, height, width), np.float32)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    ("height", "width", "text"),
    [
        (35, 17, "heights are multiples of 4 pixels from 8 on; got 35"),
        (36, 17, "widths are multiples of 4 pixels from 8 on; got 17"),
        (36, 4, "widths are multiples of 4 pixels from 8 on; got 4"),
    ],
)
def test_a_size_between_two_strides_is_refused(
    dynamic: Path, file: str, height: int, width: int, text: str
) -> None:
    session = open_session(dynamic / file)
    with pytest.raises(InputError, match=text) as caught:
        session.run(image(height, width))
    assert caught.value.code == "size_multiple"


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("height", "width"), [(36, 16), (8, 52)])
def test_whole_strides_run(dynamic: Path, file: str, height: int, width: int) -> None:
    model = one_block().eval()
    batch = np.random.default_rng(0).standard_normal((2, 3, height, width), dtype=np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(batch)).numpy()
    assert np.abs(open_session(dynamic / file).run(batch) - expected).max() < 1e-4


@pytest.mark.parametrize("file", ["onnx/model.onnx", "model.pt"])
@pytest.mark.parametrize(("height", "width"), [(40, 40), (16, 64), (31, 32)])
def test_a_file_of_a_fixed_size_takes_no_other(
    exported: Path, file: str, height: int, width: int
) -> None:
    """A trace has the size of its example in it and answers others wrongly, or not at all."""
    with pytest.raises(InputError, match="batch, 3, 32, 32"):
        open_session(exported / file).run(image(height, width))


def test_whole_strides_of_one_size_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs dynamic_size"):
        ExportSpec(whole_strides=True)
