"""train: from a model name and a data set to a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command("train")
@click.argument("model")
@click.option("--data", required=True, help="'digits': scikit-learn's handwritten digits.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Run directory.")
@click.option("--epochs", type=click.IntRange(1), help="Default: 90.")
@click.option("--batch-size", type=click.IntRange(1), help="Default: 64.")
@click.option("--lr", type=float, help="Default: 2e-3.")
@click.option("--seed", type=int, help="Default: 0.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
def train_command(model: str, data: str, out: Path, as_json: bool, **options: Any) -> None:
    """Train MODEL (an architecture of `convattn list`) and write a run directory.

    The best epoch by validation accuracy is kept; the test part is measured once, at the end.
    """
    from ..training.loop import EpochResult, Recipe, scaled
    from ..training.run import train_model

    recipe = scaled(Recipe(), **options)
    with _progress(recipe.epochs) as bar:

        def on_epoch(result: EpochResult) -> None:
            bar.update(result.epoch, result.loss, result.validation.percent)

        result = train_model(model, data, out, recipe, on_epoch)
    if as_json:
        click.echo((out / "metrics.json").read_text().rstrip())
        return
    low, high = result.test.interval_percent
    click.echo(
        f"best epoch {result.best.epoch} of {recipe.epochs}: validation "
        f"{result.best.validation.percent:.1f} %, test {result.test.percent:.1f} % "
        f"({low:.1f} to {high:.1f} at 95 %), {result.seconds:.0f} s"
    )
    size = (out / "model.safetensors").stat().st_size
    click.echo(f"wrote {out}/model.safetensors ({size / 1e6:.2f} MB), config.json, metrics.json")
    click.echo(f"next: convattn predict {out} IMAGE, or convattn export {out} --out DIR")


class _progress:
    """A progress bar on a terminal, one line per tenth of the run elsewhere; on stderr."""

    def __init__(self, epochs: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.epochs = epochs
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("epoch {task.completed}/{task.total}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  validation {task.fields[accuracy]:.1f} %"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.progress.add_task("", total=epochs, loss=float("nan"), accuracy=0.0)

    def __enter__(self) -> _progress:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def update(self, epoch: int, loss: float, accuracy: float) -> None:
        """Show an epoch."""
        self.progress.update(self.task, completed=epoch, loss=loss, accuracy=accuracy)
        step = max(1, self.epochs // 10)
        if self.progress.disable and (epoch % step == 0 or epoch == self.epochs):
            line = f"epoch {epoch}/{self.epochs}  loss {loss:.3f}  validation {accuracy:.1f} %"
            click.echo(line, err=True)
