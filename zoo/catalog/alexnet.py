"""AlexNet: sizes, licences, original names."""

from ..records import Family
from ._hdvw import BLURS, CITE_NOTE, CNN_KEYWORDS, INPUT, LICENCE, PARK_KIM, UPSTREAM, cnn_aliases

FAMILY = Family(
    name="alexnet",
    builder="alexnet:AlexNet",
    summary="AlexNet in its one-tower form, optionally with MC dropout or smoothing blocks",
    paper="arXiv:1404.5997",
    bibtex="""@article{krizhevsky2014one,
  title   = {One weird trick for parallelizing convolutional neural networks},
  author  = {Krizhevsky, Alex},
  journal = {arXiv preprint arXiv:1404.5997},
  year    = {2014}
}"""
    + PARK_KIM
    + BLURS,
    upstream=UPSTREAM,
    licence=LICENCE,
    input=INPUT,
    variants={"alexnet": {}},
    descriptions={"alexnet": "AlexNet"},
    tiny={"num_classes": 7, "stem": False, "widths": (8, 12, 16, 16, 16), "mlp_dim": 32},
    aliases=cnn_aliases("alexnet", [""], stem=False),
    alias_keywords={**CNN_KEYWORDS, "sd": ""},
    cite_note=CITE_NOTE,
)
