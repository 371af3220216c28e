"""Impossible constructor arguments: every family answers with a ConfigError that helps."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Sequence
from typing import Any

import pytest
import torch

import zoo
from tests.contract.helpers import FAMILIES, build, families_taking, family_of, images
from tests.reference.naive import on_one_thread
from zoo.errors import ConfigError
from zoo.factory.building import construct, find_class
from zoo.factory.keywords import check_arguments
from zoo.layers.windows import LocalAttention

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
each_family = pytest.mark.parametrize("family", FAMILIES)
WRONG = [0, -1, 1.5, "8", "x", None, True, (), (0,), (3,), [2, 2], {}, float("nan"), float("inf")]


class Example:
    """A constructor with every kind of keyword."""

    def __init__(
        self,
        num_classes: int = 1000,
        width: int = 8,
        offset: int = 0,
        patch: int | tuple[int, int] = 16,
        depths: tuple[int, ...] = (2, 2),
        stages: Sequence[str] = ("C",),
        bias: bool = False,
        gate: str | None = None,
        drop_rate: float = 0.0,
        mlp_ratio: float = 4.0,
        smoothing: bool | Sequence[int] = False,
    ) -> None: ...


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"num_classes": 0, "offset": 0, "width": 1},
        {"patch": (4, 8), "depths": [1, 2, 3], "stages": ["C", "A"]},
        {"patch": 4, "bias": True, "gate": None, "drop_rate": 1, "mlp_ratio": 2},
        {"gate": "se", "smoothing": [0, 1], "drop_rate": 0.5},
        {"smoothing": True},
    ],
    ids=str,
)
def test_what_fits_the_signature_passes(config: dict[str, Any]) -> None:
    check_arguments(Example, config)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"num_class": 3}, "has no argument 'num_class'; did you mean num_classes?"),
        ({"qqq": 3}, "has no argument 'qqq'; it takes num_classes, width, "),
        ({"width": 0}, "width must be a positive integer; got 0"),
        ({"width": True}, "width must be a positive integer; got True"),
        ({"offset": -1}, "offset must be an integer, at least 0; got -1"),
        ({"num_classes": -1}, "num_classes must be an integer, at least 0; got -1"),
        ({"patch": (4,)}, r"a positive integer or a list of 2 positive integers; got \(4,\)"),
        ({"depths": (2, 0)}, r"depths must be a list of positive integers; got \(2, 0\)"),
        ({"depths": 2}, "depths must be a list of positive integers; got 2"),
        ({"stages": "CA"}, "stages must be a list of strings; got 'CA'"),
        ({"bias": 1}, "bias must be true or false; got 1"),
        ({"gate": 3}, "gate must be a string or none; got 3"),
        ({"drop_rate": 1.5}, r"drop_rate must be in \[0, 1\]; got 1.5"),
        ({"drop_rate": float("nan")}, "drop_rate must be a number; got nan"),
        ({"mlp_ratio": 0}, "mlp_ratio must be positive; got 0"),
        ({"smoothing": [1, -1]}, "must be true or false or a list of integers; got"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_with_what_would(config: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        check_arguments(Example, config)


@each_family
def test_registered_and_tiny_configurations_fit_their_signatures(family: str) -> None:
    record = family_of(family)
    cls = find_class(record.builder)
    for config in (record.tiny, *record.variants.values()):
        check_arguments(cls, config)


@each_family
def test_any_wrong_value_is_a_config_error_or_builds_a_model(family: str) -> None:
    record = family_of(family)
    for keyword in inspect.signature(find_class(record.builder)).parameters:
        for value in WRONG:
            with torch.device("meta"), contextlib.suppress(ConfigError):  # nothing else
                construct(record.builder, {**record.tiny, keyword: value})


@each_family
def test_an_unknown_keyword_is_answered_with_the_nearest_name(family: str) -> None:
    name = zoo.list_models(family=family)[0]
    with pytest.raises(ConfigError, match="no argument 'num_clases'; did you mean num_classes"):
        zoo.create_model(name, num_clases=3)


@pytest.mark.parametrize("family", ["convit", "csan_encoder"])
def test_heads_that_do_not_divide_the_width_are_refused(family: str) -> None:
    text = r"cannot be built: .*divisible by num_heads; got dim=\d+, num_heads=7"
    with pytest.raises(ConfigError, match=text):
        build(family, num_heads=7)


def test_context_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"FCViT cannot be built: dim must be divisible by"):
        build("fcvit", gc_heads=5)


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="ResNet cannot be built: a basic block takes groups=1"):
        build("resnet", bottleneck=False, groups=3)


# A window larger than the map is no error: padding neither gives nor takes attention


@pytest.mark.parametrize("family", families_taking("window_size"))
def test_a_window_larger_than_every_map_runs(family: str) -> None:
    model = build(family, window_size=40).eval()
    with torch.no_grad():
        assert model(images(family)).isfinite().all()


def test_a_window_larger_than_the_map_sees_all_of_it_and_nothing_else() -> None:
    exact, larger = LocalAttention(8, window_size=6), LocalAttention(8, window_size=11)
    with torch.no_grad():
        state = larger.state_dict()
        state["pos_embedding"] = state["pos_embedding"][5:-5, 5:-5]  # the reach of a 6 x 6 window
        exact.load_state_dict(state)
        x = torch.randn(2, 8, 6, 6)
        torch.testing.assert_close(larger(x), exact(x), atol=1e-6, rtol=1e-5)


@each_family
def test_images_of_integers_are_refused(family: str) -> None:
    x = torch.zeros(images(family).shape, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"expected floating-point images; got torch.uint8: .*"):
        build(family)(x)
