"""export. This group imports `export`, inside functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from .verifying import parity_table


def load_for_export(reference: str, weights: str | None, init: int | None) -> Any:
    """The model to export: the reference's own weights, a file, or a seed for random ones."""
    from ..errors import ConfigError, NoWeightsError
    from ..factory import create_from_file, create_model, create_random

    if weights is not None and init is not None:
        raise ConfigError("give --weights or --init, not both")
    if weights is not None:
        return create_from_file(reference, weights)
    if init is not None:
        return create_random(reference, init)
    try:
        return create_model(reference, pretrained=True)
    except NoWeightsError as error:
        raise NoWeightsError(
            f"{error}. To export anyway: --weights FILE (safetensors), or --init SEED for random "
            f"weights"
        ) from None


class ImageSize(click.ParamType):
    """H or H,W in pixels."""

    name = "H[,W]"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        try:
            height, _, width = value.partition(",")
            size = int(height), int(width or height)
        except ValueError:
            size = (0, 0)
        if min(size) < 1:
            self.fail(f"expected one or two sizes in pixels, as 224 or 192,256; got {value!r}")
        return size


@click.command("export")
@click.argument("model")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    default=("onnx", "torchscript"),
    show_default=True,
    type=click.Choice(["onnx", "torchscript", "pt2"]),
    help="Repeatable.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["float32", "float16", "int8", "int8-static"]),
    help="Repeatable: ONNX files beside the float32 one.",
)
@click.option("--dynamic-size", is_flag=True, help="Height and width vary, in whole strides.")
@click.option("--img-size", type=ImageSize(), help="Export at this size instead of the model's.")
@click.option("--embeddings", is_flag=True, help="Also without the classifier.")
@click.option("--features", is_flag=True, help="Also with maps of every resolution.")
@click.option("--attention", is_flag=True, help="Also with the attention matrices of every layer.")
@click.option("--preprocessing", is_flag=True, help="Also from uint8 images of any size.")
@click.option("--calibration", metavar="DIR", help="Images to calibrate int8-static on.")
@click.option("--weights", help="A safetensors file instead of the model's own weights.")
@click.option("--init", type=int, metavar="SEED", help="Random weights, labelled so everywhere.")
@click.option("--opset", default=23, show_default=True, help="ONNX operator set.")
@click.option("--allow-drift", is_flag=True, help="Write the files even if a verdict fails.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def export_command(model: str, out: Path, as_json: bool, **options: Any) -> None:
    """Export MODEL into a directory; no file gets its name before it agrees with float64."""
    from export import ExportSpec, export_model
    from export.forms import EXTRAS

    loaded = load_for_export(model, options["weights"], options["init"])
    result = export_model(
        loaded,
        out,
        options["formats"],
        ExportSpec(
            opset=options["opset"],
            dynamic_size=options["dynamic_size"],
            img_size=options["img_size"],
        ),
        precisions=options["precisions"],
        extras=[name for name in EXTRAS if options[name]],
        calibration=options["calibration"],
        allow_drift=options["allow_drift"],
    )
    report = result.report
    if not report:
        failed = ", ".join(dict.fromkeys(row.file for row in report.failures))
        click.echo(
            f"warning: written despite a failing verdict (--allow-drift): {failed}", err=True
        )
    if as_json:
        click.echo(report.to_json().rstrip())
        return
    click.echo(f"{report.name}, against its float64 reference:")
    click.echo(parity_table(report))
    for line in _remarks(report.attestation):
        click.echo(line)
    total = sum(size for _, size, _ in result.manifest.files)
    click.echo(f"wrote {len(result.manifest.files) + 1} files ({total / 1e6:.1f} MB) to {out}")
    first = sorted((row.file for row in report.rows), key=lambda file: not file.endswith(".onnx"))[
        0
    ]
    click.echo(f"next: convattn predict {out}/{first} IMAGE, or convattn verify {out}")


def _remarks(attestation: Mapping[str, Any]) -> Iterator[str]:
    """What the table does not show: islands, accuracy, calibration, grey levels."""
    for file, notes in attestation.items():
        if "float32_islands" in notes:
            islands, total = len(notes["float32_islands"]), notes["nodes_total"]
            yield f"{file}: {islands} of {total} nodes stay float32"
        if "calibration" in notes:
            yield f"{file}: calibrated on {notes['calibration']}"
        if "accuracy" in notes:
            found = notes["accuracy"]
            loss = found["top1_loss_points"]
            what = found.get("why") or f"{loss:.2f} points of top-1 lost on {found['data']}"
            yield f"{file}: {what}"
        if "grey_levels_from_pillow" in notes:
            levels = notes["grey_levels_from_pillow"].values()
            yield (
                f"{file}: at most {max(entry['max'] for entry in levels):g} grey levels from "
                f"Pillow's pixels"
            )
