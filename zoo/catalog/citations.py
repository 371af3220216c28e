"""Whom to cite for which layer: the entries beside a family's own, and why. No torch.

The question of xxxnell/how-do-vits-work, "where does ConViT come from, really?", answered layer by
layer. Entries that a family of the catalogue already has are taken from there.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from ..errors import ConfigError
from .records import ModelRecord
from .registry import families

_KEY = re.compile(r"@\w+\{([^,\s]+),")

_FURTHER = """@inproceedings{wu2021cvt,
  title     = {{CvT}: Introducing Convolutions to Vision Transformers},
  author    = {Wu, Haiping and Xiao, Bin and Codella, Noel and Liu, Mengchen and Dai, Xiyang
               and Yuan, Lu and Zhang, Lei},
  booktitle = {IEEE/CVF International Conference on Computer Vision (ICCV)},
  year      = {2021}
}
@misc{wang2020vitpytorch,
  title        = {vit-pytorch},
  author       = {Wang, Phil},
  howpublished = {github.com/lucidrains/vit-pytorch},
  year         = {2020}
}
@inproceedings{vaswani2017attention,
  title     = {Attention Is All You Need},
  author    = {Vaswani, Ashish and Shazeer, Noam and Parmar, Niki and Uszkoreit, Jakob
               and Jones, Llion and Gomez, Aidan N. and Kaiser, {\\L}ukasz and Polosukhin, Illia},
  booktitle = {Advances in Neural Information Processing Systems (NeurIPS)},
  year      = {2017}
}"""


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where a layer comes from.

    Args:
        layer: class name in `zoo.layers`.
        family: of the catalogue, whose models are built of it.
        what: it computes, in a sentence.
        origin: who proposed it, and whose code its numbers follow.
        keys: BibTeX entries to cite for it, the first one first.
        contrast: what it is taken for and is not.
    """

    layer: str
    family: str
    what: str
    origin: str
    keys: tuple[str, ...]
    contrast: str = ""


LAYERS = (
    Lineage(
        layer="GatedPositionalSelfAttention",
        family="convit",
        what="GPSA: each head blends attention by content with attention by relative position, "
        "through a learned gate.",
        origin="d'Ascoli et al. 2021, and their facebookresearch/convit. Heads start as a "
        "convolution; no convolution is computed.",
        contrast="Neither the ConvAttention2d that how-do-vits-work keeps in a file called "
        "convit.py, nor CvT, whose q, k and v come from convolutions.",
        keys=("dascoli2021convit",),
    ),
    Lineage(
        layer="ConvAttention2d",
        family="conv_attention_vit",
        what="Every pixel attends to the k x k pixels around it.",
        origin="Convolutional SANs (Yang et al. 2019) have the window, for sentences; Park & Kim "
        "2022 wrote this form for images from scratch, in the style of vit-pytorch, with key and "
        "value from one convolution as in its CvT.",
        contrast="Not the ConViT of d'Ascoli et al.: no gate, no positional attention. CvT's own "
        "attention is global.",
        keys=("park2022how", "yang2019convolutional", "wang2020vitpytorch", "wu2021cvt"),
    ),
    Lineage(
        layer="LocalAttention",
        family="alternet",
        what="Multi-head attention inside square windows of a map, with relative positions.",
        origin="Park & Kim 2022 for AlterNet; their Attention2d is vit-pytorch's CvT attention "
        "with two convolutions for q, k and v, the windows and positions are Swin's without "
        "shifts.",
        contrast="Not ConvAttention2d: windows are tiles here, not neighbourhoods of each pixel.",
        keys=("park2022how", "wang2020vitpytorch", "wu2021cvt", "liu2021swin"),
    ),
    Lineage(
        layer="ConvolutionalSelfAttention",
        family="csan_encoder",
        what="Each token attends to a window of tokens and of neighbouring heads.",
        origin="Yang et al. 2019, and their Context-Aware-SAN. They translate sentences; the image "
        "encoder around it is ours.",
        contrast="Its window runs along the sequence (kind='1d') or over the heads as well "
        "(kind='2d'); the window over the two axes of an image is ConvAttention2d.",
        keys=("yang2019convolutional",),
    ),
    Lineage(
        layer="GlobalContext",
        family="fcvit",
        what="One context vector for all tokens; each token takes as much of it as it resembles "
        "the average token.",
        origin="Ma et al. 2022, and their ma-xu/FCViT.",
        contrast="It is no attention: no query is compared with any key.",
        keys=("ma2022close",),
    ),
    Lineage(
        layer="Attention1d",
        family="hdvw_vit",
        what="Plain multi-head self-attention on tokens.",
        origin="Vaswani et al. 2017, as in ViT (Dosovitskiy et al. 2021); the code that Park & Kim "
        "2022 compare with follows vit-pytorch.",
        keys=("vaswani2017attention", "dosovitskiy2021image", "park2022how", "wang2020vitpytorch"),
    ),
    Lineage(
        layer="WindowAttention",
        family="hdvw_swin",
        what="Multi-head attention inside windows that shift from block to block.",
        origin="Swin (Liu et al. 2021), as Park & Kim 2022 simplify it: one position table for all "
        "heads.",
        keys=("liu2021swin", "park2022how"),
    ),
)


