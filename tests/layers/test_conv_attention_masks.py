"""Convolutional attention under masks, with its border excluded, and on strided key maps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.reference.naive import close, gradients, on_one_thread

from .conv_layers import image, layer, random_mask, twin

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
SHAPES = [(4, 4), (3, 5), (1, 6)]


@pytest.mark.parametrize("shape", [(12, 9), (2, 1, 12, 9), (1, 2, 1, 9), (2, 2, 12, 1)])
def test_a_mask_is_added_to_the_logits(shape: tuple[int, ...]) -> None:
    module, x, mask = layer(), image(3, 4), random_mask(*shape)
    out, attention = twin(module, x, mask=mask)
    close(module(x, mask), out, 1e-12)
    close(module.attention_weights(x, mask), attention, 1e-12)


def test_gradients_under_a_mask_equal_the_twin() -> None:
    module, x = layer(), image(3, 4).requires_grad_()
    mask = random_mask(2, 2, 12, 9).requires_grad_()
    inputs = [x, mask, *module.parameters()]
    expected = gradients(twin(module, x, mask=mask)[0], inputs)
    for actual, wanted in zip(gradients(module(x, mask), inputs), expected, strict=True):
        close(actual, wanted, 1e-12)


def test_minus_infinity_in_a_mask_excludes_an_offset() -> None:
    module, x, mask = layer(), image(3, 4), torch.zeros(9, dtype=torch.float64)
    mask[4:] = -torch.inf
    attention = module.attention_weights(x, mask)
    assert (attention[..., 4:] == 0).all()
    close(attention, twin(module, x, mask=mask)[1], 1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (5, 2)])
def test_mask_border_equals_the_twin(shape: tuple[int, int], kernel: int, dilation: int) -> None:
    module = layer(kernel_size=kernel, dilation=dilation, mask_border=True)
    x = image(*shape)
    out, attention = twin(module, x, mask_border=True)
    close(module(x), out, 1e-12)
    close(module.attention_weights(x), attention, 1e-12)


def test_gradients_with_mask_border_equal_the_twin() -> None:
    module, x = layer(mask_border=True), image(3, 4).requires_grad_()
    inputs = [x, *module.parameters()]
    expected = gradients(twin(module, x, mask_border=True)[0], inputs)
    for actual, wanted in zip(gradients(module(x), inputs), expected, strict=True):
        close(actual, wanted, 1e-12)


def test_mask_border_and_mask_add_up() -> None:
    module, x, mask = layer(mask_border=True), image(3, 4), random_mask(12, 9)
    close(module(x, mask), twin(module, x, mask=mask, mask_border=True)[0], 1e-12)


KEY_MAPS = {
    "one key for all queries": {"kv_stride": 3, "kernel_size": 1, "padding": 0},
    "one window for all queries": {"kv_stride": 3, "kernel_size": 3, "padding": 1},
    "a strided map padded to the grid": {"kv_stride": 2, "kernel_size": 3, "padding": 2},
}


@pytest.mark.parametrize("mask_border", [False, True])
@pytest.mark.parametrize("keywords", KEY_MAPS.values(), ids=KEY_MAPS)
def test_strided_key_maps_equal_the_twin(keywords: dict[str, int], mask_border: bool) -> None:
    module = layer(**keywords, mask_border=mask_border)
    side = {2: 4, 3: 3}[keywords["kv_stride"]]
    x, about = image(side, side), {key: keywords[key] for key in ("kv_stride", "padding")}
    out, attention = twin(module, x, mask_border=mask_border, **about)
    close(module(x), out, 1e-12)
    close(module.attention_weights(x), attention, 1e-12)


@pytest.mark.parametrize("mask_border", [False, True])
def test_rows_of_attention_sum_to_one(mask_border: bool) -> None:
    sums = layer(mask_border=mask_border).attention_weights(image(3, 4)).sum(-1)
    close(sums, torch.ones_like(sums), 1e-14)


@pytest.mark.parametrize("mask_border", [False, True])
def test_without_queries_a_window_is_averaged(mask_border: bool) -> None:
    module, x = layer(mask_border=mask_border), image(3, 4)
    torch.nn.init.zeros_(module.to_q.weight)
    mean = F.avg_pool2d(module.to_kv(x)[:, 8:], 3, 1, 1, count_include_pad=not mask_border)
    close(module(x), module.to_out(mean), 1e-13)


def test_a_window_over_the_whole_image_is_plain_self_attention() -> None:
    module, x = layer(kernel_size=7, mask_border=True), image(3, 4)
    q, k, v = (
        part.reshape(2, 2, 4, 12).transpose(2, 3)
        for part in (module.to_q(x), *module.to_kv(x).chunk(2, dim=1))
    )
    heads = F.scaled_dot_product_attention(q, k, v).transpose(2, 3)
    close(module(x), module.to_out(heads.reshape(2, 8, 3, 4)), 1e-13)
