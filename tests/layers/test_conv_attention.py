"""Two-dimensional convolutional attention against its naive twin, and the limits known on paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.reference.naive import close, gradients, on_one_thread
from zoo.layers.conv_attention import FORMS, ConvAttention2d

from .conv_layers import image, layer, twin

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
SHAPES = [(4, 4), (3, 5), (1, 6)]
WINDOWS = [(1, 1), (3, 1), (5, 1), (7, 1), (3, 2), (5, 3)]  # kernel size, dilation


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every exact form of the same sum, whatever the size of the map."""
    original = ConvAttention2d.__init__

    def build(self: ConvAttention2d, *args: Any, **keywords: Any) -> None:
        original(self, *args, **{"form": request.param, **keywords})

    monkeypatch.setattr(ConvAttention2d, "__init__", build)
    return request.param


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kernel", "dilation"), WINDOWS)
def test_output_and_attention_equal_the_twin(
    shape: tuple[int, int], kernel: int, dilation: int
) -> None:
    module, x = layer(kernel_size=kernel, dilation=dilation), image(*shape, batch=1)
    out, attention = twin(module, x)
    close(module(x), out, 1e-12)
    close(module.attention_weights(x), attention, 1e-12)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_gradients_equal_the_twin(kernel: int, dilation: int) -> None:
    module, x = layer(kernel_size=kernel, dilation=dilation), image(3, 4).requires_grad_()
    inputs = [x, *module.parameters()]
    expected = gradients(twin(module, x)[0], inputs)
    for actual, wanted in zip(gradients(module(x), inputs), expected, strict=True):
        close(actual, wanted, 1e-12)


@pytest.mark.usefixtures("form")
def test_float32_output_and_gradients_equal_the_float64_twin() -> None:
    fast, module, x = layer().float(), layer(), image(3, 5)
    module.load_state_dict(fast.state_dict())  # the same, rounded numbers
    x32 = x.float().requires_grad_()
    x = x.float().double().requires_grad_()
    actual, expected = fast(x32), twin(module, x)[0]
    assert actual.dtype == torch.float32
    close(actual, expected, 1e-6)
    inputs = [x, *module.parameters()]
    pairs = zip(
        gradients(actual, [x32, *fast.parameters()]), gradients(expected, inputs), strict=True
    )
    for gradient, wanted in pairs:
        close(gradient, wanted, 2e-6)


@pytest.mark.parametrize("mask_border", [False, True])
@pytest.mark.parametrize("shape", [(2, 40), (40, 2), (3, 33)])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (5, 2), (7, 1)])
def test_the_forms_agree_in_output_and_gradients(
    shape: tuple[int, int], kernel: int, dilation: int, mask_border: bool
) -> None:
    x, results = image(*shape).requires_grad_(), []
    for form in FORMS:
        module = layer(kernel_size=kernel, dilation=dilation, mask_border=mask_border, form=form)
        out = module(x)
        results.append((out, *gradients(out, [x, *module.parameters()])))
    for other in results[1:]:
        for actual, expected in zip(other, results[0], strict=True):
            close(actual, expected, 2e-12)


CHOICES = {
    "small map": ((14, 14), {"kernel_size": 3}, "bands"),
    "large window on a small map": ((14, 14), {"kernel_size": 7}, "dense"),
    "large window on a large map": ((21, 21), {"kernel_size": 7}, "bands"),
    "wide map": ((2, 33), {"kernel_size": 3}, "shifts"),
    "another padding": ((6, 6), {"kernel_size": 3, "padding": 2, "kv_stride": 2}, "shifts"),
    "excluded border": ((6, 6), {"kernel_size": 3, "mask_border": True}, "shifts"),
    "forced": ((6, 6), {"kernel_size": 3, "form": "dense"}, "dense"),
    "forced where it does not apply": (
        (6, 6), {"kernel_size": 3, "mask_border": True, "form": "bands"}, "shifts",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("size", "keywords", "expected"), CHOICES.values(), ids=CHOICES)
def test_the_form_is_chosen_by_sizes_and_settings(
    size: tuple[int, int], keywords: dict[str, Any], expected: str
) -> None:
    module = layer(**keywords)
    q, k, _ = module._project(image(*size))
    assert module._choose(q, k, None) == expected
    assert module._choose(q, k, torch.zeros(1)) == "shifts"  # masks


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="dense, bands, shifts, or None; got 'unfold'"):
        layer(form="unfold")


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (5, 2)])
def test_gradcheck(kernel: int, dilation: int) -> None:
    module, x = layer(kernel_size=kernel, dilation=dilation), image(2, 3, batch=1)
    assert torch.autograd.gradcheck(module, (x.requires_grad_(),))


