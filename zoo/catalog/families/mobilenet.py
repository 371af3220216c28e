"""MobileNet v2: sizes, licences, original names."""

from __future__ import annotations

from ._hdvw import hdvw_family

FAMILY = hdvw_family(
    name="mobilenet",
    builder="mobilenet:MobileNetV2",
    goldens=("hdvw mobilenet",),
    convolutional=True,
    summary="MobileNet v2: inverted residuals with depth-wise convolutions",
    paper="arXiv:1801.04381",
    bibtex="""@inproceedings{sandler2018mobilenetv2,
  title     = {{MobileNetV2}: Inverted Residuals and Linear Bottlenecks},
  author    = {Sandler, Mark and Howard, Andrew and Zhu, Menglong and Zhmoginov, Andrey
               and Chen, Liang-Chieh},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2018}
}""",
    variants={"mobilenet": {}},
    descriptions={"mobilenet": "MobileNet v2, width 1.0"},
    tiny={"num_classes": 7, "width_mult": 0.1, "stem": False},
)
