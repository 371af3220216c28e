"""to_blocks: every family as the sequence of its blocks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from tests.contract.helpers import FAMILIES, build, family_of, images, tiny
from tests.reference.naive import on_one_thread
from zoo.errors import ConfigError, InputError
from zoo.models._views import StepBlock

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
each_family = pytest.mark.parametrize("family", FAMILIES)


@each_family
def test_running_the_blocks_is_running_the_model(family: str) -> None:
    model, x = tiny(family), images(family)
    blocks = zoo.to_blocks(model)
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(blocks(x), expected)
        for _, block in blocks:
            x = block(x)
    assert torch.equal(x, expected)


@each_family
def test_blocks_take_images_of_any_size_one_after_another(family: str) -> None:
    for size in ((40, 56), (33, 47), (32, 32)):
        config = {"img_size": size} if "img_size" in family_of(family).tiny else {}
        model, x = tiny(family, **config), images(family, 1, size)
        with torch.no_grad():
            assert torch.equal(zoo.to_blocks(model)(x), model(x))


def test_one_sequence_follows_the_grid_of_its_images() -> None:
    model = tiny("convit")
    blocks = zoo.to_blocks(model)
    for size in ((40, 24), (32, 32), (16, 56)):
        x = images("convit", 1, size)
        with torch.no_grad():
            assert torch.equal(blocks(x), model(x))


@each_family
def test_blocks_are_random_in_training_as_the_model_is(family: str) -> None:
    model, x = build(family).train(), images(family, 4)
    results = []
    for run in (copy.deepcopy(model), zoo.to_blocks(copy.deepcopy(model))):
        torch.manual_seed(3)
        results.append(run(x))
    assert torch.equal(*results)


@each_family
def test_names_are_those_of_modules_in_the_order_they_run(family: str) -> None:
    model, ran = tiny(family), []
    blocks = zoo.to_blocks(model)
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    assert len(set(blocks.names)) == len(blocks) > 2
    assert all(name in modules or name in parameters for name in blocks.names)
    for name in blocks.names:
        if name in modules:
            modules[name].register_forward_hook(lambda *_, name=name: ran.append(name))
    model(images(family))
    heads = {model.head_name}  # some heads run their parts, not themselves
    assert [n for n in ran if n not in heads] == [
        n for n in blocks.names if n in modules and n not in heads
    ]


@each_family
def test_every_feature_is_the_output_of_a_block(family: str) -> None:
    model = tiny(family)
    names = zoo.to_blocks(model).names
    for info in model.feature_info:
        assert any(f"{name}.".startswith(f"{info['module']}.") for name in names)


@each_family
def test_parameters_of_blocks_are_the_models_own(family: str) -> None:
    model = tiny(family)
    own = {id(parameter) for parameter in model.parameters()}
    found = [id(p) for block in zoo.to_blocks(model).values() for p in block.parameters()]
    assert set(found) <= own
    assert len(found) == len(set(found))


@each_family
def test_wrong_input_is_refused_by_the_first_block(family: str) -> None:
    with pytest.raises(InputError, match="expected a batch of images"):
        zoo.to_blocks(build(family))(images(family)[0])


@each_family
def test_the_model_is_not_changed(family: str) -> None:
    model = tiny(family)
    before = [name for name, _ in model.named_modules()]
    zoo.to_blocks(model)(images(family))
    assert [name for name, _ in model.named_modules()] == before


def test_a_residual_network_without_one_block_is_a_lesion() -> None:
    model, x = tiny("resnet"), images("resnet")
    blocks = zoo.to_blocks(model)
    lesioned = blocks.without("layer2.1")
    assert lesioned.names == [name for name in blocks.names if name != "layer2.1"]
    with torch.no_grad():
        logits = lesioned(x)
        assert logits.shape == model(x).shape
        assert not torch.equal(logits, model(x))
        model.layer2[1] = nn.Identity()
        assert torch.equal(logits, model(x))


def test_a_block_that_does_not_exist_cannot_be_left_out() -> None:
    with pytest.raises(ConfigError, match=r"no blocks \['layer9'\]; there are layer0, "):
        zoo.to_blocks(build("resnet")).without("layer9")


def test_a_sequence_is_indexed_by_number_name_and_slice() -> None:
    model = build("convit").eval()
    blocks = zoo.to_blocks(model)
    assert blocks[-1][0] == "head"
    assert blocks["norm"] is model.norm
    assert blocks[1:3].names == blocks.names[1:3]
    assert blocks.items() == list(blocks)
    assert [block for _, block in blocks] == blocks.values()
    x = images("convit")
    with torch.no_grad():
        assert torch.equal(blocks[2:](blocks[:2](x)), model(x))


def test_blocks_that_need_the_grid_say_so_when_no_image_went_in() -> None:
    blocks = zoo.to_blocks(build("convit"))
    assert isinstance(blocks["blocks.0"], StepBlock)
    with pytest.raises(InputError, match="no image went in; run the sequence from its first block"):
        blocks["blocks.0"](torch.zeros(1, 16, 32))


@pytest.mark.parametrize("order", ["wide first", "wide last"])
def test_blocks_never_guess_between_images_of_two_sizes(order: str) -> None:
    model = tiny("convit")
    blocks = zoo.to_blocks(model)
    tall, wide = images("convit", 1, (64, 32)), images("convit", 1, (32, 64))
    with torch.no_grad():
        inside = blocks[:2](tall)
        assert torch.equal(blocks[2:](inside), model(tall))
        assert torch.equal(blocks(wide), model(wide))  # a whole run knows its own
        with pytest.raises(InputError, match=r"of 64 x 32 and of 32 x 64 went in; .* the size"):
            blocks[2:](inside if order == "wide last" else blocks[:2](wide))
        assert torch.equal(blocks(tall), model(tall))


def test_blocks_that_are_bound_to_a_size_run_on_their_own() -> None:
    model, x = tiny("convit"), images("convit", 1, (64, 32))
    with torch.no_grad():
        inside = zoo.to_blocks(model)[:2](x)
        elsewhere = copy.deepcopy(zoo.to_blocks(model, img_size=(64, 32))[2:])
        assert torch.equal(elsewhere(inside), model(x))
        bound = zoo.to_blocks(model, img_size=32)
        with pytest.raises(InputError, match="bound to images of 32 x 32; got 64 x 32"):
            bound(x)


@each_family
def test_the_head_never_needs_the_size(family: str) -> None:
    model, x = tiny(family), images(family)
    blocks = zoo.to_blocks(model)
    with torch.no_grad():
        expected = model(x)
        inside = zoo.to_blocks(model)[:-1](x)
        assert torch.equal(blocks[-1][1](inside), expected)


@pytest.mark.parametrize("size", [0, (32,), (32, 32, 32), "32", 32.0, True, (32, -1)])
def test_a_size_that_cannot_be_is_refused(size: Any) -> None:
    with pytest.raises(ConfigError, match=r"img_size must be a side or \(height, width\)"):
        zoo.to_blocks(build("convit"), img_size=size)


def test_convits_class_token_is_a_step_of_its_own() -> None:
    names = zoo.to_blocks(build("convit", local_up_to_layer=2)).names
    assert names[names.index("cls_token") - 1 :][:3] == ["blocks.1", "cls_token", "blocks.2"]
    assert "cls_token" not in zoo.to_blocks(build("convit", local_up_to_layer=9)).names


def test_smoothing_blocks_stand_behind_their_stages() -> None:
    model = tiny("resnet", smoothing=True)
    names = zoo.to_blocks(model).names
    assert names.index("smooth1.0") == names.index("layer2.0") - 1
    with torch.no_grad():
        assert torch.equal(zoo.to_blocks(model)(images("resnet")), model(images("resnet")))


def test_dense_prediction_models_end_with_their_last_map() -> None:
    model = zoo.create_model("fcvit_nano", features_only=True).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(zoo.to_blocks(model)(x), model.forward_features(x))


@pytest.mark.parametrize("other", [nn.Linear(2, 2), nn.Sequential()])
def test_another_kind_of_module_is_refused(other: nn.Module) -> None:
    with pytest.raises(ConfigError, match="cannot be taken apart"):
        zoo.to_blocks(other)
