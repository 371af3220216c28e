"""Analyses of how-do-vits-work: Fourier and variance notebooks, ops/loss_landscapes.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from tests.goldens import fill
from zoo.analysis._loss_plane import moved, parameter_norms, random_directions
from zoo.analysis.fourier import log_amplitudes
from zoo.analysis.variance import map_variances
from zoo.evaluation.metrics import CUTOFF, cutoff_counts, frequency, summarize, unconfidence
from zoo.evaluation.outcomes import Outcomes, judge

from . import build

TARGETS: dict[str, Any] = {}  # these cases name recipes, not constructors of ours
_THEIRS = "how-do-vits-work"


def run(case: dict[str, Any], folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """Named outputs of a case in `dtype`."""
    with torch.no_grad():
        return _RECIPES[case["recipe"]](case, dtype)


def _latents(case: dict[str, Any], dtype: torch.dtype) -> list[Tensor]:
    """Maps of any size; tokens stand on a square grid, without the class tokens before it."""
    found = []
    for i, shape in enumerate(case["latents"]):
        z = torch.from_numpy(fill.make_input(shape, case["seed"], 1.0, f"z{i}")).to(dtype)
        if z.ndim == 3:
            side = math.isqrt(z.shape[1])
            z = z[:, z.shape[1] - side**2 :].transpose(1, 2).unflatten(2, (side, side))
        found.append(z)
    return found


def _fourier(case: dict[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    curves = [log_amplitudes(z, _THEIRS).mean(0) for z in _latents(case, dtype)]
    return {f"latent{i}": curve - curve[0] for i, curve in enumerate(curves)}


def _variance(case: dict[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    return {"variances": torch.stack([map_variances(z).mean() for z in _latents(case, dtype)])}


def _landscape(case: dict[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    model = _filled(case)
    seed = case["seed"]

    def noise(number: int, key: str, shape: Sequence[int]) -> Tensor:
        made = fill.make_input(list(shape), seed, 1.0, f"basis{number}/{key}")
        return torch.from_numpy(made)

    directions = random_directions(model, ignored=case.get("kws", ()), noise=noise)
    found: dict[str, Any] = {}
    for number, direction in enumerate(directions, start=1):
        found |= {f"basis{number}/{key}": direction[key] for key in case["record"]}
        found[f"basis{number}_norms"] = torch.stack([b.norm() for b in direction.values()])
    x0, x1, y0, y1 = case["range"]
    axes = np.linspace(x0, x1, case["n_x"]), np.linspace(y0, y1, case["n_y"])
    places = [(x, y) for y in axes[1] for x in axes[0]]
    found["grid"] = np.asarray(places)
    rows = [_measure(model, moved(model, directions, x, y), case) for x, y in places]
    found |= {f"grid_{name}": np.asarray([row[name] for row in rows]) for name in rows[0]}
    found["l1"], found["l2"], _ = parameter_norms(model, model.state_dict())
    return {name: torch.as_tensor(np.asarray(value)) for name, value in found.items()}


def _filled(case: dict[str, Any]) -> nn.Module:
    """The model with the case's weights, all float32."""
    model = build(case["build"]).module.eval()
    kept = case.get("keys_not_filled", ())
    rows = []
    for key, value in model.state_dict().items():
        rule = "keep" if key in kept else rule_of(key, value.shape)
        rows.append([key, list(value.shape), str(value.dtype).removeprefix("torch."), rule])
    filled = fill.fill_state_dict(rows, case["seed"], case["gain"])
    state = {key: torch.from_numpy(value) for key, value in filled.items()}
    model.load_state_dict({**model.state_dict(), **state})
    return model


_STATISTICS = {"running_mean": "mean", "running_var": "var", "num_batches_tracked": "count"}


def rule_of(key: str, shape: Sequence[int]) -> str:
    """How fill.py makes the entry of a case that has no spec; the specs were written by this."""
    name = key.rpartition(".")[2]
    if name in _STATISTICS:
        return _STATISTICS[name]
    if name == "filter":  # of a fixed blur
        return "keep"
    if key.endswith("pos_proj.weight"):
        return "gpsa_pos"
    if "gating_param" in key:
        return "gate"
    if "layer_scale" in key:
        return "layer_scale"
    if any(part in key for part in ("cls_token", "pos_embed", "relative_position_bias_table")):
        return "pos"
    if len(shape) > 1:
        return "linear"
    return "bias" if key.endswith("bias") else "norm"


def _measure(model: nn.Module, state: dict[str, Tensor], case: dict[str, Any]) -> dict[str, Any]:
    parts, classes, seed = [], case["num_classes"], case["seed"]
    for i, size in enumerate(case["batches"]):
        x = torch.from_numpy(fill.make_input([size, *case["image"]], seed, 1.0, f"x{i}"))
        y = fill.make_labels(size, classes, seed, f"y{i}")
        logits = functional_call(model, state, (x,))
        parts.append(judge(logits.softmax(-1).numpy(), np.asarray(y), _THEIRS))
    outcomes = Outcomes.join(parts)
    found = summarize(outcomes, _THEIRS)
    above = [cutoff_counts(outcomes, cutoff) for cutoff in (0.0, CUTOFF)]
    l1, l2, _ = parameter_norms(model, state)
    return {
        "l1": l1,
        "l2": l2,
        "nll": found["nll"],
        "acc": [found["acc1"], found["acc90"]],
        "unconfidence": [unconfidence(a.wrong, a.rest_wrong, _THEIRS) for a in above],
        "iou": [found["iou"], found["iou90"]],
        "freq": [frequency(a.images, a.rest, _THEIRS) for a in above],
        "top5": found["acc5"],
        "brier": found["brier"],
        "ece": found["ece"],
        "ecse": found["ecse"],
    }


_RECIPES = {"fourier": _fourier, "variance": _variance, "landscape": _landscape}
