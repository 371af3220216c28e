"""Run the analyses of docs/analyses and rewrite what their pages take from the results.

    python -m benchmarks.analyses --run [--only fourier,noise]    # measure, then rewrite
    python -m benchmarks.analyses --run --only kernel-size        # from runs/, see TRAININGS
    python -m benchmarks.analyses [--check]                       # rewrite, or compare

Every page has parts between `<!-- begin NAME -->` and `<!-- end NAME -->`: the command and the
numbers. Nothing in them is typed by hand; what the numbers say of the papers' claims is. The models
have the bundled weights of `analysis_tables.TAG`, whose test images they are shown.
"""

from __future__ import annotations

import argparse
import glob
import json
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

from zoo.files.processes import run_python

from . import analysis_tables
from .analysis_tables import TAG
from .marked import Part, renew

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "analyses"
MEASURED = PAGES / "measured"
IMAGES = ROOT / "docs" / "images" / "analyses"
OUT = "analyses-out"

_ALL = (
    "convit_nano", "conv_attention_vit_nano", "alternet_nano", "hdvw_vit_nano", "hdvw_swin_nano",
    "fcvit_nano", "csan_encoder_nano", "resnet_nano",
)  # fmt: skip
_FOUR = ("resnet_nano", "alternet_nano", "hdvw_vit_nano", "convit_nano")
_CURVED = ("hdvw_vit_nano", "resnet_nano", "convit_nano")
# verb -> (models, further arguments)
SUBJECTS: dict[str, tuple[tuple[str, ...], str]] = {
    "fourier": (_FOUR, "--images 1000"),
    "variance": (_FOUR, "--images 1000"),
    "lesion": (_FOUR, "--images 2000"),
    "specificity": (_FOUR, "--images 500"),
    "filters": (("convit_nano", "conv_attention_vit_nano", "hdvw_vit_nano"), "--images 500"),
    "nonlocality": (("convit_nano", "hdvw_vit_nano", "conv_attention_vit_nano", "alternet_nano"),
                    "--images 500"),
    "gates": (("convit_nano",), ""),
    "attention": (("convit_nano", "hdvw_vit_nano"), "--image 8"),
    "similarity": (("convit_nano", "hdvw_vit_nano", "fcvit_nano"), ""),
    "landscape": (_CURVED[:2], "--grid 15 --images 256"),
    "hessian": (_CURVED, "--batches 12 --batch-size 16 --top 2 --max-iterations 50"),
    "robustness": (_ALL, "--images 500"),
    "noise": ((*_CURVED, "conv_attention_vit_nano"), "--images 1000 --eps 4"),
}  # fmt: skip
# Figures that take training, most of them by `convattn train` into runs/: page, command
TRAININGS: dict[str, tuple[str, str]] = {
    "buildup": ("buildup", "buildup alternet_nano --data fashion_mnist --img-size 28 "
                "--epochs 2 --images 2000"),
    "gates-epochs": ("gates", "gates runs/convit_nano-seed1 runs/hdvw_vit_nano-seed1 "
                     "--data fashion_mnist"),
    "sample-efficiency": ("sweep", "sweep runs/small-data --part test"),
    "sample-efficiency-conv": ("sweep", "sweep runs/small-data-conv --part test"),
    "ablation": ("sweep", "sweep runs/convit-ablation --part test"),
    "kernel-size": ("sweep", "sweep runs/kernel-size --part test --against kernel_size"),
    "kernel-size-hessian": ("sweep", "hessian runs/kernel-size/*seed0 --data fashion_mnist "
                            "--batches 6 --batch-size 16 --top 1 --max-iterations 30"),
}  # fmt: skip
TABLES_ALONE = ("kernel-size-hessian", "sample-efficiency-conv")  # without a picture
KEPT = ("analysis", "data", "images", "rows", "summary", "seconds", "command", "versions",
        "machine", "seed", "parent_commit")  # fmt: skip


def command(name: str) -> list[str]:
    """The command of a figure, from "analyze" on; it may hold patterns of runs."""
    if name in TRAININGS:
        verb, *rest = TRAININGS[name][1].split()
        return ["analyze", verb, *rest, "--out", f"{OUT}/{name}"]
    models, extra = SUBJECTS[name]
    named = [f"{model}.{TAG}" for model in models]
    return ["analyze", name, *named, "--data", TAG, "--out", f"{OUT}/{name}", *extra.split()]


