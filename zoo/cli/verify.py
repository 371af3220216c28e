"""verify: digests and parity of an export again, on any provider, with or without torch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..files.json_text import to_json
from ._console import table
from ._given import given_options
from ._options import provider_option, trust_option
from ._progress import progress, quiet_option

if TYPE_CHECKING:
    from export.parity.report import ParityReport


# of what runs, and so without effect where nothing is exported
_OF_EXPORTS = ("provider", "tf32", "levels", "per_node", "picture", "out")


@click.command("verify")
@click.argument("directory")
@provider_option("The graph must really run there.")
@click.option("--tf32", is_flag=True, help="Allow TensorFloat-32 on CUDA (a looser limit).")
@click.option(
    "--level",
    "levels",
    multiple=True,
    type=click.Choice(["disabled", "basic", "extended", "all"]),
    help="Graph optimisation of onnxruntime; repeatable; default: all four.",
)
@trust_option()
@click.option(
    "--per-node", is_flag=True, help="Also the first node beyond the budget (CPU, float32)."
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    help="Also draw the errors against their limits (.png or .svg).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Also write OUT/NAME/parity[-DEVICE].json, with how it was measured.",
)
@quiet_option()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify_command(
    directory: str,
    provider: str,
    tf32: bool,
    levels: tuple[str, ...],
    trust_code: bool,
    per_node: bool,
    picture: Path | None,
    out: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Check every digest of DIRECTORY (a run or an export; or one exported file inside one), then
    run its exported files again.
    """
    from export.parity.verify import verify_directory

    from ..catalog.references import is_registered
    from ..errors import ConfigError

    if is_registered(directory):
        raise ConfigError(
            f"verify takes the directory of an export; {directory!r} is a model's name. Export it "
            f"first (convattn export {directory} --out DIR), or write ./{directory} for a folder"
        )
    graph = _graph_of_nodes(directory) if per_node else None
    with progress(quiet or as_json):
        found = verify_directory(
            directory, provider, tf32=tf32, levels=levels or None, trust_code=trust_code
        )
    if found.report is None:
        _refuse_idle(directory)
    content = found.to_dict()
    if found.report is not None:
        content["parity"] = json.loads(found.report.to_json())
        if graph is not None:
            content["per_node"] = _node_errors(*graph)
        if out is not None:
            _record(found.report, out, provider, tf32)
        if picture is not None:
            from export.parity.figure import draw_parity

            draw_parity(content["parity"], picture, content.get("per_node"))
    if as_json:
        click.echo(to_json(content, indent=2))
        return
    click.echo(f"{len(found.manifest.files)} files match their SHA-256 ({found.manifest.name})")
    if found.report is None:
        click.echo("nothing is exported here yet (convattn export)")
        return
    click.echo(f"float64 reference: {found.reference}")
    click.echo(parity_table(found.report))
    for line in _remarks(found.report):
        click.echo(line)
    if per_node:
        click.echo(node_table(content["per_node"]))


def _refuse_idle(directory: str) -> None:
    """Raises: ConfigError for options about exported files, where there are none."""
    from ..errors import ConfigError

    idle = given_options(*_OF_EXPORTS)
    if idle:
        raise ConfigError(
            f"nothing is exported in {directory!r} yet (convattn export), which {', '.join(idle)} "
            "would be about; leave that out to check the digests of its files alone"
        )


def _graph_of_nodes(directory: str) -> tuple[Path, str]:
    """The export and the file in it of which --per-node tells. Raises: ConfigError."""
    from export.parity.verify import split
    from export.spec import FORMATS, precision_of

    from ..errors import ConfigError

    home, only = split(Path(directory))
    file = only or FORMATS["onnx"]
    if not file.endswith(".onnx") or precision_of(file) != "float32":
        raise ConfigError(
            f"--per-node compares the nodes of float32 .onnx files with float64; {file} is another "
            f"one. Leave --per-node out, or name {home / FORMATS['onnx']}"
        )
    return home, file


def _node_errors(home: Path, file: str) -> dict[str, Any]:
    from export.parity.per_node import measure_nodes
    from export.parity.stored import read_test_data

    inputs = read_test_data(home).inputs
    return measure_nodes(home / file, inputs.batch[::3]).to_dict()


def _remarks(report: ParityReport) -> list[str]:
    """What was not run, and which nodes ran elsewhere."""
    lines = []
    for file, proof in report.attestation.items():
        if "not_run" in proof:
            lines.append(f"{file}: not run: {proof['not_run']}")
        if proof.get("elsewhere"):
            lines.append(f"{file}: on another provider: {', '.join(proof['elsewhere'][:5])}")
    return lines


def _record(report: ParityReport, out: Path, provider: str, tf32: bool) -> None:
    """Write OUT/NAME/parity[-DEVICE].json: the report, the command and the machine."""
    from ..files.local import write_text
    from ..files.provenance import provenance

    device = f"-{provider}" if provider != "cpu" else ""
    if provider in ("cuda", "tensorrt"):
        proof = next(p for p in report.attestation.values() if "device" in p)
        device = f"-{proof['device'].replace(' ', '_')}{'-tf32' if tf32 else ''}"
    content = {**json.loads(report.to_json()), **provenance()}
    path = out / report.name / f"parity{device}.json"
    write_text(path, to_json(content, indent=2) + "\n")


def parity_table(report: ParityReport) -> str:
    """One line per candidate: its worst error, eager float32's, their ratio, the verdict."""
    rows = [
        (
            row["file"] if row["output"] == "logits" else f"{row['file']}: {row['output']}",
            f"{row['provider']}{' TF32' if row['tf32'] else ''}",
            "pass" if row["passed"] else "FAIL",
            _short(row["max_abs_error"]),
            _short(row["eager_max_abs_error"]),
            f"{row['ratio']:.2f}",
            _short(row["relative_l2"]),
            _short(row["kl"]),
            _percent(row["top1_agreement"]),
            _percent(row["top5_agreement"]),
            ",".join(str(size) for size in row["batches"]),
            ", ".join(f"{height}x{width}" for height, width in row["sizes"]),
        )
        for row in report.summary()
    ]
    header = (
        "file", "ran on", "verdict", "max error", "eager f32", "ratio", "rel. L2", "KL", "top-1",
        "top-5", "batches", "sizes",
    )  # fmt: skip
    return table(header, rows, right=range(3, 10))


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1e}"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"


def node_table(found: dict[str, Any]) -> str:
    """The first node beyond the budget, and how the errors are spread."""
    first = found["first_over"]
    said = (
        f"first node beyond {found['budget']:.0e} of its scale: {first['name']} ({first['op']}, "
        f"{first['relative_error']:.1e})"
        if first
        else f"no node exceeds {found['budget']:.0e} of its scale"
    )
    rows = [(entry["range"], str(entry["nodes"])) for entry in found["histogram"]]
    worst = [
        (entry["name"], entry["op"], f"{entry['relative_error']:.1e}") for entry in found["worst"]
    ]
    return "\n".join(
        [
            said,
            table(("error / scale", "nodes"), rows, right=(1,)),
            table(("worst node", "op", "error / scale"), worst, right=(2,)),
        ]
    )
