"""Lesion study: accuracy when one unit is taken out of a trained model.

Park & Kim, *How Do Vision Transformers Work?*, arXiv:2202.06709. A unit is taken out by
setting its residual branch to zero. Its author restricts the paper's reading, that attention at the
end of a stage matters most, to shallow or multi-stage models.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AnalysisError
from ..evaluation.evaluate import Accuracy
from ._features import OnStep, ignore
from ._figure import INK, KIND_COLOURS, SERIES, _short, legend_above, panels, save, tidy
from ._hooks import check_classes, device_of, first_tensor, outputs_to, read_batches, unchanged
from ._results import Z95, Result
from ._units import block_names, branches, kind_of

DEFINITION = (
    "accuracy on the same images with one unit taken out at test time: a block whose output has "
    "the shape of its input passes its input on; a branch (attention, MLP) adds zero. The drop's "
    "interval is over images, paired."
)


@dataclass(frozen=True)
class Lesion:
    """What the loss of one unit costs.

    Args:
        name, kind: of the unit.
        accuracy: without the unit; None where it cannot be taken out.
        drop_percent: accuracy lost, in percentage points, and its 95 % interval.
        note: why it cannot be taken out, e.g. "changes the shape".
    """

    name: str
    kind: str
    accuracy: Accuracy | None
    drop_percent: float | None
    interval_percent: tuple[float, float] | None
    note: str = ""


@dataclass(frozen=True)
class LesionResult(Result):
    """The intact model and every lesion, in the order of execution."""

    intact: Accuracy
    lesions: tuple[Lesion, ...]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "model": self.model,
                "unit": lesion.name,
                "kind": lesion.kind,
                "acc1_percent": lesion.accuracy.percent if lesion.accuracy else None,
                "drop_percent": lesion.drop_percent,
                "low": lesion.interval_percent[0] if lesion.interval_percent else None,
                "high": lesion.interval_percent[1] if lesion.interval_percent else None,
                "note": lesion.note,
            }
            for lesion in self.lesions
        ]

    def plot(self, path: str | Path) -> None:

        plot_lesions([self], path)


def lesion_study(
    model: nn.Module,
    loader: Iterable[Any],
    units: Sequence[str] | None = None,
    name: str = "model",
    on_step: OnStep = ignore,
) -> LesionResult:
    """Accuracy without each unit.

    Args:
        loader: yields (images, targets); read once, and kept in memory.
        units: names of modules to take out; default: every block, and of transformer blocks the
            two branches.
        on_step: called after every lesion with their number so far.
    Raises: AnalysisError for one class only, or an empty loader.
    """
    batches = list(read_batches(loader, labelled=True))
    check_classes(torch.cat([targets for _, targets in batches]))
    modules = dict(model.named_modules())
    with unchanged(model):
        whole = _correct(model, batches)
        intact = Accuracy(int(whole.sum()), len(whole))
        lesions = []
        for number, (unit, kind, branch) in enumerate(_removable(model, units), start=1):
            lesions.append(_without(model, modules[unit], unit, kind, branch, batches, whole))
            on_step(number)
    return LesionResult(name, DEFINITION, intact, tuple(lesions))


def count_lesions(model: nn.Module) -> int:
    """How many units `lesion_study` tries."""
    return len(_removable(model, None))


def _removable(model: nn.Module, units: Sequence[str] | None) -> list[tuple[str, str, bool]]:
    """(module, kind, whether it is a branch)."""
    modules = dict(model.named_modules())
    if units is not None:
        unknown = [unit for unit in units if unit not in modules]
        if unknown:
            raise AnalysisError(f"no modules {unknown}; see model.named_modules()")
        return [(unit, kind_of(modules[unit]), False) for unit in units]
    found: list[tuple[str, str, bool]] = []
    for name in block_names(model):
        halves = branches(modules[name])
        found += [(f"{name}.{child}", kind, True) for child, kind in halves]
        found += [] if halves else [(name, kind_of(modules[name]), False)]
    return found


def _without(
    model: nn.Module,
    module: nn.Module,
    unit: str,
    kind: str,
    branch: bool,
    batches: Sequence[tuple[Tensor, Tensor]],
    whole: Tensor,
) -> Lesion:
    problem: list[str] = []

    def remove(_: str, inputs: tuple[Any, ...], output: Any) -> Any:
        out = first_tensor(output, unit)
        if branch:
            return torch.zeros_like(out)
        entering = first_tensor(inputs, unit)
        if entering.shape != out.shape:
            shapes = f"{tuple(entering.shape[1:])} to {tuple(out.shape[1:])}"
            problem.append(f"changes the shape, {shapes}")
            return None
        return entering

    with outputs_to({unit: module}, remove):
        left = _correct(model, batches[:1])
        if not problem:
            left = torch.cat([left, _correct(model, batches[1:])])
    if problem:
        return Lesion(unit, kind, None, None, None, problem[0])
    lost = (whole.double() - left.double()) * 100
    half = Z95 * float(lost.std()) / math.sqrt(len(lost)) if len(lost) > 1 else 0.0
    drop = float(lost.mean())
    accuracy = Accuracy(int(left.sum()), len(left))
    return Lesion(unit, kind, accuracy, drop, (drop - half, drop + half))


def _correct(model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Whether each image is classified correctly, bool (n,)."""
    device, dtype = device_of(model)
    rows = [torch.zeros(0, dtype=torch.bool)]
    for images, targets in batches:
        rows.append(model(images.to(device, dtype)).argmax(-1).cpu() == targets.cpu())
    return torch.cat(rows)


def plot_lesions(results: Sequence[LesionResult], path: str | Path) -> None:
    """Accuracy lost by every unit, with its interval; what cannot be removed is named so."""
    most = max(len(result.lesions) for result in results)
    figure, cells = panels(len(results), 2, 4.6, 0.9 + 0.24 * most)
    for cell, result in zip(cells, results, strict=True):
        for i, lesion in enumerate(result.lesions):
            if lesion.drop_percent is None or lesion.interval_percent is None:
                cell.text(
                    0.02, i, lesion.note, va="center", fontsize=6.5,
                    transform=cell.get_yaxis_transform(), zorder=3,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
                )  # fmt: skip
                continue
            low, high = lesion.interval_percent
            cell.barh(
                i, lesion.drop_percent, color=KIND_COLOURS[lesion.kind], edgecolor=INK, lw=0.5,
                height=0.7, hatch={"convolution": "///", "mlp": "..."}.get(lesion.kind, ""),
            )  # fmt: skip
            cell.plot([low, high], [i, i], color=INK, lw=1)
        cell.set_yticks(range(len(result.lesions)))
        cell.set_yticklabels([_short(lesion.name) for lesion in result.lesions], fontsize=7)
        cell.set_ylim(len(result.lesions) - 0.4, -0.7)
        cell.set_xlabel("accuracy lost (percentage points)")
        cell.set_title(f"{result.model}: intact {result.intact.percent:.1f} %")
        cell.axvline(0, color=SERIES[6], lw=0.8)
        tidy(cell)
    _hatch_legend(figure, [lesion.kind for result in results for lesion in result.lesions])
    save(figure, path)


def _hatch_legend(figure: Any, kinds: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    hatches = {"attention": "", "convolution": "///", "mlp": "..."}
    handles = [
        Patch(facecolor=KIND_COLOURS[kind], edgecolor=INK, hatch=hatch, label=kind)
        for kind, hatch in hatches.items()
        if kind in kinds
    ]
    legend_above(figure, handles)
