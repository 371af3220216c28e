"""A model repository for NVIDIA Triton: config.pbtxt beside the ONNX file, nothing else.

Fields are those of `ModelConfig` in the server's model_config.proto. No server was run on it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from zoo.factory.description import PretrainedCfg

FOLDER = "triton"
MOST_IMAGES = 16  # that the server puts into one call
_LABELS = "labels.txt"
_TYPES = {1: "TYPE_FP32", 2: "TYPE_UINT8", 10: "TYPE_FP16", 11: "TYPE_FP64"}  # by ONNX's number


def repository_file(cfg: PretrainedCfg) -> str:
    """Where the ONNX file of a model lies in an export directory."""
    return f"{FOLDER}/{_model_name(cfg)}/1/model.onnx"


def _model_name(cfg: PretrainedCfg) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", cfg.name)


def write_triton(folder: Path, onnx_file: str, cfg: PretrainedCfg) -> str:
    """Write FOLDER/triton/NAME with a copy of an exported file.

    Args:
        folder: the export directory, in which `onnx_file` is.
    Returns: path of the copy in `folder`.
    """
    data, target = (folder / onnx_file).read_bytes(), folder / repository_file(cfg)
    target.parent.mkdir(parents=True)
    target.write_bytes(data)
    home = target.parents[1]
    if cfg.labels:
        (home / _LABELS).write_text("".join(f"{label}\n" for label in cfg.labels), "utf-8")
    config = triton_config(data, _model_name(cfg), bool(cfg.labels))
    (home / "config.pbtxt").write_text(config, "utf-8")
    return repository_file(cfg)


def triton_config(data: bytes, name: str, labelled: bool) -> str:
    """config.pbtxt of an ONNX file whose first axes are the batch.

    Args:
        data: the file.
        name: of the model, which is that of its folder.
        labelled: the first output has class names in labels.txt.
    """
    import onnx

    graph = onnx.load_model_from_string(data).graph
    inputs = [_tensor(value, "") for value in graph.input]
    outputs = [
        _tensor(value, f'label_filename: "{_LABELS}"' if labelled and not place else "")
        for place, value in enumerate(graph.output)
    ]
    return "\n".join(
        [
            "# Written by convattn export --serving triton; not run on a server.",
            f'name: "{name}"',
            'platform: "onnxruntime_onnx"',
            f"max_batch_size: {MOST_IMAGES}",
            *(f"input {entry}" for entry in inputs),
            *(f"output {entry}" for entry in outputs),
            "dynamic_batching { }",
            "",
        ]
    )


def _tensor(value: Any, more: str) -> str:
    """A tensor without its batch; -1 is any size."""
    stated = value.type.tensor_type
    sides = [str(side.dim_value) if side.dim_value else "-1" for side in stated.shape.dim[1:]]
    lines = [
        f'name: "{value.name}"',
        f"data_type: {_TYPES[stated.elem_type]}",
        f"dims: [ {', '.join(sides)} ]",
        more,
    ]
    return "{\n" + "".join(f"  {line}\n" for line in lines if line) + "}"
