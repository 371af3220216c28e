"""What is computed from several runs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.seeds import add_seeds, mean_interval, read_runs, summarize
from zoo.errors import ConfigError


def test_the_interval_over_seeds_is_students() -> None:
    mean, low, high = mean_interval([90.0, 92.0, 94.0])
    assert mean == 92
    quantile = 0.95 * math.sqrt(2 / (1 - 0.95**2))  # of t with two degrees of freedom
    error = 2 / math.sqrt(3)  # of a mean of three with deviation 2
    expected = (92 - quantile * error, 92 + quantile * error)
    assert (low, high) == pytest.approx(expected, rel=0.0, abs=0.0005 * error)  # t has 3 decimals
    assert mean_interval([100.0, 99.0, 100.0])[2] == 100


def _write(folder: Path, seed: int, **changes: Any) -> Path:
    folder.mkdir()
    accuracy = {"correct": 300 + seed, "acc1_percent": 80.0 + seed}
    content = {
        "model": "convit_nano",
        "data": "digits",
        "recipe": {"seed": seed, "lr": 1e-3, **changes},
        "validation": accuracy,
        "test": accuracy,
        "seconds": 1.0,
    }
    (folder / "metrics.json").write_text(json.dumps(content))
    return folder


def test_runs_are_summarised_by_seed(tmp_path: Path) -> None:
    runs = read_runs([_write(tmp_path / str(seed), seed) for seed in (2, 0, 1)])
    found = summarize(runs)
    assert [run["seed"] for run in found["runs"]] == [0, 1, 2]
    assert found["test_acc1_percent"]["mean"] == 81.0


def test_runs_that_differ_in_more_than_the_seed_are_refused(tmp_path: Path) -> None:
    folders = [_write(tmp_path / "a", 0), _write(tmp_path / "b", 1, lr=2e-3)]
    with pytest.raises(ConfigError, match="differ in their seed alone"):
        read_runs(folders)


def test_seeds_are_added_to_what_is_released(tmp_path: Path) -> None:
    (first,) = read_runs([_write(tmp_path / "0", 0)])
    first["seeds"] = {**summarize([first]), "released": 0}
    others = [_write(tmp_path / str(seed), seed) for seed in (2, 1)]
    found = add_seeds(first, others)
    assert {**found, "seeds": first["seeds"]} == first
    assert [run["seed"] for run in found["seeds"]["runs"]] == [0, 1, 2]
    assert found["seeds"]["test_acc1_percent"]["mean"] == 81.0
    assert found["seeds"]["released"] == 0
    with pytest.raises(ConfigError, match=r"got seeds \[0, 1, 2, 2\]"):
        add_seeds(found, others[:1])
    with pytest.raises(ConfigError, match="differ in their seed alone"):
        add_seeds(first, [_write(tmp_path / "3", 3, lr=2e-3)])
