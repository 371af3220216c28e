"""The vision transformer with 2-D convolutional attention: sizes, windows, positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from tests.contract.helpers import relative_error
from tests.reference.naive import on_one_thread
from zoo.factory.building import construct
from zoo.layers.conv_attention import ConvAttention2d
from zoo.models.conv_attention_vit import ConvAttentionViT

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
SMALL = {"patch_size": 8, "embed_dim": 12, "num_heads": 2, "head_dim": 4, "mlp_dim": 16}

# name -> parameters at 224 px, patch 16, 1000 classes and at 32 px, patch 4, 100 classes
PARAMETERS = {
    "conv_attention_vit_tiny": (5_710_120, 5_372_836),
    "conv_attention_vit_small": (22_036_072, 21_362_404),
    "conv_attention_vit_base": (86_538_472, 85_192_036),
    "conv_attention_vit_large": (304_250_856, 302_455_908),
    "conv_attention_vit_huge": (632_073_960, 629_830_500),
}
WINDOWS = [(3, 1), (5, 1), (7, 1), (3, 2), (5, 3)]  # kernel size, dilation


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small(seed: int = 0, **overrides: Any) -> ConvAttentionViT:
    torch.manual_seed(seed)
    config = {"img_size": 32, "num_classes": 5, "depth": 2, **SMALL, **overrides}
    return ConvAttentionViT(**config).eval()


def parameters(name: str, **overrides: Any) -> int:
    with torch.device("meta"):
        model = zoo.create_model(name, **overrides)
    return sum(p.numel() for p in model.parameters())


def attentions(model: nn.Module) -> list[ConvAttention2d]:
    return [module for module in model.modules() if isinstance(module, ConvAttention2d)]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_for_imagenet_are_those_of_the_original(name: str) -> None:
    assert parameters(name) == PARAMETERS[name][0]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_for_cifar_are_those_of_the_original(name: str) -> None:
    count = parameters(name, img_size=32, patch_size=4, num_classes=100)
    assert count == PARAMETERS[name][1]


def test_smaller_patches_need_more_positions() -> None:
    count = parameters("conv_attention_vit_tiny", img_size=32, patch_size=2, num_classes=100)
    assert count == 5_402_788


@pytest.mark.parametrize(("kernel", "dilation"), WINDOWS)
def test_windows_change_no_parameter(kernel: int, dilation: int) -> None:
    default, other = small(), small(kernel_size=kernel, dilation=dilation)
    shapes = {key: value.shape for key, value in default.state_dict().items()}
    assert {key: value.shape for key, value in other.state_dict().items()} == shapes


@pytest.mark.parametrize(("kernel", "dilation"), WINDOWS)
def test_padding_defaults_to_keeping_the_grid(kernel: int, dilation: int) -> None:
    model = small(kernel_size=kernel, dilation=dilation)
    assert [a.padding for a in attentions(model)] == [dilation * (kernel - 1) // 2] * 2
    assert model.forward_features(noise(1, 3, 40, 24)).shape == (1, 12, 5, 3)


@pytest.mark.parametrize(("kernel", "dilation"), WINDOWS)
def test_one_block_sees_exactly_its_window(kernel: int, dilation: int) -> None:
    model = small(depth=1, img_size=104, kernel_size=kernel, dilation=dilation)
    x = noise(1, 3, 104, 104).requires_grad_()
    model.forward_features(x)[0, :, 6, 6].square().sum().backward()
    seen = F.max_pool2d(x.grad.abs().sum(1), 8)[0] > 0  # (13, 13) patches
    expected = torch.zeros(13, 13, dtype=torch.bool)
    reach = dilation * (kernel - 1) // 2
    expected[6 - reach : 7 + reach : dilation, 6 - reach : 7 + reach : dilation] = True
    assert torch.equal(seen, expected)


def test_window_keywords_reach_every_block() -> None:
    model = small(kernel_size=5, dilation=2, mask_border=True)
    found = [(a.kernel_size, a.dilation, a.mask_border) for a in attentions(model)]
    assert found == [(5, 2, True)] * 2


def test_masking_the_border_changes_what_the_default_computes() -> None:
    x = noise(1, 3, 32, 32)
    default, masked = small().forward_features(x), small(mask_border=True).forward_features(x)
    assert relative_error(default, masked) > 1e-3


def test_an_even_kernel_is_refused_by_create_model() -> None:
    with pytest.raises(zoo.ZooError, match=r"cannot be built: kernel_size .* odd .* got 4"):
        zoo.create_model("conv_attention_vit_nano", kernel_size=4)


def test_padding_that_shrinks_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="key map is 2 x 2 but the query map is 4 x 4"):
        small(padding=0)(noise(1, 3, 32, 32))


def test_the_position_embedding_is_resampled_bicubically() -> None:
    model, x = small(), noise(2, 3, 48, 72)
    state = model.state_dict()
    grid = state["embedding.2.pos_embedding"].reshape(1, 4, 4, 12).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(6, 9), mode="bicubic", align_corners=False)
    state["embedding.2.pos_embedding"] = grid.permute(0, 2, 3, 1).reshape(1, 54, 12)
    other = small(img_size=(48, 72))
    other.load_state_dict(state)
    torch.testing.assert_close(model(x), other(x), rtol=1e-5, atol=1e-6)


def test_the_trained_grid_uses_the_position_embedding_as_it_is() -> None:
    model, x = small(img_size=(32, 48)), noise(2, 3, 32, 48)
    positions = model.embedding[2].pos_embedding.reshape(4, 6, 12).permute(2, 0, 1)
    assert torch.equal(model.embedding(x), model.embedding[0](x) + positions)


def test_the_head_is_the_normalised_mean_of_the_map() -> None:
    model, x = small(), noise(2, 3, 32, 32)
    mean = model.forward_features(x).mean((2, 3))
    embedding = F.layer_norm(mean, (12,))
    torch.testing.assert_close(
        model.forward_head(model.forward_features(x), pre_logits=True), embedding
    )


def test_positions_start_normal_and_biases_as_pytorch_does() -> None:
    torch.manual_seed(0)
    model = construct("conv_attention_vit:ConvAttentionViT", {"depth": 1})
    assert 0.0195 < float(model.embedding[2].pos_embedding.detach().std()) < 0.0205
    assert model.classifier[3].bias.any()


def test_stochastic_depth_grows_linearly_in_both_branches() -> None:
    blocks = small(depth=3, drop_path_rate=0.2).transformers
    rates = [(b.drop_path1.drop_prob, b.drop_path2.drop_prob) for b in blocks]
    assert rates == [(0.0, 0.0), (0.1, 0.1), (0.2, 0.2)]


def test_one_block_has_no_stochastic_depth() -> None:
    block = small(depth=1, drop_path_rate=0.2).transformers[0]
    assert block.drop_path1.drop_prob == 0


def test_recipes_do_not_decay_positions() -> None:
    model = small()
    assert model.no_weight_decay() == {"embedding.2.pos_embedding"}
    assert model.no_weight_decay() <= dict(model.named_parameters()).keys()
