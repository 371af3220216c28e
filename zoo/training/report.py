"""What a run directory shows of itself: curves, confusion matrix and a draft card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependencyError
from ..evaluation import Accuracy, Evaluation, evaluate
from ..files import write_text
from ..prediction import Predictor
from .jobs import Job
from .results import EpochResult, TrainingResult

if TYPE_CHECKING:
    from torch import nn

    from ..datasets import ImageDataset

CURVES, CONFUSION, CARD = "curves.png", "confusion.png", "README.md"


def write_report(
    model: nn.Module, job: Job, result: TrainingResult, images: ImageDataset, out: Path
) -> Evaluation:
    """Write curves.png, confusion.png and README.md; without matplotlib, README.md alone.

    Args:
        images: what the confusion matrix is of: the test part, or validation if there is none.
    Returns: the evaluation on `images`.
    """
    found = evaluate(
        Predictor.from_model(model).logits,
        images,
        labels=model.pretrained_cfg.labels,
        on_unreadable=job.on_unreadable,
        resamples=200,
    )
    pictures = True
    try:
        from ..analysis.plots.evaluation import plot_confusion

        plot_curves(result.curve, out / CURVES)
        plot_confusion(found, out / CONFUSION)
    except MissingDependencyError:
        pictures = False
    write_text(out / CARD, draft_card(model, job, result, found, pictures))
    return found


def plot_curves(curve: tuple[EpochResult, ...], path: Path) -> None:
    """Training loss and validation accuracy over the epochs. Raises: MissingDependencyError."""
    from ..analysis.plots.style import MUTED, new_figure, save, series, tidy

    figure = new_figure(5.2, 3.2)
    left = figure.subplots()
    epochs = [row.epoch for row in curve]
    every = max(1, len(epochs) // 12)
    right = left.twinx()
    left.plot(epochs, [row.loss for row in curve], markevery=every, **series(0))
    right.plot(epochs, [row.validation.percent for row in curve], markevery=every, **series(1))
    best = max(curve, key=lambda row: (row.validation.correct, row.epoch))
    right.axvline(best.epoch, color=MUTED, lw=0.8, ls=":")
    left.set_xlabel("epoch (dotted: the one that was kept)")
    left.set_ylabel("training loss", color=series(0)["color"])
    right.set_ylabel("validation accuracy in %", color=series(1)["color"])
    tidy(left)
    right.spines[["top"]].set_visible(False)
    save(figure, path)


def draft_card(
    model: nn.Module, job: Job, result: TrainingResult, found: Evaluation, pictures: bool
) -> str:
    """README.md of a run: what was measured, and gaps that only its owner can fill."""
    cfg = model.pretrained_cfg
    recipe = result.recipe
    start = f"fine-tuned from `{Path(job.finetune_from).name}`" if job.finetune_from else "trained"
    shown = ", ".join(cfg.labels[:20]) + (", ..." if len(cfg.labels) > 20 else "")
    return f"""# {cfg.name}

*A draft, written by `convattn train`. Fill in what stands in angle brackets before you publish it.*

`{cfg.architecture}`, {start} on {result.images:,} images of {len(cfg.labels)} classes: {shown}.

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

## Data, intended use, limits

<Where the images come from and under which terms, what the model is for, where it fails.>

Licence of the weights: <choose one>. Cite the architecture: `convattn cite {cfg.architecture}`.
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


def _row(part: str, accuracy: Accuracy) -> str:
    low, high = accuracy.interval_percent
    return f"| {part} | {accuracy.total} | {accuracy.percent:.1f} % | {low:.1f} to {high:.1f} % |"


def evaluation_facts(found: Evaluation) -> dict[str, Any]:
    """What metrics.json keeps of the evaluation."""
    content = found.to_dict()
    return {
        "dataset": found.dataset,
        **{key: content[key] for key in ("definition", "metrics", "confusion_matrix")},
        "labels": list(found.labels),
    }
