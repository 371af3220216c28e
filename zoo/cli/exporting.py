"""export and verify. This group imports `export`, inside functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._text import table

if TYPE_CHECKING:
    from export import ParityReport


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


@click.command("export")
@click.argument("model")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["onnx", "torchscript"]),
    help="Repeatable; default: both.",
)
@click.option("--weights", help="A safetensors file instead of the model's own weights.")
@click.option("--init", type=int, metavar="SEED", help="Random weights, labelled so everywhere.")
@click.option("--opset", default=23, show_default=True, help="ONNX operator set.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def export_command(
    model: str,
    out: Path,
    formats: tuple[str, ...],
    weights: str | None,
    init: int | None,
    opset: int,
    as_json: bool,
) -> None:
    """Export MODEL into a directory; no file gets its name before it agrees with float64."""
    from export import ExportSpec, export_model

    loaded = load_for_export(model, weights, init)
    result = export_model(loaded, out, formats or ("onnx", "torchscript"), ExportSpec(opset=opset))
    if as_json:
        click.echo(result.report.to_json().rstrip())
        return
    click.echo(f"{result.report.name}, against its float64 reference:")
    click.echo(parity_table(result.report))
    total = sum(size for _, size, _ in result.manifest.files)
    click.echo(f"wrote {len(result.manifest.files) + 1} files ({total / 1e6:.1f} MB) to {out}")
    click.echo(f"next: convattn predict {out}/onnx/model.onnx IMAGE, or convattn verify {out}")


@click.command("verify")
@click.argument("directory")
@click.option(
    "--provider",
    default="cpu",
    show_default=True,
    type=click.Choice(["cpu", "cuda", "tensorrt"]),
    help="The graph must really run there.",
)
@click.option("--tf32", is_flag=True, help="Allow TensorFloat-32 on CUDA (a looser limit).")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Also write OUT/NAME/parity[-DEVICE].json, with how it was measured.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify_command(
    directory: str, provider: str, tf32: bool, out: Path | None, as_json: bool
) -> None:
    """Check every digest of DIRECTORY (a run or an export), then run its exported files again."""
    from export import verify_directory

    found = verify_directory(directory, provider, tf32=tf32)
    if out is not None and found.report is not None:
        _record(found.report, out, provider, tf32)
    if as_json:
        content = found.to_dict()
        if found.report is not None:
            content["parity"] = json.loads(found.report.to_json())
        click.echo(json.dumps(content, indent=2))
        return
    click.echo(f"{len(found.manifest.files)} files match their SHA-256 ({found.manifest.name})")
    if found.report is None:
        click.echo("the weights load; nothing is exported here yet (convattn export)")
        return
    click.echo(f"float64 reference: {found.reference}")
    click.echo(parity_table(found.report))


def _record(report: ParityReport, out: Path, provider: str, tf32: bool) -> None:
    """Write OUT/NAME/parity[-DEVICE].json: the report, the command and the machine."""
    from ..files import write_text
    from ..measurement import provenance

    device = ""
    if provider != "cpu":
        proof = report.attestation["onnx/model.onnx"]
        device = f"-{proof['device'].replace(' ', '_')}{'-tf32' if tf32 else ''}"
    content = {**json.loads(report.to_json()), **provenance()}
    path = out / report.name / f"parity{device}.json"
    write_text(path, json.dumps(content, indent=2) + "\n")


def parity_table(report: ParityReport) -> str:
    """One line per exported file: its error, eager float32's, their ratio, the verdict."""
    rows = [
        (
            row["file"],
            row["provider"],
            f"{row['max_abs_error']:.1e}",
            f"{row['eager_max_abs_error']:.1e}",
            f"{row['ratio']:.2f}",
            f"{100 * row['top1_agreement']:.0f} %",
            ",".join(str(size) for size in row["batches"]),
            "pass" if row["passed"] else "FAIL",
        )
        for row in report.summary()
    ]
    header = (
        "file", "ran on", "max error", "eager f32", "ratio", "same top-1", "batches", "verdict"
    )  # fmt: skip
    return table(header, rows, right=(2, 3, 4, 5))
