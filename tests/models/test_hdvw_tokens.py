"""ViT, PiT, Swin and Mixer of how-do-vits-work: sizes, depths, grids, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from tests.reference.naive import on_one_thread
from zoo.catalog.registry import families
from zoo.errors import ConfigError
from zoo.factory.building import construct
from zoo.layers.windows import WindowAttention

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)


def tiny(family: str, **overrides: Any) -> nn.Module:
    torch.manual_seed(0)
    record = families()[family]
    return construct(record.builder, {**record.tiny, **overrides}).eval()


def images(height: int = 32, width: int = 32, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, height, width, generator=generator)


def rates(model: nn.Module) -> list[float]:
    found = [m.drop_prob for n, m in model.named_modules() if n.endswith("drop_path1")]
    return [round(rate, 6) for rate in found]


@pytest.mark.parametrize("family", ["hdvw_vit", "hdvw_mixer"])
@pytest.mark.parametrize("depth", [1, 3])
def test_any_depth_works(family: str, depth: int) -> None:
    model = tiny(family, depth=depth, drop_path_rate=0.3)
    assert model(images()).shape == (2, 7)
    assert rates(model) == [[0.0], [0.0, 0.15, 0.3]][depth > 1]


def test_drop_path_runs_through_all_stages() -> None:
    pit = tiny("hdvw_pit", drop_path_rate=0.3)
    swin = tiny("hdvw_swin", drop_path_rate=0.3)
    assert rates(pit) == rates(swin) == [0.0, 0.1, 0.2, 0.3]


@pytest.mark.parametrize("depths", [(1, 2), (2, 3)])
def test_odd_depths_of_swin_are_refused(depths: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"depths must be even; got \("):
        tiny("hdvw_swin", depths=depths)


@pytest.mark.parametrize(
    ("family", "wrong", "message"),
    [
        ("hdvw_swin", {"depths": (2, 2, 2)}, "one number per stage each"),
        ("hdvw_pit", {"depths": (2, 2)}, "one number for each of the three stages"),
        ("hdvw_pit", {"embed_dims": (16, 24, 48)}, "multiple of the one before; got"),
        ("hdvw_vit", {"stem": False}, "no argument 'stem'"),
        ("hdvw_vit", {"block": "mcdo"}, "no argument 'block'"),
    ],
)
def test_impossible_configurations_are_refused(
    family: str, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(family, **wrong)


@pytest.mark.parametrize("size", [(32, 32), (31, 25), (25, 32)])
def test_a_mixer_takes_images_up_to_a_patch_smaller(size: tuple[int, int]) -> None:
    model, x = tiny("hdvw_mixer"), images(*size)
    padded = torch.zeros(2, 3, 32, 32)
    padded[:, :, : size[0], : size[1]] = x
    assert torch.equal(model(x), model(padded))


@pytest.mark.parametrize("size", [(24, 32), (33, 32), (16, 64)])
def test_a_mixer_names_the_sizes_that_work(size: tuple[int, int]) -> None:
    message = "heights of 25 to 32 and widths of 25 to 32 pixels; got {} x {}, .* img_size="
    with pytest.raises(ValueError, match=message.format(*size)):
        tiny("hdvw_mixer")(images(*size))


@pytest.mark.parametrize("family", ["hdvw_vit", "hdvw_pit", "hdvw_mixer"])
def test_models_may_be_built_for_oblong_images(family: str) -> None:
    model = tiny(family, img_size=(24, 40))
    assert model(images(24, 40)).shape == (2, 7)


@pytest.mark.parametrize("family", ["hdvw_vit", "hdvw_pit"])
def test_positions_are_only_resampled_at_other_sizes(family: str) -> None:
    model = tiny(family)
    positions = model.embedding[2].pos_embedding
    nn.init.normal_(positions)
    expected = model(images())
    larger = model(images(48, 32))
    nn.init.constant_(positions[:, 1:], 0.0)
    assert not torch.allclose(model(images()), expected)
    assert not torch.allclose(model(images(48, 32)), larger)


def test_pit_leaves_out_what_fills_no_patch() -> None:
    model, x = tiny("hdvw_pit", img_size=34), images(34, 34)
    cut = x.clone()
    cut[:, :, 32:] = 0
    cut[:, :, :, 32:] = 0
    assert torch.equal(model(x), model(cut))


def test_a_pixel_reaches_the_logits_everywhere_else() -> None:
    for family in ("hdvw_vit", "hdvw_pit", "hdvw_swin", "hdvw_mixer"):
        model, x = tiny(family), images()
        changed = x.clone()
        changed[:, :, 31, 31] += 1
        assert not torch.equal(model(x), model(changed)), family


def test_swin_alternates_plain_and_shifted_windows() -> None:
    attentions = [m for m in tiny("hdvw_swin").modules() if isinstance(m, WindowAttention)]
    assert [attention.shift for attention in attentions] == [0, 2, 0, 2]


@pytest.mark.parametrize(("side", "same"), [(8, True), (16, True), (32, False)])
def test_the_exact_mask_matters_on_large_grids_only(side: int, same: bool) -> None:
    upstream, exact = tiny("hdvw_swin"), tiny("hdvw_swin", exact_mask=True)
    for model in (upstream, exact):
        for layer in model.modules():
            if isinstance(layer, WindowAttention):
                torch.manual_seed(0)
                nn.init.normal_(layer.attn.to_qkv.weight)
    assert torch.equal(upstream(images(side, side)), exact(images(side, side))) is same


def test_the_exact_mask_keeps_the_state_dict() -> None:
    assert (
        tiny("hdvw_swin").state_dict().keys()
        == tiny("hdvw_swin", exact_mask=True).state_dict().keys()
    )


def test_windows_larger_than_the_map_keep_their_table() -> None:
    model = tiny("hdvw_swin", window_size=20)
    assert model.layer1[1].attn.pos_embedding.shape == (39, 39)
    assert model(images()).isfinite().all()


@pytest.mark.parametrize(
    ("name", "kwargs", "millions"),
    [
        ("hdvw_vit_tiny", {"img_size": 32, "patch_size": 2, "num_classes": 100}, 5.403),
        ("hdvw_pit_xsmall", {}, 9.035),
        ("hdvw_swin_base", {}, 87.667),
        ("hdvw_mixer_huge", {}, 430.12),
    ],
)
def test_parameters_are_those_of_the_published_table(
    name: str, kwargs: dict[str, Any], millions: float
) -> None:
    with torch.device("meta"):
        model = zoo.create_model(name, **kwargs)
    assert abs(sum(p.numel() for p in model.parameters()) / 1e6 - millions) < 0.01


@pytest.mark.parametrize("family", ["hdvw_vit", "hdvw_pit"])
def test_names_without_weight_decay_exist(family: str) -> None:
    model = tiny(family)
    assert model.no_weight_decay() <= dict(model.named_parameters()).keys()
