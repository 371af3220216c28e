"""Vision transformer of how-do-vits-work: sizes, licences, original names."""

from __future__ import annotations

from ._hdvw import TOKEN_KEYWORDS, hdvw_family, token_aliases
from ._trained import NANO_INPUT, digits_weights, fashion_mnist_weights

_SHORT = {"ti": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge"}


def _size(depth: int, dim: int, heads: int, head_dim: int = 64) -> dict[str, int]:
    return {
        "embed_dim": dim,
        "depth": depth,
        "num_heads": heads,
        "head_dim": head_dim,
        "mlp_dim": 4 * dim,
    }


FAMILY = hdvw_family(
    name="hdvw_vit",
    builder="hdvw_vit:VisionTransformer",
    goldens=("hdvw vit",),
    summary="vision transformer of how-do-vits-work",
    paper="arXiv:2010.11929",
    bibtex="""@inproceedings{dosovitskiy2021image,
  title     = {An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale},
  author    = {Dosovitskiy, Alexey and Beyer, Lucas and Kolesnikov, Alexander and Weissenborn, Dirk
               and Zhai, Xiaohua and Unterthiner, Thomas and Dehghani, Mostafa
               and Minderer, Matthias and Heigold, Georg and Gelly, Sylvain and Uszkoreit, Jakob
               and Houlsby, Neil},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year      = {2021}
}""",
    variants={
        "hdvw_vit_nano": {
            "img_size": 32,
            "patch_size": 4,
            "num_classes": 10,
            **_size(4, 96, 3, head_dim=32),
            "mlp_dim": 192,
        },
        "hdvw_vit_tiny": _size(12, 192, 3),
        "hdvw_vit_small": _size(12, 384, 6),
        "hdvw_vit_base": _size(12, 768, 12),
        "hdvw_vit_large": _size(24, 1024, 16),
        "hdvw_vit_huge": _size(32, 1280, 16, head_dim=80),
    },
    descriptions={
        "hdvw_vit_nano": "our own small ViT for 32 x 32 images",
        **{f"hdvw_vit_{size}": f"ViT-{size}, patch 16" for size in _SHORT.values()},
    },
    inputs={"hdvw_vit_nano": NANO_INPUT},
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
            "hdvw_vit_nano",
            "1.0.0",
            "5f4aeebe86637ad894940fa3093b554d7cb260e8660c50867050f22d2a5d87d4",
            1245592,
            recipe="digits",
            seed=0,
        ),
        fashion_mnist_weights(
            "hdvw_vit_nano",
            "1.0.0",
            "4c4f92e93cb8c4e996028f8282bc6537ffa6030696c780b3e7439ee9b0907e6c",
            1239832,
            overrides={"img_size": 28},
        ),
    ),
    aliases=token_aliases("vit", _SHORT),
    alias_keywords=TOKEN_KEYWORDS,
)
