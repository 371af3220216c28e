"""Which images go into which step, and the recipes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from zoo.errors import ConfigError
from zoo.training.plan import Plan, derive_seed, keep_fraction, seeded, take_share
from zoo.training.recipe import Recipe, scaled
from zoo.training.recipes import RECIPES, default_recipe, get_recipe


def test_an_epoch_shows_every_image_once_but_for_an_odd_one() -> None:
    steps = Plan(count=23, batch_size=8).epoch(1)
    assert [len(step) for step in steps] == [8, 8, 6]
    shown = np.concatenate(steps)[:, 0]
    assert len(set(shown)) == len(shown) == 22
    assert set(shown) <= set(range(23))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(Plan(count=32, batch_size=8, seed=seed).epoch(epoch))[:, 0].tolist()

    assert order(0, 5) == order(0, 5)
    assert order(0, 5) != order(0, 6)
    assert order(0, 5) != order(1, 5)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_the_steps_of_one_process(world: int) -> None:
    alone = Plan(count=64, batch_size=16).epoch(3)
    together = Plan(count=64, batch_size=16, world=world).epoch(3)
    for step, whole in zip(together, alone, strict=True):
        shares = [step[take_share(len(step), rank, world)] for rank in range(world)]
        assert {len(share) for share in shares} == {16 // world}
        assert sorted(np.concatenate(shares)[:, 0]) == sorted(whole[:, 0])


def test_repeated_augmentation_shows_fewer_images_more_often() -> None:
    plan = Plan(count=30, batch_size=6, repeats=3)
    pairs = np.concatenate(plan.epoch(1))
    assert plan.images == 30
    assert len(set(pairs[:, 0])) == 10
    assert len({tuple(pair) for pair in pairs}) == 30
    assert {len(set(step[:, 0])) for step in plan.epoch(1)} == {2}


def test_too_few_images_for_the_processes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"3 training images.*2 processes"):
        Plan(count=3, batch_size=8, world=2)


def test_the_fraction_takes_the_first_images_of_every_class() -> None:
    targets = np.array([0, 1, 0, 1, 0, 0, 1, 1, 1, 1])  # 4 of class 0, 6 of class 1
    assert keep_fraction(targets, 0.5).tolist() == [0, 1, 2, 3, 6]
    assert keep_fraction(targets, 1.0).tolist() == list(range(10))
    with pytest.raises(ConfigError, match=r"none of the 4 images of class 0; take at least 0\.25"):
        keep_fraction(targets, 0.2)
    with pytest.raises(ConfigError, match=r"in \(0, 1\]; got 0"):
        keep_fraction(targets, 0)


def test_seeding_leaves_the_global_generators_alone() -> None:
    before, before_numpy = random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]
    with seeded(3):
        first = random.random(), np.random.rand()
    with seeded(3):
        assert (random.random(), np.random.rand()) == first
    assert random.getstate() == before
    assert np.array_equal(np.random.get_state()[1], before_numpy)  # type: ignore[index]


def test_places_have_unrelated_seeds() -> None:
    seeds = {derive_seed(a, b, c) for a in range(4) for b in range(4) for c in range(4)}
    assert len(seeds) == 64
    assert max(seeds) < 2**63


def test_recipes_of_the_papers_are_named_and_cited() -> None:
    papers = {"deit-convit", "fcvit", "hdvw-cifar", "hdvw-cifar-cnn", "hdvw-imagenet"}
    assert papers <= RECIPES.keys()
    assert all(recipe.source for recipe in RECIPES.values())
    convit = get_recipe("deit-convit")
    assert convit.scaled_lr == pytest.approx(1e-3)  # 5e-4 * 1024 / 512
    assert (convit.mixup, convit.cutmix, convit.repeats, convit.erase) == (0.8, 1.0, 3, 0.25)
    cifar = get_recipe("hdvw-cifar")
    assert (cifar.mixup, cifar.cutmix, cifar.clip_norm, cifar.total_epochs) == (1.0, 0.8, 5.0, 305)
    assert cifar.decay_all
    assert cifar.scaled_lr == 1.25e-4


def test_data_choose_their_recipe() -> None:
    names = {"digits": "digits", "photos/": "photos", "cifar100:x": "hdvw-cifar"}
    names["imagenet:x"] = "deit-convit"
    assert {data: default_recipe(data).name for data in names} == names


def test_impossible_recipes_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'deit-convit'"):
        get_recipe("deit-convnet")
    with pytest.raises(ConfigError, match="no field 'epoch'; did you mean 'epochs'"):
        scaled(Recipe(), epoch=3)
    with pytest.raises(ConfigError, match="optimizer must be one of 'adamw', 'sgd'; got 'adam'"):
        Recipe(optimizer="adam")
    with pytest.raises(ConfigError, match="epochs must be at least 1; got 0"):
        Recipe(epochs=0)
    with pytest.raises(ConfigError, match=r"ema_decay must be in \[0, 1\)"):
        Recipe(ema_decay=1.0)


def test_short_runs_warm_up_for_at_most_half_their_length() -> None:
    assert scaled(RECIPES["digits"], epochs=4).warmup_epochs == 2
    assert scaled(RECIPES["digits"], epochs=4, warmup_epochs=3).warmup_epochs == 3
