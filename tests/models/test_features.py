"""Features from inside every family: forward_intermediates as in timm."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import zoo
from tests.contract.helpers import FAMILIES, build, family_of, images, relative_error, tiny
from tests.reference.naive import on_one_thread
from zoo.errors import ConfigError
from zoo.models._checkpointing import take_indices

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
each_family = pytest.mark.parametrize("family", FAMILIES)


def hooked(model: nn.Module, x: Tensor) -> list[Tensor]:
    """What leaves the modules of `feature_info` in an ordinary forward pass."""
    seen: list[Tensor] = []
    modules = dict(model.named_modules())
    handles = [
        modules[info["module"]].register_forward_hook(lambda *args: seen.append(args[-1]))
        for info in model.feature_info
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return seen


def tokens(output: Tensor, info: dict[str, Any]) -> Tensor:
    """A module's output as (B, N, C) without class tokens."""
    if output.ndim == 4:
        return output.flatten(2).transpose(1, 2)
    return output[:, info.get("num_prefix_tokens", 0) :]


@each_family
def test_intermediates_are_what_the_modules_of_feature_info_return(family: str) -> None:
    model, x = tiny(family), images(family)
    with torch.no_grad():
        features, maps = model.forward_intermediates(x)
        assert torch.equal(features, model.forward_features(x))
    outputs = hooked(model, x)
    assert len(maps) == len(outputs) == len(model.feature_info)
    for found, output, info in zip(maps, outputs, model.feature_info, strict=True):
        assert found.shape[1] == info["num_chs"]
        assert torch.equal(found.flatten(2).transpose(1, 2), tokens(output, info))


@each_family
@pytest.mark.parametrize("size", [(40, 56), (33, 47)], ids=str)
def test_maps_have_the_sides_that_reductions_tell(family: str, size: tuple[int, int]) -> None:
    config = {"img_size": size} if "img_size" in family_of(family).tiny else {}
    model = tiny(family, **config)
    with torch.no_grad():
        maps = model.forward_intermediates(images(family, 1, size), intermediates_only=True)
    for found, info in zip(maps, model.feature_info, strict=True):
        for side, pixels in zip(found.shape[2:], size, strict=True):
            assert abs(side - pixels / info["reduction"]) <= 1


@each_family
def test_tokens_are_the_maps_row_by_row(family: str) -> None:
    model, x = tiny(family), images(family, 1, (32, 32))
    with torch.no_grad():
        maps = model.forward_intermediates(x, intermediates_only=True)
        rows = model.forward_intermediates(x, output_fmt="NLC", intermediates_only=True)
    for found, row in zip(maps, rows, strict=True):
        assert torch.equal(row.transpose(1, 2).reshape(found.shape), found)


@each_family
def test_indices_choose_as_in_timm(family: str) -> None:
    model, x = tiny(family), images(family, 1)
    with torch.no_grad():
        maps = model.forward_intermediates(x, intermediates_only=True)
        for indices, expected in ((1, maps[-1:]), ((-1, 0), [maps[0], maps[-1]]), ([0], maps[:1])):
            found = model.forward_intermediates(x, indices, intermediates_only=True)
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@each_family
def test_stopping_early_runs_nothing_behind_the_last_feature(family: str) -> None:
    model, x, ran = tiny(family), images(family, 1), []
    with torch.no_grad():
        expected = model.forward_intermediates(x, [0], intermediates_only=True)
        last = model.feature_info[-1]["module"]
        behind = next(
            m for n, m in model.named_modules() if n.startswith(last) and not [*m.children()]
        )
        behind.register_forward_hook(lambda *_: ran.append(1))
        early, maps = model.forward_intermediates(x, [0], stop_early=True)
    assert torch.equal(maps[0], expected[0])
    assert early.shape[0] == 1
    assert not ran


@each_family
@pytest.mark.parametrize("indices", [99, (99,), (-99,), (), 0])
def test_features_that_do_not_exist_are_refused(family: str, indices: Any) -> None:
    with pytest.raises(ValueError, match=r"features? "):
        build(family).forward_intermediates(images(family), indices)


