"""Who watches a training run from the command line: a progress bar, TensorBoard, diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from torch import nn

    from ..training.job import EpochResult, Job
    from ..training.loop import Watch


Listener = Callable[["EpochResult", "nn.Module"], None]


@contextmanager
def watching(job: Job, options: dict[str, Any]) -> Iterator[Watch]:
    """The watch that the options ask for. Only the first process shows and writes anything."""
    import os

    from ..training.loop import Watch

    if int(os.environ.get("RANK", "0")) != 0:
        yield Watch()
        return
    listeners: list[Listener] = []
    with ExitStack() as stack:
        bar = stack.enter_context(Bar(job.planned.total_epochs))
        listeners.append(lambda result, model: bar.show(result))
        if options["tensorboard"]:
            listeners.append(stack.enter_context(_tensorboard(options)))
        if options["diagnostics"]:
            from ..training.diagnostics import diagnostics_writer

            listeners.append(diagnostics_writer(job, options["out"]))

        def on_epoch(result: EpochResult, model: nn.Module) -> None:
            for listener in listeners:
                listener(result, model)

        yield Watch(on_start=bar.start, on_step=bar.step, on_epoch=on_epoch)


@contextmanager
def _tensorboard(options: dict[str, Any]) -> Iterator[Listener]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        from ..errors import MissingDependencyError

        raise MissingDependencyError(
            "--tensorboard needs tensorboard: pip install 'convattn-zoo[train]'"
        ) from None
    opened: list[Any] = []

    def listener(result: EpochResult, _: nn.Module) -> None:
        if not opened:  # not before the run has begun: a mistake must leave nothing behind
            opened.append(SummaryWriter(str(options["out"] / "tensorboard")))
        writer = opened[0]
        writer.add_scalar("loss/train", result.loss, result.epoch)
        writer.add_scalar("acc1/validation", result.validation.percent, result.epoch)
        writer.add_scalar("lr", result.lr, result.epoch)

    try:
        yield listener
    finally:
        for writer in opened:
            writer.close()


class Bar:
    """A progress bar over the steps on a terminal, a line per tenth of the run elsewhere; on
    stderr.
    """

    def __init__(self, epochs: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.epochs, self.epoch = epochs, 0
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  validation {task.fields[accuracy]:.1f} %"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.progress.add_task(
            "", total=None, epoch=f"0/{epochs}", loss=float("nan"), accuracy=0.0
        )

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def start(self, done: int, total: int) -> None:
        """The steps of the whole run, and those that an earlier sitting did."""
        self.progress.update(self.task, total=total, completed=done)

    def step(self) -> None:
        """One step more."""
        self.progress.advance(self.task)

    def show(self, result: EpochResult) -> None:
        """Show an epoch."""
        loss, accuracy = result.loss, result.validation.percent
        label = f"{result.epoch}/{self.epochs}"
        self.progress.update(self.task, epoch=label, loss=loss, accuracy=accuracy)
        step = max(1, self.epochs // 10)
        if self.progress.disable and (result.epoch % step == 0 or result.epoch == self.epochs):
            line = f"epoch {label}  loss {loss:.3f}  validation {accuracy:.1f} %"
            click.echo(line, err=True)
