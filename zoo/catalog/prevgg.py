"""Pre-activation VGG: sizes, licences, original names."""

from ..records import Family
from ._hdvw import BLURS, CITE_NOTE, CNN_KEYWORDS, INPUT, LICENCE, PARK_KIM, UPSTREAM, cnn_aliases

_BLOCKS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}

FAMILY = Family(
    name="prevgg",
    builder="vgg:VGG",
    summary="VGG with BatchNorm and ReLU before every convolution (pre-activation)",
    paper="arXiv:1409.1556",
    bibtex="""@inproceedings{simonyan2015very,
  title     = {Very Deep Convolutional Networks for Large-Scale Image Recognition},
  author    = {Simonyan, Karen and Zisserman, Andrew},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year      = {2015}
}"""
    + PARK_KIM
    + BLURS,
    upstream=UPSTREAM,
    licence=LICENCE,
    input=INPUT,
    variants={
        f"prevgg_{depth}": {"num_blocks": blocks, "preact": True}
        for depth, blocks in _BLOCKS.items()
    },
    descriptions={f"prevgg_{depth}": f"pre-activation VGG-{depth}" for depth in _BLOCKS},
    tiny={
        "num_classes": 7,
        "num_blocks": (1, 1, 2, 1, 1),
        "widths": (8, 12, 16, 16, 16),
        "mlp_dim": 32,
        "preact": True,
    },
    aliases=cnn_aliases("prevgg", _BLOCKS),
    alias_keywords={**CNN_KEYWORDS, "sd": ""},
    cite_note=CITE_NOTE,
)
