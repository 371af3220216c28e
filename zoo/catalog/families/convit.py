"""ConViT (GPSA): sizes, licences, weights."""

from __future__ import annotations

from ..records import Family, Licence
from ..weights_records import CheckpointRecord, Metric, WeightsRecord
from ._trained import NANO_INPUT, digits_weights, fashion_mnist_weights

_HEAD_DIM = {
    "tiny": 48,
    "small": 48,
    "base": 48,
    "tiny_plus": 64,
    "small_plus": 64,
    "base_plus": 64,
}
_HEADS = {"tiny": 4, "small": 9, "base": 16}

# size -> (top-1, top-5), percent on ImageNet-1k: as published, and as timm measured them again
_PAPER = {"tiny": (73.1, 91.7), "small": (81.3, 95.7), "base": (82.4, 95.9)}
_TIMM = {"tiny": (73.140, 91.704), "small": (81.412, 95.740), "base": (82.296, 95.936)}


def _metrics(values: tuple[float, float], source: str) -> tuple[Metric, ...]:
    names = ("acc1_percent", "acc5_percent")
    return tuple(
        Metric(name=name, value=value, dataset="ImageNet-1k validation", source=source)
        for name, value in zip(names, values, strict=True)
    )


def _hub(size: str) -> WeightsRecord:
    """timm's copy of the published weights; its digest was never seen."""
    return WeightsRecord(
        model=f"convit_{size}",
        tag="fb_in1k",
        version="1.0.0",
        repo=f"timm/convit_{size}.fb_in1k",
        pinned_on_first_use=True,
        architecture_versions=(1,),
        labels="imagenet1k",
        dataset="ImageNet-1k",
        metrics=_metrics(_TIMM[size], "timm, results/*.csv, crop 0.875"),
        url=_original(size),
    )


def _file(size: str) -> CheckpointRecord:
    """The file that the authors published."""
    return CheckpointRecord(
        model=f"convit_{size}",
        tag="fb_in1k",
        address=_original(size),
        dataset="ImageNet-1k",
        metrics=_metrics(_PAPER[size], "arXiv:2103.10697, table 1"),
    )


def _original(size: str) -> str:
    return f"https://dl.fbaipublicfiles.com/convit/convit_{size}.pth"


FAMILY = Family(
    name="convit",
    builder="convit:ConViT",
    goldens=("ConViT", "ConViT layers", "ConViT init"),
    summary="vision transformer with gated positional self-attention (GPSA)",
    paper="arXiv:2103.10697",
    bibtex="""@inproceedings{dascoli2021convit,
  title     = {ConViT: Improving Vision Transformers with Soft Convolutional Inductive Biases},
  author    = {d'Ascoli, St{\\'e}phane and Touvron, Hugo and Leavitt, Matthew L. and Morcos, Ari S.
               and Biroli, Giulio and Sagun, Levent},
  booktitle = {Proceedings of the 38th International Conference on Machine Learning (ICML)},
  year      = {2021}
}""",
    upstream="github.com/facebookresearch/convit",
    licence=Licence(
        code="Apache-2.0",
        weights="Apache-2.0",
        note="Upstream's LICENSE and README say Apache-2.0, the headers of its convit.py and "
        "models.py "
        "CC-BY-NC. This implementation is written from the paper; ours is Apache-2.0.",
    ),
    variants={
        "convit_nano": {
            "img_size": 32,
            "patch_size": 4,
            "num_classes": 10,
            "embed_dim": 96,
            "depth": 4,
            "num_heads": 4,
            "mlp_ratio": 2.0,
            "local_up_to_layer": 3,
        },
        **{
            f"convit_{size}": {
                "embed_dim": _HEAD_DIM[size] * _HEADS[size.removesuffix("_plus")],
                "num_heads": _HEADS[size.removesuffix("_plus")],
            }
            for size in _HEAD_DIM
        },
    },
    descriptions={"convit_nano": "our own small ConViT for 32 x 32 images"},
    inputs={"convit_nano": NANO_INPUT},
    tiny={
        "img_size": 32,
        "patch_size": 8,
        "num_classes": 7,
        "embed_dim": 32,
        "depth": 3,
        "num_heads": 4,
        "mlp_ratio": 2.0,
        "local_up_to_layer": 2,
    },
    weights=(
        digits_weights(
            "convit_nano",
            "1.1.0",
            "cccbf7e07c0361daed95477bf84efca23d27dbd23fbe0563b994eb84ad04c3c2",
            1246128,
            recipe="digits",
            seed=1,
        ),
        digits_weights(
            "convit_nano",
            "1.0.0",
            "1a7b70aa1cb1c1496491d00deb41c6e1d17845ebec35d33d838e827d174b45d6",
            1246128,
        ),
        fashion_mnist_weights(
            "convit_nano",
            "1.0.0",
            "6104aed97c3bc491f43fb473096b86900a768e590d73eb0b92ad942e530c5f14",
            1240368,
            overrides={"img_size": 28},
        ),
        *(_hub(size) for size in _TIMM),
    ),
    checkpoints=tuple(_file(size) for size in _PAPER),
    cite_note="Cite d'Ascoli et al. for GPSA. how-do-vits-work's network called convit is "
    "conv_attention_vit_* here and has other authors.",
)
