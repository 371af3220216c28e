"""Models that a file states are seen in outline before they take memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.errors import ConfigError
from zoo.factory import outline
from zoo.factory.outline import check_outline, outlined


def _folder(path: Path, architecture: str, **arguments: Any) -> str:
    config = {"architecture": architecture, "num_classes": 10, "model_args": arguments}
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    return str(path)


@pytest.mark.parametrize(
    ("architecture", "arguments", "code"),
    [
        ("convit_nano", {"embed_dim": 16384}, "too_many_parameters"),
        ("timm:vit_base_patch16_224", {"embed_dim": 12288}, "too_many_parameters"),
        ("timm:swin_tiny_patch4_window7_224", {"window_size": 128, "img_size": 4096}, "too_large"),
        ("torchvision:resnet50", {"width_per_group": 65536}, "too_many_parameters"),
    ],
)
def test_a_directory_that_asks_for_too_much_takes_no_memory(
    architecture: str, arguments: dict[str, Any], code: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    largest = 0
    plain = nn.Parameter.__new__

    def counted(cls: Any, data: Any = None, requires_grad: bool = True) -> Any:
        nonlocal largest
        if data is not None and not data.is_meta:
            largest = max(largest, data.numel())
        return plain(cls, data, requires_grad)

    monkeypatch.setattr(nn.Parameter, "__new__", counted)
    monkeypatch.setattr(outline, "memory_at_hand", lambda: 8 << 30)
    with pytest.raises(ConfigError) as caught:
        zoo.create_model(_folder(tmp_path / "d", architecture, **arguments), pretrained=False)
    assert caught.value.code == code
    assert 0 < largest <= 1 << 18


def test_what_does_not_fit_the_memory_at_hand_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tied = nn.Linear(1000, 1000, bias=False)  # 4,000,000 bytes
    make = lambda: nn.Sequential(tied, nn.ReLU(), tied)  # noqa: E731
    monkeypatch.setattr(outline, "memory_at_hand", lambda: 4_000_000)
    check_outline(make)
    monkeypatch.setattr(outline, "memory_at_hand", lambda: 3_999_999)
    with pytest.raises(ConfigError, match="of memory") as caught:
        check_outline(make)
    assert caught.value.code == "too_large"


class _Reads(nn.Module):
    """A constructor that reads values, and changes some in place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        rates = [float(rate) for rate in torch.linspace(0, 0.5, 3)]
        self.drops = nn.ModuleList(nn.Dropout(rate) for rate in rates)
        self.weight = nn.Parameter(torch.randn(width, width))
        self.register_buffer("index", torch.arange(width)[:, None] + torch.arange(width))
        nn.init.trunc_normal_(self.weight)
        self.weight.data[0].fill_(1.0)
        self.scale = float(torch.tensor([1.0, 2.0]).sum())


@pytest.mark.parametrize("width", [8, 100_000])
def test_constructors_may_read_values_and_draw_none(width: int) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    model = outlined(lambda: _Reads(width))
    assert [drop.p for drop in model.drops] == [0.0, 0.25, 0.5]
    assert model.scale == 3.0
    assert model.weight.shape == model.index.shape == (width, width)
    assert model.weight.is_meta == model.index.is_meta == (width > 8)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_constructor_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            pairs: list[int] = []
            while True:
                pairs.append(len(pairs))

    monkeypatch.setattr(outline, "_MOST_CALLS", 10_000)
    with pytest.raises(ConfigError, match="does not come to an end"):
        outlined(Endless)


@pytest.mark.parametrize("name", ["convit_tiny", "timm:convit_tiny", "timm:maxvit_pico_rw_256"])
def test_an_outline_has_the_shapes_of_the_model(name: str) -> None:
    def shapes(model: nn.Module) -> dict[str, torch.Size]:
        tensors: dict[str, Tensor] = {**model.state_dict(), **dict(model.named_buffers())}
        return {key: value.shape for key, value in tensors.items()}

    assert shapes(outlined(lambda: zoo.create_model(name))) == shapes(zoo.create_model(name))
