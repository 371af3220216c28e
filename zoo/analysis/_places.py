"""Whether tokens lie in the order of the image, found by changing spots of it.

They need not come row by row: Hiera unrolls them, so that units of its mask are together. No name
or shape tells, so a spot of the image is changed, and what changes most must be its position.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AnalysisError
from ._hooks import calls_to, tensors_in
from ._maps import to_map

_SPOTS = 8
_FAINT = 0.05  # of the largest change (squared) in a map: less is not where the spot is


class Spots:
    """Copies of an image (1, C, H, W) with a changed spot each, behind the image: `images`."""

    def __init__(self, image: Tensor) -> None:
        _, channels, *self.size = image.shape
        self.side = max(1, min(self.size) // 28)
        noise = torch.randn(channels, self.side, self.side, generator=_generator())
        self.images = image.repeat(1 + _SPOTS, 1, 1, 1)
        for copy, corner in zip(self.images[1:], self._corners(), strict=True):
            rows, columns = (slice(start, start + self.side) for start in corner)
            copy[:, rows, columns] += 4 * noise.to(image)

    def _corners(self) -> list[tuple[int, int]]:
        """Upper left pixels of the spots: spread, and on no diagonal."""
        height, width = (side - self.side + 1 for side in self.size)
        shares = [((0.11 + 0.7549 * k) % 1, (0.07 + 0.5698 * k) % 1) for k in range(_SPOTS)]
        return [(int(y * height), int(x * width)) for y, x in shares]

    def are_in_order(self, tokens: Tensor, name: str, layer: nn.Module) -> bool:
        """Whether tokens (9, N, C), of the pass over `images`, are in the order of the image: most
        change about as much as any where their spot is. Maps (9, C, H, W) need not say.
        """
        if tokens.ndim != 3:
            return True
        maps = to_map(tokens, self.size, name, layer)
        changes = (maps[1:] - maps[:1]).double().square().sum(1)  # (8, h, w)
        right = wrong = 0
        for change, corner in zip(changes, self._corners(), strict=True):
            own = float(self._part(change, corner).max())
            right += own > _FAINT * float(change.max())
            wrong += own < _FAINT * float(change.max())  # neither where strides leave the spot out
        return right >= wrong

    def _part(self, change: Tensor, corner: tuple[int, int]) -> Tensor:
        """The positions (h, w) that a spot covers."""
        spans = []
        for start, side, count in zip(corner, self.size, change.shape, strict=True):
            last = start + self.side - 1
            spans.append(slice(start * count // side, last * count // side + 1))
        return change[spans[0], spans[1]]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def check_order(
    model: nn.Module, watched: Mapping[str, nn.Module], entering: Iterable[str], image: Tensor
) -> None:
    """One pass in which the tokens of the modules are looked at.

    Args:
        watched: modules by name; entering: of those whose input is meant, not their output.
        image: (1, C, H, W).
    Raises: AnalysisError (code "token_order").
    """
    spots, inputs = Spots(image), set(entering)

    def look(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        for x in tensors_in([args, kwargs] if name in inputs else output):
            if x.ndim > 2 and len(x) == len(spots.images):
                if not spots.are_in_order(x, name, watched[name]):
                    raise AnalysisError(
                        f"the {x.shape[1]} tokens of {name} are not in the order of the image, row "
                        "by row: a picture of them, its frequencies and distances would mean "
                        "nothing; name modules that return maps",
                        code="token_order",
                    )
                return

    with calls_to(watched, look, inputs & watched.keys()):
        model(spots.images)
