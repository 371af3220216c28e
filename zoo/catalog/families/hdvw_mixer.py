"""MLP-Mixer of how-do-vits-work: sizes, licences, original names."""

from __future__ import annotations

from ._hdvw import TOKEN_KEYWORDS, hdvw_family, token_aliases

_SHORT = {"ti": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge"}

# channel has no effect there, the Mixer calls it channels
_KEYWORDS = {
    **TOKEN_KEYWORDS,
    "channel": "",
    "channels": "in_chans",
    "hidden_dim": "embed_dim",
    "spatial_dim": "token_dim",
}


def _size(depth: int, dim: int) -> dict[str, int]:
    return {"embed_dim": dim, "depth": depth, "token_dim": dim // 2, "channel_dim": 4 * dim}


FAMILY = hdvw_family(
    name="hdvw_mixer",
    builder="hdvw_mixer:MLPMixer",
    goldens=("hdvw mixer",),
    summary="MLP-Mixer of how-do-vits-work",
    paper="arXiv:2105.01601",
    bibtex="""@inproceedings{tolstikhin2021mlpmixer,
  title     = {{MLP-Mixer}: An all-{MLP} Architecture for Vision},
  author    = {Tolstikhin, Ilya and Houlsby, Neil and Kolesnikov, Alexander and Beyer, Lucas
               and Zhai, Xiaohua and Unterthiner, Thomas and Yung, Jessica and Steiner, Andreas
               and Keysers, Daniel and Uszkoreit, Jakob and Lucic, Mario and Dosovitskiy, Alexey},
  booktitle = {Advances in Neural Information Processing Systems (NeurIPS)},
  year      = {2021}
}""",
    variants={
        "hdvw_mixer_tiny": _size(8, 256),
        "hdvw_mixer_small": _size(8, 512),
        "hdvw_mixer_base": _size(12, 768),
        "hdvw_mixer_large": _size(24, 1024),
        "hdvw_mixer_huge": _size(32, 1280),
    },
    descriptions={f"hdvw_mixer_{size}": f"Mixer-{size}, patch 16" for size in _SHORT.values()},
    tiny={
        "img_size": 32,
        "patch_size": 8,
        "num_classes": 7,
        "embed_dim": 24,
        "depth": 2,
        "token_dim": 12,
        "channel_dim": 48,
    },
    aliases=token_aliases("mixer", _SHORT),
    alias_keywords=_KEYWORDS,
    not_exportable={
        "dynamic-size": "its token mixing is a matrix over a fixed number of patches; "
        "build it with another img_size"
    },
)
