"""A model that is trained on meanwhile answers in eval mode, and comes back as it was; an image is
an image, however it is handed over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import zoo
from tests.contract.reading import ROOT
from zoo.analysis.noise import noise_study
from zoo.data.dataset import in_memory
from zoo.errors import ConfigError, ImageError, InputError
from zoo.evaluation.embeddings import write_embeddings
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.predictor import Predictor
from zoo.layers.mc_dropout import MCDropout, mc_sampling

SCAN = ROOT / "examples" / "digit_7.png"
SPEC = zoo.InputSpec(size=(8, 8))


class Net(nn.Module):
    """A norm with statistics, both dropouts, a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.drop, self.mc, self.head = nn.Dropout(0.5), MCDropout(0.5), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.mc(self.drop(self.norm(self.conv(x)).mean((2, 3)))))


def _pixels(count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def _logits(predictor: Predictor, _: Path) -> Any:
    return predictor.logits(_pixels())


def _embedded(predictor: Predictor, out: Path) -> Any:
    write_embeddings(predictor, SCAN.parent, ["digit_3.png", "digit_7.png"], out / "f.npz")
    return np.load(out / "f.npz")["features"]


def _evaluated(predictor: Predictor, _: Path) -> Any:
    data = in_memory("toy", ("a", "b", "c"), _pixels(), np.arange(6) % 3)
    return list(evaluate(predictor.logits, data, resamples=0).values.values())


def _noisy(predictor: Predictor, _: Path) -> Any:
    images = np.float32(_pixels().transpose(0, 3, 1, 2))
    found = noise_study(predictor.forward, images, np.arange(6) % 2)
    return [row["acc1_percent"] for row in found.rows()]


@pytest.mark.parametrize("mc_samples", [0, 2])
@pytest.mark.parametrize("ask", [_logits, _embedded, _evaluated, _noisy])
def test_a_model_in_training_answers_in_eval_mode(
    ask: Callable[[Predictor, Path], Any], mc_samples: int, tmp_path: Path
) -> None:
    model = Net()
    predictor = Predictor.from_model(model, mc_samples, input=SPEC)
    torch.manual_seed(1)
    expected = ask(predictor, tmp_path)
    model.train()
    model.drop.eval()  # a mixture of modes must survive
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(1)
    np.testing.assert_array_equal(ask(predictor, tmp_path), expected)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_embedding_leaves_the_mode_alone(tmp_path: Path) -> None:
    model = zoo.create_model("resnet_nano", num_classes=0, pretrained=True).train()
    model.eval()
    write_embeddings(model, SCAN.parent, [SCAN.name], tmp_path / "a.npz")
    model.train()
    write_embeddings(model, SCAN.parent, [SCAN.name], tmp_path / "b.npz")
    assert all(module.training for module in model.modules())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_forward_that_fails_leaves_the_mode_alone() -> None:
    model = Net()
    predictor = Predictor.from_model(model, input=SPEC)
    model.train()
    with pytest.raises(RuntimeError):
        predictor.forward(np.zeros((1, 4, 8, 8), np.float32))
    assert all(module.training for module in model.modules())


def test_a_thread_that_samples_leaves_the_others_alone() -> None:
    model = Net().eval()
    plain = Predictor.from_model(model, input=SPEC)
    expected, found = plain.logits(_pixels()), []
    with mc_sampling(model):
        thread = threading.Thread(target=lambda: found.append(plain.logits(_pixels())))
        thread.start()
        thread.join()
        assert not np.array_equal(plain.logits(_pixels()), expected)
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize(
    "one",
    [str(SCAN), SCAN, Image.open(SCAN), np.asarray(Image.open(SCAN).convert("RGB"))],
    ids=["text", "path", "picture", "array"],
)
def test_one_image_is_one(one: Any) -> None:
    predictor = Predictor.from_model(zoo.create_model("convit_nano", pretrained=True))
    assert [found.label for found in predictor.predict(one)] == ["7"]
    np.testing.assert_array_equal(predictor.logits(one), predictor.logits([one]))


def test_an_iterator_of_images_is_read_to_its_end() -> None:
    predictor = Predictor.from_model(zoo.create_model("convit_nano", pretrained=True))
    paths = sorted(SCAN.parent.glob("digit_*.png"))
    expected = predictor.predict(paths, batch_size=2)
    assert predictor.predict(iter(paths), batch_size=2) == expected
    assert predictor.predict({path: None for path in paths}, batch_size=2) == expected
    assert len(expected) == len(paths) > 2


class Pictures:
    """A data set as torch knows them: no slices, and the end is an IndexError."""

    def __getitem__(self, place: int) -> Image.Image:
        if place > 4:
            raise IndexError
        return Image.fromarray(_pixels(5)[place])


class CountedPictures(Pictures):
    def __len__(self) -> int:
        return 5


@pytest.mark.parametrize("images", [Pictures(), CountedPictures()])
def test_data_sets_that_know_no_slices_are_read_one_by_one(images: Pictures) -> None:
    predictor = Predictor.from_model(Net(), input=SPEC)
    expected = predictor.logits(_pixels(5), batch_size=2)
    np.testing.assert_array_equal(predictor.logits(images, batch_size=2), expected)


def test_arrays_of_several_images_are_several() -> None:
    predictor = Predictor.from_model(Net(), input=SPEC)
    assert predictor.logits(_pixels(5)).shape == (5, 3)
    assert predictor.logits(torch.from_numpy(_pixels(4)).permute(0, 3, 1, 2)).shape == (4, 3)
    assert predictor.logits(_pixels(5)[..., 0]).shape == (5, 3)  # grey


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: p.predict(5), InputError, "expected images .*; got int"),
        (lambda p: p.predict(b"x"), ImageError, "got bytes"),
        (lambda p: p.predict([], topk=1.5), ConfigError, "topk must be a whole number.*got 1.5"),
        (lambda p: p.logits(_pixels(), True), ConfigError, "batch_size must be a whole.*got True"),
        (lambda p: Predictor.from_model("convit_nano"), ConfigError,
         r"expected a model.*; got 'convit_nano': pass zoo.create_model\('convit_nano'"),
        (lambda p: Predictor.from_model(Net(), 1.5, input=SPEC), ConfigError, "mc_samples must be"),
        (lambda p: Predictor.from_model(Net(), input=SPEC, labels="abc"), ConfigError,
         "labels must be a list or tuple; got 'abc'"),
        (lambda p: write_embeddings("net", ".", [], "out"), ConfigError, "expected a model"),
        (lambda p: write_embeddings(p, ".", "a.png", "out"), ConfigError, "names must be a list"),
        (lambda p: write_embeddings(p, ".", ["a"], "out", 0), ConfigError, "batch_size must be at"),
    ],
)  # fmt: skip
def test_what_is_no_image_no_count_and_no_model_is_refused(
    call: Callable[[Predictor], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(Predictor.from_model(Net(), input=SPEC))