@each_family
def test_another_format_is_refused(family: str) -> None:
    with pytest.raises(ValueError, match="output_fmt must be one of NCHW, NLC; got 'NHWC'"):
        build(family).forward_intermediates(images(family), output_fmt="NHWC")


@each_family
def test_another_input_is_refused_as_in_forward(family: str) -> None:
    for wrong in (images(family)[0], images(family, in_chans=4), torch.zeros(3)):
        with pytest.raises(ValueError, match="expected a batch of images"):
            build(family).forward_intermediates(wrong)


@each_family
def test_the_final_norm_is_applied_where_it_fits_only(family: str) -> None:
    model, x = tiny(family), images(family)
    with torch.no_grad():
        plain = model.forward_intermediates(x, intermediates_only=True)
        normed = model.forward_intermediates(x, norm=True, intermediates_only=True)
    for before, after, info in zip(plain, normed, model.feature_info, strict=True):
        assert after.shape == before.shape
        if info["num_chs"] != model.feature_info[-1]["num_chs"]:
            assert torch.equal(after, before)


@pytest.mark.parametrize("family", ["convit", "csan_encoder", "fcvit"])
def test_the_last_normed_feature_is_what_forward_features_returns(family: str) -> None:
    model, x = tiny(family), images(family)
    with torch.no_grad():
        features, maps = model.forward_intermediates(x, norm=True)
    normed = tokens(features, model.feature_info[-1])
    assert torch.equal(maps[-1].flatten(2).transpose(1, 2), normed)


@pytest.mark.parametrize("family", ["preresnet", "alternet"])
def test_preactivation_networks_norm_their_last_map(family: str) -> None:
    model, x = tiny(family), images(family)
    with torch.no_grad():
        maps = model.forward_intermediates(x, norm=True, intermediates_only=True)
        expected = model.classifier[-1].bn(model.forward_features(x))
    assert torch.equal(maps[-1], expected)


def test_intermediates_equal_timms_on_the_same_weights() -> None:
    import timm

    theirs = timm.create_model("convit_tiny").eval()
    ours = zoo.create_model("convit_tiny").eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 224, 224)
    if not hasattr(theirs, "forward_intermediates"):
        pytest.skip(f"timm {timm.__version__} has no intermediates of ConViT")
    for keywords in ({}, {"norm": True}, {"indices": 2}, {"indices": [1, -1], "output_fmt": "NLC"}):
        with torch.no_grad():
            (features, maps), (last, expected) = (
                model.forward_intermediates(x, **keywords) for model in (ours, theirs)
            )
        assert relative_error(features, last) < 1e-5
        assert len(maps) == len(expected)
        assert max(relative_error(a, b) for a, b in zip(maps, expected, strict=True)) < 1e-5


def test_the_signature_is_timms() -> None:
    from timm.models import VisionTransformer as vit

    theirs = inspect.signature(vit.forward_intermediates).parameters
    ours = inspect.signature(build("convit").forward_intermediates).parameters
    common = [name for name in theirs if name in ours]
    assert common == list(ours)
    assert all(ours[name].default == theirs[name].default for name in common)


def test_indices_are_absolute_ascending_and_single() -> None:
    assert take_indices(4, None) == [0, 1, 2, 3]
    assert take_indices(4, 2) == [2, 3]
    assert take_indices(4, (2, -1, 0, 2)) == [0, 2, 3]
    assert take_indices(4, np.int64(2)) == [2, 3]
    assert take_indices(4, np.asarray([-1, 0])) == [0, 3]


@pytest.mark.parametrize(
    "wrong", [99, 0, True, 1.5, "12", (), (4,), (-5,), (0.5,), (True, False), [[0]]]
)
def test_indices_that_no_feature_has_are_a_typed_error(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"feature indices must be|features were asked for"):
        take_indices(4, wrong)
