"""Grids, and weights that are trained again by their record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import zoo
from zoo.cli import cli
from zoo.errors import ConfigError
from zoo.evaluation.evaluate import Accuracy
from zoo.factory.config_json import build_config
from zoo.files.fetch import BUNDLED
from zoo.training.recipes import RECIPES
from zoo.training.report import Reproduction, compare_with_release
from zoo.training.start import create_start
from zoo.training.sweep import GRIDS, Grid, get_grid, run_sweep

TRY = """
model = "convit_nano"
recipe = "digits"
seeds = [0, 1]
fractions = [0.1]
rows = [{depth = 1, local_up_to_layer = 0, embed_dim = 16}]
[set]
epochs = 1
validate_every = 5
[grid]
depth = [2]
embed_dim = [16]
local_up_to_layer = [1]
"recipe.lr" = [1e-3]
"""


def test_a_sweep_is_run_once_and_read_afterwards(tmp_path: Path) -> None:
    file = tmp_path / "try.toml"
    file.write_text(TRY)
    done: list[str] = []
    content = run_sweep(
        get_grid(str(file)), tmp_path / "out", None, lambda n, of, row: done.append(row["run"])
    )
    assert len(done) == len(set(done)) == 4
    rows = json.loads((tmp_path / "out" / "sweep.json").read_text())["rows"]
    assert rows == content["rows"]
    assert rows[1]["settings"]["recipe.lr"] == 1e-3
    assert {"settings", "fraction", "seed", "run", "validation", "test"} <= rows[0].keys()
    metrics = json.loads((tmp_path / "out" / rows[1]["run"] / "metrics.json").read_text())
    assert metrics["recipe"]["lr"] == 1e-3
    assert rows[1]["validation"] == metrics["validation"]
    times = [(tmp_path / "out" / run / "model.safetensors").stat().st_mtime_ns for run in done]
    table = CliRunner().invoke(cli, ["train", "--sweep", str(file), "--out", str(tmp_path / "out")])
    assert table.exit_code == 0, table.output
    assert "depth=2, embed_dim=16" in table.stdout
    assert times == [
        (tmp_path / "out" / run / "model.safetensors").stat().st_mtime_ns for run in done
    ]


@pytest.mark.parametrize("name", GRIDS)
def test_shipped_grids_build(name: str) -> None:
    first = GRIDS[name].fractions[0]
    jobs = [job for _, job in GRIDS[name].jobs() if (job.recipe.seed, job.fraction) == (0, first)]
    assert jobs
    for job in jobs:
        assert create_start(job, tuple("0123456789")).num_classes == 10


def test_the_small_data_sweep_gives_all_the_same_budget() -> None:
    jobs = [job for _, job in GRIDS["small-data"].jobs()]
    assert len(jobs) == 4 * (4 * 3 + 2)
    assert {job.recipe.seed for job in jobs if job.fraction >= 0.3} == {0}
    assert len({job.recipe.epochs for job in jobs}) == 1
    budgets = {round(job.planned.epochs * job.fraction) for job in jobs}
    assert budgets == {2}


def test_a_sweep_that_is_stopped_compares_whole_seeds() -> None:
    seeds = [job.recipe.seed for _, job in GRIDS["small-data"].jobs()]
    assert seeds == sorted(seeds)


def test_a_sweep_takes_an_image_size(tmp_path: Path) -> None:
    (tmp_path / "grid.json").write_text('{"model": "resnet_nano", "img_size": [24, 16]}')
    jobs = [job for _, job in get_grid(str(tmp_path / "grid.json")).jobs()]
    assert {job.size for job in jobs} == {(24, 16)}


def test_options_of_the_command_replace_those_of_the_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grids: list[Grid] = []

    def run(grid: Grid, *_: object) -> dict[str, Any]:
        grids.append(grid)
        return {"rows": []}

    monkeypatch.setattr("zoo.training.sweep.run_sweep", run)
    words = ["train", "fcvit_nano", "--sweep", "drop-path", "--img-size", "24", "--fraction", "0.5"]
    words += ["--seed", "7", "--lr", "3e-3", "--set", "weight_decay=0.2", "--out", str(tmp_path)]
    words += ["--on-unreadable", "skip"]
    found = CliRunner().invoke(cli, words)
    assert found.exit_code == 0, found.output
    job = next(job for _, job in grids[0].jobs())
    assert (job.model, job.img_size, job.fraction) == ("fcvit_nano", 24, 0.5)
    assert job.on_unreadable == "skip"
    assert (job.recipe.seed, job.recipe.lr, job.recipe.weight_decay) == (7, 3e-3, 0.2)


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        (["--sweep", "drop-path", "--freeze", "backbone"], "--freeze"),
        (["--sweep", "drop-path", "--config", "depth=2", "--export", "onnx"], "--config, --export"),
        (["--reproduce", "convit_nano", "--lr", "1", "--data", "digits"], "--data, --lr"),
        (["convit_nano", "--data", "digits", "--probe", "knn", "--epochs", "3"], "--epochs"),
    ],
)
def test_what_a_mode_would_ignore_is_refused(words: list[str], idle: str, tmp_path: Path) -> None:
    found = CliRunner().invoke(cli, ["train", *words, "--out", str(tmp_path / "out")])
    assert found.exit_code == 2
    assert f"Error: {idle} would have no effect" in found.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('models = ["a"]', "models is unknown"),
        ("seeds = []", "seeds is empty"),
        ('model = "convit_nano"\n[grid]\ndepth = []', "depth is empty"),
        ('model = "convit_nano"\nseeds = [0, 1, 0]', "seeds has an entry twice"),
        ('model = "convit_nano"\n[grid]\ndepth = [1, 1]', "depth has an entry twice"),
        ('rows = [{model = "convit_nano"}, {model = "convit_nano"}]', "rows has an entry twice"),
        ('model = "convit_nano"\n[grid]\ndepht = [1]', "did you mean depth"),
        ('model = "convit_nano"\n[grid]\ndepth = ["1"]', "depth must be a positive integer"),
        ("grid = 3", "no grid"),
        ("rows = [{}]", "no model"),
        ('model = "convit_nano"\n[grid]\n"recipe.epoch" = [3]', "did you mean 'epochs'"),
        ("not toml", "no grid"),
    ],
)
def test_bad_grids_are_explained(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        get_grid(str(tmp_path / "grid.toml"))


def test_unknown_grids_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'small-data'"):
        get_grid("smalldata")


def test_reproducing_needs_weights_that_were_trained_here(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli, ["train", "--reproduce", "resnet_18", "--out", str(tmp_path)], catch_exceptions=True
    )
    assert isinstance(done.exception, zoo.errors.NoWeightsError)
    assert "no recipe is recorded for weights of resnet_18" in str(done.exception)


def test_records_of_trained_weights_name_a_recipe() -> None:
    weights = [w for name in zoo.list_models() for w in zoo.get_record(name).weights]
    named = {w.name: w.recipe for w in weights if w.recipe}
    assert named
    assert set(named.values()) <= RECIPES.keys(), named


def test_weights_are_trained_again_by_their_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = zoo.get_record("convit_nano")
    assert record.selected is not None
    ours = replace(record.selected, recipe="digits-short", seed=7)
    monkeypatch.setattr(
        zoo.catalog.registry, "get_record", lambda name: replace(record, selected=ours)
    )
    words = ["train", "--reproduce", "convit_nano", "--epochs", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(cli, [*words, "--json"])
    reproduction = json.loads(done.stdout)["reproduction"]
    assert (reproduction["name"], reproduction["reproduced"]) == (ours.name, False)
    assert isinstance(done.exception, zoo.errors.ParityError)  # one epoch is not enough
    assert done.exception.code == "not_reproduced"
    assert f"{ours.name}: other bytes" in str(done.exception)
    assert "outside the interval of the released weights" in str(done.exception)
    recipe = json.loads((tmp_path / "metrics.json").read_text())["recipe"]
    assert (recipe["name"], recipe["seed"], recipe["epochs"]) == ("digits-short", 7, 1)
    assert zoo.create_model(str(tmp_path), pretrained=True).pretrained_cfg.tag == "digits"


@pytest.mark.slow
def test_a_shipped_recipe_reaches_the_accuracy_of_its_weights(tmp_path: Path) -> None:
    words = ["train", "--reproduce", "resnet_nano.digits", "--threads", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(cli, [*words, "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert found["reproduction"]["reproduced"] is True
    assert found["test"]["acc1_percent"] > 98.5  # the lower end of the interval of the weights


def test_the_same_weights_again_are_known_by_their_bytes(tmp_path: Path) -> None:
    model, record = zoo.create_model("resnet_nano", pretrained=True), zoo.get_record("resnet_nano")
    assert record.selected is not None
    data = (BUNDLED / record.selected.bundled).read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data)
    stated = build_config(model, record.selected.sha256)
    (tmp_path / "config.json").write_text(json.dumps(stated))
    found = compare_with_release(record.selected.name, record.selected.sha256, tmp_path, "digits")
    assert found
    assert found.same_bytes
    assert (found.released, found.data) == (found.again, "digits/test")
    assert found.again.total == 364
    assert abs(found.again.correct - 363) <= 1  # as measured, but for another processor
    assert "the same bytes; digits/test" in found.summary()


@pytest.mark.parametrize(
    ("right", "reproduced"), [(82, False), (83, True), (94, True), (95, False)]
)
def test_weights_are_reproduced_within_the_interval_of_the_released(
    right: int, reproduced: bool
) -> None:
    """Wilson's of 90 in 100 is 82.6 to 94.5 %."""
    found = Reproduction("a.b@1.0.0", "b/test", Accuracy(90, 100), Accuracy(right, 100), False)
    assert bool(found) == found.to_dict()["reproduced"] == reproduced
    assert ("inside" in found.summary()) == reproduced
