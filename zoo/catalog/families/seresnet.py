"""SE-ResNet: sizes, licences, original names."""

from __future__ import annotations

from ._hdvw import CNN_KEYWORDS, cnn_aliases, hdvw_family, resnet_sizes

FAMILY = hdvw_family(
    name="seresnet",
    builder="resnet:ResNet",
    goldens=("hdvw seresnet",),
    convolutional=True,
    summary="residual network with squeeze-and-excitation gates",
    paper="arXiv:1709.01507",
    bibtex="""@inproceedings{hu2018squeeze,
  title     = {Squeeze-and-Excitation Networks},
  author    = {Hu, Jie and Shen, Li and Sun, Gang},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2018}
}""",
    smoothing=True,
    variants=resnet_sizes("seresnet", (18, 34, 50, 101, 152), gate="se"),
    descriptions={f"seresnet_{depth}": f"SE-ResNet-{depth}" for depth in (18, 34, 50, 101, 152)},
    tiny={
        "num_classes": 7,
        "num_blocks": (1, 2, 1, 1),
        "widths": (8, 12, 16, 24),
        "stem": False,
        "bottleneck": True,
        "gate": "se",
        "reduction": 4,
    },
    aliases=cnn_aliases("seresnet", (18, 34, 50, 101, 152), stem=False),
    alias_keywords={**CNN_KEYWORDS, "sd": "drop_path_rate"},
)
