"""diagnostics.jsonl: where the attention of every layer and head looks, epoch after epoch.

Gates and nonlocality as in figures 5 and 6 of d'Ascoli et al., arXiv:2103.10697, on the same
validation images every time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..analysis._attention_layers import gates
from ..analysis.gates import DIAGNOSTICS_LINE
from ..analysis.nonlocality import nonlocality_study
from ..errors import AnalysisError
from ..files.json_text import to_json
from ..files.local import write_text
from .batches import to_tensor
from .job import EpochResult, Job
from .run import UNFINISHED_DIAGNOSTICS, open_parts

IMAGES = 64


def diagnostics_writer(job: Job, out: Path) -> Callable[[EpochResult, nn.Module], None]:
    """A listener for `Watch.on_epoch` that adds a line to `out`/unfinished_diagnostics.jsonl, which
    becomes diagnostics.jsonl when the run is finished.

    A line is ``{"epoch", "layers": [{"name", "gates": [per head] | null, "nonlocality": [per
    head]}]}``; a model without attention has no layers. Lines of this epoch and later ones, which
    an interrupted sitting may have left, are replaced.
    """
    batch: list[torch.Tensor] = []

    def listener(result: EpochResult, model: nn.Module) -> None:
        if not batch:
            images = open_parts(job)("validation")
            assert images is not None  # training has begun
            chosen = np.linspace(0, len(images) - 1, min(IMAGES, len(images))).astype(int)
            batch.append(to_tensor([images[int(i)] for i in chosen], model.pretrained_cfg.input))
        line = {"epoch": result.epoch, "layers": diagnose(model, batch[0])}
        path = out / UNFINISHED_DIAGNOSTICS
        earlier = path.read_text().splitlines() if path.is_file() else []
        known = ((DIAGNOSTICS_LINE.parse(text, str(path)), text) for text in earlier)
        kept = [text for entry, text in known if entry["epoch"] < result.epoch]
        write_text(path, "\n".join([*kept, to_json(line)]) + "\n")

    return listener


def diagnose(model: nn.Module, images: torch.Tensor) -> list[dict[str, Any]]:
    """Gates and nonlocality (in patches) of every attention layer, on images (B, C, H, W)."""
    try:
        found = nonlocality_study(model, [(images, torch.zeros(len(images)))])
    except AnalysisError as error:
        if any(hasattr(module, "attention_weights") for module in model.modules()):
            raise error
        return []
    values = gates(model)
    return [
        {
            "name": layer.name,
            "gates": _rounded(values[layer.name].tolist()) if layer.name in values else None,
            "nonlocality": _rounded([head.mean for head in layer.heads]),
        }
        for layer in found.layers
    ]


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 6) for value in values]
