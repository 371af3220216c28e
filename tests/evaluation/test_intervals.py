"""Intervals: the counts on paper, and how often they cover the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zoo.evaluation.intervals import Z, bootstrap, wilson


def test_the_quantile_is_that_of_the_normal_distribution() -> None:
    assert (1 + math.erf(Z / math.sqrt(2))) / 2 == pytest.approx(0.975, abs=1e-15)


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (10, 10), (7, 20), (359, 364), (1, 1)])
def test_wilson_bounds_solve_the_score_equation(correct: int, total: int) -> None:
    """(share - bound)^2 = z^2 bound (1 - bound) / n."""
    for bound in wilson(correct, total):
        left = (correct / total - bound) ** 2
        assert left == pytest.approx(Z**2 * bound * (1 - bound) / total, abs=1e-12)
        assert 0.0 <= bound <= 1.0


def test_wilson_needs_a_case() -> None:
    with pytest.raises(ValueError, match="at least one case"):
        wilson(0, 0)


def test_the_bootstrap_of_a_mean_is_close_to_its_normal_interval() -> None:
    values = np.random.default_rng(3).normal(5.0, 2.0, 400)
    low, high = bootstrap(lambda w: {"mean": w @ values / w.sum()}, 400, 2000)["mean"]
    half = Z * values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_the_bootstrap_depends_on_its_seed_only() -> None:
    values = np.arange(10.0)

    def mean(weights: np.ndarray) -> dict[str, float]:
        return {"mean": float(weights @ values / weights.sum())}

    assert bootstrap(mean, 10, 50, seed=1) == bootstrap(mean, 10, 50, seed=1)
    assert bootstrap(mean, 10, 50, seed=1) != bootstrap(mean, 10, 50, seed=2)


def test_values_that_are_undefined_or_never_vary_get_no_interval() -> None:
    found = bootstrap(lambda w: {"none": math.nan, "same": 1.0, "first": w[0]}, 10, 50)
    assert found.keys() == {"first"}
    assert bootstrap(lambda w: {"first": w[0]}, 10, 0) == {}
