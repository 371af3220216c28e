"""A stratified split that depends on nothing but the images: no seed, no order of files.

Within each class, images are ordered by a digest of their content. The first fifth (rounded up) is
the test part, the next fifth validation, the rest training. Images with equal digests stay
together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from ..errors import DatasetError

Array = np.ndarray[Any, Any]


def split_by_digest(
    targets: Array,
    digests: Sequence[bytes],
    labels: Sequence[str],
    shares: tuple[tuple[str, float], ...],
) -> dict[str, Array]:
    """Positions of each part, ascending.

    Args:
        targets: class numbers (n,).
        digests: one per image.
        labels: class names, for messages.
        shares: (part, share of each class) in order; what is left is "train".
    Raises: DatasetError if a class has too few different images for a place in every part.
    """
    parts: dict[str, list[int]] = {part: [] for part in (*(part for part, _ in shares), "train")}
    for number in np.unique(targets):
        members = sorted(
            (int(i) for i in np.flatnonzero(targets == number)), key=lambda i: (digests[i], i)
        )
        groups = [list(group) for _, group in groupby(members, key=lambda i: digests[i])]
        for part, share in shares:
            wanted, taken = math.ceil(share * len(members)), 0
            while groups and taken < wanted:
                taken += len(groups[0])
                parts[part] += groups.pop(0)
        if not groups:
            raise DatasetError(
                f"class {labels[number]!r} has {len(members)} images, too few different ones for "
                f"{', '.join(parts)}; add images, or make the folders train, validation and test "
                "yourself",
                code="too_few_images",
            )
        parts["train"] += [index for group in groups for index in group]
    return {part: np.asarray(sorted(indices), dtype=np.int64) for part, indices in parts.items()}
