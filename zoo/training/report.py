"""What a run directory shows of itself: curves, confusion matrix and a draft card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.dataset import ImageDataset
from ..data.opening import open_dataset
from ..errors import MissingDependencyError
from ..evaluation.evaluate import Accuracy, Evaluation, evaluate
from ..evaluation.predictor import Predictor
from ..factory.create import create_model
from ..files.local import sha256_file, write_text
from .job import EpochResult, Job, TrainingResult

if TYPE_CHECKING:
    from torch import nn


RESAMPLES = 200  # of the bootstrap: a report costs seconds
CURVES, CONFUSION, CARD = "curves.png", "confusion.png", "README.md"


def write_report(
    model: nn.Module,
    job: Job,
    result: TrainingResult,
    images: ImageDataset,
    out: Path,
    skipped: Sequence[str] = (),
) -> Evaluation:
    """Write curves.png, confusion.png and README.md; without matplotlib, README.md alone.

    Args:
        images: what the confusion matrix is of: the test part, or validation if there is none.
        skipped: images that were left out because they cannot be read.
    Returns: the evaluation on `images`.
    """
    found = evaluate(
        Predictor.from_model(model).logits,
        images,
        labels=model.pretrained_cfg.labels,
        on_unreadable=job.on_unreadable,
        resamples=RESAMPLES,
    )
    pictures = True
    try:
        from ..analysis.reliability import plot_confusion

        plot_curves(result.curve, out / CURVES)
        plot_confusion(found, out / CONFUSION)
    except MissingDependencyError:
        pictures = False
    write_text(out / CARD, draft_card(model, job, result, found, pictures, skipped))
    return found


def plot_curves(curve: tuple[EpochResult, ...], path: Path) -> None:
    """Training loss and validation accuracy over the epochs. Raises: MissingDependencyError."""
    from ..analysis._figure import MUTED, new_figure, save, series, tidy, whole_numbers

    figure = new_figure(5.2, 3.2)
    left = figure.subplots()
    epochs = [row.epoch for row in curve]
    every = max(1, len(epochs) // 12)
    right = left.twinx()
    left.plot(epochs, [row.loss for row in curve], markevery=every, **series(0))
    shares = [row.validation.percent for row in curve]
    right.plot(epochs, shares, markevery=every, mfc="none", **series(1))  # hides no loss behind it
    best = max(curve, key=lambda row: (row.validation.correct, row.epoch))
    right.axvline(best.epoch, color=MUTED, lw=0.8, ls=":")
    left.set_xlabel("epoch (dotted: the one that was kept)")
    left.set_ylabel("training loss", color=series(0)["color"])
    right.set_ylabel("validation accuracy in %", color=series(1)["color"])
    whole_numbers(left.xaxis)
    tidy(left)
    right.spines[["top"]].set_visible(False)
    save(figure, path)


def draft_card(
    model: nn.Module,
    job: Job,
    result: TrainingResult,
    found: Evaluation,
    pictures: bool,
    skipped: Sequence[str] = (),
) -> str:
    """README.md of a run: what was measured. What only its owner knows goes into CARD.md."""
    cfg = model.pretrained_cfg
    recipe = result.recipe
    start = f"fine-tuned from `{Path(job.finetune_from).name}`" if job.finetune_from else "trained"
    shown = ", ".join(cfg.labels[:20]) + (", ..." if len(cfg.labels) > 20 else "")
    remarks = _left_out(skipped) + (_numbered(cfg.labels) if pictures else "")
    return f"""# {cfg.name}

*By `convattn train`. Complete `CARD.md` beside it; `convattn bundle` writes the model card.*

`{cfg.architecture}`, {start} on {result.images:,} images of {len(cfg.labels)} classes: \
{shown}.{remarks}

{_measured(result, found, pictures)}
## Use

```
convattn predict . IMAGE
```

```python
import zoo

predict = zoo.Predictor.from_model(zoo.create_model(".", pretrained=True))
predict("IMAGE").label
```

## Training

Recipe `{recipe.name}`, {recipe.total_epochs} epochs (epoch {result.best.epoch} was kept), \
{recipe.batch_size} images in a step, {recipe.optimizer} at {recipe.scaled_lr:g}, seed \
{recipe.seed}; all of it is in `metrics.json`. It took {result.seconds:.0f} s.

