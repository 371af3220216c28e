"""The data sets that the zoo knows by name: the only place where their facts are written."""

from __future__ import annotations

from collections.abc import Mapping

from .records import DataRecord

_EVERY = "It answers every image with one of its classes: it does not know 'none of these'."
_BY_CONTENT = "convattn-zoo's split by content"

_ALL = (
    DataRecord(
        name="digits",
        title="scikit-learn's handwritten digits",
        labels=tuple(str(digit) for digit in range(10)),
        licence="CC BY 4.0",
        citation="doi:10.24432/C50P49",
        hub_id="sklearn-docs/digits",
        task="digits",
        results=("digits/",),
        split=_BY_CONTENT,
        parts={"train": 1069, "validation": 364, "test": 364},
        recipe="digits",
        opens_by_name=True,
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
    DataRecord(
        name="fashion_mnist",
        title="Fashion-MNIST",
        labels=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        licence="MIT",
        citation="arXiv:1708.07747",
        hub_id="zalando-datasets/fashion_mnist",
        results=("fashion_mnist/",),
        split="the official test part",
        parts={"train": 50_000, "validation": 10_000, "test": 10_000},
        recipe="fashion_mnist",
        opens_by_name=True,
        digests={
            "train/images": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
            "train/labels": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
            "test/images": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
            "test/labels": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
        },
        about="70,000 grey pictures of 28 x 28 pixels of an online shop's articles in ten classes, "
        "(c) 2017 Zalando SE, MIT (Xiao, Rasul and Vollgraf, arXiv:1708.07747). The test part is "
        "the official one; validation is a sixth of every training class, chosen by the SHA-256 of "
        "the pixels.",
        use="Comparing small networks on a benchmark that others report, and a start for training "
        "on small grey pictures of your own.",
        limits=(
            "One centred article, light on black, without a person or a background. Photographs "
            "are outside.",
            "Some of its labels are arguable (shirt, T-shirt, pullover, coat): people reach 83.5 % "
            "by the authors' count.",
            _EVERY,
        ),
    ),
    DataRecord(
        name="imagenet1k",
        title="ImageNet-1k",
        citation="arXiv:1409.0575",
        hub_id="ILSVRC/imagenet-1k",
        results=("ImageNet-1k", "imagenet"),
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
)
DATA_SETS: Mapping[str, DataRecord] = {record.name: record for record in _ALL}
BY_NAME = tuple(record.name for record in _ALL if record.opens_by_name)
