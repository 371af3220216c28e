"""demo: the whole way on bundled weights and real images, in under a minute."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..analysis._figure import ACCENT, INK, MUTED, new_figure, save
from ._console import bold, table

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import nn

    from ..evaluation.predictor import Prediction, Predictor


DATA = "fashion_mnist"
MODELS = (f"convit_nano.{DATA}", f"alternet_nano.{DATA}")


@click.command("demo")
@click.option(
    "--out",
    default="demo-out",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Directory to write.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Folder of images; default: one of every class that training has never seen.",
)
def demo_command(out: Path, images: Path | None) -> None:
    """Load bundled weights, classify real images, export, verify, compare, and draw."""
    from ..catalog.tables import DATA_SETS, sample_images
    from ..data.image_listing import list_folder
    from ..files.local import make_directory

    started = time.perf_counter()
    files = list_folder(images).paths if images else [str(file) for file in sample_images(DATA)]
    names = [Path(file).name for file in files] if images else list(DATA_SETS[DATA].labels)
    make_directory(out)
    _step("1. Load the bundled weights")
    models = {name: _load(name) for name in MODELS}
    _step(f"2. Classify {len(files)} images" + ("" if images else " that training has never seen"))
    from ..evaluation.predictor import Predictor

    eager = {name: Predictor.from_model(model) for name, model in models.items()}
    answers = {name: predictor.predict(files) for name, predictor in eager.items()}
    _show_answers(names, answers)
    _step("3. Export to ONNX and TorchScript; every file is compared with a float64 reference")
    for name, model in models.items():
        _export(model, out / name)
    _step("4. Run the exported files on the same images")
    _compare(files, eager, answers, out)
    _step("5. Draw")
    _draw(files, names, models[MODELS[0]], answers, out)
    _step("Everything is here")
    for line in _places(out):
        click.echo(f"  {line}")
    click.echo(f"done in {time.perf_counter() - started:.0f} s")


def _step(text: str) -> None:
    click.echo(f"\n{bold(text)}")


def _load(name: str) -> nn.Module:
    from ..factory.create import create_model

    model = create_model(name, pretrained=True).eval()
    cfg = model.pretrained_cfg
    params = sum(p.numel() for p in model.parameters())
    click.echo(f"  {cfg.name}@{cfg.version}  {params:,} parameters  SHA-256 {cfg.sha256[:16]}… ok")
    return model


def _show_answers(names: list[str], answers: dict[str, list[Prediction]]) -> None:
    rows = [
        (
            name,
            *(
                f"{found[i].label} ({100 * found[i].probabilities[0]:.0f} %)"
                for found in answers.values()
            ),
        )
        for i, name in enumerate(names)
    ]
    click.echo(table(("image", *answers), rows))


def _export(model: nn.Module, out: Path) -> None:
    from export.directory import export_model

    from .verify import parity_table

    report = export_model(model, out).report
    click.echo(f"{report.name}")
    click.echo(parity_table(report))


def _compare(
    files: list[str],
    eager: dict[str, Predictor],
    answers: dict[str, list[Prediction]],
    out: Path,
) -> None:
    """Same images through the exported files: equal answers, and latencies side by side."""
    from export.runtime.opening import open_predictor

    from ..data.preprocessing import preprocess

    rows = []
    for name, predictor in eager.items():
        one = preprocess(files[0], predictor.input)[None]
        reference = _median_ms(lambda p=predictor, x=one: p.forward(x))
        rows.append((name, "eager (torch)", "", f"{reference:.2f} ms", "1.00"))
        for kind, file in (("ONNX Runtime", "onnx/model.onnx"), ("TorchScript", "model.pt")):
            exported = open_predictor(out / name / file)
            found = exported.predict(files)
            equal = sum(a.label == b.label for a, b in zip(found, answers[name], strict=True))
            latency = _median_ms(lambda p=exported, x=one: p.forward(x))
            ratio = f"{latency / reference:.2f}"
            rows.append(("", kind, f"{equal} of {len(files)}", f"{latency:.2f} ms", ratio))
    header = ("model", "run by", "same answers", "latency, batch 1", "of eager")
    click.echo(table(header, rows, right=(3, 4)))


def _median_ms(run: Callable[[], Any]) -> float:
    for _ in range(3):
        run()
    times = []
    for _ in range(30):
        tick = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - tick))
    return statistics.median(times)


def _draw(
    files: list[str],
    names: list[str],
    model: nn.Module,
    answers: dict[str, list[Prediction]],
    out: Path,
) -> None:
    import torch

    from ..analysis._attention_layers import collect_attention, gates
    from ..data.preprocessing import preprocess, read_image

    images = [read_image(file) for file in files]
    plot_predictions(images, names, answers, out / "predictions.png")
    cfg = model.pretrained_cfg
    x = torch.from_numpy(preprocess(files[-1], cfg.input))[None]
    values = gates(model)
    attention = {
        name: weights[0].numpy()
        for name, weights in collect_attention(model, x).items()
        if name in values
    }
    grid = model.patch_embed.grid
    gate_arrays = {name: value.numpy() for name, value in values.items()}
    plot_gpsa(images[-1], attention, gate_arrays, grid, out / "gpsa.png")
    click.echo("  what each model answers, and where ConViT's heads look")


def _places(out: Path) -> list[str]:
    return [
        f"{out}/predictions.png   the images and the answers",
        f"{out}/gpsa.png          GPSA's gates and attention",
        *(
            f"{out}/{name}/   ONNX, TorchScript, weights, test vectors, parity.json"
            for name in MODELS
        ),
        f"next: convattn verify {out}/{MODELS[0]}",
    ]


def plot_predictions(
    images: Sequence[Any],
    titles: Sequence[str],
    predictions: dict[str, Sequence[Prediction]],
    path: str | Path,
) -> None:
    """One column per image: the image, and under it a bar per model with label and probability.

    Args:
        images: PIL images.
        titles: what each is.
        predictions: model name -> one prediction per image.
    Raises: MissingDependencyError without matplotlib, ResourceError.
    """
    count, names = len(images), list(predictions)
    figure = new_figure(1.2 * count + 2.4, 1.5 + 0.55 * len(names))
    axes = figure.subplots(
        1 + len(names), count, squeeze=False, height_ratios=[2.2] + [1] * len(names)
    )
    for column, image in enumerate(images):
        axes[0, column].imshow(image, interpolation="nearest", cmap="gray")
        axes[0, column].set_title(titles[column], fontsize=8, color=INK)
        for row, name in enumerate(names, start=1):
            found = predictions[name][column]
            cell = axes[row, column]
            cell.barh([0], [found.probabilities[0]], color=ACCENT, height=0.5)
            cell.set_xlim(0, 1)
            cell.set_ylim(-1.1, 0.5)
            cell.text(
                0.5, -0.72, f"{found.label}  {100 * found.probabilities[0]:.0f} %",
                ha="center", va="center", color=INK, fontsize=7,
            )  # fmt: skip
    for row, name in enumerate(names, start=1):
        axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8, color=INK)
    for cell in axes.flat:
        cell.set_xticks([])
        cell.set_yticks([])
        cell.spines[:].set_visible(False)
    figure.suptitle("Images, and what each model answers of them", fontsize=10)
    save(figure, path)


def plot_gpsa(
    image: Any,
    attention: dict[str, ndarray[Any, Any]],
    gates: dict[str, ndarray[Any, Any]],
    grid: tuple[int, int],
    path: str | Path,
) -> None:
    """Gates of every GPSA head, and where each head looks from the central patch.

    Args:
        image: PIL image that the attention was computed on.
        attention: layer name -> (nh, N, N), GPSA layers only.
        gates: layer name -> (nh,), the same layers.
        grid: (H, W) in patches.
    Raises: MissingDependencyError without matplotlib, ResourceError.
    """
    layers = list(attention)
    heads = max(len(value) for value in attention.values())
    query = (grid[0] // 2, grid[1] // 2)
    figure = new_figure(1.5 * (heads + 2), 1.5 * len(layers) + 0.7)
    axes = figure.subplots(
        len(layers), heads + 2, squeeze=False, width_ratios=[1, 1.3] + [1] * heads
    )
    for row, name in enumerate(layers):
        _show_query(axes[row, 0], image, grid, query)
        axes[row, 0].set_ylabel(name, fontsize=8, color=INK)
        _show_gates(axes[row, 1], gates[name])
        for head, weights in enumerate(attention[name]):
            cell = axes[row, 2 + head]
            cell.imshow(weights[query[0] * grid[1] + query[1]].reshape(grid), cmap="viridis")
            cell.scatter([query[1]], [query[0]], marker="s", s=14, fc="none", ec="white")
            cell.set_xticks([])
            cell.set_yticks([])
            if row == 0:
                cell.set_title(f"head {head}", fontsize=8, color=INK)
    axes[0, 0].set_title("query patch", fontsize=8, color=INK)
    axes[0, 1].set_title("gate per head\n(1 = position only)", fontsize=8, color=INK)
    figure.suptitle("GPSA on one image: gates, and attention from the central patch", fontsize=10)
    save(figure, path)


def _show_query(cell: Any, image: Any, grid: tuple[int, int], query: tuple[int, int]) -> None:
    cell.imshow(image.resize((32 * grid[1], 32 * grid[0]), 0))
    cell.scatter(
        [32 * query[1] + 16],
        [32 * query[0] + 16],
        marker="s",
        s=22,
        fc="none",
        ec="#e4572e",
        lw=1.5,
    )
    cell.set_xticks([])
    cell.set_yticks([])


def _show_gates(cell: Any, values: ndarray[Any, Any]) -> None:
    cell.bar(range(len(values)), values, color=ACCENT, width=0.6)
    cell.set_ylim(0, 1)
    cell.set_xticks(range(len(values)))
    cell.set_yticks([0, 0.5, 1])
    cell.tick_params(labelsize=7, colors=MUTED)
    cell.axhline(0.5, color=MUTED, lw=0.6, ls=":")
    cell.spines[["top", "right"]].set_visible(False)
