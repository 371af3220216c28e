"""Swin transformer of how-do-vits-work: sizes, licences, original names."""

from __future__ import annotations

from ._hdvw import hdvw_family
from ._trained import NANO_INPUT, digits_weights, fashion_mnist_weights


def _size(dim: int, heads: int, deep: int) -> dict[str, tuple[int, ...]]:
    dims = tuple(dim << n for n in range(4))
    return {
        "embed_dims": dims,
        "depths": (2, 2, deep, 2),
        "num_heads": tuple(heads << n for n in range(4)),
        "mlp_dims": tuple(4 * width for width in dims),
    }


FAMILY = hdvw_family(
    name="hdvw_swin",
    builder="hdvw_swin:SwinTransformer",
    goldens=("hdvw swin",),
    summary="Swin transformer of how-do-vits-work, one position table for all heads",
    paper="arXiv:2103.14030",
    bibtex="""@inproceedings{liu2021swin,
  title     = {Swin Transformer: Hierarchical Vision Transformer using Shifted Windows},
  author    = {Liu, Ze and Lin, Yutong and Cao, Yue and Hu, Han and Wei, Yixuan and Zhang, Zheng
               and Lin, Stephen and Guo, Baining},
  booktitle = {IEEE/CVF International Conference on Computer Vision (ICCV)},
  year      = {2021}
}""",
    variants={
        "hdvw_swin_nano": {
            "num_classes": 10,
            "embed_dims": (48, 96),
            "depths": (2, 2),
            "num_heads": (3, 6),
            "head_dim": 16,
            "mlp_dims": (96, 192),
            "window_size": 4,
            "pools": (2, 2),
        },
        "hdvw_swin_tiny": _size(96, 3, 6),
        "hdvw_swin_small": _size(96, 3, 18),
        "hdvw_swin_base": _size(128, 4, 18),
        "hdvw_swin_large": _size(192, 3, 6),  # as shallow and with as few heads upstream
    },
    descriptions={
        "hdvw_swin_nano": "our own small Swin for 32 x 32 images",
        **{
            f"hdvw_swin_{size}": f"Swin-{size}, window 7"
            for size in ("tiny", "small", "base", "large")
        },
    },
    inputs={"hdvw_swin_nano": NANO_INPUT},
    tiny={
        "num_classes": 7,
        "embed_dims": (16, 32),
        "depths": (2, 2),
        "num_heads": (2, 4),
        "head_dim": 8,
        "mlp_dims": (32, 64),
        "window_size": 4,
        "pools": (2, 2),
    },
    weights=(
        digits_weights(
            "hdvw_swin_nano",
            "1.0.0",
            "6438c046fb2e45cb460a1f8c5261b2c401cd30b2fe5d5c9c1cc85a11d5a1c663",
            833552,
            recipe="digits-short",
            seed=0,
        ),
        fashion_mnist_weights(
            "hdvw_swin_nano",
            "1.0.0",
            "fc0de25c93f0fdd72353de36eb6f1a445896c0ebc1152e49069f478c11dfc269",
            833552,
        ),
    ),
)
