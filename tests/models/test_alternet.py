"""AlterNet: plans, sizes, the build-up rules, windows, and the decoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from tests.goldens import fill
from zoo.errors import ConfigError
from zoo.layers.residual import ResidualBlock
from zoo.layers.windows import AttentionBlock, LocalAttention
from zoo.models.alternet import AlterNet, build_up, make_stage, plan
from zoo.models.resnet import ResNet

CIFAR = {"num_classes": 100, "stem_pool": False, "window_size": 4}
# name -> blocks, attention blocks, parameters at 1000 classes and for CIFAR-100, and the first
# digits of the state dict's fingerprint for both
PAPER = {
    "alternet_18": ((2, 2, 2, 2), (0, 1, 1, 1), 9_968_803, 9_499_063, "d807c85d", "52fd9c4a"),
    "alternet_34": ((3, 4, 6, 4), (0, 1, 3, 2), 22_833_054, 22_362_954, "86d41911", "10215e96"),
    "alternet_50": ((3, 4, 6, 4), (0, 1, 3, 2), 35_915_038, 34_062_538, "6e54011e", "c1930de8"),
    "alternet_101": ((3, 4, 23, 4), (0, 1, 3, 2), 54_907_166, 53_054_666, "d8a3cf6d", "262fbfe5"),
    "alternet_152": ((3, 8, 36, 4), (0, 1, 3, 2), 70_550_814, 68_698_314, "9f6e47cc", "3831e8e0"),
}
SMALL = {
    "num_classes": 5,
    "stages": ("C", "CA", "CA"),
    "widths": (8, 12, 16),
    "heads": (1, 2, 2),
    "bottleneck": False,
    "window_size": 3,
    "head_dim": 4,
    "stem_pool": False,
}


def small(**overrides: Any) -> AlterNet:
    torch.manual_seed(0)
    return AlterNet(**{**SMALL, **overrides}).eval()


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def letters(model: nn.Module) -> tuple[str, ...]:
    """The plan of a built network, read from its blocks."""
    stages = [getattr(model, f"layer{n}") for n in model.stages[1:]]
    kind = {ResidualBlock: "C", AttentionBlock: "A"}
    return tuple("".join(kind[type(block)] for block in stage) for stage in stages)


def fingerprint(model: nn.Module) -> str:
    state = model.state_dict().items()
    rows = [[key, list(v.shape), str(v.dtype).removeprefix("torch.")] for key, v in state]
    return fill.spec_sha256(rows)


# The published networks


@pytest.mark.parametrize("name", PAPER)
def test_networks_are_those_of_the_original(name: str) -> None:
    blocks, attention, imagenet, cifar, imagenet_sha, cifar_sha = PAPER[name]
    with torch.device("meta"):
        model, small_images = zoo.create_model(name), zoo.create_model(name, **CIFAR)
    assert letters(model) == plan(blocks, attention)
    assert (count(model), count(small_images)) == (imagenet, cifar)
    assert fingerprint(model).startswith(imagenet_sha)
    assert fingerprint(small_images).startswith(cifar_sha)


def test_the_cifar_network_of_the_paper_has_one_attention_block_in_stage_3() -> None:
    with torch.device("meta"):
        model = zoo.create_model("alternet_50_cifar")
    assert letters(model) == plan((3, 4, 6, 4), (0, 1, 1, 2)) == ("CCC", "CCCA", "CCCCCA", "CACA")
    assert (count(model), len(model.state_dict())) == (33_012_840, 310)
    assert zoo.get_record("alternet_50_cifar").input.size == (32, 32)


def test_the_nano_model_is_small() -> None:
    assert count(zoo.create_model("alternet_nano")) <= 350_000


# Plans


def test_a_stage_without_room_for_the_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3 blocks has room for 1 attention blocks.*got 2"):
        plan((3,), (2,))
    assert plan((3,), (2,), truncate=True) == ("CAC",)


def test_plans_need_one_entry_per_stage() -> None:
    with pytest.raises(ValueError, match="one entry per stage each; got 2 and 1"):
        plan((2, 2), (1,))


def test_networks_are_built_up_one_attention_block_at_a_time_from_the_end() -> None:
    steps = list(build_up(("CC", "CCCA", "CACA")))
    assert steps == [
        ("CC", "CCCC", "CCCC"),
        ("CC", "CCCC", "CCCA"),
        ("CC", "CCCC", "CACA"),
        ("CC", "CCCA", "CACA"),
    ]


def test_every_step_of_the_build_up_runs() -> None:
    for stages in build_up(SMALL["stages"]):
        model = small(stages=stages)
        assert letters(model) == stages
        assert model(noise(1, 3, 12, 17)).isfinite().all()


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("stem", [False, True])
def test_a_plan_without_attention_is_a_preactivation_resnet(bottleneck: bool, stem: bool) -> None:
    torch.manual_seed(0)
    resnet = ResNet(num_classes=5, bottleneck=bottleneck, preact=True, stem=stem).eval()
    plain = AlterNet(num_classes=5, stages=("CC",) * 4, bottleneck=bottleneck, stem_pool=stem)
    renamed = {
        key.replace("layer0.", "layer0.layer0."): v for key, v in resnet.state_dict().items()
    }
    plain.load_state_dict(renamed)
    x = noise(1, 3, 37, 50)
    assert torch.equal(plain.eval()(x), resnet(x))


def test_the_last_block_of_the_schedule_has_the_whole_drop_path_rate() -> None:
    model = small(drop_path_rate=0.4)
    blocks = [b for b in model.modules() if isinstance(b, ResidualBlock | AttentionBlock)]
    rates = [block.drop_path.drop_prob for block in blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_an_attention_block_cannot_stride() -> None:
    with pytest.raises(ValueError, match=r"stride=2\. Let a convolution block come first"):
        small(stages=("C", "AC", "CA"))
    assert letters(small(stages=("AC", "CA", "CA"))) == ("AC", "CA", "CA")  # stage 1 does not


@pytest.mark.parametrize("blocks", ["", "CX", "ca"])
def test_a_stage_is_a_string_of_c_and_a(blocks: str) -> None:
    with pytest.raises(ValueError, match=f"letters C and A, e.g. 'CCCA'; got {blocks!r}"):
        small(stages=(blocks, "C", "C"))


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ConfigError, match="stages, widths and heads need one entry per stage"):
        zoo.create_model("alternet_18", stages=("CC", "CA"))
    with pytest.raises(ValueError, match="stages='CCCA'"):
        small(stages="CCCA", widths=(8,) * 4, heads=(1,) * 4)


# Variants


def test_attention_works_in_the_width_of_its_heads() -> None:
    model = small(heads=(1, 2, 3), head_dim=5)
    widths = [m.attn.to_q.out_channels for m in model.modules() if isinstance(m, LocalAttention)]
    assert widths == [10, 15]


@pytest.mark.parametrize("attn_preact", [True, False])
@pytest.mark.parametrize("preact", [True, False])
@pytest.mark.parametrize("bottleneck", [True, False])
def test_both_kinds_of_blocks_combine(preact: bool, attn_preact: bool, bottleneck: bool) -> None:
    model = small(preact=preact, attn_preact=attn_preact, bottleneck=bottleneck, stem_norm=True)
    assert model(noise(2, 3, 10, 13)).isfinite().all()


@pytest.mark.parametrize("gate", ["se", "cbam"])
def test_convolution_blocks_take_gates(gate: str) -> None:
    model = small(gate=gate, reduction=4, preact=False)
    assert any("gate" in key for key in model.state_dict())
    assert model(noise(1, 3, 8, 8)).isfinite().all()


def test_maps_of_whole_windows_do_not_notice_padding() -> None:
    """A window that divides every map computes the same as upstream's code, which cannot pad."""
    model = small(window_size=2)
    x = noise(1, 3, 8, 16)
    seen = []
    for module in model.modules():
        if isinstance(module, LocalAttention):
            module.register_forward_hook(lambda _m, args, _o: seen.append(args[0].shape[2:]))
    model(x)
    assert [tuple(size) for size in seen] == [(4, 8), (2, 4)]


def test_stages_can_be_built_alone() -> None:
    conv = {"bottleneck": False, "preact": True}
    attention = {"num_heads": 2, "head_dim": 4, "window_size": 3}
    stage = make_stage("CA", 6, 8, 2, [0.0, 0.0], conv, attention)
    assert stage(noise(1, 6, 9, 10)).shape == (1, 8, 5, 5)
