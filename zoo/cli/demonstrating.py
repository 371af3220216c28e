"""demo: the whole way on bundled weights and real scans, in under a minute."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._text import bold, table

if TYPE_CHECKING:
    from torch import nn

    from ..prediction import Prediction, Predictor

MODELS = ("convit_nano", "conv_attention_vit_nano")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


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
    help="Folder of images; default: the example scans of the repository.",
)
def demo_command(out: Path, images: Path | None) -> None:
    """Load bundled weights, classify real scans, export, verify, compare, and draw."""
    from ..files import make_directory
    from ..preprocessing import list_images

    started = time.perf_counter()
    files = list_images([str(images or _examples())])
    make_directory(out)
    _step("1. Load the bundled weights")
    models = {name: _load(name) for name in MODELS}
    _step(f"2. Classify {len(files)} real scans that training has never seen")
    from ..prediction import Predictor

    eager = {name: Predictor.from_model(model) for name, model in models.items()}
    answers = {name: predictor.predict(files) for name, predictor in eager.items()}
    _show_answers(files, answers)
    _step("3. Export to ONNX and TorchScript; every file is compared with a float64 reference")
    for name, model in models.items():
        _export(model, out / name)
    _step("4. Run the exported files on the same scans")
    _compare(files, eager, answers, out)
    _step("5. Draw")
    _draw(files, models["convit_nano"], answers, out)
    _step("Everything is here")
    for line in _places(out):
        click.echo(f"  {line}")
    click.echo(f"done in {time.perf_counter() - started:.0f} s")


def _examples() -> Path:
    from ..errors import NotFoundError

    if not EXAMPLES.is_dir():
        raise NotFoundError(
            "the example scans are part of the repository, not of the installed package; pass "
            "--images DIR, or run the demo in a clone",
        )
    return EXAMPLES


def _step(text: str) -> None:
    click.echo(f"\n{bold(text)}")


def _load(name: str) -> nn.Module:
    from ..factory import create_model

    model = create_model(name, pretrained=True).eval()
    cfg = model.pretrained_cfg
    params = sum(p.numel() for p in model.parameters())
    click.echo(f"  {cfg.name}@{cfg.version}  {params:,} parameters  SHA-256 {cfg.sha256[:16]}… ok")
    return model


def _show_answers(files: list[str], answers: dict[str, list[Prediction]]) -> None:
    rows = [
        (
            Path(file).name,
            *(
                f"{found[i].label} ({100 * found[i].probabilities[0]:.0f} %)"
                for found in answers.values()
            ),
        )
        for i, file in enumerate(files)
    ]
    click.echo(table(("scan", *answers), rows))


def _export(model: nn.Module, out: Path) -> None:
    from export import export_model

    from .exporting import parity_table

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
    from export import open_predictor

    from ..preprocessing import preprocess

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
    files: list[str], model: nn.Module, answers: dict[str, list[Prediction]], out: Path
) -> None:
    import torch

    from ..analysis.attention_maps import collect_attention, gates
    from ..analysis.plots.demonstration import plot_gpsa, plot_predictions
    from ..preprocessing import preprocess, read_image

    images = [read_image(file) for file in files]
    plot_predictions(images, answers, out / "predictions.png")
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
        f"{out}/predictions.png      the scans and the answers",
        f"{out}/gpsa.png             GPSA's gates and attention",
        *(
            f"{out}/{name}/   ONNX, TorchScript, weights, test vectors, parity.json"
            for name in MODELS
        ),
        f"next: convattn verify {out}/{MODELS[0]}",
    ]
