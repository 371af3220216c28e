"""What the families of how-do-vits-work share: licence, input, citations, original names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..records import Family, Licence
from ..weights_records import CheckpointRecord, InputSpec

Aliases = dict[str, tuple[str, Mapping[str, Any]]]

_PARK_KIM = """
@inproceedings{park2022how,
  title     = {How Do Vision Transformers Work?},
  author    = {Park, Namuk and Kim, Songkuk},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year      = {2022}
}"""
_BLURS = """
@inproceedings{park2022blurs,
  title     = {Blurs Behave Like Ensembles: Spatial Smoothings to Improve Accuracy, Uncertainty,
               and Robustness},
  author    = {Park, Namuk and Kim, Songkuk},
  booktitle = {Proceedings of the 39th International Conference on Machine Learning (ICML)},
  year      = {2022}
}"""

_CITE_NOTE = (
    "Cite the architecture's own paper, Park & Kim's How Do Vision Transformers Work? for this "
    "form and the comparison, their Blurs Behave Like Ensembles for smoothing blocks."
)


def hdvw_family(*, bibtex: str, smoothing: bool = False, **facts: Any) -> Family:
    """A family with what all of them have in common; `smoothing` adds a citation."""
    return Family(
        bibtex=bibtex + _PARK_KIM + (_BLURS if smoothing else ""),
        upstream=_UPSTREAM,
        licence=Licence(code="Apache-2.0", weights="Apache-2.0"),
        input=InputSpec(interpolation="bilinear"),
        cite_note=_CITE_NOTE,
        **facts,
    )


_UPSTREAM = "github.com/xxxnell/how-do-vits-work"
_RELEASE = "https://github.com/xxxnell/how-do-vits-work-storage/releases/download/v0.1/"


def cifar100_checkpoint(model: str, file: str, **facts: Any) -> CheckpointRecord:
    """A checkpoint of the original repository's release v0.1, for 32 x 32 images."""
    overrides = facts.pop("overrides", {})
    return CheckpointRecord(
        model=model,
        tag="hdvw_cifar100",
        address=_RELEASE + file,
        upstream=_UPSTREAM,
        overrides={"num_classes": 100, **overrides},
        input=InputSpec(
            size=(32, 32),
            mean=(0.5071, 0.4867, 0.4408),
            std=(0.2675, 0.2565, 0.2761),
            interpolation="bilinear",
            crop_pct=1.0,
        ),
        dataset="CIFAR-100",
        licence="Apache-2.0",
        **facts,
    )


_VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "_dnn": {},
    "_mcdo": {"block": "mcdo"},
    "_dnn_smoothing": {"smoothing": True},
    "_mcdo_smoothing": {"block": "mcdo", "smoothing": True},
}
# keyword of the original's get_model -> ours; empty: it has no effect there
CNN_KEYWORDS = {"rate": "mc_rate", "num_sblocks": "smoothing", "image_size": "", "verbose": ""}
TOKEN_KEYWORDS = {
    "image_size": "img_size",
    "channel": "in_chans",
    "dim": "embed_dim",
    "dims": "embed_dims",
    "heads": "num_heads",
    "dim_head": "head_dim",
    "dims_head": "head_dims",
    "dim_mlp": "mlp_dim",
    "dims_mlp": "mlp_dims",
    "dropout": "drop_rate",
    "emb_dropout": "pos_drop_rate",
    "sd": "drop_path_rate",
    "stem": "",
    "verbose": "",
}


def cnn_aliases(family: str, depths: Iterable[int | str], **defaults: Any) -> Aliases:
    """Five original names for each depth, with get_model's default of 10 classes."""
    return {
        f"hdvw:{family}{variant}{_suffix(depth)}": (
            f"{family}{_suffix(depth)}",
            {"num_classes": 10, **defaults, **overrides},
        )
        for depth in depths
        for variant, overrides in _VARIANTS.items()
    }


def _suffix(depth: int | str) -> str:
    return f"_{depth}" if depth else ""


def token_aliases(family: str, sizes: Mapping[str, str]) -> Aliases:
    """One original name for each size (short -> ours), with get_model's default of 10 classes."""
    return {
        f"hdvw:{family}_{short}": (f"hdvw_{family}_{size}", {"num_classes": 10})
        for short, size in sizes.items()
    }


_RESNET_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def resnet_sizes(family: str, depths: Iterable[int], **config: Any) -> dict[str, dict[str, Any]]:
    """The usual depths of a ResNet: basic blocks up to 34, bottlenecks above."""
    return {
        f"{family}_{depth}": {
            "num_blocks": _RESNET_BLOCKS[depth],
            "bottleneck": depth >= 50,
            **config,
        }
        for depth in depths
    }
