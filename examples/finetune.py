"""Fine-tune a bundled model on a folder of a hundred images, offline, and export it.

    python examples/finetune.py [--out finetune-out]

The folder holds real scans of digits that the bundled weights have not been trained on, sorted into
the classes "even" and "odd": a question that they have never been asked. Everything after that is
the command line, as one would type it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

from zoo.datasets.digits import load_digits

PER_DIGIT = 5  # from each of the two parts: 2 * 5 * 10 = 100 images
START = "convit_nano"


def write_photos(folder: Path) -> int:
    """``folder/{even,odd}/*.png``; returns the number of images."""
    count = 0
    for part in ("validation", "test"):
        data = load_digits(part)
        for digit in range(10):
            place = folder / ("odd" if digit % 2 else "even")
            place.mkdir(parents=True, exist_ok=True)
            for number, index in enumerate((data.targets == digit).nonzero()[0][:PER_DIGIT]):
                Image.fromarray(data.images[index]).save(place / f"{part}_{digit}_{number}.png")
                count += 1
    return count


def convattn(*words: str, cwd: Path) -> None:
    """Show a command, run it in `cwd`, and stop if it fails."""
    print(f"\n$ convattn {' '.join(words)}", flush=True)
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-m", "zoo", *words], cwd=cwd, env=environment)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """The whole way, from a folder to a verified ONNX file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("finetune-out"))
    out: Path = parser.parse_args().out
    shutil.rmtree(out / "photos", ignore_errors=True)
    shutil.rmtree(out / "run", ignore_errors=True)
    count = write_photos(out / "photos")
    print(f"photos/even and photos/odd hold {count} images", flush=True)
    convattn("train", START, "--data", "photos", "--probe", "knn", "--out", "probe", cwd=out)
    convattn(
        "train", START, "--data", "photos", "--finetune-from", START, "--recipe", "digits",
        "--epochs", "20", "--lr", "5e-4", "--out", "run", "--export", "onnx", cwd=out,
    )  # fmt: skip
    image = "photos/odd/test_7_0.png"
    convattn("predict", "run", image, cwd=out)
    convattn("predict", "run/onnx/model.onnx", image, cwd=out)
    convattn("verify", "run", cwd=out)


if __name__ == "__main__":
    main()
