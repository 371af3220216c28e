"""ResNet: sizes, licences, original names."""

from __future__ import annotations

from ._hdvw import (
    CNN_KEYWORDS,
    cifar100_checkpoint,
    cnn_aliases,
    hdvw_family,
    resnet_sizes,
)
from ._trained import NANO_INPUT, digits_weights, fashion_mnist_weights

FAMILY = hdvw_family(
    name="resnet",
    builder="resnet:ResNet",
    goldens=("hdvw resnet",),
    convolutional=True,
    summary="residual network, optionally with MC dropout or smoothing blocks",
    paper="arXiv:1512.03385",
    bibtex="""@inproceedings{he2016deep,
  title     = {Deep Residual Learning for Image Recognition},
  author    = {He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2016}
}""",
    smoothing=True,
    variants={
        "resnet_nano": {
            "num_classes": 10,
            "num_blocks": (1, 1, 1, 1),
            "widths": (16, 32, 64, 96),
            "stem": False,
        },
        **resnet_sizes("resnet", (18, 34, 50, 101, 152)),
    },
    descriptions={
        "resnet_nano": "our own small ResNet for 32 x 32 images",
        **{f"resnet_{depth}": f"ResNet-{depth}" for depth in (18, 34, 50, 101, 152)},
    },
    inputs={"resnet_nano": NANO_INPUT},
    tiny={
        "num_classes": 7,
        "num_blocks": (1, 2, 1, 1),
        "widths": (8, 12, 16, 24),
        "stem": False,
    },
    weights=(
        digits_weights(
            "resnet_nano",
            "1.0.0",
            "ebdfec78ef32a0dcea590135ce3b6559b683884fe3d544dfdf424aa83ec28159",
            904936,
            recipe="digits-short",
            seed=0,
        ),
        fashion_mnist_weights(
            "resnet_nano",
            "1.0.0",
            "88f73f7d2457dc4ea762723a5d1fc298cef7710d612769d02a7767348544cc36",
            904936,
        ),
    ),
    checkpoints=(
        cifar100_checkpoint(
            "resnet_50",
            "resnet_50_cifar100_691cc9a9e4.pth.tar",
            overrides={"stem": False},
        ),
    ),
    aliases=cnn_aliases("resnet", (18, 34, 50, 101, 152), stem=False),
    alias_keywords={**CNN_KEYWORDS, "sd": "drop_path_rate"},
)
