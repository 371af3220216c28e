"""Metrics against loops, torchmetrics, and values known on paper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.evaluation.naive_metrics import naive
from zoo.errors import ConfigError, InputError
from zoo.evaluation.metrics import (
    class_accuracies,
    confusion_matrix,
    cutoff_counts,
    frequency,
    mean_iou,
    measure,
    reliability,
    running_mean,
    summarize,
    unconfidence,
)
from zoo.evaluation.outcomes import Outcomes, in_top, judge, nll_per_image
from zoo.evaluation.predictor import softmax

Array = np.ndarray[Any, Any]
THEIRS = "how-do-vits-work"


def _random(n: int = 400, classes: int = 8, seed: int = 0) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    logits = 2.5 * generator.normal(size=(n, classes))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return p, (logits + 1.5 * generator.normal(size=p.shape)).argmax(-1)


@pytest.mark.parametrize("classes", [2, 6, 40])
def test_textbook_metrics_equal_their_equations(classes: int) -> None:
    p, y = _random(classes=classes, seed=classes)
    found, expected = measure(p, y), naive(p, y)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_torchmetrics_agrees_where_it_has_the_metric() -> None:
    from torchmetrics.functional import classification as peer

    p, y = _random(n=1500)
    found = measure(p, y)
    tensor, targets = torch.from_numpy(p), torch.from_numpy(y)
    theirs = {
        "acc1": peer.multiclass_accuracy(tensor, targets, 8, average="micro"),
        "acc5": peer.multiclass_accuracy(tensor, targets, 8, average="micro", top_k=5),
        "iou": peer.multiclass_jaccard_index(tensor, targets, 8, average="macro"),
        "ece": peer.multiclass_calibration_error(tensor, targets, 8, n_bins=15, norm="l1"),
        "nll": torch.nn.functional.nll_loss(tensor.log(), targets),
    }
    for name, value in theirs.items():
        assert found[name] == pytest.approx(float(value), abs=2e-7), name
    matrix = confusion_matrix(judge(p, y))
    assert np.array_equal(matrix, peer.multiclass_confusion_matrix(tensor, targets, 8).numpy())
    recalls = peer.multiclass_accuracy(tensor, targets, 8, average="none")
    np.testing.assert_allclose(class_accuracies(matrix), recalls, atol=1e-6)


def test_a_perfect_and_certain_model() -> None:
    found = measure(np.eye(6), np.arange(6))
    assert found.pop("unconfidence") != found["acc1"]  # no errors: undefined
    ones = {"acc1", "acc5", "acc90", "iou", "iou90", "frequency90"}
    assert {name for name, value in found.items() if value == 1.0} == ones
    assert {name for name, value in found.items() if value == 0.0} == set(found) - ones


def test_a_constant_guess_has_the_nll_and_brier_of_uniform_probabilities() -> None:
    found = measure(np.full((10, 10), 0.1), np.arange(10))
    assert found["nll"] == pytest.approx(math.log(10))
    assert found["brier"] == pytest.approx(0.9)
    assert (found["acc1"], found["acc5"]) == (0.1, 0.5)
    assert found["ece"] == pytest.approx(0.0, abs=1e-12)


def test_the_signed_error_is_mean_confidence_less_accuracy() -> None:
    p, y = _random()
    found = measure(p, y)
    assert found["ecse"] == pytest.approx(p.max(-1).mean() - found["acc1"])
    assert abs(found["ecse"]) <= found["ece"] + 1e-12


@pytest.mark.parametrize("definition", ["textbook", THEIRS])
def test_batches_matter_to_the_original_nll_only(definition: str) -> None:
    p, y = _random(n=100)
    whole = summarize(judge(p, y, definition), definition)
    parts = [judge(p[part], y[part], definition) for part in (slice(90), slice(90, 100))]
    split = summarize(Outcomes.join(parts), definition)
    differing = {name for name in whole if abs(whole[name] - split[name]) > 1e-7}
    assert differing == (set() if definition == "textbook" else {"nll"})


def test_confidences_on_an_edge_follow_each_definitions_rule() -> None:
    p = np.asarray([[0.5, 0.5], [1.0, 0.0], [0.6, 0.4]])
    y = np.asarray([0, 0, 1])
    theirs = reliability(judge(p, y, THEIRS), THEIRS, bins=2)
    assert theirs.counts.tolist() == [1, 2]  # 0.5 counts in the lower bin
    assert theirs.confidence[0] == 0.0  # but its value goes to the upper one,
    assert theirs.confidence[1] == pytest.approx(1.1 / 2)  # and the value of 1.0 nowhere
    ours = reliability(judge(p, y), bins=2)
    assert ours.counts.tolist() == [1, 2]
    assert ours.confidence.tolist() == [0.5, 0.8]


def test_what_has_no_cases_is_undefined_or_zero() -> None:
    p, y = np.asarray([[0.6, 0.4], [0.7, 0.3]]), np.asarray([0, 0])
    ours, theirs = measure(p, y), measure(p, y, THEIRS)
    for name in ("acc90", "iou90", "unconfidence"):
        assert math.isnan(ours[name])
        assert theirs[name] == 0.0
    assert np.isnan(class_accuracies(np.asarray([[0, 0], [1, 1]]))[0])
    assert class_accuracies(np.asarray([[0, 0], [1, 1]]), THEIRS)[0] == 0.0


def test_the_original_divides_by_a_little_more() -> None:
    assert frequency(1, 0) == 1.0
    assert frequency(1, 0, THEIRS) == pytest.approx(1 / (1 + 1e-7), abs=1e-15)
    assert unconfidence(0, 2, THEIRS) == pytest.approx(2 / (2 + 1e-7), abs=1e-15)
    assert running_mean(np.asarray([1.0]))[0] == pytest.approx(0.9999999, abs=1e-12)


def test_a_class_that_is_only_guessed_counts_in_the_textbook_iou() -> None:
    diagonal, rows, columns = (np.asarray(v) for v in ([1, 0], [2, 0], [1, 1]))
    assert mean_iou(diagonal, rows, columns)[0] == 0.25
    assert mean_iou(diagonal, rows, columns, THEIRS)[0] == 0.5


def test_ties_go_to_the_lower_class() -> None:
    outcomes = judge(np.asarray([[0.4, 0.4, 0.2]]), np.asarray([1]))
    assert outcomes.predictions.tolist() == [0]
    p = np.full((2, 8), 0.125)
    assert in_top(p, np.asarray([4, 5]), 5).tolist() == [True, False]


def test_impossible_predictions_have_a_large_but_finite_nll() -> None:
    p, y = np.asarray([[1.0, 0.0]]), np.asarray([1])
    assert nll_per_image(p, y)[0] == pytest.approx(708.396, abs=1e-3)
    assert np.isinf(nll_per_image(p, y, THEIRS)[0])


def test_soft_labels_and_smoothing_agree_with_cross_entropy() -> None:
    p, y = _random(n=20)
    log = torch.from_numpy(p).log()
    smooth = torch.nn.functional.cross_entropy(
        log, torch.from_numpy(y), label_smoothing=0.1, reduction="none"
    )
    np.testing.assert_allclose(nll_per_image(p, y, THEIRS, 0.1), smooth, atol=1e-12)
    mixed = 0.3 * np.eye(8)[y] + 0.7 * np.eye(8)[(y + 1) % 8]
    soft = torch.nn.functional.cross_entropy(log, torch.from_numpy(mixed), reduction="none")
    np.testing.assert_allclose(nll_per_image(p, mixed), soft, atol=1e-12)


def test_weights_are_repetitions() -> None:
    p, y = _random(n=60)
    weights = np.random.default_rng(1).integers(0, 4, 60)
    repeated = np.repeat(np.arange(60), weights)
    weighted = summarize(judge(p, y), weights=weights.astype(float))
    again = measure(p[repeated], y[repeated])
    assert weighted == pytest.approx(again, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("p", "y", "text"),
    [
        (np.ones(3), np.zeros(3, int), r"\(n, classes\)"),
        (np.eye(3), np.zeros(2, int), r"\(n, classes\)"),
        (np.eye(3), np.asarray([0, 1, 3]), "expected 0 to 2"),
        (np.eye(3), np.asarray([0, -1, 2]), "expected 0 to 2"),
        (np.full((1, 2), np.nan), np.zeros(1, int), "sum to 1"),
        (np.asarray([[2.0, -1.0]]), np.zeros(1, int), "sum to 1"),
        (np.asarray([[3.0, 1.0]]), np.zeros(1, int), "softmax of logits first"),
    ],
)
def test_what_is_no_probability_is_refused(p: Array, y: Array, text: str) -> None:
    with pytest.raises(InputError, match=text):
        measure(p, y)


def test_unknown_definitions_are_refused() -> None:
    with pytest.raises(ConfigError, match="textbook, how-do-vits-work; got 'sklearn'"):
        measure(np.eye(2), np.arange(2), "sklearn")


def test_a_confidence_at_the_cutoff_is_not_above_it() -> None:
    outcomes = judge(np.asarray([[0.9, 0.1], [0.05, 0.95], [0.5, 0.5]]), np.asarray([1, 1, 0]))
    found = cutoff_counts(outcomes, 0.9)
    assert (found.images, found.right, found.rest, found.rest_wrong) == (1.0, 1.0, 2.0, 1.0)


def test_softmax_of_large_logits_is_finite() -> None:
    found = softmax(np.asarray([[1000.0, 999.0], [-1000.0, -1000.0]]))
    e = math.e
    assert np.allclose(found, [[e / (1 + e), 1 / (1 + e)], [0.5, 0.5]], atol=1e-12)
