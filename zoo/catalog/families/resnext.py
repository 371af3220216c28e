"""ResNeXt: sizes, licences, original names."""

from __future__ import annotations

from ._hdvw import CNN_KEYWORDS, cnn_aliases, hdvw_family, resnet_sizes

FAMILY = hdvw_family(
    name="resnext",
    builder="resnet:ResNet",
    goldens=("hdvw resnext",),
    convolutional=True,
    summary="residual network with grouped bottlenecks",
    paper="arXiv:1611.05431",
    bibtex="""@inproceedings{xie2017aggregated,
  title     = {Aggregated Residual Transformations for Deep Neural Networks},
  author    = {Xie, Saining and Girshick, Ross and Doll{\\'a}r, Piotr and Tu, Zhuowen
               and He, Kaiming},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2017}
}""",
    smoothing=True,
    variants={
        **resnet_sizes("resnext", (50,), groups=32, width_per_group=4),
        **resnet_sizes("resnext", (101,), groups=32, width_per_group=8),
    },
    descriptions={"resnext_50": "ResNeXt-50 (32 x 4d)", "resnext_101": "ResNeXt-101 (32 x 8d)"},
    tiny={
        "num_classes": 7,
        "num_blocks": (1, 2, 1, 1),
        "widths": (8, 12, 16, 24),
        "stem": False,
        "bottleneck": True,
        "groups": 4,
        "width_per_group": 32,
    },
    aliases=cnn_aliases("resnext", (50, 101), stem=False),
    alias_keywords={**CNN_KEYWORDS, "sd": "drop_path_rate"},
)
