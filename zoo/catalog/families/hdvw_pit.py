"""Pooling-based vision transformer of how-do-vits-work: sizes, licences, original names."""

from __future__ import annotations

from ._hdvw import TOKEN_KEYWORDS, hdvw_family, token_aliases

_SHORT = {"ti": "tiny", "xs": "xsmall", "s": "small", "b": "base"}


def _size(dim: int, heads: int, head_dim: int, mlp: tuple[int, ...]) -> dict[str, object]:
    return {
        "embed_dims": (dim, 2 * dim, 4 * dim),
        "num_heads": (heads, 2 * heads, 4 * heads),
        "head_dims": (head_dim,) * 3,
        "mlp_dims": mlp,
    }


FAMILY = hdvw_family(
    name="hdvw_pit",
    builder="hdvw_pit:PoolingVisionTransformer",
    goldens=("hdvw pit",),
    summary="pooling-based vision transformer of how-do-vits-work",
    paper="arXiv:2103.16302",
    bibtex="""@inproceedings{heo2021rethinking,
  title     = {Rethinking Spatial Dimensions of Vision Transformers},
  author    = {Heo, Byeongho and Yun, Sangdoo and Han, Dongyoon and Chun, Sanghyuk and Choe, Junsuk
               and Oh, Seong Joon},
  booktitle = {IEEE/CVF International Conference on Computer Vision (ICCV)},
  year      = {2021}
}""",
    variants={
        "hdvw_pit_tiny": _size(64, 2, 32, (256, 512, 1024)),
        "hdvw_pit_xsmall": _size(96, 2, 48, (384, 768, 1024)),
        "hdvw_pit_small": _size(144, 3, 48, (576, 1152, 2304)),
        "hdvw_pit_base": {
            **_size(256, 4, 64, (256, 512, 1024)),
            "depths": (3, 6, 4),
            "stride": 7,
        },
    },
    descriptions={f"hdvw_pit_{size}": f"PiT-{size}" for size in _SHORT.values()},
    tiny={
        "img_size": 32,
        "patch_size": 4,
        "stride": 4,
        "num_classes": 7,
        "embed_dims": (16, 32, 64),
        "depths": (1, 2, 1),
        "num_heads": (1, 2, 4),
        "head_dims": (8, 8, 8),
        "mlp_dims": (32, 64, 96),
    },
    aliases=token_aliases("pit", _SHORT),
    alias_keywords=TOKEN_KEYWORDS,
)
