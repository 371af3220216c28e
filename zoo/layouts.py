"""Names of tensors in other layouts -> names in the model that we build. No torch.

Our own models have the originals' names. Only models that timm builds need renaming: how-do-vits-
work published checkpoints of timm 0.5.4, where PiT's pools and Swin's patch merging ended a stage
instead of starting the next one, and Swin kept its masks and index tables in the state dict.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_COMPUTED = re.compile(r"layers\.\d+\.blocks\.\d+\.(attn_mask|attn\.relative_position_index)")


def _next_stage(stages: str, part: str, name: str) -> str:
    pattern = rf"({stages}\.)(\d+)(\.{part}\..*)"
    return re.sub(pattern, lambda m: f"{m[1]}{int(m[2]) + 1}{m[3]}", name)


def _pit(name: str) -> str:
    return _next_stage("transformers", "pool", name)


def _swin(name: str) -> str:
    if _COMPUTED.fullmatch(name):
        return ""
    return re.sub(r"^head\.(?=weight|bias)", "head.fc.", _next_stage("layers", "downsample", name))


# Each returns the new name, or "" for a tensor that the model computes itself.
LAYOUTS: dict[str, Callable[[str], str]] = {
    "": lambda name: name,
    "timm-0.5-pit": _pit,
    "timm-0.5-swin": _swin,
}
