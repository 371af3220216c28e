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

from ..evaluation.evaluate import Accuracy
from ._answers import are_right, check_classes
from ._blocks import find_blocks, find_branches
from ._features import OnStep, ignore
from ._figure import INK, KIND_COLOURS, SERIES, _short, legend_above, panels, save, tidy
from ._hooks import device_of, first_tensor, outputs_to, read_batches, unchanged
from ._results import Z95, Result
from ._units import check_names, look_at

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
    Raises: AnalysisError for one class only, an empty loader, targets that are no classes of the
        model, or answers that are not finite.
    """
    batches = list(read_batches(loader, labelled=True))
    check_classes(torch.cat([targets for _, targets in batches]))
    with unchanged(model):
        whole = _correct(model, batches)
        intact = Accuracy(int(whole.sum()), len(whole))
        lesions = []
        for number, part in enumerate(_removable(model, batches[0][0], units), start=1):
            lesions.append(_without(model, part, batches, whole))
            on_step(number)
    return LesionResult(name, DEFINITION, intact, tuple(lesions))


def count_lesions(model: nn.Module, image: Tensor | None = None) -> int:
    """How many units `lesion_study` tries.

    Args: image: (1, C, H, W); default: of the size that the model states.
    """
    return len(_removable(model, image, None))


@dataclass(frozen=True)
class _Part:
    """What is taken out: modules whose outputs become zero, or a block that passes its input on."""

    name: str
    kind: str
    outputs: tuple[str, ...] = ()


def _removable(model: nn.Module, image: Tensor | None, units: Sequence[str] | None) -> list[_Part]:
    check_names(model, units or ())
    seen = look_at(model, image)
    if units is not None:
        return [_Part(unit, seen.kind_of(unit)) for unit in units]
    found: list[_Part] = []
    for block in find_blocks(model, seen):
        branches = find_branches(block, seen)
        if len(branches) > 1 and all(branch.outputs for branch in branches):
            found += [_Part(one.module, one.kind, one.outputs) for one in branches]
        else:
            found.append(_Part(block, branches[0].kind if branches else seen.kind_of(block)))
    return found


def _without(
    model: nn.Module, part: _Part, batches: Sequence[tuple[Tensor, Tensor]], whole: Tensor
) -> Lesion:
    problem: list[str] = []
    ran: set[str] = set()
    modules = dict(model.named_modules())

    def remove(name: str, inputs: tuple[Any, ...], output: Any) -> Any:
        ran.add(name)
        out = first_tensor(output, name)
        left = torch.zeros_like(out) if part.outputs else first_tensor(inputs, name)
        if left.shape != out.shape:
            shapes = f"{tuple(left.shape[1:])} to {tuple(out.shape[1:])}"
            problem.append(f"changes the shape, {shapes}")
            return None
        return left if isinstance(output, Tensor) else (left, *output[1:])

    removed = {name: modules[name] for name in part.outputs or (part.name,)}
    with outputs_to(removed, remove, () if part.outputs else removed):
        left = _correct(model, batches[:1])
        if not problem:
            left = torch.cat([left, _correct(model, batches[1:])])
    if problem or not ran:
        note = problem[0] if problem else "does not run"
        return Lesion(part.name, part.kind, None, None, None, note)
    lost = (whole.double() - left.double()) * 100
    half = Z95 * float(lost.std()) / math.sqrt(len(lost)) if len(lost) > 1 else 0.0
    drop = float(lost.mean())
    accuracy = Accuracy(int(left.sum()), len(left))
    return Lesion(part.name, part.kind, accuracy, drop, (drop - half, drop + half))


def _correct(model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Whether each image is classified correctly, bool (n,)."""
    device, dtype = device_of(model)
    rows = [torch.zeros(0, dtype=torch.bool)]
    for images, targets in batches:
        rows.append(are_right(model(images.to(device, dtype, copy=True)), targets))
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
