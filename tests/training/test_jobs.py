"""Jobs and recipes that cannot be, or would do something else than they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import zoo
from zoo.cli import cli
from zoo.errors import ConfigError
from zoo.training.job import Job
from zoo.training.machine import Machine
from zoo.training.recipe import Recipe, scaled
from zoo.training.recipes import RECIPES, get_recipe
from zoo.training.start import check_tag


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flip": 2.0}, r"flip must be in \[0, 1\]; got 2.0"),
        ({"flip": -1}, r"flip must be in \[0, 1\]; got -1"),
        ({"erase": 5.0}, r"erase must be in \[0, 1\]; got 5.0"),
        ({"shift": -0.1}, r"shift must be in \[0, 1\]"),
        ({"rotate_degrees": 200.0}, r"rotate_degrees must be in \[0, 180\]"),
        ({"scale": 1.0}, r"scale must be in \[0, 1\)"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\)"),
        ({"min_lr": 5}, "min_lr 5 is above the rate, lr 0.002"),
        ({"min_lr": -1}, "min_lr must be at least 0; got -1"),
        ({"warmup_lr": -1}, "warmup_lr must be at least 0; got -1"),
        ({"schedule": "steps", "milestones": (9, 3)}, r"must be ascending epochs; got \(9, 3\)"),
        ({"schedule": "steps", "milestones": (0, 3)}, "must be ascending epochs"),
        ({"flip": "1"}, "flip must be a number; got '1'"),
        ({"milestones": (3,)}, "milestones has no effect .* whose schedule is 'cosine'"),
        ({"rand_augment": "rand-m9"}, "rand_augment has no effect .* pipeline is 'memory'"),
        ({"pipeline": "stream", "rotate_degrees": 3.0}, "rotate_degrees has no effect"),
        ({"crop_pad": 2}, "crop_pad has no effect .* whose crop is 'none'"),
    ],
)
def test_impossible_values_of_a_recipe_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(**values)


def test_a_change_takes_along_what_is_then_never_looked_at() -> None:
    steps = get_recipe("hdvw-cifar-cnn")
    assert scaled(steps, schedule="cosine").milestones == ()
    assert scaled(steps, schedule="cosine").step_factor == Recipe().step_factor
    assert scaled(get_recipe("small-images"), crop="none").crop_pad == Recipe().crop_pad
    assert scaled(steps, milestones=[3, 5]).milestones == (3, 5)
    assert {name: scaled(recipe) for name, recipe in RECIPES.items()} == RECIPES


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"img_size": (32, 32, 32)}, r"img_size must be .*; got \(32, 32, 32\)"),
        ({"img_size": "32"}, "img_size must be .*; got '32'"),
        ({"img_size": 0}, "img_size must be positive; got 0"),
        ({"img_size": (32, -1)}, "img_size must be positive"),
        ({"recipe": "digits"}, r"not its name: zoo\.training\.recipes\.get_recipe\('digits'\)"),
        ({"recipe": 5}, "job: recipe must be an object; got 5"),
        ({"freeze": "backbone"}, "job: freeze must be a list of strings; got 'backbone'"),
        ({"fraction": "1"}, "job: fraction must be a number; got '1'"),
        ({"config": 5}, "job: config must be an object; got 5"),
        ({"data": None}, "data must be text or a path; got None"),
    ],
)
def test_impossible_jobs_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Job(**{"model": "convit_nano", "data": "digits", **values})


def test_impossible_machines_are_refused() -> None:
    with pytest.raises(ConfigError, match="machine: cpu must be true or false; got 'no'"):
        Machine(cpu="no")
    with pytest.raises(ConfigError, match="machine: workers must not be negative; got -1"):
        Machine(workers=-1)


def test_a_job_takes_paths() -> None:
    job = Job(model="convit_nano", data=Path("digits"), finetune_from=Path("/runs/a"))
    assert (job.data, job.finetune_from) == ("./digits", "/runs/a")
    assert job.to_dict()["data"] == "./digits"


@pytest.mark.parametrize(
    ("model", "start", "words"),
    [
        ("resnet_nano.digits", "", "from random weights"),
        ("convit_nano.digits@1.0.0", "", "from random weights"),
        ("resnet_nano@1.0.0", "", "from random weights"),
        ("resnet_nano.digits", "resnet_nano.fashion_mnist", "from resnet_nano.fashion_mnist"),
        ("resnet_nano.digits", "runs/a", "from runs/a"),
    ],
)
def test_a_model_is_not_called_after_weights_that_it_does_not_start_from(
    model: str, start: str, words: str, tmp_path: Path
) -> None:
    advice = f"{words}; name the architecture, .* finetune_from='{model}'"
    with pytest.raises(ConfigError, match=advice):
        zoo.train(Job(model=model, data="digits", finetune_from=start), tmp_path / "run")
    options = ["--finetune-from", start] if start else []
    command = ["train", model, "--data", "digits", "--out", str(tmp_path / "run"), *options]
    done = CliRunner().invoke(cli, command)
    assert isinstance(done.exception, ConfigError)
    assert f"{words}; name the architecture" in str(done.exception)
    assert not (tmp_path / "run").exists()


def test_a_tag_is_taken_beside_its_own_weights() -> None:
    for start in ("resnet_nano.digits", "resnet_nano.digits@1.0.0", "resnet_nano"):
        check_tag("resnet_nano.digits", start)
    check_tag("resnet_nano", "")