def _expanded(words: list[str]) -> list[str]:
    """Words, with the directories that patterns among them stand for."""
    return [
        found
        for word in words
        for found in (sorted(glob.glob(word, root_dir=ROOT)) if "*" in word else [word])
    ]


def measure(name: str) -> None:
    """Run a figure's command; keep figure and numbers."""
    arguments = command(name)
    verb = arguments[1]
    folder = ROOT / OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    print("convattn", " ".join(arguments), flush=True)
    run_python("-m", "zoo", *_expanded(arguments), cwd=ROOT, check=True)
    keep(name, folder, verb)


def keep(name: str, folder: Path, verb: str) -> None:
    """Keep of a command's output what the pages show."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    MEASURED.mkdir(parents=True, exist_ok=True)
    found = json.loads((folder / f"{verb}.json").read_text(encoding="utf-8"))
    found["summary"] = [_summary(result) for result in found["results"]]
    if name == "kernel-size-hessian":
        analysis_tables.name_by_setting(found, ROOT / "runs" / "kernel-size", "kernel_size")
    if name not in TABLES_ALONE:
        shutil.copyfile(folder / f"{verb}.png", IMAGES / f"{name}.png")
    if verb == "landscape":
        found["rows"] = [row for row in found["rows"] if abs(row["x"]) in (0, 1)
                         and abs(row["y"]) in (0, 1)]  # fmt: skip
    if verb == "sweep":
        sweep = ROOT / TRAININGS[name][1].split()[1] / "sweep.json"
        runs = json.loads(sweep.read_text(encoding="utf-8"))["rows"]
        found["seconds"] = sum(run.get("seconds", 0) for run in runs)
    if name == "gates-epochs":
        found["rows"] = analysis_tables.first_and_last(found["results"])
    kept = {key: found[key] for key in KEPT if key in found}
    text = json.dumps(kept, indent=1) + "\n"
    (MEASURED / f"{name}.json").write_text(text, encoding="utf-8")


def _summary(result: dict[str, Any]) -> dict[str, Any]:
    """The single numbers of a result, accuracies among them."""
    found = {key: value for key, value in result.items() if not isinstance(value, list | dict)}
    for key, value in result.items():
        if isinstance(value, dict) and "acc1_percent" in value:
            found[f"{key}_percent"] = value["acc1_percent"]
    return found


def parts(name: str) -> dict[str, str]:
    """Generated parts of a figure."""
    found = json.loads((MEASURED / f"{name}.json").read_text(encoding="utf-8"))
    machine = found["machine"]
    where = f" on {found['data']}, {found['images']} images" if "data" in found else ""
    note = (
        f"Measured{where}; {found['seconds']:,.0f} s on {machine['cores']} cores, torch "
        f"{found['versions']['torch']}, seed {found['seed']}. "
        f"All rows: [{name}.json](measured/{name}.json)."
    )
    run = f"```\n{_wrapped(found['command'])}\n```"
    return {
        "command": run,
        "numbers": "\n".join(analysis_tables.table(name, found)) + f"\n\n{note}",
    }


def _wrapped(text: str) -> str:
    """A command in lines of at most 98 characters; an option stands beside its value."""
    together = re.sub(r" (--\S+) ", r" \1\0", text)
    lines = textwrap.wrap(together, 98, subsequent_indent="    ", break_on_hyphens=False)
    return " \\\n".join(lines).replace("\0", " ")


def pages() -> dict[str, dict[str, Part]]:
    """Page -> its generated parts; those of `TRAININGS` carry the figure's name in front."""
    found = {verb: _parts_by_name(verb) for verb in SUBJECTS}
    for name, (page, _) in TRAININGS.items():
        made = _parts_by_name(name)
        made.pop("command")
        found.setdefault(page, {}).update({f"{name}-{part}": made[part] for part in made})
    return found


def _parts_by_name(name: str) -> dict[str, Part]:
    made = parts(name)
    return {part: (lambda content=content: content) for part, content in made.items()}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", default=",".join(SUBJECTS), help="Figures.")
    options = parser.parse_args()
    if options.run:
        for name in options.only.split(","):
            measure(name)
    stale = []
    for page, content in pages().items():
        path = PAGES / f"{page}.md"
        old = path.read_text(encoding="utf-8")
        new = renew(old, content, path.name)
        if new != old:
            stale.append(page)
            if not options.check:
                path.write_text(new, encoding="utf-8")
    if options.check and stale:
        sys.exit(f"out of date: {', '.join(stale)}; run `make analyses`")


if __name__ == "__main__":
    main()