def lineage_of(record: ModelRecord) -> Lineage | None:
    """The lineage of the layer that a model is built of; None for one without attention."""
    return next((entry for entry in LAYERS if entry.family == record.family.name), None)


# kind of reference -> what to cite for a model that a library builds, beside the model's paper
LIBRARIES = {
    "timm": """@misc{wightman2019timm,
  title        = {PyTorch Image Models},
  author       = {Wightman, Ross},
  howpublished = {github.com/huggingface/pytorch-image-models},
  doi          = {10.5281/zenodo.4414861},
  year         = {2019}
}""",
    "torchvision": """@misc{torchvision2016,
  title        = {{TorchVision}: {PyTorch}'s Computer Vision library},
  author       = {{TorchVision maintainers and contributors}},
  howpublished = {github.com/pytorch/vision},
  year         = {2016}
}""",
    "hf": """@inproceedings{wolf2020transformers,
  title     = {Transformers: State-of-the-Art Natural Language Processing},
  author    = {Wolf, Thomas and Debut, Lysandre and Sanh, Victor and Chaumond, Julien and others},
  booktitle = {Conference on Empirical Methods in Natural Language Processing: System
               Demonstrations},
  pages     = {38--45},
  year      = {2020}
}""",
}


@functools.cache
def entries() -> dict[str, str]:
    """All BibTeX entries by key: those of the catalogue and the further ones."""
    found: dict[str, str] = {}
    for text in (*(family.bibtex for family in families().values()), _FURTHER):
        for entry in re.split(r"\n(?=@)", text.strip()):
            match = _KEY.match(entry)
            if match is not None:
                found.setdefault(match[1], entry)
    return found


def bibtex_of(record: ModelRecord) -> str:
    """Everything to cite for a model: the family's entries, then those of its layer.

    Raises: ConfigError (code "citation") if the catalogue names nothing, or a key without entry.
    """
    family = record.family
    own = [match[1] for match in _KEY.finditer(family.bibtex)]
    if not own:
        raise ConfigError(
            f"the family {family.name} has no BibTeX entry; add `bibtex` to its catalogue file",
            code="citation",
        )
    lineage = lineage_of(record)
    keys = dict.fromkeys((*own, *(lineage.keys if lineage else ())))
    unknown = [key for key in keys if key not in entries()]
    if unknown:
        raise ConfigError(
            f"no BibTeX entry for {', '.join(unknown)}; add it to a family's `bibtex` or here",
            code="citation",
        )
    return "\n".join(entries()[key] for key in keys)
