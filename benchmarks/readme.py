"""Rewrite the generated tables of README.md and docs/ from measured files; `--check` only compares.

    python -m benchmarks.readme [--check]

A part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`. Nothing in it is typed by hand:
the tables come from model_cards/measured/, what a command printed from docs/transcripts/.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zoo
from zoo.catalog.registry import families

from . import batch_pages, calibration, documents, precisions, reliability, suite
from .marked import Part, renew
from .own_pictures import RUNS

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "model_cards" / "measured"


def _read(name: str, file: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((MEASURED / name / file).read_text(encoding="utf-8"))
    return content


def _measured(file: str) -> list[tuple[str, dict[str, Any]]]:
    names = [n for n in zoo.list_models(with_tags=True) if (MEASURED / n / file).is_file()]
    return [(name, _read(name, file)) for name in names]


def accuracy() -> str:
    """Accuracy of bundled weights on validation and test parts, and over seeds."""
    lines = [
        "| weights | validation, % | test, % | seeds: mean test, % | recipe, seed | seconds | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in _measured("accuracy.json"):
        results = found["results"]
        data = name.partition(".")[2]
        validation, test = results[f"{data}/validation"], results[f"{data}/test"]
        low, high = test["interval95_percent"]
        run = _read(name, "training.json")
        record = zoo.get_record(name).selected
        lines.append(
            f"| `{name}` | {validation['acc1_percent']:.1f} "
            f"| {test['acc1_percent']:.1f} ({low:.1f} to {high:.1f}) | {_seeds(run)} "
            f"| `{record.recipe}`, {record.seed} | {run['seconds']:.0f} "
            f"| {record.size_bytes / 1e6:.2f} |"
        )
    return "\n".join(lines)


def _seeds(run: dict[str, Any]) -> str:
    """Mean over seeds with its interval (Student's t); a single run has none."""
    seeds = run["seeds"]
    if len(seeds["runs"]) == 1:
        return "one"
    found = seeds["test_acc1_percent"]
    half = found["mean"] - found["interval95"][0]  # the upper end may be cut at 100 %
    return f"{len(seeds['runs'])}: {found['mean']:.1f} ± {half:.1f}"


_SHOWN = ("convit_nano.digits", "alternet_nano.digits", "fcvit_nano.digits", "convit_tiny.random")


def verified() -> str:
    """The float32 ONNX file of a few models: one with the smallest margin is among them."""
    rows = _parity_table(lambda file: file == "onnx/model.onnx").splitlines()
    return "\n".join(rows[:2] + [row for row in rows if any(f"`{n}`" in row for n in _SHOWN)])


def parity_of_all() -> str:
    """Every file of every model that was measured, eager float32 first."""
    return _parity_table(lambda file: True)


def _parity_table(wanted: Callable[[str], bool]) -> str:
    """Error of exported files against float64, beside eager float32's own."""
    lines = [
        "| model | file | ran on | max error | eager float32 | ratio | same top-1 |",
        "|---|---|---|---|---|---|---|",
    ]
    random = sorted(path.parent.name for path in MEASURED.glob("*.random/parity.json"))
    of_random = [(name, _read(name, "parity.json")) for name in random]
    for name, found in (*_measured("parity.json"), *of_random):
        for row in found["summary"]:
            if wanted(row["file"]):
                lines.append(
                    f"| `{name}` | {row['file']} | {_short(row['provider'])} "
                    f"| {row['max_abs_error']:.1e} "
                    f"| {row['eager_max_abs_error']:.1e} | {row['ratio']:.2f} | "
                    f"{100 * row['top1_agreement']:.0f} % |"
                )
    return "\n".join(lines)


def _short(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider")


def cards() -> str:
    """All weights that load by name, and one picture of a card."""
    from export.cards.index import weights_table

    name = "convit_nano.digits"
    picture = f"![The steps of {name}](../model_cards/images/{name}/architecture.png)"
    return f"{weights_table(MEASURED, '../model_cards/')}\n\n{picture}"


# groups of golden cases that record no whole network -> our names for what they do
_LAYERS = {
    "ConViT layers": "`GatedPositionalSelfAttention`, `MultiHeadSelfAttention`",
    "ConViT init": "`GatedPositionalSelfAttention`, just constructed",
    "hdvw ConvAttention2d": "`ConvAttention2d`",
    "hdvw layers": "`zoo.layers`: attention, gates, smoothing, classifier blocks",
    "hdvw MC dropout": '`block="mcdo"` with prescribed masks',
    "hdvw released CIFAR-100 checkpoints (timm 0.5.4)": "built through timm",
    "FCViT layers": "`GlobalContext`, mixers and gates of `fcvit`",
    "CSAN": "`ConvolutionalSelfAttention`, `csan_encoder_nano`",
    "metrics": "`zoo.evaluation.metrics`, `convattn evaluate`",
    "analysis": "`convattn analyze fourier`, `variance`, `landscape`",
}
_SYSTEMS = {
    "convit": "facebookresearch/convit",
    "hdvw": "xxxnell/how-do-vits-work",
    "timm054": "xxxnell/how-do-vits-work",
    "fcvit": "ma-xu/FCViT",
    "csan": "baosongyang/Context-Aware-SAN",
}


def _of_families() -> dict[str, str]:
    """Group of golden cases -> names of our models."""
    found = {}
    for family in families().values():
        alone = list(family.variants) == [family.name]
        names = f"`{family.name}`" if alone else f"`{family.name}_*`"
        found |= dict.fromkeys(family.goldens, names)
    return {**found, **_LAYERS}


def goldens() -> str:
    """Source system, our name, golden cases passed."""
    found = json.loads((MEASURED / "goldens.json").read_text(encoding="utf-8"))["outcomes"]
    manifest = json.loads((ROOT / "tests" / "goldens" / "manifest.json").read_text("utf-8"))
    groups: dict[str, list[dict[str, Any]]] = {}
    for case in manifest["cases"]:
        groups.setdefault(case["family"], []).append(case)
    ours = _of_families()
    lines = ["| source | recorded | ours | cases passed |", "|---|---|---|---|"]
    for group, cases in groups.items():
        outcomes = [found.get(case["id"], "not run") for case in cases]
        passed = f"{outcomes.count('passed')} of {len(outcomes)}"
        system = _SYSTEMS[cases[0]["repo"]]
        lines.append(f"| {system} | {group} | {ours[group]} | {passed} |")
    return "\n".join(lines)


def _printed(file: str) -> str:
    """What a command printed."""
    text = (ROOT / "docs" / "transcripts" / file).read_text(encoding="utf-8").strip()
    return f"```text\n{text}\n```"


def parity_run() -> str:
    """What `convattn verify --per-node` printed in `make measured`."""
    return _printed("parity.txt")


def evaluation_run() -> str:
    """What `convattn evaluate` printed in `make measured`."""
    text = (ROOT / "docs" / "transcripts" / "evaluation.txt").read_text(encoding="utf-8").strip()
    return f"```\n$ convattn evaluate convit_nano --data digits\n{text}\n```"


_SHORT = {"logistic regression on pixels": "logistic", "5 nearest neighbours on pixels": "5-NN"}


def own_pictures() -> str:
    """The default command on two folders (`python -m benchmarks.own_pictures`)."""
    found = json.loads((MEASURED / "own-pictures.json").read_text(encoding="utf-8"))
    lines = [
        "| folder, images | model | starts from | baseline, % | validation, % | test, % | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        low, high = row["test"]["interval95_percent"]
        baseline, start = row["baseline"], row["start"]
        lines.append(
            f"| {row['data']}, {row['training_images']} | `{row['model']}` "
            f"| {f'`{tag_of(start)}`' if start else 'random'} "
            f"| {baseline['validation']['acc1_percent']:.1f}, "
            f"{_SHORT.get(baseline['name'], baseline['name'])} "
            f"| {row['validation']['acc1_percent']:.1f} | {row['test']['acc1_percent']:.1f} "
            f"({low:.1f} to {high:.1f}) | {row['seconds']:.0f} |"
        )
    there = {f"{row['data']}:{row['model']}" for row in found["rows"]}
    missing = ", ".join(f"`{name.partition(':')[2]}`" for name in RUNS if name not in there)
    return "\n".join(lines) + (f"\n\nNot measured: {missing}." if missing else "")


def tag_of(reference: str) -> str:
    """Tag and version of weights."""
    return reference.partition(".")[2]


def training_speed() -> str:
    """The training loop beside the bare step (`python -m benchmarks.training`)."""
    found = json.loads((MEASURED / "bench-training.json").read_text(encoding="utf-8"))
    lines = ["| model | input | loop, images/s | bare step | ratio |", "|---|---|---|---|---|"]
    for row in found["rows"]:
        lines.append(
            f"| `{row['model']}` | {row['input']} | {row['loop_images_per_second']:.0f} "
            f"| {row['bare_images_per_second']:.0f} | {row['ratio']:.2f} |"
        )
    return "\n".join(lines)


DOCUMENTS: dict[str, dict[str, Part]] = {
    "README.md": {"verified": verified},
    "docs/accuracy.md": {"accuracy": accuracy, "calibration": calibration.part, "cards": cards},
    "docs/goldens.md": {"goldens": goldens},
    "docs/evaluation.md": {"run": evaluation_run},
    "docs/parity.md": {"run": parity_run, "files": parity_of_all},
    "docs/performance.md": {
        **documents.PARTS,
        "batch": batch_pages.speed,
        "precisions": precisions.part,
    },
    "docs/scale.md": {"batch-cost": batch_pages.cost},
    "docs/reliability.md": {"reliability": reliability.part},
    "docs/testing.md": suite.PARTS,
    "docs/training.md": {"own-pictures": own_pictures, "speed": training_speed},
}


def main() -> None:
    """Rewrite the documents, or with --check exit 1 if that would change one."""
    for file, parts in DOCUMENTS.items():
        path = ROOT / file
        old = path.read_text(encoding="utf-8")
        new = renew(old, parts, file)
        if "--check" in sys.argv[1:] and new != old:
            sys.exit(f"{file} is out of date; run `make docs`")
        if new != old:
            path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
