"""A toy catalogue: two families of one tiny ConViT, weights of three tags."""

from __future__ import annotations

from typing import Any

from zoo.catalog.records import Family, Licence
from zoo.catalog.weights_records import WeightsRecord

CONFIG = {
    "img_size": 32,
    "patch_size": 8,
    "num_classes": 7,
    "embed_dim": 16,
    "depth": 1,
    "num_heads": 4,
}


def weights(model: str = "toy_nano", tag: str = "digits", version: str = "1.0.0", **changes: Any):
    values = {"sha256": "0" * 64, "size_bytes": 1, "architecture_versions": (1,)}
    values |= {"bundled": "toy.safetensors", **changes}
    return WeightsRecord(model=model, tag=tag, version=version, **values)


def family(name: str = "toy", **changes: Any) -> Family:
    values = {
        "builder": "convit:ConViT",
        "summary": "a toy",
        "paper": "arXiv:2103.10697",
        "bibtex": "@misc{toy}",
        "upstream": "nowhere",
        "licence": Licence(code="Apache-2.0", weights="Apache-2.0"),
        "variants": {f"{name}_nano": CONFIG, f"{name}_tiny": CONFIG},
        "tiny": CONFIG,
    }
    return Family(name=name, **{**values, **changes})


TOYS = {
    "toy": family(
        weights=(
            weights(version="1.9.0"),
            weights(tag="sketches"),
            weights(version="1.10.0"),
            weights(version="1.2.0"),
            weights(tag="future", architecture_versions=(2, 3)),
        )
    ),
    "wood": family("wood"),
}
