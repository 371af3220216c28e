"""features_only: nets of features of every family, their pruning, FCViT's own dense form."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from tests.contract.helpers import FAMILIES, images, relative_error, tiny
from tests.reference.naive import on_one_thread
from zoo.errors import ConfigError
from zoo.models._views import FeatureInfo, FeatureNet, last_of_each_resolution

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
each_family = pytest.mark.parametrize("family", FAMILIES)
# tokens on a grid, with pools between, a CNN; the others compile in the slow suite
_QUICK = ("convit", "hdvw_pit", "resnet")
COMPILED = [f if f in _QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES]


def smallest_of(family: str) -> str:
    """The family's model with the fewest parameters."""
    from zoo.catalog.tables import read_costs

    return min(zoo.list_models(family=family), key=lambda name: read_costs()[name]["params"])


@each_family
def test_features_only_returns_the_last_map_of_every_resolution(family: str) -> None:
    name = smallest_of(family)
    with torch.device("meta"):
        model = zoo.create_model(name, features_only=True).eval()
        side = model.pretrained_cfg.input.size[0]
        maps = model(torch.zeros(1, 3, side, side))
    assert [found.shape[1] for found in maps] == model.feature_info.channels()
    reductions = model.feature_info.reduction()
    assert sorted(set(reductions)) == reductions
    for found, reduction in zip(maps, reductions, strict=True):
        assert found.ndim == 4
        assert abs(found.shape[2] - side / reduction) <= 1


@each_family
def test_a_feature_net_returns_the_intermediates_in_the_order_asked_for(family: str) -> None:
    model, x = tiny(family), images(family)
    last = len(model.feature_info) - 1
    net = FeatureNet(copy.deepcopy(model), (-1, 0))
    with torch.no_grad():
        expected = model.forward_intermediates(x, intermediates_only=True)
        found = net(x)
    assert net.out_indices == (last, 0)
    assert torch.equal(found[0], expected[-1])
    assert torch.equal(found[1], expected[0])
    assert net.feature_info.channels() == [found[0].shape[1], found[1].shape[1]]
    assert net.feature_info.module_name() == [model.feature_info[i]["module"] for i in (-1, 0)]


@each_family
def test_a_feature_net_keeps_no_parameter_that_is_not_trained(family: str) -> None:
    net = FeatureNet(tiny(family)).train()
    sum(found.square().sum() for found in net(images(family))).backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]


@each_family
def test_what_lies_behind_the_first_feature_can_be_cut_off(family: str) -> None:
    model, x = tiny(family), images(family)
    net = FeatureNet(copy.deepcopy(model), [0])
    assert sum(p.numel() for p in net.parameters()) < sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        assert torch.equal(net(x)[0], hooked_map(model, x))


def hooked_map(model: nn.Module, x: Tensor) -> Tensor:
    return model.forward_intermediates(x, [0], intermediates_only=True)[0]


@pytest.mark.parametrize("family", COMPILED)
def test_a_feature_net_compiles_whole(family: str) -> None:
    torch._dynamo.reset()
    net, x = FeatureNet(tiny(family)), images(family)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for found, expected in zip(compiled(x), net(x), strict=True):
            assert relative_error(found, expected) < 1e-6


def test_pretrained_features_are_those_of_the_pretrained_model() -> None:
    model = zoo.create_model("convit_nano", pretrained=True).eval()
    net = zoo.create_model("convit_nano", pretrained=True, features_only=True, out_indices=2).eval()
    x = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        expected = model.forward_intermediates(x, 2, intermediates_only=True)
        assert all(torch.equal(a, b) for a, b in zip(net(x), expected, strict=True))
    assert net.feature_info.channels() == [96, 96]
    assert net.pretrained_cfg.tag == "digits"
    assert net.pretrained_cfg.num_classes == 0


def test_features_of_a_run_directory(tiny_run: Path) -> None:
    net = zoo.create_model(str(tiny_run), pretrained=True, features_only=True).eval()
    model = zoo.create_model(str(tiny_run), pretrained=True).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(x)[0], model.forward_intermediates(x, 1, intermediates_only=True)[0])


def test_a_feature_net_is_copied_whole() -> None:
    net = FeatureNet(tiny("resnet"))
    twin, x = copy.deepcopy(net), images("resnet")
    assert all(torch.equal(a, b) for a, b in zip(twin(x), net(x), strict=True))
    assert twin.feature_info.channels() == net.feature_info.channels()
    assert twin.feature_info[0] is not net.feature_info[0]