@pytest.mark.parametrize("kernel", [3, 7])
def test_the_compiled_layer_equals_eager(kernel: int) -> None:
    module, x = layer(kernel_size=kernel), image(4, 5)
    with torch.no_grad():
        close(torch.compile(module, backend="aot_eager")(x), module(x), 1e-13)
    torch._dynamo.reset()


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_error_is_at_most_one_and_a_half_times_that_of_the_unfolded_windows(
    dtype: torch.dtype,
) -> None:
    module, x = layer(kernel_size=5), image(6, 7, batch=4)
    expected = twin(module, x)[0]
    low, x = module.to(dtype), x.to(dtype)
    q, k, v = low.to_q(x), *low.to_kv(x).chunk(2, dim=1)
    q = q.reshape(4, 2, 4, 1, 42)
    k, v = (F.unfold(part, 5, padding=2).reshape(4, 2, 4, 25, 42) for part in (k, v))
    weights = ((q * k).sum(2, keepdim=True) * low.scale).softmax(3)
    unfolded = low.to_out((weights * v).sum(3).reshape(4, 8, 6, 7))
    error, own = ((out.double() - expected).abs().max() for out in (unfolded, low(x)))
    assert own <= 1.5 * error


def _values(module: ConvAttention2d, x: Tensor) -> Tensor:
    """Windows of the zero-padded values. Shape: (B, nh, hd, K * K, N)."""
    values = module.to_kv(x).chunk(2, dim=1)[1]
    windows = F.unfold(values, module.kernel_size, module.dilation, module.padding)
    return windows.reshape(x.shape[0], 2, 4, module.kernel_size**2, -1)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (5, 2)])
def test_attention_weights_times_values_is_the_forward(kernel: int, dilation: int) -> None:
    module, x = layer(kernel_size=kernel, dilation=dilation), image(4, 5)
    attention = module.attention_weights(x)
    heads = torch.einsum("bhnk,bhdkn->bhdn", attention, _values(module, x))
    close(module(x), module.to_out(heads.reshape(2, 8, 4, 5)), 1e-13)


@pytest.mark.usefixtures("form")
def test_a_window_of_one_pixel_is_two_convolutions() -> None:
    module, x = layer(kernel_size=1), image(3, 4)
    close(module(x), module.to_out(module.to_kv(x)[:, 8:]), 1e-13)


@pytest.mark.usefixtures("form")
def test_dilation_attends_within_each_subsampled_image() -> None:
    wide, narrow, x = layer(dilation=2), layer(), image(6, 8)
    out = wide(x)
    for row in (0, 1):
        for column in (0, 1):
            part = narrow(x[:, :, row::2, column::2])
            close(out[:, :, row::2, column::2], part, 1e-13)


@pytest.mark.parametrize(("kernel", "dilation"), WINDOWS)
def test_default_padding_keeps_the_grid(kernel: int, dilation: int) -> None:
    module = layer(kernel_size=kernel, dilation=dilation)
    assert module.padding == dilation * (kernel - 1) / 2
    assert module(image(3, 5)).shape == (2, 6, 3, 5)


def test_output_width_may_differ() -> None:
    assert layer(dim_out=10)(image(3, 5)).shape == (2, 10, 3, 5)


def test_dropout_acts_on_the_output_in_training_only() -> None:
    module, x = layer(dropout=0.9), image(4, 5)
    torch.manual_seed(0)
    assert (module.train()(x) == 0).double().mean() > 0.5
    assert torch.equal(module.eval()(x), layer().eval()(x))


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_runs_close_to_float32(dtype: torch.dtype) -> None:
    module, x = layer().to(dtype), image(3, 5).to(dtype)
    out = module(x)
    assert out.dtype == dtype
    assert module.attention_weights(x).dtype == dtype
    close(out, module.float()(x.float()).double(), 8 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("kernel", [0, 2, 4, -1, (3, 3)])
def test_kernels_are_odd_numbers(kernel: Any) -> None:
    with pytest.raises(ValueError, match=r"odd positive int; got \(?-?\d"):
        ConvAttention2d(6, kernel_size=kernel)


@pytest.mark.parametrize("name", ["dilation", "kv_stride"])
def test_dilation_and_stride_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"must be positive; got .*{name}=0"):
        ConvAttention2d(6, **{name: 0})


@pytest.mark.parametrize("keywords", [{"kv_stride": 2}, {"padding": 0}, {"padding": 3}])
def test_a_key_map_that_does_not_fit_is_refused(keywords: dict[str, int]) -> None:
    module = layer(**keywords)
    with pytest.raises(ValueError, match=r"key map is \d+ x \d+ but the query map is 6 x 6"):
        module(image(6, 6))
