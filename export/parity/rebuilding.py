"""Whether the files of an export make the model again, as everyone who opens the directory will."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import ExportError, ZooError
from zoo.factory.description import PretrainedCfg
from zoo.files.places import Directory

from ..formats.outputs import own_form
from ..formats.surroundings import own_failure
from .inputs import make_inputs
from .reference import eager_runner

if TYPE_CHECKING:
    from torch import Tensor, nn

_TOLERANCE = 1e-6  # of the scale of the answers: the same sums in the same order


def check_rebuilt(folder: Path, model: nn.Module, cfg: PretrainedCfg) -> None:
    """Build the model of config.json and model.safetensors; compare its tensors and one answer.

    Code of one's own is never run because a directory names it, so there it is not done.

    Raises: ExportError (code "not_rebuildable") that says what differs.
    """
    from zoo.factory.building import build
    from zoo.factory.resolve import stored

    if cfg.architecture.startswith("py:"):
        return
    try:
        plan = stored(Directory(str(folder)), True, {})
        # no look at its outline first: the constructor has run in this process
        rebuilt = build(replace(plan, stated=False, what="model.safetensors"))
    except ZooError as error:
        raise _refusal(cfg, str(error)) from None
    theirs = rebuilt.state_dict()
    for name, value in model.state_dict().items():
        if not _same(value, theirs[name]):
            raise _refusal(cfg, f"{name} ({value.dtype}) is not what {theirs[name].dtype} holds")
    image, names = make_inputs(cfg.input).batch[:1], own_form(model).outputs
    with own_failure(model, image.shape[1:]):
        ours, again = (
            np.concatenate(list(eager_runner(one, names)(image).values()), axis=1)
            for one in (model, rebuilt)
        )
    if ours.shape != again.shape:
        raise _refusal(cfg, f"it answers with {again.shape[1]} values, not {ours.shape[1]}")
    far, scale = float(np.abs(ours - again).max()), max(1.0, float(np.abs(again).max()))
    if not far <= _TOLERANCE * scale:
        raise _refusal(
            cfg, f"with the same tensors it answers differently by {far:.1e}, as by hooks"
        )


def _same(value: Tensor, stored: Tensor) -> bool:
    return bool((value.detach().cpu() == stored).all())  # wider kinds hold all that narrow ones do


def _refusal(cfg: PretrainedCfg, why: str) -> ExportError:
    return ExportError(
        f"the files of {cfg.name} would not make this model again: {why}. It has wrapped or "
        "changed layers: export the merged model (merge_and_unload, prune.remove), or "
        "py:FILE.py:NAME",
        code="not_rebuildable",
    )
