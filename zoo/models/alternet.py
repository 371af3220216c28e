"""AlterNet: a pre-activation ResNet whose stages end in attention blocks, and its builder.

Park & Kim, *How Do Vision Transformers Work?*, ICLR 2022, arXiv:2202.06709. State-dict keys and
numbers follow how-do-vits-work `models/alternet.py`. Where we differ on purpose: the layout is a
plan that says block by block what stands where, plans that upstream silently truncates are refused,
maps need not be multiples of the window, and attention blocks with a stride are refused when built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from ..layers.residual import EXPANSION, ResidualBlock, conv_nxn, drop_path_rates, make_gate
from ..layers.windows import AttentionBlock
from ._cnn import StagedCNN, dropout_rate

CONV, ATTENTION = "C", "A"


def plan(
    num_blocks: Sequence[int], num_blocks2: Sequence[int], truncate: bool = False
) -> tuple[str, ...]:
    """The paper's layout: in every stage convolution and attention blocks alternate from the end.

    A stage of n1 = num_blocks[i] blocks, n2 = num_blocks2[i] of them attention, is C n1 - 2 * n2
    times, then CA n2 times.

    Args:
        num_blocks, num_blocks2: all blocks, and attention blocks, per stage.
        truncate: cut stages with 2 * n2 > n1 off after n1 blocks, as upstream, instead of refusing.
    Raises: ValueError for lists of different lengths, or pairs that do not fit.
    Example: ``plan((3, 4, 6, 4), (0, 1, 3, 2)) -> ("CCC", "CCCA", "CACACA", "CACA")``
    """
    if len(num_blocks) != len(num_blocks2):
        raise ValueError(
            "num_blocks and num_blocks2 need one entry per stage each; "
            f"got {len(num_blocks)} and {len(num_blocks2)}"
        )
    stages = []
    for n1, n2 in zip(num_blocks, num_blocks2, strict=True):
        if n2 < 0 or (2 * n2 > n1 and not truncate):
            raise ValueError(
                f"a stage of {n1} blocks has room for {n1 // 2} attention blocks, each after a "
                f"convolution block; got {n2}"
            )
        stages.append((CONV * (n1 - 2 * n2) + (CONV + ATTENTION) * n2)[:n1])
    return tuple(stages)


def build_up(stages: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Plans from the plain network to `stages`, one attention block more each, from the end.

    Rule 1 of the paper: replace convolution blocks from the end of a baseline CNN. Rule 2, to go on
    in an earlier stage where a replacement does not help, is a choice of `stages`.
    Example: ``list(build_up(["CA", "CA"])) -> [("CC", "CC"), ("CC", "CA"), ("CA", "CA")]``
    """
    blocks = list("|".join(stages))
    places = [i for i, block in enumerate(blocks) if block == ATTENTION]
    for kept in range(len(places) + 1):
        plain = set(places[: len(places) - kept])
        letters = (CONV if i in plain else block for i, block in enumerate(blocks))
        yield tuple("".join(letters).split("|"))


def make_stage(
    blocks: str,
    in_channels: int,
    channels: int,
    stride: int,
    rates: Sequence[float],
    conv: dict[str, Any],
    attention: dict[str, Any],
) -> nn.Sequential:
    """One stage of convolution (C) and attention (A) blocks; the first block strides.

    Args:
        blocks: one letter per block, e.g. "CCCA".
        in_channels, channels: channels in, and the stage's width before expansion.
        rates: drop-path rate of every block.
        conv, attention: further keywords of `ResidualBlock` and `AttentionBlock`.
    Raises: ValueError for another letter, an empty stage, or an attention block with a stride.
    """
    if not blocks or set(blocks) - {CONV, ATTENTION}:
        raise ValueError(f"a stage is a string of the letters C and A, e.g. 'CCCA'; got {blocks!r}")
    expansion = EXPANSION if conv["bottleneck"] else 1
    stage = nn.Sequential()
    for block, rate in zip(blocks, rates, strict=True):
        if block == CONV:
            built = ResidualBlock(in_channels, channels, stride, drop_path=rate, **conv)
        else:
            built = AttentionBlock(
                in_channels, channels, stride, expansion, drop_path=rate, **attention
            )
        stage.append(built)
        in_channels, stride = channels * expansion, 1
    return stage


