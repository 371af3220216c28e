"""The vision transformer with 2-D convolutional self-attention: sizes, licences, weights."""

from __future__ import annotations

from ..records import Family, Licence
from ..weights_records import InputSpec
from ._trained import NANO_INPUT, digits_weights, fashion_mnist_weights


def _size(depth: int, dim: int, heads: int, head_dim: int = 64) -> dict[str, int]:
    return {
        "embed_dim": dim,
        "depth": depth,
        "num_heads": heads,
        "head_dim": head_dim,
        "mlp_dim": 4 * dim,
    }


FAMILY = Family(
    name="conv_attention_vit",
    builder="conv_attention_vit:ConvAttentionViT",
    goldens=("hdvw convit", "hdvw ConvAttention2d"),
    summary="vision transformer with 2-D convolutional self-attention (ConvAttention2d)",
    paper="arXiv:2202.06709",
    bibtex="""@inproceedings{park2022how,
  title     = {How Do Vision Transformers Work?},
  author    = {Park, Namuk and Kim, Songkuk},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year      = {2022}
}
@inproceedings{yang2019convolutional,
  title     = {Convolutional Self-Attention Networks},
  author    = {Yang, Baosong and Wang, Longyue and Wong, Derek F. and Chao, Lidia S.
               and Tu, Zhaopeng},
  booktitle = {Proceedings of NAACL-HLT},
  year      = {2019}
}""",
    upstream="github.com/xxxnell/how-do-vits-work",
    licence=Licence(code="Apache-2.0", weights="Apache-2.0"),
    variants={
        "conv_attention_vit_nano": {
            "img_size": 32,
            "patch_size": 4,
            "num_classes": 10,
            **_size(4, 96, 3, head_dim=32),
            "mlp_dim": 192,
        },
        "conv_attention_vit_tiny": _size(12, 192, 3),
        "conv_attention_vit_small": _size(12, 384, 6),
        "conv_attention_vit_base": _size(12, 768, 12),
        "conv_attention_vit_large": _size(24, 1024, 16),
        "conv_attention_vit_huge": _size(32, 1280, 16, head_dim=80),
    },
    descriptions={
        "conv_attention_vit_nano": "our own small convolutional-attention ViT for 32 x 32 images"
    },
    input=InputSpec(interpolation="bilinear"),
    inputs={"conv_attention_vit_nano": NANO_INPUT},
    tiny={
        "img_size": 32,
        "patch_size": 8,
        "num_classes": 7,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 2,
        "head_dim": 8,
        "mlp_dim": 48,
    },
    weights=(
        digits_weights(
            "conv_attention_vit_nano",
            "1.1.0",
            "d9d40366edda524e2f75fd36eb1a8e4aaee2a05a31fc7b823f4b33c5c7b2f8c9",
            1245208,
            recipe="digits",
            seed=0,
        ),
        digits_weights(
            "conv_attention_vit_nano",
            "1.0.0",
            "84244106b244328027b08bb9993a6f80214247c1064f9ea3d80f4e5ef1ac7df8",
            1245208,
        ),
        fashion_mnist_weights(
            "conv_attention_vit_nano",
            "1.0.0",
            "5508ca318936db6b3bcd1721b3ce6c9a518cb2ca72738cd5ac3a65ac2dea9c25",
            1239448,
            overrides={"img_size": 28},
        ),
    ),
    cite_note="Cite Park & Kim 2022 and Yang et al. 2019. The layer is written for images from "
    "scratch in "
    "the style of vit-pytorch and CvT. It is not ConViT: that is convit_* (d'Ascoli et al. 2021).",
)
