"""Linear layers that are wrapped, quantised or hooked still do all that they do, in every family.

A model that reads `child.weight` instead of calling the child passes an adapter by without a word.
"""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn

from zoo.layers import GatedPositionalSelfAttention, MultiHeadSelfAttention, PositionalSelfAttention
from zoo.layers.embeddings import ConvEmbedding
from zoo.layers.linear_maps import is_plain, weight_and_bias

from .helpers import FAMILIES, images, relative_error, tiny

each_family = pytest.mark.parametrize("family", FAMILIES)


class Adapter(nn.Module):
    """W x + b + up(down(x)), as LoRA puts it around a frozen layer; it has no `weight`."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        kind = {"dtype": base.weight.dtype}
        self.down = nn.Parameter(torch.randn(2, base.in_features, **kind) * 0.3)
        self.up = nn.Parameter(torch.randn(base.out_features, 2, **kind) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down.T @ self.up.T

    def merged(self) -> nn.Linear:
        layer = copy.deepcopy(self.base)
        with torch.no_grad():
            layer.weight += self.up @ self.down
        return layer


def wrap(model: nn.Module) -> dict[str, Adapter]:
    """Put an adapter around every linear layer; the adapters by name."""
    torch.manual_seed(3)
    linear = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    adapters = {name: Adapter(model.get_submodule(name)) for name in linear}
    for name, adapter in adapters.items():
        model.set_submodule(name, adapter)
    return adapters


def merge(model: nn.Module) -> nn.Module:
    merged = copy.deepcopy(model)
    for name, module in list(merged.named_modules()):
        if isinstance(module, Adapter):
            merged.set_submodule(name, module.merged())
    return merged


@each_family
def test_adapters_around_all_linear_layers_equal_merged_weights(family: str) -> None:
    model, x = tiny(family).double(), images(family).double()
    before = model(x)
    assert wrap(model)
    assert relative_error(model(x), merge(model)(x)) < 1e-12
    assert relative_error(model(x), before) > 1e-3


@each_family
def test_every_adapter_is_reached_by_backward_and_moves_the_logits(family: str) -> None:
    model, x = tiny(family).double(), images(family).double()
    adapters = wrap(model)
    logits = model(x)
    logits.square().sum().backward()
    parameters = [(n, p) for n, a in adapters.items() for p in (a.down, a.up)]
    idle = [name for name, p in parameters if p.grad is None or not p.grad.abs().max() > 0]
    assert not idle, f"{family}: backward never reaches {idle}"
    for name, adapter in adapters.items():
        with torch.no_grad():
            adapter.up.neg_()
            assert relative_error(model(x), logits) > 1e-9, f"{family}: {name} has no effect"
            adapter.up.neg_()


@each_family
def test_dynamic_quantisation_runs_and_stays_near(family: str) -> None:
    model, x = tiny(family), images(family)
    engines = [e for e in torch.backends.quantized.supported_engines if e != "none"]
    if not engines:
        pytest.skip("this build of torch has no quantised kernels")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own quantised tensors are deprecated
        small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert not any(type(module) is nn.Linear for module in small.modules())
    with torch.no_grad():
        assert relative_error(small(x), model(x)) < 0.1


LAYERS = {
    "gpsa": lambda: GatedPositionalSelfAttention(8, 2, qkv_bias=True),
    "psa": lambda: PositionalSelfAttention(8, 2),
    "mhsa": lambda: MultiHeadSelfAttention(8, 2),
    "embedding": lambda: ConvEmbedding(3, 8, 2, stride=2),
}


def _input(kind: str) -> Tensor:
    shape = (2, 2, 7, 9) if kind == "embedding" else (2, 9, 8)
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("kind", LAYERS)
def test_exported_graphs_hold_the_adapters(kind: str) -> None:
    torch.manual_seed(0)
    layer, x = LAYERS[kind]().double().eval(), _input(kind)
    wrap(layer)
    program = torch.export.export(layer, (x,))
    assert relative_error(program.module()(x), layer(x)) < 1e-12


@pytest.mark.parametrize("kind", LAYERS)
def test_hooks_of_every_linear_layer_fire(kind: str) -> None:
    torch.manual_seed(0)
    layer, x, fired = LAYERS[kind]().double().eval(), _input(kind), set()
    plain = layer(x)
    linear = {name: m for name, m in layer.named_modules() if isinstance(m, nn.Linear)}
    for name, module in linear.items():
        module.register_forward_hook(lambda *_, name=name: fired.add(name))
    assert relative_error(layer(x), plain) < 1e-12
    assert fired == set(linear)


def test_a_hook_that_changes_the_position_logits_changes_the_answer() -> None:
    torch.manual_seed(0)
    layer, x = GatedPositionalSelfAttention(8, 2).eval(), torch.randn(1, 9, 8)
    with torch.no_grad():
        before = layer(x)
        layer.pos_proj.register_forward_hook(lambda _module, _inputs, out: 0 * out)
        after, rows = layer(x), layer.position_factors((3, 3))[0]
    assert relative_error(after, before) > 1e-3
    assert torch.allclose(rows, torch.full_like(rows, 1 / 3))


def test_strengths_and_centres_see_an_adapter() -> None:
    layer = PositionalSelfAttention(8, 4).double()
    wrapped = copy.deepcopy(layer)
    wrap(wrapped)
    merged = merge(wrapped)
    for found, wanted in (
        (wrapped.strengths(), merged.strengths()),
        (wrapped.centres(), merged.centres()),
    ):
        assert torch.allclose(found, wanted, atol=1e-12)
    assert not torch.allclose(wrapped.strengths(), layer.strengths())


def test_weight_and_bias_of_a_layer_that_is_called_are_its_own() -> None:
    layer = nn.Linear(3, 5).double()
    assert weight_and_bias(layer, 3)[0] is layer.weight
    layer.register_forward_hook(lambda *_: None)
    assert not is_plain(layer)
    weight, bias = weight_and_bias(layer, 3)
    assert torch.allclose(weight, layer.weight, atol=1e-15)
    assert torch.equal(bias, layer.bias)


def test_parametrised_and_patched_layers_are_not_plain() -> None:
    assert is_plain(nn.Linear(3, 3))
    assert not is_plain(torch.nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    patched = nn.Linear(3, 3)
    patched.forward = lambda x: x
    assert not is_plain(patched)
