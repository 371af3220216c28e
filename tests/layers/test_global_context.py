"""Global context against its naive twin, its limits, and the mixers built on it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.reference import naive_maps
from tests.reference.naive import close, gradients, state
from zoo.layers.global_context import (
    ChannelAttention,
    ChannelMixer,
    GlobalContext,
    SpatialAttention,
    TokenMixer,
)

from .making import noise, randomise

FORMS = [(True, True), (True, False), (False, True), (False, False)]  # compete, weighted


def context(**keywords: Any) -> GlobalContext:
    return randomise(GlobalContext(**{"dim": 8, "num_heads": 4, "reduction": 2, **keywords})).eval()


@pytest.mark.parametrize(("compete", "weighted"), FORMS)
@pytest.mark.parametrize("size", [(3, 4), (1, 5), (1, 1)])
def test_context_equals_the_twin(compete: bool, weighted: bool, size: tuple[int, int]) -> None:
    module, x = context(compete=compete, weighted=weighted), noise(2, 8, *size)
    expected = naive_maps.global_context(x, state(module), 4, compete, weighted)
    close(module(x), expected, 1e-12)


@pytest.mark.parametrize(("compete", "weighted"), FORMS)
def test_gradients_equal_the_twin(compete: bool, weighted: bool) -> None:
    module, x = context(compete=compete, weighted=weighted), noise(2, 8, 2, 3).requires_grad_()
    inputs = [x, *module.parameters()]
    twin = naive_maps.global_context(x, state(module), 4, compete, weighted)
    expected = gradients(twin, inputs)
    for actual, wanted in zip(gradients(module(x), inputs), expected, strict=True):
        close(actual, wanted, 1e-11)


def test_similarity_equals_the_twin() -> None:
    x = noise(2, 8, 3, 4)
    close(context().similarity(x), naive_maps.similarity(x, 4), 1e-12)


def test_similarity_is_standardised_over_groups_and_positions_of_a_sample() -> None:
    s = context().similarity(noise(3, 8, 5, 4))
    assert s.shape == (3, 4, 5, 4)
    close(s.mean((1, 2, 3)), torch.zeros(3, dtype=torch.float64), 1e-12)
    close(s.std((1, 2, 3)), torch.ones(3, dtype=torch.float64), 1e-4)


def test_similarity_does_not_see_the_scale_of_the_tokens() -> None:
    module, x = context(), noise(2, 8, 3, 3)
    close(module.similarity(100 * x), module.similarity(1000 * x), 1e-7)


def test_one_pixel_in_one_group_has_no_similarity() -> None:
    module, x = context(num_heads=1), noise(2, 8, 1, 1).requires_grad_()
    assert (module.similarity(x) == 0).all()
    out = module(x)
    close(out, module.rescale_bias * module._context(x.flatten(1))[:, :, None, None], 1e-12)
    assert all(gradient.isfinite().all() for gradient in gradients(out, [x, *module.parameters()]))


def test_equal_tokens_have_finite_gradients() -> None:
    module = context()
    x = torch.zeros(2, 8, 3, 3, dtype=torch.float64, requires_grad=True)
    grads = gradients(module(x), [x, *module.parameters()])
    assert all(gradient.isfinite().all() for gradient in grads)


def test_large_values_stay_finite_in_half_precision() -> None:
    module, x = context().half(), (30 * noise(1, 8, 64, 64)).half()
    assert module.similarity(x).isfinite().all()


def test_an_unweighted_context_has_no_similarity() -> None:
    with pytest.raises(ValueError, match="no similarity; use weighted=True"):
        context(weighted=False).similarity(noise(1, 8, 2, 2))


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="got dim=12, num_heads=8"):
        GlobalContext(12, 8, reduction=4)


def test_a_reduction_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="got dim=8, reduction=16"):
        GlobalContext(8, reduction=16)


def test_halves_of_different_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 \\* dim // reduction even; got dim=20, reduction=8"):
        GlobalContext(20, 4, reduction=8)


def mixer(**keywords: Any) -> TokenMixer:
    sizes = {"dim": 8, "mix_sizes": (5, 3), "gc_heads": 4, "gc_reduction": 2, "fc_min_value": 4}
    return randomise(TokenMixer(**{**sizes, **keywords})).eval()


def test_the_token_mixer_is_its_equation() -> None:
    module, x = mixer(), noise(2, 8, 4, 5)
    y = F.gelu(module.fc1(module.dw1(x + module.gc1(x))))
    close(module(x), F.gelu(module.fc2(module.dw2(y + module.gc2(y)))), 1e-12)


def test_the_token_mixer_tells_the_similarities_of_both_contexts() -> None:
    module, x = mixer(), noise(2, 8, 4, 5)
    seen = {}
    for name in ("gc1", "gc2"):
        getattr(module, name).register_forward_hook(
            lambda _module, inputs, _out, name=name: seen.update({name: inputs[0]})
        )
    module(x)
    first, second = module.similarity_maps(x)
    close(first, naive_maps.similarity(seen["gc1"], 4), 1e-12)
    close(second, naive_maps.similarity(seen["gc2"], 4), 1e-12)


def test_the_halves_and_the_contexts_can_be_left_out() -> None:
    half = mixer(use_second_mix=False, use_gc=False)
    x = noise(1, 8, 3, 3)
    close(half(x), F.gelu(half.fc1(half.dw1(x))), 1e-12)
    assert next(iter(half.state_dict())) == "dw1.weight"
    with pytest.raises(ValueError, match="no similarity maps"):
        half.similarity_maps(x)
    assert len(mixer(use_second_mix=False).similarity_maps(x)) == 1


def test_no_bottleneck_is_one_convolution() -> None:
    module = mixer(fc_factor=1)
    assert isinstance(module.fc1, nn.Conv2d)
    assert mixer(fc_factor=2, fc_min_value=6).fc1[0].out_channels == 6


def test_even_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="kernel_size must be odd to keep the grid; got 4"):
        mixer(mix_sizes=(4, 3))
    with pytest.raises(ValueError, match=r"kernel_sizes must be odd; got \(3, 4\)"):
        ChannelAttention((3, 4))


def test_the_channel_mixer_is_its_equation() -> None:
    module, x = randomise(ChannelMixer(4, 6)).eval(), noise(2, 4, 3, 5)
    close(module(x), module.fc2(F.gelu(module.dwconv(module.fc1(x)))), 1e-12)
    plain = randomise(ChannelMixer(4, 6, dw_size=0, use_channel_att=True)).eval()
    close(plain(x), plain.channel_att(plain.fc2(F.gelu(plain.fc1(x)))), 1e-12)


def test_channel_attention_adds_one_number_per_channel() -> None:
    module, x = randomise(ChannelAttention()).eval(), noise(2, 6, 3, 4)
    added = module(x) - x
    close(added, added[:, :, :1, :1].expand_as(x), 1e-12)


def test_spatial_attention_gates_between_zero_and_one() -> None:
    module, x = randomise(SpatialAttention(16)).eval(), noise(2, 16, 3, 4)
    gate = module(x) / x
    assert ((gate >= 0) & (gate <= 1)).all()
    close(gate, module.spatial_att(x), 1e-12)
