"""Wide ResNet: sizes, licences, original names."""

from __future__ import annotations

from ._hdvw import CNN_KEYWORDS, cnn_aliases, hdvw_family, resnet_sizes

FAMILY = hdvw_family(
    name="wideresnet",
    builder="resnet:ResNet",
    goldens=("hdvw wideresnet",),
    convolutional=True,
    summary="residual network with bottlenecks twice as wide",
    paper="arXiv:1605.07146",
    bibtex="""@inproceedings{zagoruyko2016wide,
  title     = {Wide Residual Networks},
  author    = {Zagoruyko, Sergey and Komodakis, Nikos},
  booktitle = {British Machine Vision Conference (BMVC)},
  year      = {2016}
}""",
    smoothing=True,
    variants=resnet_sizes("wideresnet", (50, 101), width_per_group=128),
    descriptions={"wideresnet_50": "Wide ResNet-50-2", "wideresnet_101": "Wide ResNet-101-2"},
    tiny={
        "num_classes": 7,
        "num_blocks": (1, 2, 1, 1),
        "widths": (8, 12, 16, 24),
        "stem": False,
        "bottleneck": True,
        "width_per_group": 128,
    },
    aliases=cnn_aliases("wideresnet", (50, 101), stem=False),
    alias_keywords={**CNN_KEYWORDS, "sd": "drop_path_rate"},
)
