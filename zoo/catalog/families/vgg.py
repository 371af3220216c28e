"""VGG: sizes, licences, original names."""

from __future__ import annotations

from ._hdvw import CNN_KEYWORDS, cnn_aliases, hdvw_family

_BLOCKS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}

FAMILY = hdvw_family(
    name="vgg",
    builder="vgg:VGG",
    goldens=("hdvw vgg",),
    convolutional=True,
    summary="VGG with BatchNorm, optionally with MC dropout or smoothing blocks",
    paper="arXiv:1409.1556",
    bibtex="""@inproceedings{simonyan2015very,
  title     = {Very Deep Convolutional Networks for Large-Scale Image Recognition},
  author    = {Simonyan, Karen and Zisserman, Andrew},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year      = {2015}
}""",
    smoothing=True,
    variants={f"vgg_{depth}": {"num_blocks": blocks} for depth, blocks in _BLOCKS.items()},
    descriptions={f"vgg_{depth}": f"VGG-{depth} with BatchNorm" for depth in _BLOCKS},
    tiny={
        "num_classes": 7,
        "num_blocks": (1, 1, 2, 1, 1),
        "widths": (8, 12, 16, 16, 16),
        "mlp_dim": 32,
    },
    aliases=cnn_aliases("vgg", _BLOCKS),
    alias_keywords={**CNN_KEYWORDS, "sd": ""},
)
