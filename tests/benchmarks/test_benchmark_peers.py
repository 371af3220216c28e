"""What ours is compared with computes the same: a comparison with something else proves nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import zoo
from benchmarks.peers import (
    UnfoldConvAttention,
    conv_attention_core,
    plain_fcvit,
    timm_convit,
    timm_gpsa,
    unfolded,
)
from zoo.factory.create import create_random
from zoo.layers.conv_attention import ConvAttention2d
from zoo.layers.gpsa import GatedPositionalSelfAttention


def _agree(ours: nn.Module, peer: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        expected = ours.double().eval()(x.double())
        torch.testing.assert_close(peer.double().eval()(x.double()), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel", [3, 7])
def test_the_unfold_form_equals_our_convolutional_attention(kernel: int) -> None:
    layer = ConvAttention2d(6, num_heads=2, head_dim=4, kernel_size=kernel)
    _agree(layer, UnfoldConvAttention(layer), torch.randn(2, 6, 9, 8))
    core = conv_attention_core(kernel, width=8, num_heads=2)
    _agree(core, UnfoldConvAttention(core), torch.randn(2, 24, 9, 8))


def test_the_unfold_network_equals_ours_and_has_none_of_our_attention() -> None:
    model = create_random("conv_attention_vit_nano", 0).double().eval()
    x = torch.randn(2, 3, 32, 32).double()
    with torch.no_grad():
        expected = model(x)
        peer = unfolded(model)
        torch.testing.assert_close(peer(x), expected, rtol=0, atol=1e-12)
    assert not any(isinstance(m, ConvAttention2d) for m in peer.modules())


def test_the_straightforward_fcvit_equals_ours() -> None:
    config = {"layers": (1, 1), "embed_dims": (16, 32), "mlp_ratios": (2, 2)}
    model = zoo.create_model(
        "fcvit_b12", **config, downsamples=(True, True), layer_scale_init_value=0.5, num_classes=5
    )
    for name, parameter in model.named_parameters():
        if "rescale" in name:
            nn.init.normal_(parameter)
    model = model.double().eval()
    x = torch.randn(2, 3, 64, 48).double()
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(plain_fcvit(model)(x), expected, rtol=0, atol=1e-12)


def test_timms_gpsa_has_our_weights_and_answers() -> None:
    ours = GatedPositionalSelfAttention(24, 4, use_local_init=False)
    with torch.no_grad():
        ours.pos_proj.weight.mul_(20)
    x = torch.randn(2, 36, 24)
    with torch.no_grad():  # timm's positions are float32 tables
        peer = timm_gpsa(ours, 24, 4).eval()
        torch.testing.assert_close(peer(x), ours.eval()(x), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_timms_convit_has_our_weights_and_answers() -> None:
    ours = create_random("convit_tiny", 0, img_size=64).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(timm_convit(ours, 64).eval()(x), ours(x), rtol=0, atol=1e-5)
