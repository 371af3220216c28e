"""FCViT: sizes, licences, weights."""

from __future__ import annotations

from typing import Any

from ..records import Family, Licence
from ..weights_records import CheckpointRecord, InputSpec, Metric
from ._trained import NANO_INPUT, digits_weights, fashion_mnist_weights

_WIDTHS = (64, 128, 320, 512)


def _size(layers: tuple[int, ...], widths: tuple[int, ...] = _WIDTHS) -> dict[str, Any]:
    return {"layers": layers, "embed_dims": widths, "mlp_ratios": (8, 8, 4, 4)}


# size -> top-1, percent on ImageNet-1k
_TOP1 = {"tiny": 74.9, "b12": 80.9, "b24": 82.5, "b48": 83.6}


def _file(size: str) -> CheckpointRecord:
    source = "README of github.com/ma-xu/FCViT"
    metric = {"name": "acc1_percent", "dataset": "ImageNet-1k validation", "source": source}
    return CheckpointRecord(
        model=f"fcvit_{size}",
        tag="in1k",
        address="https://github.com/ma-xu/FCViT",
        about_address="its README links to Google Drive folders",
        dataset="ImageNet-1k",
        metrics=(Metric(value=_TOP1[size], **metric),),
    )


FAMILY = Family(
    name="fcvit",
    builder="fcvit:FCViT",
    goldens=("FCViT", "FCViT layers"),
    summary="fully convolutional vision transformer: one global context instead of attention",
    paper="arXiv:2212.12552",
    bibtex="""@article{ma2022close,
  title   = {A Close Look at Spatial Modeling: From Attention to Convolution},
  author  = {Ma, Xu and Wang, Huan and Qin, Can and Li, Kunpeng and Zhao, Xingchen and Fu, Jie
             and Fu, Yun},
  journal = {arXiv preprint arXiv:2212.12552},
  year    = {2022}
}""",
    upstream="github.com/ma-xu/FCViT",
    licence=Licence(
        code="Apache-2.0",
        weights="Apache-2.0",
        note="The repository is Apache-2.0; its weights lie in shared folders without a licence of "
        "their own.",
    ),
    variants={
        "fcvit_nano": {
            "num_classes": 10,
            "layers": (1, 2, 2),
            "embed_dims": (32, 64, 96),
            "mlp_ratios": (4, 3, 3),
            "downsamples": (True, True, True),
            "mix_sizes": (7, 7),
        },
        "fcvit_tiny": _size((3, 3, 5, 2), (32, 64, 160, 320)),
        "fcvit_b12": _size((2, 2, 6, 2)),
        "fcvit_b24": _size((4, 4, 12, 4)),
        "fcvit_b48": _size((8, 8, 24, 8)),
    },
    descriptions={
        "fcvit_nano": "our own small FCViT for 32 x 32 images",
        "fcvit_b12": "FCViT-B12, called FCViT-S12 in the paper's abstract",
    },
    input=InputSpec(crop_pct=0.9),
    inputs={
        "fcvit_nano": NANO_INPUT,
        "fcvit_b24": InputSpec(crop_pct=0.95),
        "fcvit_b48": InputSpec(crop_pct=0.95),
    },
    tiny={
        "num_classes": 7,
        "layers": (1, 1, 1, 2),
        "embed_dims": (16, 16, 24, 32),
        "mlp_ratios": (2, 2, 2, 2),
        "mix_sizes": (5, 3),
        "fc_min_value": 8,
        "layer_scale_init_value": 0.1,
    },
    weights=(
        digits_weights(
            "fcvit_nano",
            "1.0.0",
            "27af12124482a19ce8c8f6b92032e7682f4ba61d993614de842dad7be569033a",
            1393200,
            recipe="digits-short",
            seed=1,
        ),
        fashion_mnist_weights(
            "fcvit_nano",
            "1.0.0",
            "63d5a9465e67c2ca5ec036ed2bfcd28de71b9f6b135c411af3c3525a198db479",
            1393200,
        ),
    ),
    checkpoints=tuple(_file(size) for size in _TOP1),
    checkpoint_variants=(  # backbones in detection and segmentation checkpoints
        {"features_only": True},
        {"features_only": True, "first_feature_norm": False},
    ),
    cite_note="Cite Ma et al. 2022. Parameters are those of the code: 4.78, 14.70, 26.96 and "
    "51.48 M with 1000 classes; upstream's README says 4.6, 14, 25.7 and 49.1 M.",
)
