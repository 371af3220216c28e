"""What `evaluate` and the metrics are given is what they take, or an error that says what is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from zoo.analysis.fourier import log_amplitudes
from zoo.data.dataset import in_memory
from zoo.errors import ConfigError, DatasetError, InputError
from zoo.evaluation import metrics
from zoo.evaluation.corrupted import evaluate_corruptions
from zoo.evaluation.evaluate import evaluate
from zoo.evaluation.intervals import bootstrap
from zoo.evaluation.outcomes import in_top, judge, nll_per_image

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
DATA = in_memory("toy", ("a", "b", "c"), PIXELS, np.arange(12) % 3)
P, Y = np.full((4, 3), 1 / 3), np.array([0, 1, 2, 0])


def _logits(images: Any) -> Any:
    return np.stack([image[0, 0] / 32.0 for image in images])


@pytest.mark.parametrize(
    "convert",
    [
        torch.tensor, lambda x: torch.tensor(x, requires_grad=True), lambda x: x.tolist(),
        lambda x: torch.tensor(x).to(torch.bfloat16),
    ],
    ids=["tensor", "graph", "lists", "bfloat16"],
)  # fmt: skip
def test_logits_may_be_tensors_and_lists(convert: Callable[[Any], Any]) -> None:
    expected = evaluate(_logits, DATA, resamples=0)
    found = evaluate(lambda images: convert(_logits(images)), DATA, resamples=0)
    assert found.accuracy == expected.accuracy
    for name, value in expected.values.items():
        assert found.values[name] == pytest.approx(value, rel=1e-2, nan_ok=True), name


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda x: 1.5, ConfigError, r"returns float64 \(\) for 12 images"),
        (lambda x: [[1.0, 2.0], [1.0]], ConfigError, "returns list for 12 images"),
        (lambda x: None, ConfigError, "returns NoneType for 12 images"),
        (lambda x: _logits(x)[:-1], ConfigError, r"returns float64 \(11, 3\) for 12"),
        (lambda x: np.arange(12), ConfigError, r"returns int64 \(12,\)"),
        (lambda x: _logits(x) * np.nan, InputError, "returns NaN or infinity for 12 of 12"),
        (lambda x: _logits(x)[:, :2], DatasetError, "the model returns 2 logits, toy has 3"),
    ],
)
def test_answers_that_are_no_logits_are_refused(answer: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        evaluate(answer, DATA)


MODEL = zoo.create_model("resnet_nano")


class Columns:
    """What `torchvision.datasets.SVHN` and a data set of Hugging Face look like."""

    labels = (0, 1)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, place: int | slice) -> Any:
        return {"image": PIXELS[place]}


SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
    ({"batch_size": -1}, "batch_size must be at least 1; got -1"),
    ({"batch_size": 1.5}, "batch_size must be a whole number, at least 1; got 1.5"),
    ({"bins": 1.5}, "bins must be a whole number, at least 1; got 1.5"),
    ({"bins": 1001}, "bins must be at most 1000; got 1001"),
    ({"bins": 10**6}, "bins must be at most 1000"),
    ({"resamples": 2.5}, "resamples must be a whole number, at least 0; got 2.5"),
    ({"resamples": -1}, "resamples must be at least 0; got -1"),
    ({"cutoffs": 0.5}, "cutoffs must be a list or tuple; got 0.5"),
    ({"cutoffs": ("0.5",)}, "cutoffs must be a finite number; got '0.5'"),
    ({"labels": "abc"}, "labels must be a list or tuple; got 'abc'"),
    ({"definition": "text-book"}, "definition must be one of .*did you mean 'textbook'"),
    ({"dataset": "digits"}, r"data set that is open; got 'digits': pass zoo.open_dat"),
    ({"dataset": Columns()}, r"data set that is open; got Columns: pass zoo.open_dat"),
    ({"logits": MODEL}, r"evaluate takes a function.*; got ResNet.*: pass zoo.Predictor.from_mod"),
    ({"logits": zoo.Predictor.from_model(MODEL)}, "evaluate takes a function.*; got Predictor"),
    ({"logits": "resnet_nano"}, "evaluate takes a function.*; got str"),
]


@pytest.mark.parametrize(("settings", "message"), SETTINGS)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    asked: list[Any] = []
    given = {"logits": lambda x: asked.append(x) or _logits(x), "dataset": DATA, **settings}
    with pytest.raises((ConfigError, DatasetError), match=message):
        evaluate(given.pop("logits"), given.pop("dataset"), **given)
    assert not asked  # before any image is looked at


@pytest.mark.parametrize(
    "call",
    [
        lambda d: metrics.calibration_errors(P[:, 0], P[:, 0], P[:, 0], d),
        lambda d: metrics.mean_iou(Y, Y, Y, d),
        lambda d: metrics.class_accuracies(np.eye(3), d),
        lambda d: metrics.unconfidence(1, 2, d),
        lambda d: metrics.frequency(1, 2, d),
        lambda d: metrics.summarize(judge(P, Y), d),
        lambda d: metrics.at_cutoff(judge(P, Y), 0.1, d),
        lambda d: metrics.reliability(judge(P, Y), d),
        lambda d: metrics.measure(P, Y, d),
        lambda d: nll_per_image(P, Y, d),
        lambda d: in_top(P, Y, 1, d),
        lambda d: evaluate_corruptions(_logits, [("fog", 1, DATA)], definition=d),
        lambda d: log_amplitudes(torch.zeros(1, 1, 4, 4), d),
    ],
)
def test_a_definition_that_nobody_wrote_is_no_other_one(call: Callable[[str], Any]) -> None:
    for known in ("textbook", "how-do-vits-work"):
        call(known)
    with pytest.raises(ConfigError, match="definition must be one of textbook, how-do-vits-work"):
        call("Textbook")


def test_bins_are_bounded_wherever_they_are_made() -> None:
    for bins in (0, 1001, 2.5):
        with pytest.raises(ConfigError, match="bins must be"):
            metrics.reliability(judge(P, Y), bins=bins)
        with pytest.raises(ConfigError, match="bins must be"):
            metrics.summarize(judge(P, Y), bins=bins)
    assert len(metrics.reliability(judge(P, Y), bins=np.int64(1000)).counts) == 1000


def test_draws_are_counted() -> None:
    with pytest.raises(ConfigError, match="resamples must be at least 0; got -3"):
        bootstrap(lambda weights: {}, 4, -3)
    with pytest.raises(ConfigError, match="resamples must be a whole number"):
        evaluate_corruptions(_logits, [("fog", 1, DATA)], resamples=0.5)


def test_class_numbers_are_whole() -> None:
    with pytest.raises(InputError, match="class numbers are whole numbers; got float64"):
        judge(P, Y.astype(float))
    assert judge(P.tolist(), Y.tolist()).targets.tolist() == Y.tolist()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: evaluate(_logits, "digits"),
        lambda: evaluate(MODEL, DATA),
        lambda: zoo.Predictor.from_model("resnet_nano"),
    ],
)
def test_what_a_refusal_says_to_pass_can_be_passed(wrong: Callable[[], Any]) -> None:
    with pytest.raises((ConfigError, DatasetError)) as caught:
        wrong()
    assert eval(str(caught.value).partition("pass ")[2], {"zoo": zoo, "model": MODEL}) is not None
