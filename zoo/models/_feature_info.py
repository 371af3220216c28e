"""What the maps from inside a model are: `feature_info`, with timm's accessors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class FeatureInfo(list[dict[str, Any]]):
    """`feature_info` with timm's accessors; without `idx` they speak of the features returned.

    Args:
        info: one dict for each feature of the model: `module`, `num_chs`, `reduction`.
        out_indices: numbers of the features returned, in this order.
    """

    def __init__(self, info: Sequence[Mapping[str, Any]], out_indices: Sequence[int]) -> None:
        super().__init__({**entry, "index": i} for i, entry in enumerate(info))
        self.out_indices = tuple(out_indices)

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """One entry: of the features returned, or of those of `idx`."""
        if isinstance(idx, int):
            return self[idx][key]
        return [self[i][key] for i in (self.out_indices if idx is None else idx)]

    def get_dicts(
        self, keys: Sequence[str] | None = None, idx: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """Several entries, or all."""
        chosen = [self[i] for i in (self.out_indices if idx is None else idx)]
        return [{k: entry[k] for k in (entry if keys is None else keys)} for entry in chosen]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Channels of the maps."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Pixels of the image for each pixel of the maps."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Modules that the maps come out of."""
        return self.get("module", idx)


def last_of_each_resolution(info: Sequence[Mapping[str, Any]]) -> list[int]:
    """Numbers of the deepest feature of every `reduction`, e.g. one for each stage."""
    return list({entry["reduction"]: i for i, entry in enumerate(info)}.values())
