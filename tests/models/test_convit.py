"""ConViT: equal to timm on the same weights, and what is particular to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from tests.contract.helpers import relative_error
from tests.reference.naive import on_one_thread
from zoo.layers.attention import MultiHeadSelfAttention
from zoo.layers.gpsa import GatedPositionalSelfAttention
from zoo.layers.positions import resample_position_embedding
from zoo.models.convit import ConViT

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
SMALL = {"patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 4, "num_classes": 5}

# 224 x 224, patch 16: name -> parameters with 1000 and with 100 classes
PARAMETERS = {
    "convit_tiny": (5_710_512, 5_536_812),
    "convit_small": (27_777_322, 27_387_622),
    "convit_base": (86_540_040, 85_847_940),
    "convit_tiny_plus": (9_972_912, 9_741_612),
    "convit_small_plus": (48_979_882, 48_460_582),
    "convit_base_plus": (153_134_856, 152_212_356),
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small(seed: int = 0, **overrides: Any) -> ConViT:
    """A small model in eval mode, its parameters moved away from special initial values."""
    torch.manual_seed(seed)
    model = ConViT(**{"img_size": 32, "local_up_to_layer": 2, **SMALL, **overrides}).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


# timm


def timm_model(name: str) -> nn.Module:
    """timm's model, its gates and positions moved away from their shared initial values."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "pos_proj" in key or "gating_param" in key:
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


TIMM = [
    "convit_tiny",
    pytest.param("convit_small", marks=pytest.mark.slow),
    pytest.param("convit_base", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", TIMM)
def test_timm_weights_load_strictly_and_give_the_same_logits(name: str) -> None:
    theirs, x = timm_model(name), noise(1, 3, 224, 224)
    ours = zoo.create_model(name).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    with torch.no_grad():
        assert relative_error(ours(x), theirs(x)) < 1e-5


@pytest.mark.parametrize("name", TIMM)
def test_timm_gives_the_same_logits_in_float64(name: str) -> None:
    theirs, x = timm_model(name).double(), noise(1, 3, 224, 224).double()
    ours = zoo.create_model(name).double().eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # for timm's relative positions
    try:
        with torch.no_grad():
            assert relative_error(ours(x), theirs(x)) < 1e-10
    finally:
        torch.set_default_dtype(default)


def test_keys_and_their_order_are_timms_with_the_originals_order_inside_gpsa() -> None:
    theirs = timm_model("convit_tiny").state_dict()
    ours = zoo.create_model("convit_tiny").state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    first = [key.removeprefix("blocks.0.attn.") for key in ours if "blocks.0.attn" in key]
    assert first[:2] == ["gating_param", "qk.weight"]
    assert len(ours) == 180


# Sizes


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize(("index", "classes"), [(0, 1000), (1, 100)])
def test_parameter_counts_are_those_of_the_original(name: str, index: int, classes: int) -> None:
    with torch.device("meta"):
        model = zoo.create_model(name, num_classes=classes)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name][index]


def test_ten_of_twelve_blocks_are_gated() -> None:
    with torch.device("meta"):
        blocks = zoo.create_model("convit_tiny").blocks
    kinds = [type(block.attn) for block in blocks]
    assert kinds == [GatedPositionalSelfAttention] * 10 + [MultiHeadSelfAttention] * 2


# The class token and local_up_to_layer


def test_the_class_token_joins_after_the_gated_blocks() -> None:
    model, counts = small(local_up_to_layer=2), []
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _inputs, out: counts.append(out.shape[1]))
    model(noise(1, 3, 32, 32))
    assert counts == [16, 16, 17]


def test_the_head_reads_the_class_token() -> None:
    model, x = small(), noise(2, 3, 32, 32)
    features = model.forward_features(x)
    assert torch.equal(model.forward_head(features, pre_logits=True), features[:, 0])
    model.cls_token.data.mul_(-1)
    assert relative_error(model.forward_features(x), features) > 1e-3


def test_the_class_token_has_no_position() -> None:
    model, seen = small(local_up_to_layer=0), []
    model.blocks[0].register_forward_hook(lambda _module, inputs, _out: seen.append(inputs[0]))
    model(noise(2, 3, 32, 32))
    assert torch.equal(seen[0][:, :1], model.cls_token.expand(2, -1, -1))


def test_without_gated_blocks_all_are_plain_and_the_class_token_joins_first() -> None:
    model, counts = small(local_up_to_layer=0), []
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _inputs, out: counts.append(out.shape[1]))
    assert all(isinstance(block.attn, MultiHeadSelfAttention) for block in model.blocks)
    model(noise(1, 3, 32, 32))
    assert counts == [17, 17, 17]


