"""export. This group imports `export`, inside functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from ._given import given_options
from ._options import SEED, ImageSize, model_options, stated, stated_options, unreadable_option
from ._progress import progress, quiet_option
from ._references import ModelReference, complete_data
from .verify import parity_table


def load_for_export(model: str, options: dict[str, Any]) -> Any:
    """The model to export, with what `model_options`, --init and `stated_options` say of it.

    Their values are taken out of `options`.
    """
    from ..catalog.references import kind_of
    from ..factory.create import load_model

    keywords, weights = options.pop("keywords", {}), options.pop("weights", None)
    _check_size(keywords.get("img_size"), options.get("img_size"))
    if kind_of(model) == "py" and options.get("img_size"):
        keywords = {"img_size": options["img_size"], **keywords}
    said = stated(options)
    loaded: Any = load_model(model, weights, options.pop("init", None), **keywords)
    if said is not None:
        loaded.pretrained_cfg = said.about(loaded.pretrained_cfg)
    return loaded


def _check_size(built: Any, exported: tuple[int, int] | None) -> None:
    """Raises: click.UsageError for two sizes. `built`: a keyword's value, one side or both."""
    if built is not None and exported not in (None, built, (built, built)):
        raise click.UsageError(
            f"--set img_size={built} and --img-size {exported} are two sizes of one model; give one"
        )


@click.command("export")
@click.argument("model", type=ModelReference())
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    default=("onnx", "torchscript"),
    show_default=True,
    type=click.Choice(["onnx", "torchscript", "pt2", "aoti"]),
    help="Repeatable.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["float32", "float16", "int8", "int8-static"]),
    help="Repeatable: ONNX files beside the float32 one.",
)
@click.option(
    "--dynamic-size",
    is_flag=True,
    help="Height and width vary: in ONNX files of our models by pixels, else by whole strides.",
)
@click.option(
    "--whole-strides",
    is_flag=True,
    help="With --dynamic-size, by whole strides in every file: graphs without padding.",
)
@click.option("--img-size", type=ImageSize(), help="Export at this size instead of the model's.")
@click.option("--embeddings", is_flag=True, help="Also without the classifier.")
@click.option("--features", is_flag=True, help="Also with maps of every resolution.")
@click.option("--attention", is_flag=True, help="Also with the attention matrices of every layer.")
@click.option("--preprocessing", is_flag=True, help="Also from uint8 images of any size.")
@click.option("--pixel-values", is_flag=True, help="With --preprocessing: its result is returned.")
@click.option("--one-file", is_flag=True, help="What is asked for above in one file, not several.")
@click.option(
    "--serving", type=click.Choice(["triton"]), help="Also a model repository for this server."
)
@click.option("--calibration", metavar="DIR", help="Images for int8-static.")
@click.option(
    "--data",
    shell_complete=complete_data,
    metavar="NAME|DIR",
    help="Labelled images with the model's classes: int8 is calibrated on their training part and "
    "may lose half a point of accuracy on their validation part.",
)
@unreadable_option()
@model_options()
@stated_options()
@click.option("--init", type=SEED, metavar="SEED", help="Random weights, labelled so everywhere.")
@click.option("--opset", default=23, show_default=True, help="ONNX operator set.")
@click.option("--overwrite", is_flag=True, help="Replace a finished directory.")
@click.option("--allow-drift", is_flag=True, help="Write the files even if a verdict fails.")
@quiet_option()
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def export_command(model: str, out: Path, as_json: bool, **options: Any) -> None:
    """Export MODEL into a directory; no file gets its name before it agrees with float64."""
    from ..files.stages import stage

    with progress(as_json or options.pop("quiet")):
        stage(model, "loading")
        result = _export(model, out, options)
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


def _export(model: str, out: Path, options: dict[str, Any]) -> Any:
    """The `ExportResult` of the command's options; what they say is checked before torch loads."""
    from export.spec import ExportSpec

    extras = _extras(options)
    _refuse_idle(options, extras)
    names = ("opset", "dynamic_size", "whole_strides", "img_size")
    spec = ExportSpec(**{name: options[name] for name in names})
    from export.directory import export_model

    return export_model(
        load_for_export(model, options),
        out,
        options["formats"],
        spec,
        precisions=options["precisions"],
        extras=extras,
        calibration=options["calibration"],
        data=options["data"],
        on_unreadable=options["on_unreadable"],
        serving=options["serving"] or "",
        allow_drift=options["allow_drift"],
        overwrite=options["overwrite"],
    )


def _refuse_idle(options: dict[str, Any], extras: list[str]) -> None:
    """Raises: click.UsageError for options that would be dropped in silence."""
    of_onnx = "onnx" in options["formats"] or options["precisions"] or extras
    if given_options("opset") and not of_onnx:
        raise click.UsageError("--opset is of ONNX files, and none is asked for; add --format onnx")
    if given_options("on_unreadable") and not (options["data"] or options["calibration"]):
        raise click.UsageError("--on-unreadable is about the images of --data and --calibration")


def _extras(options: dict[str, Any]) -> list[str]:
    """The files beside the model's own graph, several contents joined by "+"."""
    from export.formats.extras import EXTRAS

    chosen = [name for name in EXTRAS if options[name]]
    if options["one_file"]:
        if len(chosen) < 2:
            asked = f"--{chosen[0].replace('_', '-')} alone" if chosen else "none"
            raise click.UsageError(
                f"--one-file joins two or more of the options above; got {asked}"
            )
        return ["+".join(chosen)]
    if not options["pixel_values"]:
        return chosen
    if not options["preprocessing"]:
        raise click.UsageError("--pixel-values are what --preprocessing makes; give both")
    last = "preprocessing+pixel_values"
    return [*chosen[: chosen.index("preprocessing")], last]


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
