"""What layers keep between calls never shows: in threads, copies, transforms, other modes."""

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from tests.reference import naive
from tests.reference.naive import close
from zoo.layers.conv_attention import ConvAttention2d
from zoo.layers.gpsa import GatedPositionalSelfAttention
from zoo.layers.mask_cache import kept_on_cpu

LAYERS = {
    "gpsa": lambda: GatedPositionalSelfAttention(16, 4),
    "dense": lambda: ConvAttention2d(16, num_heads=2, head_dim=8, kernel_size=5, form="dense"),
    "bands": lambda: ConvAttention2d(16, num_heads=2, head_dim=8, kernel_size=3, form="bands"),
}
TWINS: dict[type, Callable[..., torch.Tensor]] = {
    GatedPositionalSelfAttention: lambda layer, state, x: naive.gpsa(x, (3, 3), state, 4)[0],
    ConvAttention2d: lambda layer, state, x: naive.conv_attention(
        x, state, 2, 8, layer.kernel_size
    )[0],
}
SIDES = (3, 4, 5, 6)


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return LAYERS[request.param]().eval()


def _input(layer: nn.Module, side: int = 5) -> torch.Tensor:
    x = torch.randn(2, 16, side, side, generator=torch.Generator().manual_seed(side))
    return x if isinstance(layer, ConvAttention2d) else x.flatten(2).transpose(1, 2).contiguous()


def test_sixteen_threads_get_what_one_gets(layer: nn.Module) -> None:
    inputs = [_input(layer, side) for side in SIDES]
    with torch.no_grad():
        expected = [copy.deepcopy(layer)(x) for x in inputs]

    def work(number: int) -> bool:
        with torch.no_grad():
            chosen = [(number + i) % len(SIDES) for i in range(40)]
            return all(torch.equal(layer(inputs[i]), expected[i]) for i in chosen)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))


def test_training_works_after_inference_mode(layer: nn.Module) -> None:
    x = _input(layer)
    with torch.inference_mode():
        expected = layer(x).clone()
    actual = layer(x)
    actual.sum().backward()
    torch.testing.assert_close(actual, expected)
    assert all(p.grad is not None for p in layer.parameters())


def test_copies_and_pickles_of_a_used_layer_are_independent(layer: nn.Module) -> None:
    x = _input(layer)
    with torch.no_grad():
        expected = layer(x)
        for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert torch.equal(twin(x), expected)
            for parameter in twin.parameters():
                parameter.mul_(1.5)
            assert not torch.equal(twin(x), expected)
        assert torch.equal(layer(x), expected)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # vmap of torch's own attention
def test_function_transforms_see_every_set_of_weights(layer: nn.Module) -> None:
    x = _input(layer)
    with torch.no_grad():
        layer(x)  # something is kept
        state = dict(layer.named_parameters())
        stacked = {key: torch.stack([v, 1.5 * v]) for key, v in state.items()}
        actual = torch.vmap(lambda p: torch.func.functional_call(layer, p, (x,)))(stacked)
        for i in range(2):
            one = {key: value[i] for key, value in stacked.items()}
            expected = torch.func.functional_call(copy.deepcopy(layer), one, (x,))
            torch.testing.assert_close(actual[i], expected)


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_gradients_of_function_transforms_are_those_of_the_weights_passed(
    layer: nn.Module, factor: float
) -> None:
    layer, x = layer.double(), _input(layer, side=3).double()
    with torch.no_grad():
        kept = layer(x)
    weights = {key: factor * v.detach() for key, v in layer.named_parameters()}
    loss = lambda p: torch.func.functional_call(layer, p, (x,)).square().sum()  # noqa: E731
    actual = torch.func.grad(loss)(weights)
    leaves = {key: value.clone().requires_grad_() for key, value in weights.items()}
    wanted = torch.autograd.grad(
        TWINS[type(layer)](layer, leaves, x).square().sum(), list(leaves.values())
    )
    for (key, found), expected in zip(actual.items(), wanted, strict=True):
        assert type(found) is torch.Tensor, key
        close(found, expected, 1e-12)
    with torch.no_grad():
        assert torch.equal(layer(x), kept)


def test_autocast_leaves_float32_calls_as_they_were(layer: nn.Module) -> None:
    x = _input(layer)
    with torch.no_grad():
        expected = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            half = layer(x)
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), expected, atol=5e-2, rtol=5e-2)
        assert torch.equal(layer(x), expected)


def test_only_so_many_results_are_kept() -> None:
    built = []

    @kept_on_cpu
    def ones(size: int, device: torch.device) -> torch.Tensor:
        built.append(size)
        return torch.ones(size, device=device)

    cpu = torch.device("cpu")
    for size in (*range(20), *range(20)):
        assert ones(size, cpu).shape == (size,)
    assert len(built) == 40  # sixteen are kept, the oldest go first
    assert ones(19, cpu) is ones(19, cpu)
    ones(3, torch.device("meta"))
    ones(3, torch.device("meta"))
    assert built[-2:] == [3, 3]
