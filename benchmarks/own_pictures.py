"""`convattn train MODEL --data FOLDER` as a newcomer types it, on two folders of small pictures.

    python -m benchmarks.own_pictures DIR [--out FILE.json] [FOLDER:MODEL ...]

Writes DIR/clothes (200 pictures of every class of Fashion-MNIST, 2,000 in all, the first of its
training part) and DIR/numerals (scikit-learn's 1,797 digits), each split by the tool, and runs the
default command: on clothes for every nano model, and on numerals for one, from random weights,
since the other start has seen these digits. Its seconds say something on a quiet machine only. A
run that is finished is not repeated, and rows of FILE.json for other runs stay.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.data.fashion_mnist import DEBIAN
from zoo.data.idx import read_idx
from zoo.files.processes import run_python
from zoo.files.provenance import provenance

_MODELS = ("resnet", "convit", "alternet", "fcvit", "hdvw_vit", "conv_attention_vit")
_MODELS += ("csan_encoder", "hdvw_swin")
RUNS = (*(f"clothes:{name}_nano" for name in _MODELS), "numerals:resnet_nano")
_NAMES = "tshirt trouser pullover dress coat sandal shirt sneaker bag boot".split()
EACH = 200


def main() -> None:
    """Write the folders, train, and collect the metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("runs", nargs="*", default=RUNS, metavar="FOLDER:MODEL")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    root = options.directory
    if not (root / "clothes").is_dir():
        write_clothes(root / "clothes")
    if not (root / "numerals").is_dir():
        write_numerals(root / "numerals")
    rows = _read(options.out)
    for name in options.runs:
        rows[name] = run(root, name)
        print(json.dumps(rows[name]), flush=True)
    if options.out:
        content = {"rows": [rows[n] for n in RUNS if n in rows], **provenance(0)}
        options.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read(file: Path | None) -> dict[str, dict[str, Any]]:
    """Rows of an earlier file, by folder and model."""
    if file is None or not file.is_file():
        return {}
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return {f"{row['data']}:{row['model']}": row for row in rows}


def run(root: Path, name: str) -> dict[str, Any]:
    """The result of "FOLDER:MODEL", from its metrics.json."""
    data, _, model = name.partition(":")
    extra = ("--from-scratch",) if data == "numerals" else ()
    out = root / f"{data}-{model}"
    if not (out / "metrics.json").is_file():
        shutil.rmtree(out, ignore_errors=True)
        command = ["train", model, "--data", str(root / data), "--out", str(out)]
        run_python("-m", "zoo", *command, *extra, check=True)
    found = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    if "fashion_mnist" in found["finetune_from"]:
        raise SystemExit(f"{name} started from {found['finetune_from']}, which has seen the images")
    return {
        "data": data,
        "model": model,
        "recipe": found["recipe"]["name"],
        "epochs": found["recipe"]["epochs"],
        "start": found["finetune_from"],
        "training_images": found["training_images"],
        "baseline": found["baseline"],
        "validation": found["validation"],
        "test": found["test"],
        "warnings": found["warnings"],
        "seconds": found["seconds"],
    }


def write_clothes(root: Path) -> None:
    """The first 200 training pictures of every class."""
    images = read_idx(DEBIAN / "train-images-idx3-ubyte.gz", 3)
    labels = read_idx(DEBIAN / "train-labels-idx1-ubyte.gz", 1)
    for number, name in enumerate(_NAMES):
        (root / name).mkdir(parents=True)
        for index, place in enumerate(np.flatnonzero(labels == number)[:EACH]):
            Image.fromarray(images[place]).save(root / name / f"{index:03}.png")


def write_numerals(root: Path) -> None:
    """All scans, as they are: 8 x 8."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    for index, (scan, digit) in enumerate(zip(bunch.images, bunch.target, strict=True)):
        (root / str(digit)).mkdir(parents=True, exist_ok=True)
        grey = np.round(scan * 255 / 16).astype(np.uint8)
        Image.fromarray(grey).save(root / str(digit) / f"{index:04}.png")


if __name__ == "__main__":
    main()
