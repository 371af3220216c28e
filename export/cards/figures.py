"""The pictures of a card, and pictures.json, which says what they show and of which weights.

Drawn are: the outline of the architecture, reliability and confusion from accuracy.json, GPSA's
gates, and attention or similarity maps on one of the sample images. What a model has nothing to
show for (gates without GPSA, attention without attention layers) is left out; anything else that
cannot be drawn is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypedDict

from zoo.catalog.checked_json import Document
from zoo.catalog.tables import list_name, sample_images
from zoo.errors import AnalysisError, IntegrityError, ResourceError
from zoo.files.json_text import to_json
from zoo.files.local import make_directory, write_bytes, write_text

from .facts import CardFacts, Json
from .metadata import split_of
from .own_run import CURVES

if TYPE_CHECKING:
    from torch import nn


INDEX = "pictures.json"
MAX_BYTES = 100_000
_NOTHING_TO_SHOW = ("no_gates", "no_attention", "no_contexts")
_SAMPLE = 7  # which of the sample images of a data set is drawn


@dataclass(frozen=True)
class Picture:
    """A picture: its file, the section it belongs to, and what it shows."""

    file: str
    section: str
    caption: str


class _Pictures(TypedDict):
    weights_sha256: str
    pictures: list[Picture]


PICTURES = Document(_Pictures, "list of pictures", "pictures", "draw them again")


def read_pictures(folder: str | Path, facts: CardFacts) -> tuple[Picture, ...]:
    """Pictures in a folder that `draw_pictures` filled; none if there is no such folder.

    Raises: IntegrityError if they show other weights or one is missing; ConfigError.
    """
    path = Path(folder) / INDEX
    if not path.is_file():
        return ()
    content = PICTURES.read(path)
    drawn_of, pictures = content["weights_sha256"], tuple(content["pictures"])
    missing = [p.file for p in pictures if not (Path(folder) / p.file).is_file()]
    if drawn_of != facts.cfg.sha256 or missing:
        what = f"lacks {', '.join(missing)}" if missing else "shows other weights"
        text = f"{str(folder)!r} {what}; draw again with `convattn card {facts.name} --out DIR`"
        raise IntegrityError(text, code="other_weights")
    return pictures


Drawing = tuple[Picture, Callable[[Path], None]]


def draw_pictures(
    facts: CardFacts, folder: str | Path, model: nn.Module, trained: bool = True
) -> tuple[Picture, ...]:
    """Draw everything that a card shows, and pictures.json last.

    Args:
        folder: for the files; pictures there that are not drawn any more are removed.
        model: with the weights, or with random ones for its architecture alone.
        trained: whether `model` has the weights: what they do is drawn only then.
    Raises: MissingDependencyError without matplotlib; AnalysisError, ResourceError.
    """
    folder = make_directory(folder)
    wanted: list[Drawing] = [_outline(facts, model)]
    wanted += [*_curves(facts), *_evaluation(facts)]
    if trained:
        wanted += _inside(facts, model)
    drawn = []
    for picture, draw in wanted:
        path = folder / picture.file
        try:
            draw(path)
        except AnalysisError as error:
            if error.code not in _NOTHING_TO_SHOW:
                raise
            continue
        if path.stat().st_size > MAX_BYTES:
            size = path.stat().st_size
            text = f"{picture.file} has {size:,} bytes, at most {MAX_BYTES:,} belong into a card"
            raise ResourceError(f"{text}; draw fewer layers", code="picture_size")
        drawn.append(picture)
    for path in folder.glob("*.png"):
        if path.name not in {picture.file for picture in drawn}:
            path.unlink()
    content = {"weights_sha256": facts.cfg.sha256, "pictures": [asdict(p) for p in drawn]}
    write_text(folder / INDEX, to_json(content, indent=2) + "\n")
    return tuple(drawn)


def _outline(facts: CardFacts, model: nn.Module) -> Drawing:
    def draw(path: Path) -> None:
        import torch

        from .architecture import outline, plot_outline

        spec = facts.cfg.input
        steps = outline(model, torch.zeros(1, spec.in_chans, *spec.size))
        image = " x ".join(str(side) for side in (spec.in_chans, *spec.size))
        plot_outline(facts.cfg.architecture, image, steps, path)

    caption = "Steps from image to logits: modules, shape of what they pass on, parameters"
    return Picture("architecture.png", "architecture", caption), draw


def _curves(facts: CardFacts) -> list[Drawing]:
    """Those of one's own run, as it drew them."""
    file = facts.run.directory / CURVES if facts.run is not None else None
    if file is None or not file.is_file():
        return []
    caption = "Training loss and validation accuracy over the epochs"
    picture = Picture(CURVES, "training", caption)
    return [(picture, lambda path: write_bytes(path, file.read_bytes()))]


