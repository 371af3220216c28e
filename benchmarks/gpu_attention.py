"""Attention layers on a device, side by side: time, peak memory, and that all answer alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from export.speed.timing import Run, measure_rounds, ratio_of
from zoo.layers.attention import MultiHeadSelfAttention
from zoo.layers.gpsa import GatedPositionalSelfAttention

from .flex import FlexConvAttention, FlexGPSA
from .peers import UnfoldConvAttention, conv_attention_core, timm_gpsa

_TOLERANCE = 1e-4  # of the largest value; TF32 is off
_DIM = 192


@dataclass(frozen=True)
class Case:
    """Several forms of one layer.

    Args:
        name: with its sizes.
        sides: name -> a function of the input.
        x: the input.
        same: sides that compute what "ours" does.
    """

    name: str
    sides: dict[str, Callable[[Tensor], Tensor]]
    x: Tensor
    same: tuple[str, ...]


def cases(device: str) -> Iterator[Case]:
    """What is compared: on a GPU the sizes that matter, on a processor small ones."""
    large = device == "cuda"
    for px, batch in ((224, 32), (512, 4), (1024, 1)) if large else ((64, 1),):
        yield gpsa_case(px, batch, device)
    for kernel, side, batch in ((3, 14, 64), (7, 14, 64), (7, 56, 8)) if large else ((3, 6, 1),):
        yield conv_case(kernel, side, batch, device)


def gpsa_case(px: int, batch: int, device: str) -> Case:
    """A GPSA layer of convit_tiny at an image size."""
    torch.manual_seed(0)
    side, heads = px // 16, _DIM // 48
    ours = GatedPositionalSelfAttention(_DIM, heads, use_local_init=False).to(device)
    timm = timm_gpsa(ours, _DIM, heads).to(device)
    plain = MultiHeadSelfAttention(_DIM, heads).to(device)
    sides = {
        "ours": lambda x: ours(x, (side, side)),
        "timm": timm,
        "flex": FlexGPSA(ours, (side, side), compiled=device == "cuda"),
        "sdpa": plain,
    }
    for module in (ours, timm, plain):
        module.eval().requires_grad_(False)
    x = torch.randn(batch, side**2, _DIM, device=device)
    return Case(f"GPSA {_DIM}, {px} px, batch {batch}", sides, x, ("timm", "flex"))


def conv_case(kernel: int, side: int, batch: int, device: str) -> Case:
    """Convolutional attention without its projections."""
    torch.manual_seed(0)
    ours = conv_attention_core(kernel).to(device).eval()
    sides = {
        "ours": ours,
        "unfold": UnfoldConvAttention(ours),
        "flex": FlexConvAttention(ours, (side, side), device, compiled=device == "cuda"),
    }
    x = torch.randn(batch, 3 * _DIM, side, side, device=device)
    name = f"ConvAttention {_DIM}, window {kernel}, {side} x {side}, batch {batch}"
    return Case(name, sides, x, ("unfold", "flex"))


def compare_sides(case: Case, device: str, rounds: int = 60, seconds: float = 5.0) -> Any:
    """Times in turns, as JSON values."""
    with torch.inference_mode():
        truth = case.sides["ours"](case.x)
        errors: dict[str, float] = {}
        memory: dict[str, float | None] = {}
        broken: list[dict[str, Any]] = []
        for name, side in case.sides.items():
            try:
                memory[name] = _peak_mib(_step(side, case.x, device), device)
                error = (side(case.x) - truth).abs().max() / truth.abs().max()
                errors |= {name: float(error)} if name in case.same else {}
            except RuntimeError as why:  # a peer's compiler, or no memory
                broken.append({"side": name, "error": str(why)[:300], "agrees": False})
        runs = {name: _step(case.sides[name], case.x, device) for name in memory}
        times = measure_rounds(runs, rounds, warmup=3, limit_s=seconds)
    sides = [
        {
            "side": name,
            **timing.to_dict(),
            "of_ours": ratio_of(timing, times["ours"]).to_dict(),
            "peak_mib": memory[name],
            "difference": errors.get(name),
            "agrees": errors.get(name, 0.0) <= _TOLERANCE,
        }
        for name, timing in times.items()
    ]
    return {"case": case.name, "sides": sides + broken}


def _step(side: Callable[[Tensor], Tensor], x: Tensor, device: str) -> Run:
    def run() -> None:
        side(x)
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def _peak_mib(run: Run, device: str) -> float | None:
    """Memory of the device that a second call takes above what is there before it."""
    run()
    if device != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20
