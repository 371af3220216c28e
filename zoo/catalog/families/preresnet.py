"""Pre-activation ResNet: sizes, licences, original names."""

from __future__ import annotations

from ._hdvw import CNN_KEYWORDS, cnn_aliases, hdvw_family, resnet_sizes

FAMILY = hdvw_family(
    name="preresnet",
    builder="resnet:ResNet",
    goldens=("hdvw preresnet",),
    convolutional=True,
    summary="residual network with BatchNorm and ReLU before every convolution (pre-activation)",
    paper="arXiv:1603.05027",
    bibtex="""@inproceedings{he2016identity,
  title     = {Identity Mappings in Deep Residual Networks},
  author    = {He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year      = {2016}
}""",
    smoothing=True,
    variants=resnet_sizes("preresnet", (18, 34, 50, 101, 152), preact=True),
    descriptions={
        f"preresnet_{depth}": f"pre-activation ResNet-{depth}" for depth in (18, 34, 50, 101, 152)
    },
    tiny={
        "num_classes": 7,
        "num_blocks": (1, 2, 1, 1),
        "widths": (8, 12, 16, 24),
        "stem": False,
        "bottleneck": True,
        "preact": True,
    },
    aliases=cnn_aliases("preresnet", (18, 34, 50, 101, 152), stem=False),
    alias_keywords={**CNN_KEYWORDS, "sd": "drop_path_rate"},
)