def _evaluation(facts: CardFacts) -> list[Drawing]:
    """Reliability and confusion of the test part, or of the last part that was measured."""
    results: Json = (facts.accuracy or {}).get("results", {})
    complete = {part: found for part, found in results.items() if found.get("reliability")}
    if not complete:
        return []
    part = next((name for name in complete if split_of(name) == "test"), list(complete)[-1])
    stored = _stored(part, complete[part], facts.cfg.labels)

    def reliability(path: Path) -> None:
        from zoo.analysis.reliability import plot_reliability

        plot_reliability(stored, path)

    def confusion(path: Path) -> None:
        from zoo.analysis.reliability import plot_confusion

        plot_confusion(stored, path)

    caption = f"Reliability on {part}: accuracy against confidence, and images per bin"
    found: list[Drawing] = [(Picture("reliability.png", "calibration", caption), reliability)]
    if complete[part].get("confusion_matrix"):
        caption = f"Confusion on {part}: true class (row) against answer (column)"
        found.append((Picture("confusion.png", "metrics", caption), confusion))
    return found


def _stored(part: str, found: Json, labels: tuple[str, ...]) -> Any:
    """What the figures of `zoo.evaluation.evaluate.Evaluation` read, from accuracy.json."""
    import numpy as np

    bins = {key: np.asarray(values) for key, values in found["reliability"].items()}
    return SimpleNamespace(
        dataset=part,
        labels=labels,
        reliability=SimpleNamespace(**bins),
        values={key: found["metrics"][key]["value"] for key in ("ece", "ecse")},
        outcomes=range(found["total"]),
        confusion=np.asarray(found.get("confusion_matrix") or []),
        accuracy=SimpleNamespace(percent=found["acc1_percent"]),
    )


def _inside(facts: CardFacts, model: nn.Module) -> list[Drawing]:
    """Gates, and attention or similarity maps on a sample image."""
    samples = sample_images(list_name(facts.cfg.labels))
    found = [
        (
            Picture("gates.png", "inside", "Gates of every GPSA head (1: position only), and its "
                    "positional attention from the central patch"),
            lambda path: _gates(facts, model, path),
        )
    ]  # fmt: skip
    if samples:
        sample = samples[_SAMPLE]
        caption = (
            "Where each head looks from the middle of a picture that training has not seen; layers "
            "with windows or neighbourhoods show those around it"
        )
        found.append(
            (Picture("attention.png", "inside", caption), lambda p: _attention(model, sample, p))
        )
        caption = "How much each token of that picture resembles the average token, by group"
        found.append(
            (Picture("similarity.png", "inside", caption), lambda p: _similarity(model, sample, p))
        )
    return found


def _gates(facts: CardFacts, model: nn.Module, path: Path) -> None:
    from zoo.analysis.gates import gate_study

    info: Any = model.feature_info
    reduction = int(info[0]["reduction"])
    height, width = facts.cfg.input.size
    gate_study(model, (height // reduction, width // reduction), "").plot(path)


def _sample(model: Any, file: Path) -> tuple[Any, Any]:
    """(the input (1, C, H, W), the image for the picture) of one of the package's samples."""
    import numpy as np
    from PIL import Image

    spec = model.pretrained_cfg.input
    image = Image.open(file).convert("RGB").resize(spec.size[::-1], Image.Resampling.BICUBIC)
    return model.pretrained_cfg.transform()(str(file))[None], np.asarray(image)


def _attention(model: nn.Module, sample: Path, path: Path) -> None:
    from zoo.analysis.attention import query_attention

    x, image = _sample(model, sample)
    query_attention(model, x, image, name="").plot(path)


def _similarity(model: nn.Module, sample: Path, path: Path) -> None:
    from zoo.analysis.similarity import plot_contexts, similarity_study

    x, image = _sample(model, sample)
    contexts = similarity_study(model, [x]).contexts
    if not contexts:
        raise AnalysisError("the model has no global contexts", code="no_contexts")
    large = [context for context in contexts if len(context.maps[0]) > 2]
    plot_contexts(image, large or contexts, path)
