"""A training run of one's own, as its card tells of it: what metrics.json says, and its curves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.catalog.registry import get_record
from zoo.errors import IntegrityError, UnknownModelError
from zoo.files.listed import read_document
from zoo.files.manifest import read_manifest

from .measured_files import RUN

METRICS, CURVES = "metrics.json", "curves.png"
_HUB = re.compile(r"hf-hub:([\w.-]+/[\w.-]+)")


@dataclass(frozen=True)
class OwnRun:
    """What a finished training run says of itself.

    Args:
        directory: of the run.
        metrics: its metrics.json.
    """

    directory: Path
    metrics: Mapping[str, Any]

    @property
    def data(self) -> str:
        """What its images are called: the folder's name, or the data set's."""
        return str(self.metrics["data"])

    @property
    def start(self) -> str:
        """Reference of the weights that it started from; "": random ones."""
        return str(self.metrics.get("finetune_from") or "")

    @property
    def base_model(self) -> str | None:
        """The Hub's name of the start: its repository, or the registered name; None for random
        weights and for a directory of one's own.
        """
        hub = _HUB.match(self.start)
        if hub:
            return hub[1]
        try:
            weights = get_record(self.start).selected
        except UnknownModelError:
            return None
        return None if weights is None else weights.repo or weights.name.partition("@")[0]

    def accuracy(self) -> dict[str, Any] | None:
        """Its results in the form of accuracy.json; None if the run evaluated nothing."""
        shown = self.metrics.get("evaluation")
        if not shown:
            return None
        part = "test" if self.metrics.get("test") else "validation"
        results = {f"{self.data}/validation": dict(self.metrics["validation"])}
        results[f"{self.data}/{part}"] = {**self.metrics[part], **shown}
        kept = ("command", "versions", "machine", "parent_commit")
        how = {key: self.metrics[key] for key in kept if key in self.metrics}
        return {"results": results, "resamples": shown.get("resamples", 200), **how}


def read_own_run(directory: str | Path, weights_sha256: str) -> OwnRun | None:
    """The run in a directory; None if it is none.

    Raises: IntegrityError if metrics.json is not what the manifest vouches for, or tells of other
        weights; ConfigError (code "metrics") for one that no training wrote.
    """
    directory = Path(directory)
    if not (directory / METRICS).is_file():
        return None
    manifest = read_manifest(directory)
    metrics = read_document(RUN, directory / METRICS)
    if manifest.digest("model.safetensors") != weights_sha256:
        raise IntegrityError(
            f"{METRICS} of {str(directory)!r} tells of other weights; train again",
            code="other_weights",
        )
    return OwnRun(directory, metrics)
