"""What streaming costs beside its two halves: decoding alone and computing alone.

    python -m benchmarks.batch [--out FILE.json] [--threads N] [--images N] [--rounds N]

Everything runs in one process in turns, each over all images. The ratio is the rate of the stream
by that of one half (1: the other costs nothing), the median over rounds: of the slower half, and
for small pictures of the decoder.
JPEG files of 450 x 330 go through convit_tiny in ONNX Runtime, and beside it through timm's eager
model with a DataLoader of two workers; PNG files of 28 x 28 through convit_nano. Random weights.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from export.runtime.opening import open_predictor
from export.speed.timing import Run, Timing, limited_threads, measure_rounds, ratio_of
from zoo.catalog.registry import get_record
from zoo.evaluation.batch.items import Source
from zoo.evaluation.batch.sources import open_source
from zoo.evaluation.batch.stream import answers
from zoo.evaluation.predictor import Predictor
from zoo.files.json_text import to_json
from zoo.files.local import write_text
from zoo.files.provenance import provenance

from .graphs import random_convit, write_graph
from .peers import timm_convit

BATCH, WORKERS = 32, 2
GOALS = {"convit_tiny": 0.90, "convit_nano": 0.85, "timm": 2.0}


def main() -> None:
    """Measure, print the rows, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    given = (options.images, options.threads, options.rounds)
    with tempfile.TemporaryDirectory() as folder, limited_threads(options.threads):
        rows = [*_photos(Path(folder), *given), *_small(Path(folder), *given)]
    for row in rows:
        print(f"{row['subject']}, by {row['against']}: {row['value']:.2f} (goal: {row['goal']})")
    if options.out:
        keys = ("images", "threads", "rounds")
        content = {**{key: getattr(options, key) for key in keys}, "rows": rows, **provenance(0)}
        content["command"] = "make bench-batch"
        write_text(options.out, to_json(content, indent=2) + "\n")


def _photos(folder: Path, images: int, threads: int, rounds: int) -> list[dict[str, Any]]:
    place = _pictures(folder / "photos", images, (450, 330), ".jpg")
    predictor = _exported(folder, "convit_tiny", threads)
    runs = {**_runs(predictor, open_source(place), threads), "timm": _timm(predictor, place)}
    times = measure_rounds(runs, rounds, warmup=1)
    subject = "convit_tiny, JPEG of 450 x 330"
    return [
        _row(subject, times, _slower(times), images, GOALS["convit_tiny"]),
        {
            "subject": subject,
            "against": "timm's eager model, DataLoader of 2 workers",
            "goal": GOALS["timm"],
            **ratio_of(times["timm"], times["stream"]).to_dict(),
            "images_per_second": _rates(times, images),
        },
    ]


def _small(folder: Path, images: int, threads: int, rounds: int) -> list[dict[str, Any]]:
    place = _pictures(folder / "small", 2 * images, (28, 28), ".png")
    predictor = _exported(folder, "convit_nano", threads)
    times = measure_rounds(_runs(predictor, open_source(place), threads), rounds, warmup=1)
    subject, count = "convit_nano, PNG of 28 x 28", 2 * images
    rows = [_row(subject, times, "decoder", count, GOALS["convit_nano"])]
    if _slower(times) != "decoder":
        rows.append(_row(subject, times, _slower(times), count, None))
    return rows


def _slower(times: dict[str, Timing]) -> str:
    return max(("session", "decoder"), key=lambda half: times[half].median_ms)


def _row(
    subject: str, times: dict[str, Timing], half: str, images: int, goal: float | None
) -> dict[str, Any]:
    """The stream beside one of its halves."""
    return {
        "subject": subject,
        "against": f"the {half} alone",
        "goal": goal,
        **ratio_of(times[half], times["stream"]).to_dict(),
        "images_per_second": _rates(times, images),
    }


def _rates(times: dict[str, Timing], images: int) -> dict[str, float]:
    return {name: round(1000 * images / timing.median_ms, 1) for name, timing in times.items()}


def _runs(predictor: Predictor, source: Source, threads: int) -> dict[str, Run]:
    """The stream and its halves, over the same images."""
    spec, count = predictor.input, source.count or 0
    noise = np.random.default_rng(0).standard_normal((BATCH, 3, *spec.size), dtype=np.float32)
    how = {"batch_size": BATCH, "workers": threads}

    def session() -> None:
        for first in range(0, count, BATCH):
            predictor.forward(noise[: min(BATCH, count - first)])

    def nothing(batch: Any, _: object) -> Any:
        return np.zeros((len(batch), 1), np.float32)

    def stream() -> None:
        found = answers(predictor.outputs, spec, source, **how)
        _exhaust(predictor.top(answer.values, 5) for answer in found)

    return {
        "stream": stream,
        "session": session,
        "decoder": lambda: _exhaust(answers(nothing, spec, source, **how)),
    }


def _exhaust(values: Iterable[object]) -> None:
    for _ in values:
        pass


def _timm(predictor: Predictor, place: Path) -> Run:
    """timm's model, data set and transform, as its inference.py puts them together."""
    import torch
    from timm.data import ImageDataset, create_transform

    spec = predictor.input
    model = timm_convit(random_convit(spec.size[0]), spec.size[0]).eval()
    transform = create_transform((3, *spec.size), crop_pct=spec.crop_pct, mean=spec.mean,
                                 std=spec.std, interpolation=spec.interpolation)  # fmt: skip
    images = ImageDataset(str(place), transform=transform)
    loader = torch.utils.data.DataLoader(images, BATCH, num_workers=WORKERS)

    def run() -> None:
        with torch.inference_mode():
            _exhaust(model(batch).softmax(-1).topk(5) for batch, _ in loader)

    return run


def _exported(folder: Path, name: str, threads: int) -> Predictor:
    path = folder / f"{name}.onnx"
    write_graph(f"{name}:img_size={get_record(name).input.size[0]}", path)
    return open_predictor(path, threads=threads)


def _pictures(folder: Path, count: int, size: tuple[int, int], suffix: str) -> Path:
    """Pictures with edges and texture, so that a decoder has what photographs give it."""
    (folder / "all").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size), np.int16)
        noise = generator.integers(-12, 13, smooth.shape, dtype=np.int16)
        picture = Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))
        picture.save(folder / "all" / f"{number:05}{suffix}")
    return folder


if __name__ == "__main__":
    main()
