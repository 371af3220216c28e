"""The picture of a model on the index: a sample, and what the model makes of it.

Models whose heads see the whole image show where heads of three layers look from a bright patch;
others how much the answer suffers when a part of the image is greyed out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.analysis.attention import query_attention
from zoo.data.preprocessing import preprocess
from zoo.evaluation.answers import softmax

from ...parity.reference import eager_runner
from ...spec import OUTPUT_NAME
from .collecting import Collected

if TYPE_CHECKING:
    from PIL import Image

Array = np.ndarray[Any, Any]

SIDE, GAP = 180, 8
SIZE = (4 * SIDE + 5 * GAP, SIDE + 2 * GAP)
_VIRIDIS = (
    "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 "
    "84d44b addc30 d8e219 fde725"
)
_GRID = 8  # of the greyed-out parts


def write_picture(collected: Collected, image: Image.Image | None, path: Path) -> str:
    """Draw it. Returns: what it shows, in words."""
    from PIL import Image

    spec = collected.cfg.input
    if image is None:
        values = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
        image = Image.fromarray(values).convert("RGB")
    pixels = preprocess(image, spec)
    seen = _seen(pixels, spec)
    maps, shows = _maps(collected, pixels, seen)
    canvas = Image.new("RGB", SIZE, "#11151b")
    for place, picture in enumerate([Image.fromarray(seen), *map(_coloured, maps)]):
        smooth = Image.Resampling.NEAREST if min(picture.size) < SIDE else Image.Resampling.BICUBIC
        square = picture.resize((SIDE, SIDE), smooth)
        canvas.paste(square, (GAP + place * (SIDE + GAP), GAP))
    canvas.quantize(128).save(path, optimize=True)
    return shows


def _seen(pixels: Array, spec: Any) -> Array:
    mean, std = (np.reshape(part, (-1, 1, 1)) for part in (spec.mean, spec.std))
    values = np.clip(255 * (pixels * std + mean), 0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(values, (3, *spec.size)).transpose(1, 2, 0))


def _maps(collected: Collected, pixels: Array, seen: Array) -> tuple[list[Array], str]:
    import torch

    if collected.attention is not None:
        found = query_attention(
            collected.model, torch.from_numpy(pixels)[None], seen, _bright_place(seen)
        )
        layers = [layer for layer in found.layers if layer.whole]
        if layers:
            chosen = [layers[0], layers[len(layers) // 2], layers[-1]]
            shows = "A sample, and where heads of three layers look from a bright patch of it"
            return [np.asarray(layer.maps[0]) for layer in chosen], shows
    return _suffering(collected, pixels), "A sample, and which parts of it the answer needs"


def _bright_place(seen: Array) -> tuple[float, float]:
    """Bright and near the middle, as shares of height and width."""
    light = seen.astype(np.float64).mean(2)
    away = [np.linspace(-1, 1, side) ** 2 for side in light.shape]
    row, column = np.unravel_index(
        int((light * np.exp(-3 * np.add.outer(*away))).argmax()), light.shape
    )
    return float(row) / light.shape[0], float(column) / light.shape[1]


def _suffering(collected: Collected, pixels: Array) -> list[Array]:
    """Drop of the answer's probability per greyed-out part, for parts of three sizes."""
    run = eager_runner(collected.model)
    best = int(run(pixels[None])[OUTPUT_NAME][0].argmax())
    whole = softmax(run(pixels[None])[OUTPUT_NAME])[0, best]
    found = []
    for reach in (1, 2, 3):
        drops = np.zeros((_GRID, _GRID))
        for row, column in np.ndindex(_GRID, _GRID):
            hidden = pixels.copy()
            hidden[:, _part(row, reach, pixels.shape[1]), _part(column, reach, pixels.shape[2])] = 0
            drops[row, column] = whole - softmax(run(hidden[None])[OUTPUT_NAME])[0, best]
        found.append(drops.clip(0))
    return found


def _part(place: int, reach: int, side: int) -> slice:
    middle, half = (place + 0.5) * side / _GRID, reach * side / _GRID / 2
    return slice(max(0, round(middle - half)), min(side, round(middle + half)))


def _coloured(values: Array) -> Image.Image:
    from PIL import Image

    anchors = [[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in _VIRIDIS.split()]
    scale = values / (values.max() or 1.0)
    steps = np.linspace(0, 1, len(anchors))
    channels = [np.interp(scale, steps, channel) for channel in np.transpose(anchors)]
    return Image.fromarray(np.stack(channels, -1).round().astype(np.uint8))
