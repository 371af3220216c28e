"""AlterNet: plans, licences, weights."""

from __future__ import annotations

from ..records import Family, Licence
from ..weights_records import InputSpec
from ._trained import NANO_INPUT, digits_weights, fashion_mnist_weights

# One string per stage, one letter per block: C convolution, A attention (zoo.models.alternet).
_BASIC = {"bottleneck": False}
_PLANS = {
    "alternet_18": ("CC", "CA", "CA", "CA"),
    "alternet_34": ("CCC", "CCCA", "CACACA", "CACA"),
    "alternet_50": ("CCC", "CCCA", "CACACA", "CACA"),
    "alternet_101": ("CCC", "CCCA", 17 * "C" + "CACACA", "CACA"),
    "alternet_152": ("CCC", "CCCCCCCA", 30 * "C" + "CACACA", "CACA"),
}

FAMILY = Family(
    name="alternet",
    builder="alternet:AlterNet",
    goldens=("hdvw alternet",),
    summary="pre-activation ResNet whose stages alternate convolution and local attention blocks",
    paper="arXiv:2202.06709",
    bibtex="""@inproceedings{park2022how,
  title     = {How Do Vision Transformers Work?},
  author    = {Park, Namuk and Kim, Songkuk},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year      = {2022}
}""",
    upstream="github.com/xxxnell/how-do-vits-work",
    licence=Licence(code="Apache-2.0", weights="Apache-2.0"),
    variants={
        "alternet_nano": {
            "num_classes": 10,
            "stages": ("CC", "CA", "CA"),
            "widths": (16, 48, 96),
            "heads": (2, 3, 6),
            "bottleneck": False,
            "window_size": 4,
            "head_dim": 16,
            "stem_pool": False,
        },
        "alternet_18": {"stages": _PLANS["alternet_18"], **_BASIC},
        "alternet_34": {"stages": _PLANS["alternet_34"], **_BASIC},
        "alternet_50": {"stages": _PLANS["alternet_50"]},
        "alternet_101": {"stages": _PLANS["alternet_101"]},
        "alternet_152": {"stages": _PLANS["alternet_152"]},
        "alternet_50_cifar": {
            "num_classes": 100,
            "stages": ("CCC", "CCCA", "CCCCCA", "CACA"),
            "window_size": 4,
            "stem_pool": False,
        },
    },
    descriptions={
        "alternet_nano": "our own small AlterNet for 32 x 32 images",
        "alternet_50_cifar": "the paper's AlterNet-50 for CIFAR-100",
    },
    input=InputSpec(interpolation="bilinear"),
    inputs={
        "alternet_nano": NANO_INPUT,
        "alternet_50_cifar": InputSpec(
            size=(32, 32),
            mean=(0.5071, 0.4867, 0.4408),
            std=(0.2675, 0.2565, 0.2761),
            interpolation="bilinear",
            crop_pct=1.0,
        ),
    },
    tiny={
        "num_classes": 7,
        "stages": ("C", "CA", "CA"),
        "widths": (8, 12, 16),
        "heads": (1, 2, 2),
        "bottleneck": True,
        "window_size": 3,
        "head_dim": 8,
        "stem_pool": False,
    },
    weights=(
        digits_weights(
            "alternet_nano",
            "1.0.0",
            "f9930f5224fd1b73e1cde94c417848239288641f52163bcebd208862481128df",
            922104,
            recipe="digits-short",
            seed=1,
        ),
        fashion_mnist_weights(
            "alternet_nano",
            "1.0.0",
            "02c1aeb48eb3bc10c327a111916c4c518f63475f4141d5a86acfc332c8cb6b52",
            922104,
        ),
    ),
    cite_note="Cite Park & Kim 2022. No weights and no table of accuracies were published.",
)
