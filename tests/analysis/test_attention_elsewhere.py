"""Attention of layers that are not ours: what is read is what they used, in the image's order."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo.analysis._attention_layers import collect_attention
from zoo.analysis._maps import to_map
from zoo.analysis.attention import query_attention
from zoo.analysis.filters import layer_gains
from zoo.analysis.fourier import fourier_analysis
from zoo.analysis.gates import gate_study
from zoo.analysis.nonlocality import nonlocality_study
from zoo.analysis.specificity import specificity_study
from zoo.analysis.variance import feature_variance
from zoo.errors import AnalysisError
from zoo.layers.gpsa import GatedPositionalSelfAttention

WIDTH, HEADS, SIDE = 8, 2, 4
TOKENS = SIDE * SIDE


class Attention(nn.Module):
    """Attention of two heads with a bias for each pair and a rotation, in one of many ways of
    writing it; keeps what it weighed by.
    """

    def __init__(self, way: str) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.pairs = nn.Parameter(torch.randn(HEADS, TOKENS, TOKENS))
        self.mixed = nn.Parameter(torch.randn(HEADS, HEADS))
        self.way, self.used = way, torch.zeros(0)

    def forward(self, x: Tensor, *, turn: Tensor) -> Tensor:
        batch = len(x)
        q, k, v = self.qkv(x).reshape(batch, TOKENS, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        q, k = q * turn, k * turn
        weights = (q @ k.transpose(-2, -1) + self.pairs).softmax(-1)
        if self.way == "heads":
            weights = torch.einsum("gh,bhij->bgij", self.mixed, weights)
        self.used = weights
        if self.way == "fused":
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.pairs, scale=1.0)
        elif self.way == "einsum":
            y = torch.einsum("bhij,bhjd->bhid", weights, v)
        elif self.way == "values first":
            y = (v.transpose(-2, -1) @ weights.transpose(-2, -1)).transpose(-2, -1)
        elif self.way == "gated":
            y = (0.5 * weights + 0.5 * self.pairs.softmax(-1)) @ v
            self.used = 0.5 * weights + 0.5 * self.pairs.softmax(-1)
        else:
            y = weights @ v
        return self.proj(y.transpose(1, 2).reshape(batch, TOKENS, WIDTH))


class Windows(nn.Module):
    """Attention of torch within two windows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor, **_: Any) -> Tensor:
        x = x.reshape(2 * len(x), TOKENS // 2, WIDTH)
        return self.inner(x, x, x, need_weights=False)[0].reshape(-1, TOKENS, WIDTH)


class Net(nn.Module):
    """Patches, perhaps in another order, and layers with a skip."""

    def __init__(self, *layers: nn.Module, order: Tensor | None = None) -> None:
        super().__init__()
        self.way_in = nn.Conv2d(3, WIDTH, 8, 8)
        self.layers, self.head = nn.ModuleList(layers), nn.Linear(WIDTH, 3)
        self.feed = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU()) for _ in layers)
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        x = self.way_in(x).flatten(2).transpose(1, 2)
        x = x if self.order is None else x[:, self.order]
        for layer, feed in zip(self.layers, self.feed, strict=True):
            x = x + layer(x, turn=torch.ones(()))
            x = x + feed(x)
        return self.head(x.mean(1))


def _images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def _net(*layers: nn.Module, order: Tensor | None = None) -> Net:
    return Net(*layers, order=order).eval()


@pytest.mark.parametrize("way", ["written out", "fused", "einsum", "values first", "gated"])
def test_what_is_read_is_what_the_layer_used(way: str) -> None:
    torch.manual_seed(1)
    model, x = _net(Attention(way), Attention(way)), _images()
    found = collect_attention(model, x)
    assert list(found) == ["layers.0", "layers.1"]
    with torch.no_grad():
        model(x)
    for name, layer in zip(found, model.layers, strict=True):
        torch.testing.assert_close(found[name], layer.used)


