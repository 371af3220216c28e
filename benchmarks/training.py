"""How fast `convattn train` is beside the bare step: forward, backward and AdamW on ready tensors.

    python -m benchmarks.training [--out FILE.json] [--threads N] [--steps N] [MODEL ...]

Both are measured in one process in turns, as processor time divided by threads where one thread
computes, otherwise as wall time; the figure is the ratio of the medians. Small images are uint8
28 x 28 in memory, large ones JPEG files of 320 x 240.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from zoo import create_model
from zoo.catalog.registry import get_record
from zoo.data.dataset import ImageDataset, in_memory
from zoo.data.folders import open_folder
from zoo.files.provenance import provenance
from zoo.training.loop import Sitting, Watch, train
from zoo.training.machine import Machine
from zoo.training.recipe import scaled
from zoo.training.recipes import RECIPES

GOAL = 0.85
NANO = (
    "convit_nano",
    "conv_attention_vit_nano",
    "alternet_nano",
    "resnet_nano",
    "fcvit_nano",
    "csan_encoder_nano",
    "hdvw_vit_nano",
    "hdvw_swin_nano",
)
MODELS = (*NANO, "convit_tiny")


def main() -> None:
    """Measure, print a row for each model, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=24)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name in options.models:
        row = measure(name, options.steps, options.threads)
        rows.append(row)
        print(
            f"{name:26} loop {row['loop_images_per_second']:7.1f} images/s  bare step "
            f"{row['bare_images_per_second']:7.1f}  ratio {row['ratio']:.2f}",
            flush=True,
        )
    if options.out:
        content = {"goal_ratio": GOAL, "threads": options.threads, "rows": rows, **provenance(0)}
        options.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def measure(name: str, steps: int, threads: int) -> dict[str, Any]:
    """Images per second of both, and the ratio."""
    side = get_record(name).input.size[0]
    batch = 64 if side <= 64 else 8
    with tempfile.TemporaryDirectory() as folder:
        images = _small(batch * steps) if side <= 64 else _large(Path(folder), batch * steps)
        recipe = "small-images" if side <= 64 else "photos"
        bare = _bare(name, batch, side, threads)
        warm = [next(bare) for _ in range(3)]
        loop, alone = _turns(name, images, recipe, batch, threads, bare)
    del warm
    found = {"loop": batch / statistics.median(loop), "bare": batch / statistics.median(alone)}
    return {
        "model": name,
        "input": side,
        "batch_size": batch,
        "recipe": recipe,
        "loop_images_per_second": round(found["loop"], 1),
        "bare_images_per_second": round(found["bare"], 1),
        "ratio": round(found["loop"] / found["bare"], 3),
    }


def _clock(threads: int) -> float:
    return time.process_time() if threads == 1 else time.perf_counter()


def _turns(
    name: str, images: ImageDataset, recipe: str, batch: int, threads: int, bare: Iterator[float]
) -> tuple[list[float], list[float]]:
    """Seconds of the loop's steps and of the bare steps between them; the first three are warm-up.

    A step of the loop is all that lies between two calls of `on_step`, but for the bare step.
    """
    loop: list[float] = []
    alone: list[float] = []
    last = [0.0]

    def on_step() -> None:
        loop.append(_clock(threads) - last[0])
        alone.append(next(bare))
        last[0] = _clock(threads)

    settings = scaled(RECIPES[recipe], epochs=1, warmup_epochs=0, batch_size=batch)
    model = create_model(name, num_classes=10)
    parts = {"train": images, "validation": images[:batch]}
    watch = Watch(on_step=on_step)
    machine = Machine(cpu=True, threads=threads)
    train(model, model.pretrained_cfg.input, parts.get, settings, machine, Sitting(watch=watch))
    return loop[3:], alone[3:]


def _bare(name: str, batch: int, side: int, threads: int) -> Iterator[float]:
    """Seconds of one plain step after another."""
    model = create_model(name, num_classes=10).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, side, side, generator=generator)
    y = torch.randint(0, 10, (batch,), generator=generator)
    while True:
        tick = _clock(threads)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        yield _clock(threads) - tick


def _small(count: int) -> ImageDataset:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (count, 28, 28, 3), dtype=np.uint8)
    labels = tuple(str(number) for number in range(10))
    return in_memory("noise", labels, pixels, np.arange(count) % 10)


def _large(root: Path, count: int) -> ImageDataset:
    """JPEG files in ten class folders of a training part."""
    generator = np.random.default_rng(0)
    for index in range(count):
        folder = root / "train" / str(index % 10)
        folder.mkdir(parents=True, exist_ok=True)
        coarse = generator.integers(0, 256, (15, 20, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((320, 240)).save(folder / f"{index}.jpg", quality=90)
    for number in range(10):
        folder = root / "val" / str(number)
        folder.mkdir(parents=True)
        Image.new("RGB", (320, 240)).save(folder / "0.jpg")
    return open_folder(root, "train")


if __name__ == "__main__":
    main()