class Stem(nn.Module):
    """7x7 convolution of stride 2 and max pooling, or (`pool=False`) a 3x3 convolution.

    Args: dim_in, dim_out: channels; norm: BN and ReLU after the convolution (stem A of the paper).
    Shape: (B, dim_in, H, W) -> (B, dim_out, ceil(H / 4), ceil(W / 4)), or (B, dim_out, H, W).
    """

    def __init__(self, dim_in: int, dim_out: int, pool: bool = True, norm: bool = False) -> None:
        super().__init__()
        self.layer0 = nn.Sequential(conv_nxn(dim_in, dim_out, *((7, 2) if pool else (3, 1))))
        if norm:
            self.layer0.extend((nn.BatchNorm2d(dim_out), nn.ReLU()))
        if pool:
            self.layer0.append(nn.MaxPool2d(3, stride=2, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer0(x)


class AlterNet(StagedCNN):
    """Stem, stages of convolution and attention blocks, BN, ReLU, average, linear head.

    Args:
        in_chans, num_classes: as in timm; num_classes=0 returns the embedding.
        stages: the plan, one string per stage and one letter per block: C convolution, A attention.
            ("CC", "CC", "CC", "CC") is a plain ResNet-18; see `plan` and `build_up`.
        widths: channels per stage before the expansion. Every stage but the first halves the map.
        heads: attention heads per stage.
        bottleneck: bottleneck blocks of expansion 4, or basic blocks.
        preact, groups, width_per_group, gate, reduction: of convolution blocks (`ResidualBlock`);
            gate is None, "se" or "cbam".
        block: "dnn", or "mcdo" with MC dropout of rate `mc_rate` in convolution blocks.
        attn_preact: attention block B of the paper, or its ablation A.
        window_size, head_dim: of the attention (`LocalAttention`).
        stem_pool, stem_norm: see `Stem`.
        cblock, clip_temp: kind of classifier block (`ClassifierBlock`); "mlp" pools to 7 x 7 first.
        drop_rate, drop_path_rate: dropout on attention outputs; stochastic depth of the last block
            (linear from 0).
    Shape: (B, in_chans, H, W) -> (B, num_classes), any H and W.
    Raises: ValueError for a plan that cannot be built.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        stages: Sequence[str] = ("CCC", "CCCA", "CACACA", "CACA"),
        widths: Sequence[int] = (64, 128, 256, 512),
        heads: Sequence[int] = (3, 6, 12, 24),
        bottleneck: bool = True,
        preact: bool = True,
        groups: int = 1,
        width_per_group: int = 64,
        gate: str | None = None,
        reduction: int = 16,
        block: str = "dnn",
        mc_rate: float = 0.3,
        attn_preact: bool = True,
        window_size: int = 7,
        head_dim: int = 64,
        stem_pool: bool = True,
        stem_norm: bool = False,
        cblock: str = "bngap",
        clip_temp: float = 2.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_stages(stages, widths, heads)
        self.num_classes = num_classes
        self.in_chans = in_chans
        conv = {
            "bottleneck": bottleneck,
            "preact": preact,
            "groups": groups,
            "width_per_group": width_per_group,
            "dropout": dropout_rate(block, mc_rate),
            "gate": None if gate is None else lambda chans: make_gate(gate, chans, reduction),
            "shortcut_norm": block == "mcdo" and bottleneck,  # upstream's; preact only
        }
        attention = {
            "preact": attn_preact,
            "head_dim": head_dim,
            "window_size": window_size,
            "dropout": drop_rate,
        }
        layers = [Stem(in_chans, widths[0], stem_pool, stem_norm)]
        layers += make_stages(stages, widths, heads, drop_path_rate, conv, attention)
        expansion = EXPANSION if bottleneck else 1
        channels = [widths[0], *(width * expansion for width in widths)]
        first = 4 if stem_pool else 1
        self._add_stages(layers, channels, [first, *(first << n for n in range(len(stages)))])
        features = channels[-1] * 49 if cblock == "mlp" else channels[-1]
        self._add_classifier([nn.AdaptiveAvgPool2d(7)], features, cblock, temp=clip_temp)


def make_stages(
    stages: Sequence[str],
    widths: Sequence[int],
    heads: Sequence[int],
    drop_path_rate: float,
    conv: dict[str, Any],
    attention: dict[str, Any],
) -> list[nn.Sequential]:
    """All stages of an encoder: strides 1, 2, 2, ..., drop path linear over blocks."""
    rates = drop_path_rates(drop_path_rate, sum(len(blocks) for blocks in stages))
    expansion = EXPANSION if conv["bottleneck"] else 1
    built, channels = [], widths[0]
    for n, blocks in enumerate(stages):
        share = [rates.pop(0) for _ in blocks]
        keywords = {**attention, "num_heads": heads[n]}
        stride = 1 if n == 0 else 2
        built.append(make_stage(blocks, channels, widths[n], stride, share, conv, keywords))
        channels = widths[n] * expansion
    return built


def check_stages(stages: Sequence[str], widths: Sequence[int], heads: Sequence[int]) -> None:
    if isinstance(stages, str) or not len(stages) == len(widths) == len(heads) > 0:
        raise ValueError(
            "stages, widths and heads need one entry per stage each; "
            f"got stages={stages!r}, widths={tuple(widths)}, heads={tuple(heads)}"
        )
