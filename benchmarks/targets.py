"""Every performance goal, as data: what is measured, against whom, and what counts as reached.

Goals are ratios to the peer of the same run (float32, CPU, one thread), so that they hold on other
machines. "faster" is peer time / our time, "slower" our time / peer time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoo.errors import ConfigError


@dataclass(frozen=True)
class Target:
    """One goal.

    Args:
        id: unique; also the name in the JSON file.
        group: which measurement brings it.
        subject, peer: what is compared, for people.
        quantity: "faster", "slower", "less memory", "memory", "file size", "share of peak",
            "nodes" or "seconds".
        sense: ">=" or "<=".
        goal: the limit.
    """

    id: str
    group: str
    subject: str
    peer: str
    quantity: str
    sense: str
    goal: float

    def met(self, value: float) -> bool:
        """Whether a measured value reaches the goal."""
        return value >= self.goal if self.sense == ">=" else value <= self.goal

    def row(
        self,
        value: float | None,
        interval: Sequence[float] | None = None,
        note: str = "",
        **measured: Any,
    ) -> dict[str, Any]:
        """The result as JSON values; `value` None means not measured, and `note` says why."""
        return {
            "id": self.id,
            "subject": self.subject,
            "peer": self.peer,
            "quantity": self.quantity,
            "goal": f"{self.sense} {self.goal:g}",
            "value": value,
            "interval95": list(interval) if interval is not None else None,
            "met": None if value is None else self.met(value),
            "note": note,
            **measured,
        }


_TIMM, _UNFOLD, _SDPA = "timm's GPSA", "unfold", "plain SDPA attention"
_TIMM_MODEL, _TIMM_EXPORT = "timm's convit_tiny", "timm's own export"

_GPSA = (
    Target("gpsa-192-1024", "gpsa", "GPSA, width 192, 1024 px", _TIMM, "faster", ">=", 10),
    Target(
        "gpsa-192-1024-memory", "gpsa", "GPSA, width 192, 1024 px", _TIMM, "less memory", ">=", 30
    ),
    Target("gpsa-192-512", "gpsa", "GPSA, width 192, 512 px", _TIMM, "faster", ">=", 4),
    Target("gpsa-768-512", "gpsa", "GPSA, width 768, 512 px", _TIMM, "faster", ">=", 4),
    *(
        Target(
            f"gpsa-{dim}-{px}-sdpa",
            "gpsa",
            f"GPSA, width {dim}, {px} px",
            _SDPA,
            "slower",
            "<=",
            1.10 if px >= 512 else 1.25,
        )
        for dim, sizes in ((192, (224, 384, 512, 1024)), (768, (224, 512)))
        for px in sizes
    ),
)
_TRAIN = "convit_tiny, training step, b8"
_LARGE = "convit_tiny, 512 px, b1"
_CONVIT = (
    Target("convit-512-b1", "convit", _LARGE, _TIMM_MODEL, "faster", ">=", 2),
    Target(
        "convit-512-b1-memory",
        "convit",
        _LARGE,
        _TIMM_MODEL,
        "memory",
        "<=",
        0.15,
    ),
    Target("convit-224-b1", "convit", "convit_tiny, 224 px, b1", _TIMM_MODEL, "faster", ">=", 1.25),
    Target("convit-224-b8", "convit", "convit_tiny, 224 px, b8", _TIMM_MODEL, "faster", ">=", 1.5),
    Target(
        "convit-train-b8",
        "convit",
        _TRAIN,
        _TIMM_MODEL,
        "faster",
        ">=",
        1.3,
    ),
    Target(
        "convit-train-b8-memory",
        "convit",
        _TRAIN,
        _TIMM_MODEL,
        "memory",
        "<=",
        0.6,
    ),
)
_CORE = "ConvAttention core, 14x14x192"
_CORE_TRAIN = f"{_CORE}, K=7, training, b8"
_CONV_ATTENTION = (
    Target("core-k3", "conv-attention", f"{_CORE}, K=3, b1", _UNFOLD, "faster", ">=", 4),
    Target("core-k7", "conv-attention", f"{_CORE}, K=7, b1", _UNFOLD, "faster", ">=", 15),
    Target(
        "core-k7-train",
        "conv-attention",
        _CORE_TRAIN,
        _UNFOLD,
        "faster",
        ">=",
        15,
    ),
    Target(
        "core-k7-train-memory",
        "conv-attention",
        _CORE_TRAIN,
        _UNFOLD,
        "memory",
        "<=",
        0.1,
    ),
)
_ORT = "in ONNX Runtime"
_GRAPHS = (
    *(
        Target(
            f"ort-convit-{px}",
            "graphs",
            f"convit_tiny {_ORT}, {px} px",
            _TIMM_EXPORT,
            "faster",
            ">=",
            goal,
        )
        for px, goal in ((224, 1.2), (384, 1.5), (512, 1.8))
    ),
    *(
        Target(
            f"ort-convit-{px}-vit",
            "graphs",
            f"convit_tiny {_ORT}, {px} px",
            "plain ViT of the same width",
            "slower",
            "<=",
            1.05,
        )
        for px in (224, 384, 512)
    ),
    *(
        Target(
            f"onnx-size-{px}",
            "graphs",
            f"ONNX file of convit_tiny, {px} px",
            "its weights",
            "file size",
            "<=",
            1.05,
        )
        for px in (224, 384, 512)
    ),
    *(
        Target(
            f"ort-conv-attention-k{k}",
            "graphs",
            f"conv_attention_vit_tiny {_ORT}, K={k}",
            "the unfold graph",
            "faster",
            ">=",
            goal,
        )
        for k, goal in ((3, 5), (7, 20))
    ),
    Target(
        "ort-fcvit", "graphs", f"fcvit_b12 {_ORT}", "the straightforward graph", "faster", ">=", 1.1
    ),
    Target(
        "sgemm-share",
        "graphs",
        f"convit_tiny {_ORT}, 224 px",
        "sgemm of this machine",
        "share of peak",
        ">=",
        0.88,
    ),
    *(
        Target(f"placement-{name}", "graphs", name, "nodes off CUDA, predicted", "nodes", "<=", 0)
        for name in ("convit_tiny", "conv_attention_vit_tiny", "alternet_18", "fcvit_b12")
    ),
)
_START = tuple(
    Target(
        f"start-{verb.strip('-')}",
        "start",
        f"convattn {verb}, whole process",
        "bare interpreter",
        "seconds",
        "<=",
        0.1,
    )
    for verb in ("list", "--help")
)
_LOAD = (
    Target(
        "load-convit-base",
        "load",
        "convit_base, create + load less one SHA-256 pass",
        "",
        "seconds",
        "<=",
        0.2,
    ),
)

TARGETS = (*_GPSA, *_CONVIT, *_CONV_ATTENTION, *_GRAPHS, *_START, *_LOAD)


def target(name: str) -> Target:
    """A goal by its id. Raises: ConfigError that names the nearest."""
    found = {t.id: t for t in TARGETS}
    if name not in found:
        import difflib

        near = difflib.get_close_matches(name, found, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"there is no goal {name!r}{hint}")
    return found[name]