def test_feature_info_speaks_as_timms() -> None:
    entries = [{"module": f"layer{i}", "num_chs": 8 * i, "reduction": 2**i} for i in range(4)]
    info = FeatureInfo(entries, (1, 3))
    assert info.channels() == [8, 24]
    assert info.reduction(2) == 4
    assert info.module_name([0, 2]) == ["layer0", "layer2"]
    assert info.get_dicts(["num_chs"]) == [{"num_chs": 8}, {"num_chs": 24}]
    assert [entry["index"] for entry in info] == [0, 1, 2, 3]
    assert last_of_each_resolution([{"reduction": r} for r in (4, 4, 8, 8, 16)]) == [1, 3, 4]


def test_out_indices_without_features_only_are_refused() -> None:
    with pytest.raises(ConfigError, match="out_indices needs features_only=True"):
        zoo.create_model("convit_nano", out_indices=(0,))


def test_features_only_can_be_said_to_be_off() -> None:
    assert zoo.create_model("convit_nano", features_only=False).num_classes == 10


@pytest.mark.parametrize("wrong", [(7,), 9, "all", (0.5,)])
def test_wrong_out_indices_are_a_typed_error(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="out_indices="):
        zoo.create_model("convit_nano", features_only=True, out_indices=wrong)


def test_a_module_of_another_kind_has_no_feature_net() -> None:
    with pytest.raises(ConfigError, match="Linear has no forward_intermediates"):
        FeatureNet(nn.Linear(2, 2))


# FCViT's own form for dense prediction


def test_fcvit_takes_its_own_dense_form_with_the_originals_keys() -> None:
    torch.manual_seed(0)
    model = zoo.create_model("fcvit_nano", features_only=True).eval()
    record = zoo.get_record("fcvit_nano")
    native = type(model)(**record.config, features_only=True)
    assert list(model.state_dict()) == list(native.state_dict())
    native.eval().load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 45, 64)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(model(x), native(x), strict=True))
    assert model.feature_info.channels() == [32, 64, 96]
    assert model.pretrained_cfg.model_args == {"features_only": True}
    assert model.num_classes == native.num_classes == 0


def test_fcvits_dense_features_can_be_chosen_and_carry_their_norms() -> None:
    torch.manual_seed(0)
    every = zoo.create_model("fcvit_nano", features_only=True).eval()
    torch.manual_seed(0)
    some = zoo.create_model("fcvit_nano", features_only=True, out_indices=(0, 1)).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(some(x), every(x)[:2], strict=True))
        _, maps = every.forward_intermediates(x, norm=True)
        assert all(torch.equal(a, b) for a, b in zip(maps, every(x), strict=True))
    assert not [key for key in some.state_dict() if "norm4" in key]


def test_fcvits_first_norm_can_stay_out_of_its_dense_form() -> None:
    model = zoo.create_model("fcvit_nano", features_only=True, first_feature_norm=False)
    assert "norm0.weight" not in model.state_dict()


def pyramid(size: tuple[int, int], name: str) -> dict[str, Tensor]:
    """torchvision's feature pyramid on a backbone."""
    from collections import OrderedDict

    from torchvision import ops

    backbone = zoo.create_model(name, features_only=True).eval()
    fpn = ops.FeaturePyramidNetwork(backbone.feature_info.channels(), 32).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, *size))
        return fpn(OrderedDict((str(i), found) for i, found in enumerate(maps)))


@pytest.mark.parametrize("name", ["fcvit_nano", "resnet_18", "alternet_nano", "hdvw_swin_tiny"])
def test_a_feature_pyramid_stands_on_features(name: str) -> None:
    levels = list(pyramid((64, 96), name).values())
    assert all(level.shape[:2] == (1, 32) for level in levels)
    assert all(level.isfinite().all() for level in levels)


@pytest.mark.slow
def test_a_feature_pyramid_stands_on_fcvit_b12_at_the_size_of_detection() -> None:
    levels = pyramid((800, 1333), "fcvit_b12")
    sides = [(200, 334), (100, 167), (50, 84), (25, 42)]
    assert [tuple(level.shape[2:]) for level in levels.values()] == sides
    assert all(level.isfinite().all() for level in levels.values())
