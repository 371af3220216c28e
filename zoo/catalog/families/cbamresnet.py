"""CBAM-ResNet: sizes, licences, original names."""

from __future__ import annotations

from ._hdvw import CNN_KEYWORDS, cnn_aliases, hdvw_family, resnet_sizes

FAMILY = hdvw_family(
    name="cbamresnet",
    builder="resnet:ResNet",
    goldens=("hdvw cbamresnet",),
    convolutional=True,
    summary="residual network with channel and spatial attention gates",
    paper="arXiv:1807.06521",
    bibtex="""@inproceedings{woo2018cbam,
  title     = {{CBAM}: Convolutional Block Attention Module},
  author    = {Woo, Sanghyun and Park, Jongchan and Lee, Joon-Young and Kweon, In So},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year      = {2018}
}""",
    smoothing=True,
    variants=resnet_sizes("cbamresnet", (18, 34, 50, 101, 152), gate="cbam"),
    descriptions={
        f"cbamresnet_{depth}": f"CBAM-ResNet-{depth}" for depth in (18, 34, 50, 101, 152)
    },
    tiny={
        "num_classes": 7,
        "num_blocks": (1, 2, 1, 1),
        "widths": (8, 12, 16, 24),
        "stem": False,
        "gate": "cbam",
        "reduction": 4,
    },
    aliases=cnn_aliases("cbamresnet", (18, 34, 50, 101, 152), stem=False),
    alias_keywords={**CNN_KEYWORDS, "sd": "drop_path_rate"},
)
