"""model.json: what a page needs to know of its model, and to prove it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.analysis._attention_layers import gates, visit_attention
from zoo.data.preprocessing import read_image

from ...graph.preprocessing import preprocessing_graph
from ...parity.inputs import TestInputs
from ...parity.reference import compute_reference
from ...parity.stored import TEST_DATA, read_test_data
from ...spec import OUTPUT_NAME, ExportSpec, precision_of
from .collecting import VECTORS, Collected, described

if TYPE_CHECKING:
    from PIL import Image

Array = np.ndarray[Any, Any]

PREPROCESS = "preprocess.onnx"
STARTS_ALONE = 8_000_000  # bytes of a first load that is not asked for first
_LIMITS = (
    "eager_ratio", "eager_slack", "absolute", "float16", "float16_top1", "int8_relative_l2",
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """An image that a page offers: where it lies, what it is called, its pixels."""

    file: str
    alt: str
    image: Image.Image


def read_samples(paths: Sequence[Path], classes: Sequence[str] = ()) -> tuple[Sample, ...]:
    """Images to offer, at most ten, under neutral names. Raises: ImageError.

    Args: classes: what they show, where that is known; else they are called like their files.
    """
    alts = classes or [path.stem.replace("_", " ") for path in paths]
    return tuple(
        Sample(f"samples/{number}.png", alt, read_image(path))
        for number, (path, alt) in enumerate(zip(paths[:10], alts, strict=False))
    )


def write_preprocessing(collected: Collected, path: Path) -> None:
    """The graph from an image to pixel_values. Raises: ExportError for inputs it cannot express."""
    graph = preprocessing_graph(collected.cfg.input)
    path.write_bytes(graph.SerializeToString(deterministic=True))


def model_facts(
    collected: Collected, place: Path, samples: Sequence[Sample], runtime_bytes: int
) -> dict[str, Any]:
    """The content of model.json.

    Args:
        place: folder of the page, with all its files but this one.
        runtime_bytes: of the runtime that the first load takes.
    """
    cfg = collected.cfg
    spec = ExportSpec()
    reference = read_test_data(collected.folder)
    files = {
        name: described(place / path, path, precision=precision_of(path))
        for name, path in collected.files.items()
    }
    paths = {name.partition("_")[0]: f"{TEST_DATA}/{name}" for name in VECTORS}
    vectors = {
        "input": described(place / paths["input"], paths["input"]),
        "output": described(place / paths["output"], paths["output"]),
        "error": described(place / paths["eager"], paths["eager"]),
    }
    preprocess = described(place / PREPROCESS, PREPROCESS)
    first = [files["float32"], preprocess, *vectors.values()]
    load = runtime_bytes + sum(file["bytes"] for file in first)
    return {
        "name": cfg.name,
        "version": cfg.version,
        "weights_sha256": cfg.sha256,
        "labels": list(cfg.labels),
        "num_classes": cfg.num_classes,
        "input": cfg.input.to_dict(),
        "output": OUTPUT_NAME,
        "limits": {key: value for key, value in asdict(spec).items() if key in _LIMITS},
        "files": files,
        "preprocess": preprocess,
        "attention": _attention(collected, place),
        "vectors": {**vectors, "kinds": list(reference.inputs.kinds)},
        "samples": _sample_facts(collected, place, samples, spec),
        "first_load_bytes": load,
        "starts_alone": load <= STARTS_ALONE,
    }


def _attention(collected: Collected, place: Path) -> dict[str, Any] | None:
    if collected.attention is None:
        return None
    import torch

    spec = collected.cfg.input
    found: list[dict[str, Any]] = []
    shares = gates(collected.model)

    def visit(name: str, weights: Any, layout: Any) -> None:
        own = shares.get(name)
        found.append(
            {
                "name": name,
                "output": f"attentions.{name}",
                "heads": int(weights.shape[1]),
                **{key: list(v) if isinstance(v, tuple) else v for key, v in vars(layout).items()},
                "gates": None if own is None else [round(float(g), 4) for g in own],
            }
        )

    visit_attention(collected.model, [torch.zeros(1, spec.in_chans, *spec.size)], visit)
    file = "onnx/model_attention.onnx"
    return {**described(place / file, file), "layers": found}


def _sample_facts(
    collected: Collected, place: Path, samples: Sequence[Sample], spec: ExportSpec
) -> list[dict[str, Any]]:
    """What Python answers on every sample: float64 on the pixels of the graph, eager's error."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(place / PREPROCESS), providers=["CPUExecutionProvider"]
    )
    found = []
    for sample in samples:
        image = np.asarray(sample.image)[None]
        pixels = session.run(None, {"image": image})[0]
        reference = compute_reference(collected.model, TestInputs(pixels, ("real",)), (1,))
        found.append(
            {
                "file": sample.file,
                "alt": sample.alt,
                "logits": reference.logits[0].tolist(),
                "eager_error": float(reference.eager_error[0]),
            }
        )
    return found
