"""What every family promises, on its tiny configuration. Nothing here names an architecture."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.reference.naive import on_one_thread
from zoo.errors import InputError

from .helpers import (
    FAMILIES,
    build,
    classes,
    each_builder,
    families_taking,
    images,
    relative_error,
    run_or_refuse,
    tiny,
)

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
each_family = pytest.mark.parametrize("family", FAMILIES)


# Forward


@each_family
@pytest.mark.parametrize("batch", [1, 3])
def test_logits_are_finite_and_one_per_class(family: str, batch: int) -> None:
    logits = build(family).eval()(images(family, batch))
    assert logits.shape == (batch, classes(family))
    assert logits.isfinite().all()


@each_family
def test_different_images_have_different_logits(family: str) -> None:
    logits = tiny(family)(images(family))
    assert relative_error(logits[:1], logits[1:]) > 1e-3


@each_family
def test_every_parameter_is_reached_by_backward(family: str) -> None:
    model = tiny(family)
    model(images(family)).square().sum().backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert not unused, f"backward never reaches {unused}"


@each_family
def test_every_gradient_is_finite(family: str) -> None:
    model = build(family)
    model(images(family)).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@each_family
def test_eval_is_deterministic(family: str) -> None:
    model, x = tiny(family), images(family)
    assert torch.equal(model(x), model(x))


@each_family
def test_an_empty_batch_has_no_logits_and_a_gradient_of_zero(family: str) -> None:
    model = tiny(family)
    logits = model(images(family)[:0])
    assert logits.shape == (0, classes(family))
    logits.sum().backward()
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)


@each_family
def test_eval_is_independent_of_the_rest_of_the_batch(family: str) -> None:
    model, x = tiny(family).double(), images(family, 3).double()
    alone = torch.cat([model(sample) for sample in x.split(1)])
    assert relative_error(alone, model(x)) < 1e-12


@each_family
def test_forward_is_the_head_on_the_features(family: str) -> None:
    model, x = tiny(family), images(family)
    assert torch.equal(model(x), model.forward_head(model.forward_features(x)))


@each_family
@pytest.mark.parametrize(
    "size", [(37, 53), (32, 48), (61, 32), (5, 7), (1, 1)], ids=lambda size: f"{size[0]}x{size[1]}"
)
def test_odd_prime_small_and_oblong_images_run_or_are_refused_with_sizes_that_work(
    family: str, size: tuple[int, int]
) -> None:
    logits = run_or_refuse(tiny(family), images(family, 2, size))
    if logits is None:
        return
    assert logits.shape == (2, classes(family))
    assert logits.isfinite().all()


@each_family
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_run(family: str, dtype: torch.dtype) -> None:
    model, x = tiny(family), images(family)
    expected = model.double()(x.double())
    logits = model.to(dtype)(x.to(dtype))
    assert logits.dtype == dtype
    assert relative_error(logits, expected) < 32 * torch.finfo(dtype).eps


@each_family
def test_float32_is_close_to_float64(family: str) -> None:
    model, x = tiny(family), images(family)
    logits = model(x)
    assert relative_error(logits, model.double()(x.double())) < 1e-5


def _written(model: nn.Module) -> dict[str, Any]:
    """Every attribute of every module, tensors with their in-place version."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            entries = value.items() if isinstance(value, dict) else [("", value)]
            for name, entry in entries:
                version = entry._version if isinstance(entry, Tensor) else 0
                found[f"{path}/{key}/{name}"] = (id(entry), version)
    return found


@each_family
def test_forward_writes_nothing_on_the_model(family: str) -> None:
    model, x = tiny(family), images(family)
    before = _written(model)
    model(x)
    run_or_refuse(model, images(family, 1, (40, 24)))
    assert _written(model) == before


@each_family
def test_a_deep_copy_is_independent(family: str) -> None:
    model, x = tiny(family), images(family)
    expected = model(x)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), expected)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(model(x), expected)


@each_family
def test_wrong_channels_are_refused_with_the_expected_shape(family: str) -> None:
    expected = r"expected a batch of images \(B, 3, H, W\); got shape \(2, 4, \d+, \d+\)"
    with pytest.raises(InputError, match=expected):
        tiny(family)(images(family, in_chans=4))


@each_family
def test_a_single_image_or_a_batch_of_lines_is_refused(family: str) -> None:
    model, x = tiny(family), images(family)
    for wrong in (x[0], x[:, :, 0], x[None]):
        with pytest.raises(InputError, match=r"expected a batch of images .*; got shape \("):
            model(wrong)


# Overrides


@each_family
def test_grey_images_run_with_one_input_channel(family: str) -> None:
    model = tiny(family, in_chans=1)
    assert model(images(family, in_chans=1)).shape == (2, classes(family))
    with pytest.raises(InputError, match=r"\(B, 1, H, W\)"):
        model(images(family))


def _with_drop_path(family: str) -> tuple[nn.Module, nn.Module]:
    """Two models of the same weights, the second with stochastic depth."""
    plain = tiny(family, drop_path_rate=0.0)
    dropped = build(family, drop_path_rate=0.9)
    dropped.load_state_dict(plain.state_dict())
    return plain, dropped


@pytest.mark.parametrize("family", families_taking("drop_path_rate"))
def test_drop_path_changes_training(family: str) -> None:
    plain, dropped = _with_drop_path(family)
    x = images(family, 8)
    torch.manual_seed(0)
    assert relative_error(dropped.train()(x), plain.train()(x)) > 1e-3


@pytest.mark.parametrize("family", families_taking("drop_path_rate"))
def test_drop_path_does_not_change_eval(family: str) -> None:
    plain, dropped = _with_drop_path(family)
    assert torch.equal(dropped.eval()(images(family)), plain.eval()(images(family)))


# Compilation


@each_builder
def test_a_compiled_model_equals_eager(family: str) -> None:
    torch._dynamo.reset()
    model, x = tiny(family), images(family)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert relative_error(compiled(x), model(x)) < 1e-6


@pytest.mark.slow
@each_family
def test_a_compiled_model_has_the_same_gradients(family: str) -> None:
    torch._dynamo.reset()
    model, x = tiny(family).double(), images(family).double()
    parameters = list(model.parameters())
    eager = torch.autograd.grad(model(x).square().sum(), parameters)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    actual = torch.autograd.grad(compiled(x).square().sum(), parameters)
    for gradient, expected in zip(actual, eager, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)
