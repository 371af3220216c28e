"""Files that take images as they are, compared with the same steps outside the graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.catalog.tables import sample_images
from zoo.catalog.weights_records import InputSpec
from zoo.data.preprocessing import preprocess
from zoo.errors import ExportError
from zoo.factory.description import PretrainedCfg

from ..formats.extras import extras_in
from ..formats.metadata import metadata_of
from ..formats.onnx_file import save_onnx
from ..formats.outputs import Form
from ..graph.preprocessing import (
    GREY_VALUES,
    IMAGE_NAME,
    Array,
    preprocessing_graph,
    with_preprocessing,
)
from ..runtime.session import Session
from ..spec import INPUT_NAME, ExportSpec
from .compare import check_named
from .inputs import TestInputs
from .measure import References
from .reference import Reference, compute_references
from .report import ParityRow

if TYPE_CHECKING:
    import onnx

GREY_LEVELS_MAX = 3.0
GREY_LEVELS_MEAN = 0.5
_SIZES = ((37, 53), (97, 61), (224, 224), (301, 401))  # height and width of the images it is run on


def write_with_preprocessing(
    proto: onnx.ModelProto,
    path: Path,
    file: str,
    cfg: PretrainedCfg,
    references: References,
) -> tuple[tuple[ParityRow, ...], dict[str, Any]]:
    """Write the graph that takes images, and compare both its parts.

    Args: file: its name in an export directory, which says whether the prepared pixels are an
        output too, the last.
    Returns: rows of the whole graph against float64 on the pixels that its first part makes, and
        what the runtime attests with the grey levels by which these pixels differ from ours.
    Raises: ExportError if they differ by more than a rounding.
    """
    from ..runtime.opening import open_onnx

    pixels = INPUT_NAME in extras_in(file)
    outputs = (*references.form.outputs, *((INPUT_NAME,) if pixels else ()))
    metadata = metadata_of(cfg, references.spec, references.axes, outputs)
    metadata["preprocessing"] = "inside"
    whole = with_preprocessing(proto, cfg.input, pixels)
    save_onnx(whole, path, metadata, references.spec.opset, cfg.name)
    session = open_onnx(path)
    rows, levels = compare_images(session, file, references.form, cfg.input, references.spec)
    return rows, {**session.attestation, "grey_levels_from_pillow": levels}


def compare_images(
    session: Session,
    file: str,
    form: Form,
    input: InputSpec,
    spec: ExportSpec,
    tf32: bool = False,
    level: str = "",
) -> tuple[tuple[ParityRow, ...], dict[str, dict[str, float]]]:
    """An opened graph that takes images, on four sizes of them.

    Returns: rows against float64 on the pixels that its first part makes (which it returns, and
        which are compared then too, or else that part alone), and by how many grey levels these
        differ from ours, by image size.
    Raises: ExportError if they differ by more than a rounding.
    """
    rows: tuple[ParityRow, ...] = ()
    worst: dict[str, dict[str, float]] = {}
    returned = INPUT_NAME in extras_in(file)
    for size in _SIZES:
        images = _images(size)
        pixels, values = _run_alone(input, images)
        if returned:
            pixels = session.run_named(images)[INPUT_NAME]
        worst[f"{size[0]}x{size[1]}"] = _grey_levels(pixels, images, input)
        kinds = ("real",) * (len(images) - 1) + ("noise",)
        found = compute_references(
            form.module, TestInputs(pixels, kinds), spec.batches, form.outputs
        )
        found = {k: replace(r, inputs=TestInputs(images, kinds)) for k, r in found.items()}
        if returned:
            found[INPUT_NAME] = _pixels_reference(input, values, TestInputs(images, kinds))
        compared = check_named(
            session.run_named, found, file, session.provider, spec, tf32=tf32, level=level
        )
        rows += tuple(replace(row, size=size) for row in compared)
    return rows, worst


def _images(size: tuple[int, int]) -> Array:
    """Sample images enlarged to a size, and noise. Shape: uint8 (3, H, W, 3)."""
    from PIL import Image

    made = [
        np.asarray(Image.open(path).convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC))
        for path in sample_images("digits")[:2]
    ]
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (*size, 3), dtype=np.uint8)
    return np.stack([*made, noise])


def _run_alone(spec: InputSpec, images: Array) -> tuple[Array, Array]:
    """Pixels of the first part, and the grey values from 0 to 255 that it normalises."""
    import onnxruntime
    from onnx import TensorProto, helper

    proto = preprocessing_graph(spec)
    proto.graph.output.append(helper.make_tensor_value_info(GREY_VALUES, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    pixels, values = session.run([INPUT_NAME, GREY_VALUES], {IMAGE_NAME: images})
    return pixels, values


def _pixels_reference(spec: InputSpec, values: Array, inputs: TestInputs) -> Reference:
    """Grey values (B, C, H, W) normalised in float64, and the error of float32 at that."""
    truth, single = (_normalised(values, spec, kind) for kind in (np.float64, np.float32))
    rows = truth.reshape(len(truth), -1)
    error = np.abs(single.reshape(rows.shape) - rows).max(1)
    return Reference(inputs, rows, error, INPUT_NAME)


def _normalised(values: Array, spec: InputSpec, kind: Any) -> Array:
    scaled: Array = values.astype(kind) / kind(255)
    return (scaled - _per_channel(spec.mean, kind)) / _per_channel(spec.std, kind)


def _per_channel(numbers: tuple[float, ...], kind: Any) -> Array:
    return np.asarray(numbers, kind).reshape(-1, 1, 1)


def _grey_levels(pixels: Array, images: Array, spec: InputSpec) -> dict[str, float]:
    """Differences from our transform in units of 1/255, largest and mean."""
    ours = np.stack([preprocess(image, spec) for image in images])
    grey = 255 * _per_channel(spec.std, np.float64) * np.abs(pixels.astype(np.float64) - ours)
    found = {"max": round(float(grey.max()), 4), "mean": round(float(grey.mean()), 4)}
    if found["max"] > GREY_LEVELS_MAX or found["mean"] > GREY_LEVELS_MEAN:
        raise ExportError(
            "the preprocessing inside the graph differs from zoo.data.preprocessing by "
            f"{found['max']} grey levels (mean {found['mean']}) on images of {images.shape[1]} x "
            f"{images.shape[2]}; at most {GREY_LEVELS_MAX} and {GREY_LEVELS_MEAN} pass"
        )
    return found
