"""Our small image encoder of convolutional self-attention (CSAN): sizes, licences."""

from __future__ import annotations

from ..records import Family, Licence
from ._trained import NANO_INPUT, digits_weights, fashion_mnist_weights

FAMILY = Family(
    name="csan_encoder",
    builder="csan_encoder:CSANEncoder",
    goldens=("CSAN",),
    summary="small image encoder of 1-D or 2-D convolutional self-attention (CSAN); our own",
    paper="arXiv:1904.03107",
    bibtex="""@inproceedings{yang2019convolutional,
  title     = {Convolutional Self-Attention Networks},
  author    = {Yang, Baosong and Wang, Longyue and Wong, Derek F. and Chao, Lidia S.
               and Tu, Zhaopeng},
  booktitle = {Proceedings of NAACL-HLT},
  year      = {2019}
}""",
    upstream="github.com/baosongyang/Context-Aware-SAN",
    licence=Licence(
        code="none stated",
        weights="Apache-2.0",
        note="Upstream has no licence file. This implementation is written from the paper and its "
        "formulas; ours is Apache-2.0.",
    ),
    variants={
        "csan_encoder_nano": {
            "img_size": 32,
            "patch_size": 4,
            "num_classes": 10,
            "embed_dim": 96,
            "depth": 4,
            "num_heads": 6,
            "mlp_ratio": 2.0,
            "kind": "2d",
            "local_layers": 3,
        },
    },
    descriptions={
        "csan_encoder_nano": "our own small encoder for 32 x 32 images, not a published model"
    },
    input=NANO_INPUT,
    tiny={
        "img_size": 32,
        "patch_size": 8,
        "num_classes": 7,
        "embed_dim": 32,
        "depth": 3,
        "num_heads": 4,
        "mlp_ratio": 2.0,
        "half_width": 2,
        "local_layers": 2,
    },
    weights=(
        digits_weights(
            "csan_encoder_nano",
            "1.0.0",
            "b17c60f8e9d391ed7fba6e36d8ba253239f1ecb9a95ee3d2cc06030eb600d9f0",
            1249344,
            recipe="digits",
            seed=0,
        ),
        fashion_mnist_weights(
            "csan_encoder_nano",
            "1.0.0",
            "d64f5b4864198beb963cf5f5a2d48f39aa4fcf7d81e04bc56e7475e9fec71fd6",
            1243584,
            overrides={"img_size": 28},
        ),
    ),
    cite_note="Cite Yang et al. for the attention. They apply it to text; the image encoder around "
    "it is ours and not a published result.",
)
