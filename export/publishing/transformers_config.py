"""What transformers and transformers.js read of a bundle, from what the model says of itself."""

from __future__ import annotations

import math
from typing import Any

from zoo.catalog.weights_records import InputSpec
from zoo.factory.description import PretrainedCfg

_RESAMPLE = {"nearest": 0, "bilinear": 2, "bicubic": 3}  # Pillow's numbers


def image_processor(spec: InputSpec) -> dict[str, Any]:
    """preprocessor_config.json: the same steps under the names of transformers' image processors.

    For oblong inputs they know no resize that keeps the aspect ratio: the image is stretched.
    """
    short = math.floor(min(spec.size) / spec.crop_pct)
    height, width = spec.size
    square = height == width
    return {
        "image_processor_type": "CLIPImageProcessor" if square else "ViTImageProcessor",
        "do_convert_rgb": spec.in_chans == 3,
        **({"do_grayscale": True} if spec.in_chans == 1 else {}),
        "do_resize": True,
        "size": {"shortest_edge": short} if square else {"height": height, "width": width},
        "resample": _RESAMPLE[spec.interpolation],
        "do_center_crop": square,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
    }


def transformers_keys(cfg: PretrainedCfg) -> dict[str, Any]:
    """Keys of config.json that transformers reads: timm's models are its type "timm_wrapper".

    Classes without names are called as transformers calls them; names that occur twice keep their
    first number in `label2id`.
    """
    names = cfg.labels or tuple(f"LABEL_{number}" for number in range(cfg.num_classes))
    numbers: dict[str, int] = {}
    for number, name in enumerate(names):
        numbers.setdefault(name, number)
    return {
        "model_type": "timm_wrapper",
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": numbers,
    }
