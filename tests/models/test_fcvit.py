"""FCViT: sizes, features, similarity maps, initial values, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from zoo.errors import ConfigError
from zoo.models.fcvit import FCViT, OverlapPatchEmbed

SMALL = {
    "num_classes": 5,
    "layers": (1, 1, 1, 2),
    "embed_dims": (8, 8, 16, 24),
    "mlp_ratios": (2, 2, 2, 2),
    "mix_sizes": (5, 3),
    "gc_heads": 4,
    "layer_scale_init_value": 0.5,
}
# name -> parameters with 1000 and with 100 classes, rows of the state dict
SIZES = {
    "fcvit_tiny": (4_784_752, 4_495_852, 500),
    "fcvit_b12": (14_701_832, 14_240_132, 464),
    "fcvit_b24": (26_960_232, 26_498_532, 896),
    "fcvit_b48": (51_477_032, 51_015_332, 1760),
}


def small(**overrides: Any) -> FCViT:
    torch.manual_seed(0)
    return FCViT(**{**SMALL, **overrides}).eval()


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_of_the_original(name: str) -> None:
    with torch.device("meta"):
        model, hundred = zoo.create_model(name), zoo.create_model(name, num_classes=100)
    assert (count(model), count(hundred), len(model.state_dict())) == SIZES[name]


def test_the_nano_model_is_small() -> None:
    assert count(zoo.create_model("fcvit_nano")) <= 350_000


@pytest.mark.parametrize("name", zoo.list_models(family="fcvit"))
def test_evaluation_inputs_are_the_published_ones(name: str) -> None:
    crop = {"fcvit_nano": 1.0, "fcvit_b24": 0.95, "fcvit_b48": 0.95}.get(name, 0.9)
    assert zoo.get_record(name).input.crop_pct == crop
    assert zoo.get_record(name).input.interpolation == "bicubic"


# Dense prediction


def test_features_only_returns_every_stage_normalised_by_itself() -> None:
    model = small(features_only=True)
    with torch.no_grad():
        for i, info in enumerate(model.feature_info):
            nn.init.constant_(getattr(model, info["module"].replace("network.", "norm")).bias, i)
    features = model(noise(2, 3, 50, 41))
    assert [tuple(f.shape) for f in features] == [
        (2, 8, 13, 11),
        (2, 8, 7, 6),
        (2, 16, 4, 3),
        (2, 24, 2, 2),
    ]
    for i, feature in enumerate(features):
        torch.testing.assert_close(feature.mean((1, 2, 3)), torch.full((2,), float(i)))


def test_the_trunk_goes_on_without_the_norms() -> None:
    dense, plain = small(features_only=True), small()
    plain.load_state_dict(dense.state_dict(), strict=False)
    x = noise(1, 3, 32, 32)
    last = F.group_norm(plain.network(plain.patch_embed(x)), 1)
    torch.testing.assert_close(dense(x)[-1], last)


def test_features_only_keys_end_with_the_norms_of_the_original() -> None:
    keys = list(small(features_only=True).state_dict())
    norms = [f"norm{i}.{name}" for i in (0, 2, 4, 6) for name in ("weight", "bias")]
    assert keys[-8:] == norms
    assert not [key for key in keys if key.startswith(("head", "norm."))]


def test_the_norm_of_the_first_feature_can_be_left_out() -> None:
    model, full = small(features_only=True, first_feature_norm=False), small(features_only=True)
    model.load_state_dict(full.state_dict(), strict=False)
    x = noise(1, 3, 32, 32)
    assert torch.equal(model(x)[0], model.network[0](model.patch_embed(x)))
    assert torch.equal(model(x)[1], full(x)[1])
    assert "norm0.weight" not in model.state_dict()


def test_a_features_only_model_has_no_classifier() -> None:
    model = small(features_only=True)
    assert isinstance(model.get_classifier(), nn.Identity)
    with pytest.raises(ValueError, match="build it without features_only"):
        model.reset_classifier(3)


def test_stages_without_downsampling_keep_the_map() -> None:
    model = small(downsamples=(False, True, False, True), embed_dims=(8, 8, 8, 8))
    assert [info["module"] for info in model.feature_info] == [
        "network.0",
        "network.1",
        "network.3",
        "network.4",
    ]
    assert [info["reduction"] for info in model.feature_info] == [4, 4, 8, 8]
    assert model.forward_features(noise(1, 3, 32, 48)).shape == (1, 8, 4, 6)


def test_a_change_of_width_downsamples_anyway() -> None:
    model = small(downsamples=(False,) * 4)
    assert [info["reduction"] for info in model.feature_info] == [4, 4, 8, 16]


# Similarity maps


@pytest.mark.parametrize("size", [(64, 64), (37, 90)])
def test_similarity_maps_are_those_of_the_last_block(size: tuple[int, int]) -> None:
    model, x = small(), noise(2, 3, *size)
    mixer, inputs = model.network[-1][-1].token_mixer, []
    for module in (mixer.gc1, mixer.gc2):
        module.register_forward_hook(lambda _module, args, _out: inputs.append(args[0]))
    model(x)
    maps = model.similarity_maps(x)
    grid = tuple(math.ceil(side / 32) for side in size)
    assert [tuple(s.shape) for s in maps] == [(2, 4, *grid)] * 2
    assert torch.equal(maps[0], mixer.gc1.similarity(inputs[0]))
    assert torch.equal(maps[1], mixer.gc2.similarity(inputs[1]))


def test_similarity_maps_do_not_write_on_the_model() -> None:
    model, x = small(), noise(1, 3, 32, 32)
    before = model(x)
    model.similarity_maps(x)
    assert torch.equal(model(x), before)


# Construction


def test_one_pixel_with_one_head_is_finite() -> None:
    assert small(gc_heads=1)(noise(1, 3, 4, 4)).isfinite().all()


def test_initial_values_are_those_of_the_paper_s_code() -> None:
    torch.manual_seed(0)
    model = FCViT(layers=(1, 1), embed_dims=(32, 64), mlp_ratios=(8, 8), downsamples=(True, True))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
            assert (module.bias == 0).all()
            if module.weight.numel() > 1000:
                std = module.weight.detach().std().item()
                assert std == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)
        elif isinstance(module, nn.Linear):
            assert (module.bias == 0).all()
            if module.weight.numel() > 500:
                assert module.weight.detach().std().item() == pytest.approx(0.02, rel=0.1)
    block = model.network[0][0]
    assert (block.layer_scale_1 == 1e-5).all()
    assert (block.token_mixer.gc1.rescale_weight == 1).all()


def test_without_layer_scale_the_branches_are_added_as_they_are() -> None:
    block = small(layer_scale_init_value=None).network[0][0]
    x = noise(1, 8, 6, 5)
    y = x + block.token_mixer(block.norm1(x))
    assert torch.equal(block(x), y + block.channel_mixer(block.norm2(y)))
    assert "layer_scale_1" not in block.state_dict()


def test_keys_of_a_block_are_in_the_order_of_the_original() -> None:
    block = small(use_spatial_att=True, use_channel_att=True).network[0][0]
    modules = list(dict.fromkeys(key.rpartition(".")[0] for key in block.state_dict()))
    assert list(block.state_dict())[:2] == ["layer_scale_1", "layer_scale_2"]
    assert modules[1:] == [
        "norm1",
        "token_mixer.gc1",
        "token_mixer.gc1.fc1",
        "token_mixer.gc1.fc2",
        "token_mixer.dw1",
        "token_mixer.fc1.0",
        "token_mixer.fc1.2",
        "token_mixer.gc2",
        "token_mixer.gc2.fc1",
        "token_mixer.gc2.fc2",
        "token_mixer.dw2",
        "token_mixer.fc2.0",
        "token_mixer.fc2.2",
        "token_mixer.spatial_att.spatial_att.0",
        "token_mixer.spatial_att.spatial_att.1",
        "token_mixer.spatial_att.spatial_att.3",
        "norm2",
        "channel_mixer.fc1",
        "channel_mixer.dwconv",
        "channel_mixer.fc2",
        "channel_mixer.channel_att.channelConv1",
        "channel_mixer.channel_att.channelConv2",
    ]


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one entry per stage; got 4, 3, 4, 4"):
        small(embed_dims=(8, 8, 16))


def test_settings_that_cannot_work_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="kernel_size must be odd to keep the grid; got 4"):
        zoo.create_model("fcvit_nano", mix_sizes=(4, 7))
    with pytest.raises(ConfigError, match="dim must be divisible by num_heads"):
        zoo.create_model("fcvit_nano", gc_heads=5)
    with pytest.raises(ConfigError, match="did you mean compete"):
        zoo.create_model("fcvit_nano", competes=True)


def test_patches_overlap() -> None:
    embed = OverlapPatchEmbed(3, 2, 3, 4).eval()
    assert embed(noise(1, 3, 9, 12)).shape == (1, 4, 5, 6)
