"""Gates of GPSA, their positional attention, and both over training epochs.

d'Ascoli et al., *ConViT*, arXiv:2103.10697, figures 5 to 7 and section 4. Epochs come from a run
directory's diagnostics.jsonl: one JSON object for each epoch, {"epoch", "layers": [{"name",
"gates", "nonlocality"}]}.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import AnalysisError
from ..files import read_regular_file
from ._results import Result
from .attention_maps import gates, positional_attention

DEFINITION = (
    "sigmoid(gating_param) per head: 1 attends by position only, 0 by content only. Reach: "
    "distance in patches between a query and the centre of its head's positional attention, from "
    "the weights of the positional projection."
)
DIAGNOSTICS = "diagnostics.jsonl"


@dataclass(frozen=True)
class LayerGates:
    """One GPSA layer.

    Args:
        gates, reach, span: per head; span is the width -1 / w2 of the positional attention.
        position: positional attention from the central patch, heads x rows x columns.
    """

    name: str
    gates: tuple[float, ...]
    reach: tuple[float, ...]
    span: tuple[float, ...]
    position: tuple[tuple[tuple[float, ...], ...], ...]


@dataclass(frozen=True)
class LayerEpoch:
    """A layer after an epoch; `gates` is None for a layer without gates."""

    epoch: int
    name: str
    gates: tuple[float, ...] | None
    nonlocality: tuple[float, ...]


@dataclass(frozen=True)
class GatesResult(Result):
    """Gates of a model, and over its training where that was logged."""

    layers: tuple[LayerGates, ...]
    epochs: tuple[LayerEpoch, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "model": self.model,
                "layer": layer.name,
                "head": head,
                "gate": gate,
                "reach": layer.reach[head],
                "span": layer.span[head],
            }
            for layer in self.layers
            for head, gate in enumerate(layer.gates)
        ]

    def plot(self, path: str | Path) -> None:
        from .plots.heads import plot_gates

        plot_gates([self], path)


def gate_study(
    model: nn.Module,
    grid: tuple[int, int],
    name: str = "model",
    epochs: tuple[LayerEpoch, ...] = (),
) -> GatesResult:
    """Gates, reach and positional attention of every GPSA layer.

    Args: grid: patches (rows, columns) that the positional attention is drawn on.
    Raises: AnalysisError for a model without gates, unless it comes with epochs (a plain ViT).
    """
    values = gates(model)
    if not values and not epochs:
        raise AnalysisError(
            f"{name} has no gated positional attention; this analysis is for ConViT (convit_*)",
            code="no_gates",
        )
    positions = positional_attention(model, grid)
    modules = dict(model.named_modules())
    layers = []
    for layer, gate in values.items():
        weight = modules[layer].pos_proj.weight.detach().double()  # (nh, 3)
        span = -1 / weight[:, 2]
        reach = (span / 2).abs() * weight[:, :2].norm(dim=1)
        maps = positions.get(layer)
        panels = () if maps is None else tuple(tuple(map(tuple, head)) for head in maps.tolist())
        layers.append(
            LayerGates(
                layer, tuple(gate.tolist()), tuple(reach.tolist()), tuple(span.tolist()), panels
            )
        )
    return GatesResult(name, DEFINITION, tuple(layers), epochs)


def read_diagnostics(run: str | Path) -> tuple[LayerEpoch, ...]:
    """The epochs of a run directory; none if it kept no log.

    Raises: AnalysisError for a damaged log.
    """
    path = Path(run) / DIAGNOSTICS
    if not path.is_file():
        return ()
    found = []
    for number, line in enumerate(read_regular_file(path).decode().splitlines(), start=1):
        try:
            entry = json.loads(line)
            for layer in entry["layers"]:
                gate = layer["gates"]
                found.append(
                    LayerEpoch(
                        int(entry["epoch"]),
                        str(layer["name"]),
                        None if gate is None else tuple(float(value) for value in gate),
                        tuple(float(value) for value in layer["nonlocality"]),
                    )
                )
        except (ValueError, KeyError, TypeError) as error:
            raise AnalysisError(
                f"line {number} of {path} is damaged: {type(error).__name__}: {error}; train again "
                "with --diagnostics",
                code="diagnostics",
            ) from None
    return tuple(found)
