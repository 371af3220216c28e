"""What is given to train is honoured, or refused by name: nothing is dropped in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from zoo.cli import cli
from zoo.errors import ConfigError
from zoo.training.job import Job
from zoo.training.recipe import Recipe, scaled
from zoo.training.recipes import RECIPES
from zoo.training.start import check_drop_path, create_start
from zoo.training.sweep import GRIDS, Grid

from .helpers import SMALL, digits_job, write_folder

OWN = "resnet_nano.digits@1.0.0"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_folder(tmp_path_factory.mktemp("data") / "photos"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The jobs and grids that would have been trained."""
    found: list[Any] = []
    monkeypatch.setattr("zoo.cli.train._train", lambda job, options: found.append(job))
    monkeypatch.setattr(
        "zoo.training.sweep.run_sweep", lambda grid, *_: found.append(grid) or {"rows": []}
    )
    return found


def _train(*words: str) -> str:
    """What is said on stderr."""
    done = CliRunner().invoke(cli, ["train", *words, "--out", "none"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stderr


@pytest.mark.parametrize(
    ("words", "start", "said"),
    [
        ("--recipe photos-scratch", "", "recipe photos-scratch, 100 epochs; random weights"),
        (f"--recipe photos-scratch --finetune-from {OWN}", OWN, f"100 epochs; starts from {OWN}"),
        ("--recipe photos --epochs 3", OWN, f"recipe photos, 3 epochs; starts from {OWN}"),
        ("--recipe photos --from-scratch", "", "recipe photos, 20 epochs; random weights"),
        ("", OWN, f"pixels at 32 x 32; starts from {OWN}"),
    ],
)
def test_it_is_said_what_training_starts_from(
    words: str, start: str, said: str, photos: str, trained: list[Job]
) -> None:
    assert said in _train("resnet_nano", "--data", photos, *words.split())
    assert [job.finetune_from for job in trained] == [start]


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("--recipe photos --set drop_path=null", {"drop_path": None}),
        ("--set warmup_epochs=4 --epochs 5", {"warmup_epochs": 4, "epochs": 5}),
        ("--set seed=7", {"seed": 7}),
    ],
)
def test_fields_that_are_given_stand(
    words: str, changed: dict[str, Any], trained: list[Job]
) -> None:
    _train("convit_nano", "--data", "digits", *words.split())
    assert {key: getattr(trained[0].recipe, key) for key in changed} == changed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--set lr=1 --set lr=2", "--set 'lr=2': lr is given by --set too; give one"),
        ("--set epochs=3 --epochs 5", "--set 'epochs=3': epochs is given by --epochs too"),
        ("--set batch_size=8 --batch-size 8", "batch_size is given by --batch-size too"),
        ("--config depth=1 --config depth=2", "--config 'depth=2': depth is given by --config too"),
        ("--config img_size=64 --img-size 48", "img_size is given by --img-size too"),
        ("--set lr", "--set 'lr' must be KEY=VALUE"),
        ("--probe knn --from-scratch", "--from-scratch would have no effect with --probe"),
    ],
)
def test_doubles_are_refused(words: str, message: str, trained: list[Job], tmp_path: Path) -> None:
    command = ["train", "convit_nano", "--data", "digits", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, [*command, *words.split()])
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert not trained


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        ("digits", {"color_jitter": 0.4}, "digits, whose pipeline is 'memory'"),
        ("digits", {"rand_augment": "rand-m9"}, "rand_augment has no effect"),
        ("digits", {"erase_mode": "const"}, "of pipeline 'stream'; leave erase_mode out"),
        ("digits", {"interpolation": "bilinear"}, "interpolation has no effect"),
        ("digits", {"crop": "resized"}, "crop 'resized' needs the pipeline 'stream'"),
        ("digits", {"crop_pad": 2}, "whose crop is 'none'"),
        ("photos", {"rotate_degrees": 5.0}, "photos, whose pipeline is 'stream'"),
        ("photos", {"shift": 0.1}, "shift has no effect"),
        ("photos", {"scale": 0.1}, "scale has no effect"),
        ("photos", {"milestones": (3,)}, "whose schedule is 'cosine'"),
        ("hdvw-cifar-cnn", {"min_lr": 1e-5}, "whose schedule is 'steps'"),
        ("hdvw-cifar-cnn", {"crop_scale": 0.5}, "it is of crop 'resized'"),
    ],
)
def test_fields_that_a_recipe_never_looks_at_are_refused(
    recipe: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        scaled(RECIPES[recipe], **changes)


@pytest.mark.parametrize(
    "changes",
    [{"rotate_degrees": 3.0}, {"crop": "padded", "crop_pad": 2},
     {"pipeline": "stream", "crop": "resized", "crop_scale": 0.5, "color_jitter": 0.1},
     {"schedule": "steps", "milestones": (1,), "step_factor": 0.5}],
)  # fmt: skip
def test_fields_that_count_are_taken(changes: dict[str, Any]) -> None:
    assert scaled(RECIPES["digits"], **changes) == replace(RECIPES["digits"], **changes)


@pytest.mark.parametrize("name", ["vgg_16", "mobilenet", "alexnet"])
def test_stochastic_depth_that_a_model_lacks_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} has no stochastic depth; leave it out"):
        check_drop_path(name, {"drop_path": 0.3}, {})
    check_drop_path(name, {"drop_path": 0.0}, {})
    check_drop_path(name, {}, {})  # a recipe's own


