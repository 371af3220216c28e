"""Run the analyses of docs/analyses and rewrite what their pages take from the results.

    python benchmarks/analyses.py --run [--only fourier,noise]    # measure, then rewrite
    python benchmarks/analyses.py [--check]                       # rewrite, or compare

Every page has parts between `<!-- begin NAME -->` and `<!-- end NAME -->`: the command, the numbers
and what they say of the papers' claims. Nothing in them is typed by hand. The models are those of
`SUBJECTS` that have bundled weights.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import analysis_claims

import zoo

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "analyses"
MEASURED = PAGES / "measured"
IMAGES = ROOT / "docs" / "images" / "analyses"
OUT = "analyses-out"

_ALL = (
    "convit_nano", "conv_attention_vit_nano", "alternet_nano", "hdvw_vit_nano", "hdvw_swin_nano",
    "fcvit_nano", "csan_encoder_nano", "resnet_nano",
)  # fmt: skip
_FOUR = ("resnet_nano", "alternet_nano", "hdvw_vit_nano", "convit_nano", "conv_attention_vit_nano")
_ATTENDING = ("convit_nano", "hdvw_vit_nano", "conv_attention_vit_nano", "alternet_nano")
# verb -> (models wanted, how many at most, further arguments)
SUBJECTS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "fourier": (_FOUR, 4, ""),
    "variance": (_FOUR, 4, ""),
    "lesion": (_FOUR, 4, ""),
    "specificity": (_FOUR, 4, ""),
    "filters": (("convit_nano", "conv_attention_vit_nano", "resnet_nano"), 2, ""),
    "nonlocality": (_ATTENDING, 4, ""),
    "gates": (("convit_nano",), 1, ""),
    "attention": (("convit_nano", "hdvw_vit_nano"), 2, "--image 8"),
    "similarity": (("convit_nano", "hdvw_vit_nano", "fcvit_nano"), 3, ""),
    "landscape": (("hdvw_vit_nano", "resnet_nano", "convit_nano", "conv_attention_vit_nano"), 2,
                  "--grid 15 --images 256"),
    "hessian": (("hdvw_vit_nano", "resnet_nano", "convit_nano", "conv_attention_vit_nano"), 3,
                "--batch-size 16 --top 2 --max-iterations 50"),
    "robustness": (_ALL, 4, "--images 128"),
    "noise": (("hdvw_vit_nano", "resnet_nano", "convit_nano", "conv_attention_vit_nano"), 4,
              "--eps 4"),
    "buildup": (("alternet_nano",), 1, "--epochs 15"),
}  # fmt: skip
KEPT = ("analysis", "data", "images", "rows", "summary", "seconds", "command", "versions",
        "machine", "seed", "parent_commit")  # fmt: skip


def command(verb: str) -> list[str]:
    """The command of a page, from "analyze" on."""
    wanted, most, extra = SUBJECTS[verb]
    bundled = {name for name in wanted if any(w.bundled for w in zoo.get_record(name).weights)}
    models = list(wanted) if verb == "buildup" else [n for n in wanted if n in bundled][:most]
    out = ["--data", "digits", "--out", f"{OUT}/{verb}", *extra.split()]
    return ["analyze", verb, *models, *out]


def measure(verb: str) -> None:
    """Run a page's command; keep its figure and numbers."""
    arguments = command(verb)
    folder = ROOT / OUT / verb
    shutil.rmtree(folder, ignore_errors=True)
    print("convattn", " ".join(arguments), flush=True)
    subprocess.run([sys.executable, "-m", "zoo", *arguments], cwd=ROOT, check=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    MEASURED.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / f"{verb}.png", IMAGES / f"{verb}.png")
    found = json.loads((folder / f"{verb}.json").read_text(encoding="utf-8"))
    found["summary"] = [_summary(result) for result in found["results"]]
    if verb == "landscape":
        found["rows"] = [row for row in found["rows"] if abs(row["x"]) in (0, 1)
                         and abs(row["y"]) in (0, 1)]  # fmt: skip
    kept = {key: found[key] for key in KEPT if key in found}
    text = json.dumps(kept, indent=1) + "\n"
    (MEASURED / f"{verb}.json").write_text(text, encoding="utf-8")


def _summary(result: dict[str, Any]) -> dict[str, Any]:
    """The single numbers of a result."""
    return {key: value for key, value in result.items() if not isinstance(value, list | dict)}


def parts(verb: str) -> dict[str, str]:
    """Generated parts of a page."""
    found = json.loads((MEASURED / f"{verb}.json").read_text(encoding="utf-8"))
    machine = found["machine"]
    where = f" on {found['data']}, {found['images']} images" if "data" in found else ""
    note = (
        f"Measured{where}; {found['seconds']:.0f} s on {machine['cores']} cores, torch "
        f"{found['versions']['torch']}, seed {found['seed']}."
    )
    run = f"```\nconvattn {_wrapped(found['command'])}\n```"
    return {
        "command": run,
        "numbers": "\n".join(analysis_claims.table(verb, found)) + f"\n\n{note}",
        "claims": "\n".join(f"- {line}" for line in analysis_claims.claims(verb, found)),
    }


def _wrapped(text: str) -> str:
    """A command as it was run, without the program's name, broken before its options."""
    text = text.removeprefix("convattn ")
    return text.replace(" --data", " \\\n    --data", 1) if len(text) > 88 else text


def render(verb: str, text: str) -> str:
    """A page with its generated parts renewed. Raises: ValueError for a missing part."""
    for name, content in parts(verb).items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if begin not in text or end not in text:
            raise ValueError(f"{verb}.md has no part {begin} ... {end}")
        pattern = re.escape(begin) + r".*?" + re.escape(end)
        new = f"{begin}\n{content}\n{end}"
        text = re.sub(pattern, lambda _, new=new: new, text, flags=re.DOTALL)
    return text


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", default=",".join(SUBJECTS))
    options = parser.parse_args()
    verbs = options.only.split(",")
    if options.run:
        for verb in verbs:
            measure(verb)
    stale = []
    for verb in verbs:
        page = PAGES / f"{verb}.md"
        old = page.read_text(encoding="utf-8")
        new = render(verb, old)
        if new != old:
            stale.append(verb)
            if not options.check:
                page.write_text(new, encoding="utf-8")
    if options.check and stale:
        sys.exit(f"out of date: {', '.join(stale)}; run `make analyses`")


if __name__ == "__main__":
    main()
