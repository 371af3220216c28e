"""The small encoder of convolutional self-attention: kinds, windows, sizes."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
import torch
from torch import Tensor

import export
import zoo
from tests.contract.helpers import relative_error
from tests.reference.naive import on_one_thread
from zoo.errors import ConfigError
from zoo.layers.attention import MultiHeadSelfAttention
from zoo.layers.csan import ConvolutionalSelfAttention
from zoo.models.csan_encoder import CSANEncoder

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 4}
SMALL |= {"num_classes": 5, "half_width": 2, "local_layers": 2}
KINDS = ["1d", "2d"]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small(seed: int = 0, **overrides: Any) -> CSANEncoder:
    """A small model in eval mode, its parameters moved away from special initial values."""
    torch.manual_seed(seed)
    model = CSANEncoder(**{**SMALL, **overrides}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_the_nano_is_small_and_says_that_it_is_ours(kind: str) -> None:
    model = zoo.create_model("csan_encoder_nano", kind=kind)
    assert sum(p.numel() for p in model.parameters()) == 311_146
    assert "our own" in zoo.get_record("csan_encoder_nano").description
    assert "not a published result" in zoo.get_record("csan_encoder_nano").family.cite_note


def test_only_the_first_blocks_attend_in_windows() -> None:
    for count in (0, 2, 3):
        kinds = [type(block.attn) for block in small(local_layers=count).blocks]
        local = [ConvolutionalSelfAttention] * count
        assert kinds == local + [MultiHeadSelfAttention] * (3 - count)


def test_kinds_differ_in_the_heads_that_a_head_sees() -> None:
    assert small(kind="1d").blocks[0].attn.head_offsets == (0,)
    assert small(kind="2d").blocks[0].attn.head_offsets == (-1, 0, 1)
    assert small(kind="2d", head_window=1).blocks[0].attn.head_offsets == (0,)


def test_all_kinds_share_their_weights_and_compute_different_things() -> None:
    one, two, x = small(kind="1d"), small(kind="2d"), noise(2, 3, 32, 32)
    two.load_state_dict(one.state_dict(), strict=True)
    assert relative_error(one(x), two(x)) > 1e-3
    single = small(kind="2d", head_window=1)
    assert torch.equal(single(x), one(x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_patch_reaches_the_window_of_every_local_block(kind: str) -> None:
    model, x = small(kind=kind, depth=2, half_width=1, local_layers=2), noise(1, 3, 32, 32)
    changed = x.clone()
    changed[:, :, 8:16, 0:8] += 1  # patch (1, 0), token 4 of 16
    moved = (model.forward_features(changed) - model.forward_features(x)).abs().amax(-1)[0]
    assert torch.equal(moved > 1e-7, (torch.arange(16) - 4).abs() <= 2)


@pytest.mark.parametrize("size", [(7, 8), (48, 72), (101, 13)])
def test_any_size_runs_and_its_tokens_are_averaged(size: tuple[int, int]) -> None:
    model, x = small(), noise(2, 3, *size)
    features = model.forward_features(x)
    assert features.shape == (2, -(-size[0] // 8) * -(-size[1] // 8), 16)
    assert torch.equal(model(x), model.head(features.mean(1)))


def test_positions_are_not_decayed() -> None:
    assert small().no_weight_decay() == {"pos_embed"}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"kind": "3d"}, "kind must be '1d' or '2d'; got '3d'"),
        ({"head_window": 2}, "must be odd and at most num_heads; got 2 of 6 heads"),
        ({"head_window": 7}, "must be odd and at most num_heads; got 7 of 6 heads"),
        ({"num_heads": 5}, "dim=96, num_heads=5"),
        ({"window": 3}, "no argument 'window'"),
    ],
)
def test_impossible_settings_are_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        zoo.create_model("csan_encoder_nano", **keywords)


@pytest.mark.parametrize("kind", KINDS)
def test_both_kinds_export_to_onnx_within_the_tolerance(kind: str, tmp_path: Any) -> None:
    spec = zoo.InputSpec(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    model = small(kind=kind, depth=2, local_layers=1)
    report = export.to_onnx(model, tmp_path / "model.onnx", input=spec)
    assert report
    operators = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert operators.count("Attention") == 2
    assert not {"Loop", "Scan", "If", "Einsum"} & set(operators)
