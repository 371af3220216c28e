"""What a card says of the data sets that weights are trained on: identifier, use, limits."""

from __future__ import annotations

from dataclasses import dataclass

from zoo import PretrainedCfg
from zoo.labels import list_name


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """A data set.

    Args:
        name: as in a sentence.
        hub_id: its repository on the Hub, for metadata.
        task: identifier of the task there.
        prefixes: beginnings of the names under which results on it are kept.
        split: whose division into parts results refer to, for notes.
        about: what the images are, and whose.
        use: what a model trained on them is for.
        limits: where it fails or says nothing.
    """

    name: str
    hub_id: str
    task: str
    prefixes: tuple[str, ...]
    split: str
    about: str
    use: str
    limits: tuple[str, ...]


_EVERY = "It answers every image with one of its classes: it does not know 'none of these'."

DATA = {
    "digits": DataFacts(
        name="scikit-learn's handwritten digits",
        hub_id="sklearn-docs/digits",
        task="digits",
        prefixes=("digits/",),
        split="convattn-zoo's split by content",
        about="1,797 scans of 8 x 8 pixels, written by 13 people: the test part of E. Alpaydin and "
        "C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, "
        "1998, doi:10.24432/C50P49, CC BY 4.0. Each class is ordered by the SHA-256 of its scans: "
        "a fifth is the test part, a fifth validation, the rest training.",
        use="Trying the zoo: small enough to train in minutes, real enough to compare attention "
        "layers, calibration and exported files on.",
        limits=(
            "One centred digit, light on dark, drawn like the scans. Photographs, pages, other "
            "scripts and dark digits on light paper are outside.",
            "The parts share their writers, so the figures say nothing about new handwriting.",
            _EVERY,
        ),
    ),
    "imagenet1k": DataFacts(
        name="ImageNet-1k",
        hub_id="ILSVRC/imagenet-1k",
        task="image-classification",
        prefixes=("ImageNet-1k", "imagenet"),
        split="the official validation part",
        about="1.28 million training and 50,000 validation photographs of ILSVRC 2012 in 1,000 "
        "classes (Russakovsky et al., arXiv:1409.0575). Its terms allow non-commercial research; "
        "what they mean for weights trained on it is disputed.",
        use="Classifying photographs into the 1,000 classes of ILSVRC 2012, and features for other "
        "tasks: give `num_classes=` for a new head.",
        limits=(
            "Photographs from the web of before 2012, most of them from North America and Europe "
            "(Shankar et al., arXiv:1711.08536), with one label each where several may be right.",
            "Not for decisions about people, whom many of its photographs show.",
            _EVERY,
        ),
    ),
}


def data_of(cfg: PretrainedCfg) -> DataFacts | None:
    """The data set whose classes a model has, if it is one of ours."""
    return DATA.get(list_name(cfg.labels))
