"""The factors of the positional softmax: what may be kept between calls, and the forms of GPSA."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.reference import naive
from tests.reference.naive import close, on_one_thread, state
from zoo.layers import position_factors
from zoo.layers.attention import MultiHeadSelfAttention
from zoo.layers.gpsa import GatedPositionalSelfAttention

from .making import noise, randomise

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
GRID = (3, 4)


def layer(seed: int = 0, **keywords) -> GatedPositionalSelfAttention:
    return randomise(GatedPositionalSelfAttention(8, 2, **keywords), 0.5, seed).eval()


def tokens(batch: int = 2) -> Tensor:
    return noise(batch, 12, 8)


def _edit_in_place(module: nn.Module) -> None:
    with torch.no_grad():
        module.pos_proj.weight.mul_(2.0)


def _edit_data(module: nn.Module) -> None:
    module.pos_proj.weight.data.add_(0.5)  # invisible to version counters


def _load(module: nn.Module) -> None:
    module.load_state_dict(layer(seed=2).state_dict())


def _assign(module: nn.Module) -> None:
    module.load_state_dict(layer(seed=2).state_dict(), assign=True)


def _replace(module: nn.Module) -> None:
    module.pos_proj.weight = nn.Parameter(torch.randn(2, 3, dtype=torch.float64))


EDITS = [_edit_in_place, _edit_data, _load, _assign, _replace]


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_inference_follows_every_change_of_the_weights(
    edit: Callable[[nn.Module], None], mode: type
) -> None:
    module, x = layer(), tokens()
    with mode():
        before = module(x, GRID)
    edit(module)
    with mode():
        after = module(x, GRID)
    assert not torch.allclose(before, after)
    close(after, naive.gpsa(x, GRID, state(module), 2)[0], 1e-12)


@torch.no_grad()
def test_inference_builds_the_factors_once_per_weights_and_grid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = []
    original = position_factors.factors
    monkeypatch.setattr(
        position_factors, "factors", lambda *args: built.append(args[2]) or original(*args)
    )
    module, x = layer(), tokens()
    for grid in (GRID, GRID, (4, 3), (4, 3), GRID):
        module(x, grid)
    assert built == [GRID, (4, 3), GRID]


def test_a_copy_and_another_precision_have_factors_of_their_own() -> None:
    module, x = layer(), tokens()
    with torch.no_grad():
        expected = module(x, GRID)
        twin = copy.deepcopy(module)
        _edit_in_place(module)
        close(twin(x, GRID), expected, 0.0)
        single = twin.float()(x.float(), GRID)
    assert single.dtype == torch.float32
    close(single, expected, 1e-5)


def test_training_after_inference_mode_has_gradients() -> None:
    module, x = layer(), tokens()
    with torch.inference_mode():
        module(x, GRID)
    module(x, GRID).sum().backward()
    assert module.pos_proj.weight.grad.abs().max() > 0


def test_frozen_positions_train_the_rest_after_inference_mode() -> None:
    module, x = layer(freeze="position"), tokens()
    with torch.inference_mode():
        module(x, GRID)
    module(x, GRID).sum().backward()
    assert module.v.weight.grad is not None
    assert module.pos_proj.weight.grad is None


@pytest.mark.parametrize("gate", [-40.0, -3.0, 0.0, 3.0, 9.0, 40.0, 800.0])
def test_the_exported_form_is_exact_at_every_gate(gate: float) -> None:
    module, x = layer(qkv_bias=True), tokens()
    nn.init.constant_(module.gating_param, gate)
    with torch.no_grad():
        expected = naive.gpsa(x, GRID, state(module), 2)[0]
        close(module._forward_as_graph(x, GRID), expected, 1e-12)
        close(module(x, GRID), expected, 1e-12)


class _On(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x, GRID) if hasattr(self.module, "pos_proj") else self.module(x)


@pytest.mark.parametrize("gated", [True, False])
def test_the_captured_program_equals_eager_at_any_batch(gated: bool) -> None:
    module = layer() if gated else MultiHeadSelfAttention(8, 2, qkv_bias=True).double().eval()
    axes = ({0: torch.export.Dim("batch", min=1)},)
    with torch.no_grad():
        program = torch.export.export(_On(module), (tokens(2),), dynamic_shapes=axes)
        for batch in (1, 3):
            x = tokens(batch)
            close(program.module()(x), _On(module)(x), 1e-13)


def test_the_compiled_layer_equals_eager() -> None:
    module, x = layer(), tokens()
    with torch.no_grad():
        compiled = torch.compile(_On(module), backend="aot_eager")
        close(compiled(x), _On(module)(x), 1e-13)
        _edit_data(module)
        close(compiled(x), _On(module)(x), 1e-13)
    torch._dynamo.reset()


def test_gradcheck() -> None:
    module, x = layer(), tokens(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: module(y, GRID), (x,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_error_is_at_most_one_and_a_half_times_that_of_the_joint_softmax(
    dtype: torch.dtype,
) -> None:
    grid, heads, dim = (9, 8), 2, 32
    torch.manual_seed(0)
    module = GatedPositionalSelfAttention(dim, heads, use_local_init=False).double().eval()
    nn.init.normal_(module.pos_proj.weight)
    low = copy.deepcopy(module).to(dtype)
    module.load_state_dict(low.state_dict())  # the same, rounded numbers
    x = torch.randn(8, 72, dim, dtype=torch.float64).to(dtype)
    with torch.no_grad():
        expected = module(x.double(), grid)
        own = (low(x, grid).double() - expected).abs().max()
        error = (_as_published(low, x, grid).double() - expected).abs().max()
    assert own <= 1.5 * error


def _as_published(module: nn.Module, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Dense, in the precision of the weights throughout, renormalised."""
    y, column = torch.meshgrid(*(torch.arange(side) for side in grid), indexing="ij")
    dy, dx = (axis.flatten()[None] - axis.flatten()[:, None] for axis in (y, column))
    offsets = torch.stack((dx, dy, dx**2 + dy**2), -1).to(x.dtype)
    position = module.pos_proj(offsets).permute(2, 0, 1).softmax(-1)
    q, k = module._qk(x)
    content = (q @ k.mT * module.scale).softmax(-1)
    gate = module.gating_param.sigmoid().view(1, -1, 1, 1)
    weights = (1 - gate) * content + gate * position
    weights = weights / weights.sum(-1, keepdim=True)
    return module._project(weights @ module._heads(module.v(x)))