def test_torchs_own_attention_is_read() -> None:
    class Self(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

        def forward(self, x: Tensor, **_: Any) -> Tensor:
            return self.inner(x, x, x, need_weights=False)[0]

    model, x = _net(Self()), _images()
    [found] = collect_attention(model, x).values()
    with torch.no_grad():
        tokens = model.way_in(x).flatten(2).transpose(1, 2)
        more = {"need_weights": True, "average_attn_weights": False}
        _, expected = model.layers[0].inner(tokens, tokens, tokens, **more)
    torch.testing.assert_close(found, expected)
    fed = nonlocality_study(model, [x], feed="layers.0.inner").layers
    assert len(fed) == 1


def test_mixed_heads_are_refused_not_misread() -> None:
    with pytest.raises(AnalysisError, match=r"layers\.0 weighs by no matrix of shares") as caught:
        collect_attention(_net(Attention("heads")), _images())
    assert caught.value.code == "attention_unreadable"
    found = specificity_study(_net(Attention("heads")), [_images()])
    assert found.responses
    assert not found.attention


def test_windows_are_left_out_aloud(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = collect_attention(_net(Windows(), Attention("fused")), _images())
    assert list(found) == ["layers.1"]
    assert "layers.0.inner" in caplog.text
    with pytest.raises(AnalysisError, match=r"not windows, channels, pooled keys"):
        collect_attention(_net(Windows()), _images())


ORDER = torch.randperm(TOKENS, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("order", [ORDER, torch.arange(TOKENS).view(4, 4).T.flatten()])
def test_tokens_in_another_order_are_refused_where_places_count(order: Tensor) -> None:
    """Any order, and columns instead of rows."""
    torch.manual_seed(2)
    model, x = _net(Attention("fused"), order=order), _images()
    for study in (fourier_analysis, layer_gains):
        with pytest.raises(AnalysisError, match="not in the order of the image") as caught:
            study(model, [x])
        assert caught.value.code == "token_order"
    for look in (nonlocality_study, lambda m, _: query_attention(m, x[:1], [[0]])):
        with pytest.raises(AnalysisError, match="not in the order of the image") as caught:
            look(model, [x])
        assert caught.value.code == "attention_unreadable"
    straight = feature_variance(_net(Attention("fused")), [x]).units
    assert len(feature_variance(model, [x]).units) == len(straight)  # positions only counted


def test_tokens_in_order_are_taken_after_many_layers() -> None:
    torch.manual_seed(2)
    model = _net(*(Attention("fused") for _ in range(6)))
    assert len(fourier_analysis(model, [_images()]).units) == 13
    assert len(nonlocality_study(model, [_images()]).layers) == 6


def test_a_map_with_channels_last_is_known_by_the_image() -> None:
    """SAM's patch embedding: nothing but a convolution, then (B, H, W, C)."""
    x = torch.randn(2, 4, 4, 24)
    found = to_map(x, (32, 32), "patch_embed", nn.Sequential(nn.Conv2d(3, 24, 8, 8)))
    assert found.shape == (2, 24, 4, 4)


FAMILIES = {
    "deit_tiny_patch16_224": 12, "convit_tiny": 12, "eva02_tiny_patch14_224": 12,
    "vit_small_patch16_rope_224": 12, "tiny_vit_5m_224": 8, "mvitv2_tiny": 5, "volo_d1_224": 14,
    "visformer_tiny": 8, "crossvit_9_240": 12, "pit_ti_224": 12, "levit_128s": 9,
    "swin_tiny_patch4_window7_224": 2, "tnt_s_legacy_patch16_224": 12, "davit_tiny": 1,
}  # fmt: skip


class Softmax(TorchFunctionMode):
    """A second witness: what comes out of every softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == "softmax":
            self.seen.append(answer)
        return answer


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_timms_attention_is_what_it_computes_unfused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    x = torch.randn(2, *model.pretrained_cfg["input_size"])
    found, witness = collect_attention(model, x), Softmax()
    assert len(found) == FAMILIES[name]
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            monkeypatch.setattr(module, "fused_attn", False)
        if type(module).__name__ == "GPSA":  # blends two of them
            module.attn_drop.register_forward_hook(lambda _, x, __: witness.seen.append(x[0]))
    with torch.no_grad(), witness:
        model(x)
    for key, weights in found.items():
        alike = [seen for seen in witness.seen if seen.shape == weights.shape]
        nearest = min(float((seen - weights).abs().max()) for seen in alike)
        assert nearest < 1e-5, key


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hiera_tiny_224", "cait_xxs24_224", "xcit_nano_12_p16_224"])
def test_what_cannot_be_read_of_timm_is_refused(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    x = torch.randn(2, *model.pretrained_cfg["input_size"])
    if name == "hiera_tiny_224":  # its last stage alone has rows again
        assert list(collect_attention(model, x)) == ["blocks.11.attn"]
        with pytest.raises(AnalysisError, match="not in the order of the image"):
            fourier_analysis(model, [x])
        return
    with pytest.raises(AnalysisError, match="can be read") as caught:
        collect_attention(model, x)
    assert caught.value.code == "attention_unreadable"


def test_gates_of_timms_convit_are_those_of_ours() -> None:
    """The same weights in both: gates, reach, and attention by position as timm computes it."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(4)
    theirs = timm.create_model("convit_tiny", img_size=32, patch_size=8, depth=2, embed_dim=16)
    layer = theirs.blocks[0].attn
    with torch.no_grad():
        layer.pos_proj.weight.add_(0.3 * torch.randn(4, 3))
        layer.gating_param.add_(torch.randn(4))
    ours = GatedPositionalSelfAttention(64, num_heads=4)
    ours.load_state_dict(layer.state_dict())
    found, expected = (gate_study(m, (4, 4)).layers[0] for m in (theirs, nn.Sequential(ours)))
    for name in ("gates", "reach", "span"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6)
    logits = layer.pos_proj(layer.get_rel_indices(16)).permute(0, 3, 1, 2)
    central = logits.softmax(-1)[0, :, 2 * 4 + 2].detach().view(4, 4, 4)
    torch.testing.assert_close(torch.tensor(found.position), central)