@pytest.mark.parametrize("local", [3, 10])
def test_with_gated_blocks_only_the_head_reads_the_first_patch(local: int) -> None:
    model, x = small(local_up_to_layer=local), noise(2, 3, 32, 32)
    features = model.forward_features(x)
    assert features.shape == (2, 16, 16)
    assert torch.equal(model(x), model.head(features[:, 0]))
    model(x).sum().backward()
    assert model.cls_token.grad is None


# Positions


def test_the_position_embedding_is_resampled_bicubically() -> None:
    model, x = small(), noise(2, 3, 48, 72)
    state = model.state_dict()
    grid = state["pos_embed"].reshape(1, 4, 4, 16).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(6, 9), mode="bicubic", align_corners=False)
    state["pos_embed"] = grid.permute(0, 2, 3, 1).reshape(1, 54, 16)
    other = small(img_size=(48, 72))
    other.load_state_dict(state)
    assert relative_error(model(x), other(x)) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_positions_are_resampled_in_float32(dtype: torch.dtype) -> None:
    low = noise(1, 16, 8).to(dtype)
    expected = resample_position_embedding(low.float(), (4, 4), (7, 5)).to(dtype)
    assert torch.equal(resample_position_embedding(low, (4, 4), (7, 5)), expected)


def test_the_trained_grid_uses_the_position_embedding_as_it_is() -> None:
    model, x = small(), noise(2, 3, 32, 32)
    tokens = []
    model.pos_drop.register_forward_hook(lambda _module, inputs, _out: tokens.append(inputs[0]))
    model(x)
    assert torch.equal(tokens[0], model.patch_embed(x) + model.pos_embed)


def test_without_position_embedding_there_is_no_such_key() -> None:
    model = small(use_pos_embed=False)
    assert "pos_embed" not in model.state_dict()
    assert model(noise(1, 3, 40, 24)).shape == (1, 5)


def test_image_scaling_keeps_the_trained_reach_on_a_finer_grid() -> None:
    patch, image = small(), small(position_scaling="image")
    with torch.no_grad():
        assert torch.equal(patch(noise(1, 3, 32, 32)), image(noise(1, 3, 32, 32)))
        assert not torch.allclose(patch(noise(1, 3, 64, 64)), image(noise(1, 3, 64, 64)))
    _, coarse = image.blocks[0].attn.position_factors((4, 4))
    _, fine = image.blocks[0].attn.position_factors((4, 8))
    ratio = fine[:, 0, ::2] / fine[:, 0, :1]  # every other key is at an offset of the coarse grid
    torch.testing.assert_close(ratio, coarse[:, 0] / coarse[:, 0, :1])


# Construction


def test_local_init_acts_on_the_gated_blocks_only() -> None:
    model = ConViT(**SMALL, img_size=32, local_up_to_layer=2, locality_strength=0.5)
    for block in model.blocks[:2]:
        assert torch.equal(block.attn.v.weight, torch.eye(16))
        assert block.attn.pos_proj.weight[:, 2].tolist() == [-0.5] * 4
    assert not torch.equal(model.blocks[2].attn.qkv.weight[-16:], torch.eye(16))


def test_linear_layers_start_small_with_zero_bias() -> None:
    torch.manual_seed(0)
    model = ConViT(**{**SMALL, "embed_dim": 64}, img_size=32)
    for layer in (model.head, model.blocks[0].mlp.fc1, model.blocks[0].attn.qk):
        assert 0.019 < float(layer.weight.detach().std()) < 0.021
    assert model.blocks[0].attn.qk.bias is None
    for layer in (model.head, model.blocks[0].mlp.fc1):
        assert not layer.bias.any()


def test_normalisation_eps_is_that_of_the_named_models() -> None:
    norms = [m for m in small().modules() if isinstance(m, nn.LayerNorm)]
    assert [norm.eps for norm in norms] == [1e-6] * 7


def test_dropout_acts_on_positions_too() -> None:
    assert small(drop_rate=0.5).pos_drop.p == 0.5


def test_stochastic_depth_grows_linearly() -> None:
    rates = [block.drop_path.drop_prob for block in small(drop_path_rate=0.2).blocks]
    assert rates == [0.0, 0.1, 0.2]


def test_recipes_do_not_decay_tokens_and_positions() -> None:
    model = small()
    assert model.no_weight_decay() == {"cls_token", "pos_embed"}
    assert model.no_weight_decay() <= dict(model.named_parameters()).keys()
