"""Gates of GPSA, their positional attention, and both over training epochs.

d'Ascoli et al., *ConViT*, arXiv:2103.10697, figures 5 to 7 and section 4. Epochs come from a run
directory's diagnostics.jsonl: one JSON object for each epoch, {"epoch", "layers": [{"name",
"gates", "nonlocality"}]}.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, TypedDict

from torch import nn

from ..catalog.checked_json import Document
from ..errors import AnalysisError
from ..evaluation.checks import check_count, check_pair
from ..files.listed import read_listed
from ._attention_layers import gates, position_weights, positional_attention
from ._figure import INK, SERIES, bare, legend_above, new_figure, save, series, tidy, whole_numbers
from ._results import Result

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

        plot_gates([self], path)


def gate_study(
    model: nn.Module,
    grid: tuple[int, int],
    name: str = "model",
    epochs: tuple[LayerEpoch, ...] = (),
) -> GatesResult:
    """Gates, reach and positional attention of every GPSA layer.

    Args: grid: patches (rows, columns) that the positional attention is drawn on.
    Raises: AnalysisError for a model without gates, unless it comes with epochs (a plain ViT);
        ConfigError for a grid that is none.
    """
    sides = check_pair("grid", grid, "rows, columns")
    grid = (check_count("grid", sides[0]), check_count("grid", sides[1]))
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
        weight = position_weights(modules[layer])[0].detach().double()  # (nh, 3)
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


class _Layer(TypedDict):
    name: str
    gates: list[float] | None
    nonlocality: list[float]


class _Line(TypedDict):
    epoch: int
    layers: list[_Layer]


DIAGNOSTICS_LINE = Document(
    _Line, "line of a log of gates", "diagnostics", "train again with --diagnostics", AnalysisError
)


def read_diagnostics(run: str | Path) -> tuple[LayerEpoch, ...]:
    """The epochs of a run directory; none if it kept no log.

    Raises: AnalysisError for a damaged log.
    """
    path = Path(run) / DIAGNOSTICS
    if not path.is_file():
        return ()
    found = []
    for number, line in enumerate(read_listed(path).splitlines(), start=1):
        entry = DIAGNOSTICS_LINE.parse(line, f"line {number} of {path}")
        for layer in entry["layers"]:
            gate = layer["gates"]
            reach = tuple(layer["nonlocality"])
            kept = None if gate is None else tuple(gate)
            found.append(LayerEpoch(entry["epoch"], layer["name"], kept, reach))
    return tuple(found)


def plot_gates(results: Sequence[GatesResult], path: str | Path) -> None:
    """Gates of every head, positional attention of every head, and both over epochs if logged."""
    gated = [result for result in results if result.layers]
    logged = [result for result in results if result.epochs]
    heads = max((len(layer.gates) for result in gated for layer in result.layers), default=0)
    rows = sum(len(result.layers) for result in gated)
    width, height = 1.25 * heads + 2.6, 1.35 * rows + 0.3
    figure = new_figure(max(width, 8.0 if logged else 0), height + 3.0 * len(logged))
    parts = figure.subfigures(
        (rows > 0) + len(logged), 1, squeeze=False,
        height_ratios=([height] if rows else []) + [3.0] * len(logged),
    )  # fmt: skip
    if rows:
        _gate_rows(parts[0, 0], gated, rows, heads)
    for part, result in zip(parts[rows > 0 :, 0], logged, strict=True):
        _epoch_row(part, result.model, result.epochs)
    save(figure, path)


def _gate_rows(figure: Any, results: Sequence[GatesResult], rows: int, heads: int) -> None:
    cells = figure.subplots(rows, heads + 1, squeeze=False, width_ratios=[2.0] + [1] * heads)
    layers = [(result.model, layer) for result in results for layer in result.layers]
    for row, (model, layer) in enumerate(layers):
        bars = cells[row, 0]
        bars.bar(range(len(layer.gates)), layer.gates, color=SERIES[0], width=0.6, ec=INK, lw=0.4)
        bars.set_ylim(0, 1)
        bars.axhline(0.5, color=INK, lw=0.6, ls=":")
        bars.set_xticks(range(len(layer.gates)))
        name = [
            piece for part in (*re.split(r"(?=\.)", model), layer.name) for piece in wrap(part, 18)
        ]
        bars.set_ylabel("\n".join(name), fontsize=7)
        tidy(bars, grid=False)
        for head in range(heads):
            cell = cells[row, head + 1]
            if head < len(layer.position):
                cell.imshow(layer.position[head], cmap="viridis", vmin=0)
                _mark(cell, len(layer.position[head]), len(layer.position[head][0]))
                cell.set_xlabel(f"reach {layer.reach[head]:.1f}", fontsize=7, labelpad=1)
            else:
                cell.set_visible(False)
            bare(cell)
            if row == 0:
                cell.set_title(f"head {head}", fontsize=8)
    cells[0, 0].set_title("gate (1: position only)", fontsize=8)
    cells[-1, 0].set_xlabel("head")
    figure.suptitle(
        "gates, and positional attention from the central patch (reach in patches)", fontsize=9
    )


def _mark(axes: Any, height: int, width: int) -> None:
    axes.scatter([width // 2], [height // 2], marker="s", s=16, fc="none", ec="white", lw=1.2)


def _epoch_row(figure: Any, model: str, epochs: Sequence[LayerEpoch]) -> None:
    gate, distance = figure.subplots(1, 2)
    for number, name in enumerate(dict.fromkeys(entry.name for entry in epochs)):
        entries = [entry for entry in epochs if entry.name == name]
        style = {**series(number), "markersize": 3}
        x = [entry.epoch for entry in entries]
        distance.plot(
            x, [sum(e.nonlocality) / len(e.nonlocality) for e in entries], label=name, **style
        )
        gates = [(e.epoch, sum(e.gates) / len(e.gates)) for e in entries if e.gates]
        if gates:
            gate.plot(*zip(*gates, strict=True), label=name, **style)
    if not any(entry.gates for entry in epochs):
        gate.set_xlim(distance.get_xlim())
        gate.text(0.5, 0.5, "no gates", ha="center", va="center", transform=gate.transAxes)
    gate.set_ylim(0, 1)
    gate.set_ylabel("gate, mean over heads")
    distance.set_ylabel("nonlocality (patches),\nmean over heads")
    distance.set_ylim(bottom=0)
    for axes in (gate, distance):
        axes.set_xlabel("epoch")
        axes.set_title(model)
        whole_numbers(axes.xaxis)
        tidy(axes)
    legend_above(figure)
