"""AlexNet: sizes, licences, original names."""

from __future__ import annotations

from ._hdvw import CNN_KEYWORDS, cnn_aliases, hdvw_family

FAMILY = hdvw_family(
    name="alexnet",
    builder="alexnet:AlexNet",
    goldens=("hdvw alexnet",),
    convolutional=True,
    summary="AlexNet in its one-tower form, optionally with MC dropout or smoothing blocks",
    paper="arXiv:1404.5997",
    bibtex="""@article{krizhevsky2014one,
  title   = {One weird trick for parallelizing convolutional neural networks},
  author  = {Krizhevsky, Alex},
  journal = {arXiv preprint arXiv:1404.5997},
  year    = {2014}
}""",
    smoothing=True,
    variants={"alexnet": {}},
    descriptions={"alexnet": "AlexNet"},
    tiny={"num_classes": 7, "stem": False, "widths": (8, 12, 16, 16, 16), "mlp_dim": 32},
    aliases=cnn_aliases("alexnet", [""], stem=False),
    alias_keywords={**CNN_KEYWORDS, "sd": ""},
)
