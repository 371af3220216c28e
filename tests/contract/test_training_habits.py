"""Layer-wise decay, gradient checkpointing and building without memory, for every family."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import timm.optim as timm_optim
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import zoo
from tests.reference.naive import on_one_thread
from zoo.catalog.tables import read_costs
from zoo.models._views import FeatureNet

from .helpers import FAMILIES, build, images, relative_error, tiny

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
each_family = pytest.mark.parametrize("family", FAMILIES)


# Layers


def scales(model: nn.Module, **keywords: Any) -> dict[str, float]:
    """Parameter -> learning-rate scale of timm's layer-wise decay; each parameter once."""
    groups = timm_optim.param_groups_layer_decay(model, layer_decay=0.5, **keywords)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [(names[id(p)], group["lr_scale"]) for group in groups for p in group["params"]]
    assert len(found) == len(dict(found)) == len(names)
    return dict(found)


@each_family
def test_layer_wise_decay_falls_from_the_head_to_the_stem(family: str) -> None:
    model = tiny(family)
    found, blocks = scales(model), zoo.to_blocks(model)
    per_block = [
        {found[f"{name}.{key}"] for key, _ in model.get_submodule(name).named_parameters()}
        for name in blocks.names
        if name in dict(model.named_modules())
    ]
    per_block = [values for values in per_block if values]  # pools have no parameters
    assert all(len(values) == 1 for values in per_block)
    order = [values.pop() for values in per_block]
    assert order == sorted(order)
    assert order[-1] == 1.0
    assert order[0] == min(found.values()) < order[1]
    assert len(set(order)) >= len(model.feature_info)


@each_family
def test_tokens_and_positions_learn_with_the_stem(family: str) -> None:
    model = tiny(family)
    found = scales(model)
    own = {name for name, _ in model.named_parameters(recurse=False)}
    assert own == {name for name in model.no_weight_decay() if "." not in name}
    assert {found[name] for name in own} <= {min(found.values())}


@each_family
def test_coarse_groups_are_the_features(family: str) -> None:
    model = tiny(family)
    coarse = timm.models.group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    fine = timm.models.group_parameters(model, model.group_matcher(), reverse=True)
    assert coarse.keys() == fine.keys() == dict(model.named_parameters()).keys()
    assert max(coarse.values()) <= max(fine.values())
    assert max(coarse.values()) <= len(model.feature_info) + 1
    order = sorted(coarse, key=lambda name: fine[name])
    assert [coarse[name] for name in order] == sorted(coarse.values())


@each_family
def test_modules_are_grouped_as_their_parameters(family: str) -> None:
    model = tiny(family)
    groups = timm.models.group_modules(model, model.group_matcher(), reverse=True)
    parameters = timm.models.group_parameters(model, model.group_matcher(), reverse=True)
    assert groups
    for name, group in groups.items():
        own = [f"{name}.{key}" for key, _ in model.get_submodule(name).named_parameters()]
        assert {parameters[key] for key in own} == {group}


@each_family
def test_what_is_not_decayed_exists_and_is_a_token_or_a_position(family: str) -> None:
    model = tiny(family)
    spared = model.no_weight_decay()
    assert spared <= dict(model.named_parameters()).keys()
    positions = {n for n, _ in model.named_parameters() if "cls_token" in n or "pos_emb" in n}
    assert spared == positions


@each_family
def test_timms_optimizer_takes_every_family(family: str) -> None:
    model = tiny(family).train()
    optimizer = timm_optim.create_optimizer_v2(
        model, "adamw", lr=1e-2, weight_decay=0.05, layer_decay=0.7
    )
    before = copy.deepcopy(model.state_dict())
    model(images(family)).square().mean().backward()
    optimizer.step()
    changed = [k for k, p in model.named_parameters() if not torch.equal(p, before[k])]
    assert len(changed) > len(before) // 3


def test_layer_wise_decay_works_on_features_too() -> None:
    for net in (FeatureNet(tiny("convit")), FeatureNet(tiny("resnet"), (1, 3))):
        found = scales(net, no_weight_decay_list=net.no_weight_decay())
        stem = "model.patch_embed.proj.weight" if "model.pos_embed" in found else "model.layer0.0."
        assert min(v for k, v in found.items() if k.startswith(stem)) == min(found.values())
        assert len(set(found.values())) > 2
        assert max(found.values()) == 1.0
    dense = scales(zoo.create_model("fcvit_nano", features_only=True))
    assert dense["norm0.weight"] == 1.0


# Gradient checkpointing


