"""What the staged CNNs of how-do-vits-work share: stages, smoothing places, classifier block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..layers.heads import ClassifierBlock
from ..layers.mc_dropout import MCPrediction, mc_predict
from ..layers.smoothing import SmoothingBlock
from ._base import ImageClassifier

BLOCK_KINDS = ("dnn", "mcdo")


def dropout_rate(block: str, mc_rate: float) -> float:
    """Rate of the MC dropout of a block kind: 0 for "dnn". Raises: ValueError for another kind."""
    if block not in BLOCK_KINDS:
        raise ValueError(f"block must be one of {', '.join(BLOCK_KINDS)}; got {block!r}")
    return mc_rate if block == "mcdo" else 0.0


class StagedCNN(ImageClassifier):
    """layer0, layer1, ... each followed by its smoothing blocks, then `classifier`.

    Subclasses call `_add_stages` and `_add_classifier` once, in this order; upstream's state dicts
    hold all layers first, then all smoothing blocks.
    """

    stages: tuple[int, ...]

    def _add_stages(
        self, layers: Sequence[nn.Module], channels: Sequence[int], reductions: Sequence[int]
    ) -> None:
        self.stages = tuple(range(len(layers)))
        for n, layer in enumerate(layers):
            self.add_module(f"layer{n}", layer)
        self.feature_info = [
            {"module": f"layer{n}", "num_chs": channels[n], "reduction": reductions[n]}
            for n in self.stages
        ]

    def _add_smoothing(
        self, smoothing: bool | Sequence[int], places: Sequence[int], **block: object
    ) -> None:
        """Add smoothN: one block at each of the usual `places`, none, or the numbers given.

        `places` and the numbers end at the last stage; with one entry fewer than stages, layer0
        is not smoothed.
        """
        counts = [0] * len(places) if smoothing is False else places
        if not isinstance(smoothing, bool):
            counts = list(smoothing)
        if len(counts) != len(places) or min(counts) < 0:
            raise ValueError(
                f"smoothing must be true, false or {len(places)} numbers of blocks; "
                f"got {smoothing!r}"
            )
        for n, count in zip(self.stages[-len(places) :], counts, strict=True):
            channels = self.feature_info[n]["num_chs"]
            blocks = (SmoothingBlock(channels, **block) for _ in range(count))
            self.add_module(f"smooth{n}", nn.Sequential(*blocks))

    def _add_classifier(
        self, pools: Sequence[nn.Module], in_features: int, kind: str, **block: float
    ) -> None:
        """Add the classifier; `pools` come before a kind "mlp" only."""
        head = ClassifierBlock(in_features, self.num_classes, kind, **block)
        self.num_features = head.num_features
        self.classifier = nn.Sequential(*(pools if kind == "mlp" else ()), head)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> map (B, C, h, w)."""
        x = self._prepared(x)
        for part in self._parts():
            x = getattr(self, part)(x)
        return x

    def _parts(self) -> list[str]:
        parts = [(f"layer{n}", f"smooth{n}") for n in self.stages]
        return [name for pair in parts for name in pair if hasattr(self, name)]

    def _final_norm(self, info: dict[str, Any]) -> nn.Module:
        norm = self.classifier[-1].bn
        fits = isinstance(norm, nn.BatchNorm2d) and norm.num_features == info["num_chs"]
        return norm if fits else nn.Identity()

    def _smallest_side(self) -> int:
        """The smallest image side that convolutions and pools in one straight line can take."""
        parts = []
        for n in self.stages:
            parts += [getattr(self, f"layer{n}"), getattr(self, f"smooth{n}", nn.Sequential())]
        line = [m for part in (*parts, self.classifier) for m in part.modules()]
        line = [m for m in line if isinstance(m, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)]
        side = 1
        while not _passes(line, side):
            side += 1
        return side

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map (B, C, h, w) -> logits (B, num_classes); what the last layer sees if `pre_logits`."""
        if pre_logits:
            return self.classifier[-1].pre_logits(self.classifier[:-1](x))
        return self.classifier(x)

    def mc_predict(self, x: Tensor, mc_samples: int = 30) -> MCPrediction:
        """Mean and variance of the probabilities over passes with dropout on; see `mc_predict`."""
        return mc_predict(self, x, mc_samples)

    def get_classifier(self) -> nn.Module:
        head = self.classifier[-1]
        return getattr(head, head.last)

    def _set_classifier(self, classifier: nn.Module) -> None:
        head = self.classifier[-1]
        head.add_module(head.last, classifier)


def _passes(line: Sequence[nn.Module], side: int) -> bool:
    for module in line:
        kernel, stride, padding = (
            value[0] if isinstance(value, tuple) else value
            for value in (module.kernel_size, module.stride, module.padding)
        )
        side = (side + 2 * padding - kernel) // stride + 1
        if side < 1:
            return False
    return True
