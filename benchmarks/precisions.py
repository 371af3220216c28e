"""What each precision costs and saves: accuracy lost, size and latency, of every model.

    python -m benchmarks.precisions [--out FILE.json] [MODEL ...]

A model is a bundled one, or NAME.random: NAME with random weights of seed 0, whose accuracy means
nothing and is not measured. About half a minute for a small model, several for one of 224 pixels.
What FILE.json says of other models stays.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import export
import zoo
from export.parity.calibration import top1_loss
from export.parity.reference import eager_runner
from export.runtime.opening import open_onnx
from export.spec import PRECISIONS, ExportSpec
from export.speed.timing import measure_rounds, ratio_of
from zoo.factory.create import create_random
from zoo.factory.description import PretrainedCfg
from zoo.files.json_text import to_json
from zoo.files.local import write_text
from zoo.files.provenance import provenance

from . import tables

FILE = "precisions.json"
COMMAND = "python -m benchmarks.precisions"
RANDOM = ("convit_tiny", "conv_attention_vit_tiny", "alternet_18", "fcvit_b12")


def models() -> list[str]:
    """Bundled weights, then those with random ones."""
    names = zoo.list_models(pretrained=True, with_tags=True)
    bundled = [name for name in names if zoo.get_record(name).selected.bundled]
    return [*bundled, *(f"{name}.random" for name in RANDOM)]


def _build(name: str) -> Any:
    if name.endswith(".random"):
        return create_random(name.removesuffix(".random"), 0)
    return zoo.create_model(name, pretrained=True)


def _losses(runs: dict[str, Any], eager: Any, cfg: PretrainedCfg) -> dict[str, float | None]:
    """Points of top-1 that each loses on the validation part of the weights' own data; None
    without any."""
    losses, known = {}, None
    for precision, run in runs.items():
        found = top1_loss(run, lambda batch: eager(batch)["logits"], cfg, known=known)
        known = found.get("float32_top1_percent")
        losses[precision] = found["top1_loss_points"]
    return losses


def measure(name: str, rounds: int = 50, seconds: float = 10.0) -> dict[str, Any]:
    """One model in all precisions, exported here and timed in turns, batch 1, one thread."""
    model = _build(name)
    cfg = PretrainedCfg.of(model)
    assert cfg is not None  # models of the zoo have one
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "out"
        spec = ExportSpec(batches=(1,))
        export.export_model(
            model, home, ["onnx"], spec, precisions=list(PRECISIONS), allow_drift=True
        )
        files = {precision: home / file for precision, file in PRECISIONS.items()}
        sessions = {p: open_onnx(path, threads=1) for p, path in files.items()}
        generator = np.random.Generator(np.random.PCG64(0))
        x = generator.standard_normal((1, cfg.input.in_chans, *cfg.input.size), dtype=np.float32)
        runs = {p: lambda session=s: session.run(x) for p, s in sessions.items()}
        times = measure_rounds(runs, rounds, limit_s=seconds)
        losses = _losses({p: s.run for p, s in sessions.items()}, eager_runner(model), cfg)
        rows = [
            {
                "precision": precision,
                "size_bytes": path.stat().st_size,
                "top1_loss_points": losses[precision],
                **times[precision].to_dict(),
                "of_float32": ratio_of(times[precision], times["float32"]).to_dict(),
            }
            for precision, path in files.items()
        ]
    return {"name": name, "size": list(cfg.input.size), "rows": rows}


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: one row for a model and precision."""
    lines = [
        "| model | precision | top-1 lost, points | MB | median ms | time / float32's, 95 % |",
        "|---|---|---|---|---|---|",
    ]
    for entry in found:
        for row in entry["rows"]:
            points, ratio = row["top1_loss_points"], row["of_float32"]
            loss = "–" if points is None else f"{points:.2f}"
            low, high = ratio["interval95"]
            lines.append(
                f"| `{entry['name']}` | {row['precision']} | {loss}"
                f" | {row['size_bytes'] / 1e6:.2f} | {row['median_ms']:.2f} | {ratio['value']:.2f} "
                f"({low:.2f} to {high:.2f}) |"
            )
    return "\n".join(lines)


def part() -> str:
    """The table in docs/performance.md."""
    if not (tables.MEASURED / FILE).is_file():
        return f"Not measured yet: `{COMMAND} --out model_cards/measured/{FILE}`."
    found = json.loads((tables.MEASURED / FILE).read_text(encoding="utf-8"))
    where = f"{found['machine']['cpu']}, batch 1, one thread, by `{found['command']}`."
    return f"{table(found['models'])}\n\n{where}"


def main() -> None:
    """Measure, write after each model, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=models())
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = _earlier(options.out)
    for name in options.models:
        found[name] = measure(name)
        how = {**provenance(0), "command": COMMAND}
        if options.out:
            rows = [found[name] for name in models() if name in found]
            content = {"threads": 1, "batch": 1, "models": rows, **how}
            write_text(options.out, to_json(content, indent=1) + "\n")
    print(table([found[name] for name in options.models]))


def _earlier(file: Path | None) -> dict[str, dict[str, Any]]:
    """What a file says, by model."""
    if file is None or not file.is_file():
        return {}
    entries = json.loads(file.read_text(encoding="utf-8"))["models"]
    return {entry["name"]: entry for entry in entries}


if __name__ == "__main__":
    main()