Cite the architecture: `convattn cite {cfg.architecture}`.
"""


def _measured(result: TrainingResult, found: Evaluation, pictures: bool) -> str:
    rows = [_row("validation (chose the epoch)", result.best.validation)]
    if result.test is not None:
        rows.append(_row("test", result.test))
    figures = f"\n![Training curves]({CURVES})\n\n![Confusion matrix]({CONFUSION})\n"
    return f"""| part | images | accuracy | 95 % interval |
|---|---|---|---|
{chr(10).join(rows)}

On {found.dataset}: NLL {found.values["nll"]:.4f}, ECE {found.values["ece"]:.4f}, Brier score \
{found.values["brier"]:.4f} (textbook definitions).
{figures if pictures else ""}"""


def _left_out(skipped: Sequence[str]) -> str:
    if not skipped:
        return ""
    shown = ", ".join(f"`{path}`" for path in skipped[:20]) + (", ..." if len(skipped) > 20 else "")
    return f" Left out, because they cannot be read: {len(skipped)} ({shown})."


def _numbered(labels: Sequence[str]) -> str:
    """What the numbers in the pictures mean, where no font of this machine has the names."""
    from ..analysis._lettering import class_names

    shown, _ = class_names(labels)
    if shown[0] != "0" or labels[0] == "0":
        return ""
    names = ", ".join(f"{number} {label}" for number, label in enumerate(labels))
    return f" In the pictures the classes are numbers: {names}."


def _row(part: str, accuracy: Accuracy) -> str:
    low, high = accuracy.interval_percent
    return f"| {part} | {accuracy.total} | {accuracy.percent:.1f} % | {low:.1f} to {high:.1f} % |"


_KEPT = ("definition", "metrics", "reliability", "classes", "confusion_matrix", "data_sha256")


def evaluation_facts(found: Evaluation) -> dict[str, Any]:
    """What metrics.json keeps of the evaluation."""
    content = found.to_dict()
    return {
        "dataset": found.dataset,
        "resamples": RESAMPLES,
        **{key: content[key] for key in _KEPT},
        "labels": list(found.labels),
    }


@dataclass(frozen=True)
class Reproduction:
    """Released weights and a new training of them, on the same images.

    Args:
        name, data: ``arch.tag@version`` and the images, e.g. "digits/test".
        released, again: accuracy of the released weights and of the new ones.
        same_bytes: whether the two files are equal.
    """

    name: str
    data: str
    released: Accuracy
    again: Accuracy
    same_bytes: bool

    def __bool__(self) -> bool:
        """Whether the new accuracy lies in the 95 % interval of the released weights."""
        low, high = self.released.interval_percent
        return low <= self.again.percent <= high

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "name": self.name,
            "data": self.data,
            "released": self.released.to_dict(),
            "again": self.again.to_dict(),
            "same_bytes": self.same_bytes,
            "reproduced": bool(self),
        }

    def summary(self) -> str:
        """One sentence."""
        low, high = self.released.interval_percent
        where = "inside" if self else "outside"
        files = "the same bytes" if self.same_bytes else "other bytes"
        return (
            f"{self.name}: {files}; {self.data} {self.again.percent:.2f} %, {where} the interval "
            f"of the released weights ({low:.2f} to {high:.2f} % around "
            f"{self.released.percent:.2f} %)"
        )


def compare_with_release(name: str, sha256: str, run: Path, data: str) -> Reproduction:
    """Evaluate released weights and a run on the test part of `data`.

    Args:
        name: a reference with weights, ``arch.tag@version``.
        sha256: of the released file.
        run: directory of the new training.
    Raises: as `zoo.create_model` and `zoo.open_dataset`.
    """
    images = open_dataset(data, "test")
    return Reproduction(
        name,
        images.name,
        _accuracy(name, images),
        _accuracy(str(run), images),
        sha256_file(run / "model.safetensors") == sha256,
    )


def _accuracy(reference: str, images: ImageDataset) -> Accuracy:
    predictor = Predictor.from_model(create_model(reference, pretrained=True))
    return evaluate(predictor.logits, images, labels=predictor.labels, resamples=0).accuracy