def test_stochastic_depth_is_asked_for_once() -> None:
    check_drop_path("convit_nano", {"drop_path": 0.3}, {})
    with pytest.raises(ConfigError, match=r"drop_path 0.3 .* keyword drop_path_rate=0.1"):
        check_drop_path("convit_nano", {"drop_path": 0.3}, {"drop_path_rate": 0.1})
    with pytest.raises(ConfigError, match=r"keyword drop_path_rate=0.0"):
        list(replace(GRIDS["drop-path"], set={"drop_path": 0.3}).jobs())


def test_classes_are_those_of_the_data() -> None:
    labels = tuple("0123456789")
    for model in ("convit_nano", "convit_tiny"):
        for classes in ({}, {"num_classes": 10}):
            job = digits_job(model=model, config={**SMALL, **classes})
            assert create_start(job, labels).num_classes == 10
        with pytest.raises(ConfigError, match="num_classes=5, but 'digits' has 10 classes"):
            create_start(digits_job(model=model, config={"num_classes": 5}), labels)


@pytest.mark.parametrize(
    ("words", "fractions", "seeds"),
    [
        ("small-data", (0.005, 0.01, 0.05, 0.1, 0.3, 1.0), (0, 1, 2)),
        ("small-data --fraction 1", (1.0,), (0, 1, 2)),
        ("convit-ablation --set seed=7", (0.1,), (7,)),
        ("convit-ablation --seed 7 --set weight_decay=0", (0.1,), (7,)),
    ],
)
def test_a_sweep_takes_what_is_said(
    words: str, fractions: tuple[float, ...], seeds: tuple[int, ...], trained: list[Grid]
) -> None:
    _train("--sweep", *words.split())
    assert (trained[0].fractions, trained[0].seeds) == (fractions, seeds)
    assert next(job for _, job in trained[0].jobs()).recipe.seed == seeds[0]


def test_a_model_takes_the_place_of_rows_that_only_name_models(trained: list[Grid]) -> None:
    _train("hdvw_vit_nano", "--sweep", "small-data")
    jobs = [job for _, job in trained[0].jobs()]
    assert {job.model for job in jobs} == {"hdvw_vit_nano"}
    assert len(jobs) == 4 * 3 + 2
    _train("conv_attention_vit_nano", "--sweep", "kernel-size")
    assert len(list(trained[1].jobs())) == 3 * 3


ROWS = 'model = "convit_nano"\n[grid]\n"recipe.epochs" = [1, 2]\nimg_size = [32, 48]\n'
MODELS = 'rows = [{model = "convit_nano"}, {model = "fcvit_nano", num_classes = 10}]\n'


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        ("hdvw_vit_nano --sweep models.toml", "models say model themselves, so MODEL would"),
        ("--sweep rows.toml --epochs 5", "rows say epochs themselves"),
        ("--sweep rows.toml --set epochs=5", "rows say epochs themselves"),
        ("--sweep rows.toml --img-size 64", "so --img-size would have no effect"),
    ],
)
def test_what_the_rows_of_a_sweep_say_is_not_said_for_all(
    words: str, idle: str, trained: list[Grid], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.toml").write_text(ROWS)
    (tmp_path / "models.toml").write_text(MODELS)
    done = CliRunner().invoke(cli, ["train", *words.split(), "--out", "none"])
    assert done.exit_code == 2
    assert idle in " ".join(done.stderr.split())
    assert not trained


@pytest.mark.parametrize("settings", [{"set": {"seed": 7}}, {"rows": ({"recipe.seed": 7},)}])
def test_the_seed_of_a_grid_is_no_setting(settings: dict[str, Any]) -> None:
    grid = Grid(**{"name": "mine", "model": "convit_nano", "rows": ({},), **settings})
    with pytest.raises(ConfigError, match=r"grid mine: seed is no setting; give seeds = \[...\]"):
        list(grid.jobs())


def test_a_recipe_has_defaults_of_what_it_never_looks_at() -> None:
    assert Recipe(pipeline="stream", rotate_degrees=10.0).rotate_degrees == 10.0
