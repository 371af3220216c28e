"""Eager subjects: a name and keywords -> a function that does one step. Also the memory child.

GPSA's positions start at random here, for ours and for timm's. A local start has attention of
subnormal size, with which a dense product is several times slower: that would flatter us.

    python -m benchmarks.subjects '{"subject": "gpsa", "side": "timm", "dim": 192, "px": 1024}'

prints how far the first step lifts the memory of its process, in MiB, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from export.speed.timing import Run, limited_threads, peak_memory_mib
from zoo.errors import ConfigError, ResourceError
from zoo.files.processes import run_python

ROOT = Path(__file__).resolve().parents[1]


def gpsa(side: str, dim: int, px: int) -> Run:
    """One attention layer on one image, without gradients; side is "ours", "timm" or "sdpa"."""
    import torch

    from zoo.layers.attention import MultiHeadSelfAttention
    from zoo.layers.gpsa import GatedPositionalSelfAttention

    from .peers import timm_gpsa

    torch.manual_seed(0)
    side_length, heads = px // 16, dim // 48
    x = torch.randn(1, side_length**2, dim)
    if side == "sdpa":
        return _inference(MultiHeadSelfAttention(dim, heads), x)
    ours = GatedPositionalSelfAttention(dim, heads, use_local_init=False)
    if side == "timm":
        return _inference(timm_gpsa(ours, dim, heads), x)
    return _inference(ours, x, (side_length, side_length))


def convit(side: str, px: int, batch: int, train: bool = False) -> Run:
    """convit_tiny, one forward pass or one training step; side is "ours" or "timm"."""
    import torch

    from zoo.factory.create import create_random

    from .peers import timm_convit

    model = create_random("convit_tiny", 0, img_size=px, use_local_init=False)
    if side == "timm":
        model = timm_convit(model, px)
    x = torch.randn(batch, 3, px, px)
    return _training(model, x) if train else _inference(model, x)


def conv_attention(side: str, kernel: int, batch: int, train: bool = False) -> Run:
    """The convolutional attention itself at 14 x 14 x 192; side is "ours" or "unfold"."""
    import torch

    from .peers import UnfoldConvAttention, conv_attention_core

    torch.manual_seed(0)
    layer: Any = conv_attention_core(kernel)
    if side == "unfold":
        layer = UnfoldConvAttention(layer)
    x = torch.randn(batch, 3 * 192, 14, 14, requires_grad=train)
    return _training(layer, x) if train else _inference(layer, x)


SUBJECTS: dict[str, Callable[..., Run]] = {
    "gpsa": gpsa,
    "convit": convit,
    "conv_attention": conv_attention,
}


def build(subject: str, **settings: Any) -> Run:
    """One step of a subject. Raises: ConfigError for an unknown one or wrong settings."""
    if subject not in SUBJECTS:
        raise ConfigError(f"there is no subject {subject!r}; subjects are {', '.join(SUBJECTS)}")
    try:
        return SUBJECTS[subject](**settings)
    except TypeError as error:
        raise ConfigError(f"subject {subject!r} does not take {settings}: {error}") from None


def _inference(module: Any, *inputs: Any) -> Run:
    import torch

    module.eval().requires_grad_(False)

    def step() -> Any:
        with torch.inference_mode():
            return module(*inputs)

    return step


def _training(module: Any, x: Any) -> Run:
    module.train()

    def step() -> None:
        x.grad = None
        module.zero_grad(set_to_none=True)
        module(x).square().mean().backward()

    return step


def memory_mib(subject: str, threads: int = 1, **settings: Any) -> float | None:
    """Memory that the first step needs on top of inputs and weights, in a fresh process.

    Returns: MiB, or None where the system does not report it.
    Raises: ResourceError if the process fails.
    """
    request = json.dumps({"subject": subject, "threads": threads, **settings})
    done = run_python(
        "-m", "benchmarks.subjects", request, cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ResourceError(f"the process that measures {request} failed: {reason}")
    value: float | None = json.loads(done.stdout)["mib"]
    return value


def main() -> None:
    """Measure what the first argument describes."""
    request = json.loads(sys.argv[1])
    with limited_threads(request.pop("threads", 1)):
        value = peak_memory_mib(build(**request))
    sys.stdout.write(json.dumps({"mib": value}))


if __name__ == "__main__":
    main()