def trained(model: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    """Output after a forward and a backward pass in training mode, and bytes kept between."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    model.train().zero_grad()
    torch.manual_seed(5)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model(x)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    out.square().sum().backward()
    return out, sum(size for pointer, size in kept.items() if pointer not in own)


@each_family
def test_checkpointing_changes_memory_only(family: str) -> None:
    plain, x = tiny(family), images(family, 8)
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing()
    assert saving.grad_checkpointing
    expected, everything = trained(plain, x)
    found, kept = trained(saving, x)
    assert torch.equal(found, expected)
    assert kept < everything
    for (name, p), q in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, msg=name)
    for (name, a), b in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(a, b), name  # running statistics are updated once


@pytest.mark.parametrize("keywords", [{"block": "mcdo"}, {"drop_path_rate": 0.5}], ids=str)
def test_what_is_recomputed_is_equally_random(keywords: dict[str, Any]) -> None:
    plain, x = tiny("resnet", **keywords).double(), images("resnet", 8).double()
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing()
    trained(plain, x)
    trained(saving, x)
    for p, q in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad)


@each_family
def test_checkpointing_can_be_switched_off_and_leaves_nothing_behind(family: str) -> None:
    model = tiny(family)
    keys = list(model.state_dict())
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    model.set_grad_checkpointing()
    assert list(model.state_dict()) == keys
    model.set_grad_checkpointing(False)
    after = {name: set(vars(module)) for name, module in model.named_modules()}
    after[""].discard("grad_checkpointing")
    assert after == before


class Counting:
    """A `forward` around another one, as accelerate's hooks put it onto a module."""

    def __init__(self, block: nn.Module) -> None:
        self.inner, self.calls = block.forward, 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return self.inner(*args)


def test_a_forward_that_a_block_was_given_is_put_back() -> None:
    model, x = tiny("convit"), images("convit")
    block = model.blocks[0]
    block.forward = given = Counting(block)
    model(x)
    model.set_grad_checkpointing()
    model.set_grad_checkpointing()
    model(x).sum().backward()
    assert given.calls == 3  # forward, and once more in backward
    model.set_grad_checkpointing(False)
    assert block.forward is given
    model(x).sum().backward()
    assert given.calls == 4


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_forward_that_a_block_gets_while_it_checkpoints_stays(wrapped: bool) -> None:
    model, x = tiny("convit"), images("convit")
    block, kept = model.blocks[0], []
    _, everything = trained(model, x)
    for _ in range(2):
        model.set_grad_checkpointing()
        kept.append(trained(model, x)[1])
        block.forward = given = Counting(block) if wrapped else block.forward
        model.set_grad_checkpointing(False)
        assert trained(model, x)[1] == everything
    assert kept[0] == kept[1] < everything
    assert (block.forward is given) == wrapped


@each_family
def test_a_checkpointing_model_is_copied_whole(family: str) -> None:
    model, x = tiny(family), images(family)
    model.set_grad_checkpointing()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert not torch.equal(twin(x), model(x))
    twin(x).square().sum().backward()
    assert all(p.grad is not None for p in twin.parameters())


def test_a_checkpointing_model_compiles_and_exports() -> None:
    model, x = tiny("convit"), images("convit")
    expected = model(x)
    model.set_grad_checkpointing()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert relative_error(compiled(x), expected) < 1e-6
    program = torch.export.export(model, (x,))
    assert relative_error(program.module()(x), expected) < 1e-6


def test_checkpointing_covers_blocks_of_a_feature_net() -> None:
    net = FeatureNet(tiny("convit"))
    net.set_grad_checkpointing()
    assert net.model.grad_checkpointing
    sum(found.sum() for found in net(images("convit"))).backward()


# Building without memory


class Allocations(TorchDispatchMode):
    """The largest tensor made outside the meta device, in elements."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, Tensor) and not value.is_meta:
                self.largest = max(self.largest, value.numel())
        return out


@each_family
def test_the_largest_model_is_built_on_the_meta_device_without_touching_memory(family: str) -> None:
    name = max(zoo.list_models(family=family), key=lambda name: read_costs()[name]["params"])
    with Allocations() as made, torch.device("meta"):
        model = zoo.create_model(name)
    assert all(value.is_meta for value in (*model.parameters(), *model.buffers()))
    assert made.largest <= 100  # drop-path rates, one per block
    assert sum(p.numel() for p in model.parameters()) == read_costs()[name]["params"]


@each_family
def test_features_of_the_largest_model_are_built_on_the_meta_device(family: str) -> None:
    name = max(zoo.list_models(family=family), key=lambda name: read_costs()[name]["params"])
    with torch.device("meta"):
        net = zoo.create_model(name, features_only=True)
    assert all(value.is_meta for value in (*net.parameters(), *net.buffers()))


def test_the_allocation_check_notices_memory() -> None:
    with Allocations() as made:
        build("resnet")
    assert made.largest > 1000
