"""Our ONNX export of convit_tiny beside timm's own: size, speed, shapes that run, error, time.

python -m benchmarks.export_comparison [--out model_cards/measured]
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from export.formats.axes import eval_copy
from export.formats.metadata import describe
from export.parity.reference import float64_outputs
from export.runtime.opening import open_onnx
from export.spec import OUTPUT_NAME, ExportSpec
from export.speed.forms import write_unverified_onnx
from export.speed.timing import Run, limited_threads, ratio_of
from zoo.cli._console import table
from zoo.cli.bench import (
    json_option,
    measured,
    out_option,
    rounds_option,
    say,
    threads_option,
    write_result,
)
from zoo.errors import ZooError
from zoo.files.json_text import to_json

from .attention import Settings
from .graphs import Graphs, count_nodes, random_convit, timm_export
from .peers import timm_convit
from .tables import export_cells

MODEL, PX = "convit_tiny", 224
BATCHES = (1, 2, 5, 16)
SHAPES = ((224, 224), (384, 384), (192, 256), (208, 304))
Array = np.ndarray[Any, Any]


def compare_exports(settings: Settings) -> dict[str, Any]:
    """One entry per exporter, "ours" and "timm's", from the same weights."""
    model = random_convit(PX)
    batch = _noise((4, 3, PX, PX))
    settings.say("computing the float64 reference")
    exact = float64_outputs(model, batch, (OUTPUT_NAME,))[OUTPUT_NAME]
    entries: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, limited_threads(settings.threads):
        graphs = Graphs(Path(folder), settings.threads, settings.say)
        names = {"ours": f"{MODEL}:img_size={PX}", "timm's": f"timm:img_size={PX}"}
        for by, name in names.items():
            path = graphs.path(name)
            session = open_onnx(path, threads=settings.threads)
            entries[by] = {
                "nodes": count_nodes(path),
                "size_bytes": path.stat().st_size,
                "export_s": graphs.seconds[name],
                "max_abs_error": float(np.abs(session.run(batch) - exact).max()),
                "batches": {str(n): _outcome(session.run, (n, 3, PX, PX), None) for n in BATCHES},
            }
        runs = {by: graphs.run(name, PX) for by, name in names.items()}
        times = settings.compare({**runs, "eager": _eager(model)})
        for by in names:
            entries[by] |= times[by].to_dict()
            entries[by]["of_eager"] = ratio_of(times[by], times["eager"]).to_dict()
            settings.say(f"exporting with dynamic height and width: {by}")
            entries[by]["dynamic_size"] = _dynamic_size(by, model, Path(folder))
    return {
        "model": MODEL,
        "weights": "random (seed 0)",
        "eager_max_abs_error": _eager_error(model, batch, exact),
        "exports": entries,
        "timm_over_ours": ratio_of(times["timm's"], times["ours"]).to_dict(),
    }


def _noise(shape: tuple[int, ...]) -> Array:
    generator = np.random.Generator(np.random.PCG64(0))
    return generator.standard_normal(shape, dtype=np.float32)


def _eager(model: Any) -> Run:
    import torch

    single, x = eval_copy(model).float(), torch.from_numpy(_noise((1, 3, PX, PX)))

    def run() -> Any:
        with torch.inference_mode():
            return single(x)

    return run


def _eager_error(model: Any, batch: Array, exact: Array) -> float:
    import torch

    with torch.inference_mode():
        return float(
            np.abs(eval_copy(model).float()(torch.from_numpy(batch)).numpy() - exact).max()
        )


def _outcome(run: Any, shape: tuple[int, ...], model: Any) -> str:
    """ "runs", with its error against float64 where a model is given; or why it does not."""
    batch = _noise(shape)
    try:
        logits = run(batch)
    except ZooError as error:
        return f"fails: {str(error).splitlines()[0]}"
    if model is None:
        return "runs"
    exact = float64_outputs(model, batch, (OUTPUT_NAME,))[OUTPUT_NAME]
    return f"runs, error {np.abs(logits - exact).max():.1e}"


def _dynamic_size(by: str, model: Any, folder: Path) -> dict[str, str]:
    """Image size -> what a file with dynamic height and width answers; or why there is none."""
    path = folder / f"dynamic-{len(by)}.onnx"
    try:
        if by == "ours":
            write_unverified_onnx(model, path, describe(model), ExportSpec(dynamic_size=True))
        else:
            timm_export(timm_convit(model, PX), path, PX, dynamic_size=True)
    except ZooError as error:
        return {"export": f"fails: {str(error).splitlines()[0]}"}
    run = open_onnx(path).run
    return {f"{h}x{w}": _outcome(run, (1, 3, h, w), model) for h, w in SHAPES}


@click.command()
@threads_option
@rounds_option(100)
@out_option
@json_option
def main(threads: int, rounds: int, out: Path | None, as_json: bool) -> None:
    """Our ONNX export of convit_tiny beside timm's own."""
    found = measured(compare_exports(Settings(threads=threads, rounds=rounds, say=say)))
    write_result(out, "export", found)
    rows = table(("", *found["exports"]), export_cells(found))
    click.echo(to_json(found, indent=2) if as_json else rows)


if __name__ == "__main__":
    main()
