"""The performance goals of attention: every group measures its rows of `targets.py`.

A group is one function from settings to rows (and curves, for the picture). Groups are measured and
written one by one, so that an interrupted or disturbed one can be repeated alone.

    python -m benchmarks.attention [--group gpsa] [--out model_cards/measured] [--plot FILE]
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import zoo
from export.speed.timing import Run, Say, Timing, limited_threads, measure_rounds, ratio_of
from zoo.catalog.tables import read_costs
from zoo.cli.bench import (
    json_option,
    measured,
    out_option,
    rounds_option,
    say,
    threads_option,
    write_result,
)
from zoo.files.json_text import to_json

from .graphs import Graphs, count_nodes, matmul_runs
from .subjects import build, memory_mib
from .tables import kept_groups, show_rows
from .targets import Target, target

SIZES = (224, 384, 512, 1024)
NO_MEMORY = "this system does not report a process's peak memory"


@dataclass(frozen=True)
class Settings:
    """Of one measurement.

    Args:
        threads: of torch and ONNX Runtime.
        rounds: at most so many rounds per comparison.
        seconds: no new round of a comparison starts after this time (at least 3 rounds).
        say: told what is being done.
    """

    threads: int = 1
    rounds: int = 100
    seconds: float = 8.0
    say: Say = lambda _: None

    def compare(self, candidates: dict[str, Run]) -> dict[str, Timing]:
        """Interleaved times of some candidates."""
        self.say(f"timing {', '.join(candidates)}")
        return measure_rounds(candidates, self.rounds, limit_s=self.seconds)


Result = dict[str, Any]


def faster(goal: Target, ours: Timing, peer: Timing) -> Result:
    """A row of quantity "faster": peer time / our time."""
    return _time_row(goal, peer, ours, ours, peer)


def slower(goal: Target, ours: Timing, peer: Timing) -> Result:
    """A row of quantity "slower": our time / peer time."""
    return _time_row(goal, ours, peer, ours, peer)


def _time_row(goal: Target, top: Timing, bottom: Timing, ours: Timing, peer: Timing) -> Result:
    ratio = ratio_of(top, bottom)
    minima = top.min_ms / bottom.min_ms
    return goal.row(
        ratio.value,
        (ratio.low, ratio.high),
        ours=ours.to_dict(),
        against=peer.to_dict(),
        ratio_of_minima=minima,
    )


def memory_row(goal: Target, ours: float | None, peer: float | None) -> Result:
    """A row of quantity "memory" (ours / peer) or "less memory" (peer / ours)."""
    if ours is None or peer is None:
        return goal.row(None, note=NO_MEMORY)
    # a step can stay below the resolution, one page
    top, bottom = (peer, ours) if goal.quantity == "less memory" else (ours, peer)
    return goal.row(top / max(bottom, 1 / 256), ours_mib=ours, against_mib=peer)


def measure_gpsa(settings: Settings) -> Result:
    """GPSA layers against timm's and against plain attention, and the curves over image size."""
    rows: list[Result] = []
    curves: list[Result] = []
    for dim, sizes in ((192, SIZES), (768, (224, 512))):
        for px in sizes:
            against = {side: _gpsa_pair(settings, side, dim, px) for side in ("sdpa", "timm")}
            rows.append(slower(target(f"gpsa-{dim}-{px}-sdpa"), *against["sdpa"]))
            if px == 512 or (dim, px) == (192, 1024):
                rows.append(faster(target(f"gpsa-{dim}-{px}"), *against["timm"]))
            if dim == 192:
                ours, sdpa = against["sdpa"]
                times = {"ours": ours, "sdpa": sdpa, "timm": against["timm"][1]}
                curves += [_gpsa_point(settings, side, dim, px, t) for side, t in times.items()]
    mib = {c["side"]: c["mib"] for c in curves if c["px"] == 1024}
    rows.append(memory_row(target("gpsa-192-1024-memory"), mib["ours"], mib["timm"]))
    return {"rows": rows, "curves": {"gpsa-192": curves}}


def _gpsa_pair(settings: Settings, peer: str, dim: int, px: int) -> tuple[Timing, Timing]:
    """Ours and one peer. Two at a time: one with large matrices would empty the caches of all."""
    names = {side: f"{side}, width {dim}, {px} px" for side in ("ours", peer)}
    steps = {name: build("gpsa", side=side, dim=dim, px=px) for side, name in names.items()}
    ours, other = settings.compare(steps).values()
    return ours, other


def _gpsa_point(settings: Settings, side: str, dim: int, px: int, timing: Timing) -> Result:
    settings.say(f"memory of {side}, {px} px")
    mib = memory_mib("gpsa", settings.threads, side=side, dim=dim, px=px)
    return {"side": side, "px": px, **timing.to_dict(), "mib": mib}


def measure_convit(settings: Settings) -> Result:
    """convit_tiny as a whole, eager, against timm's."""
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("convit-512-b1", {"px": 512, "batch": 1}),
        ("convit-224-b1", {"px": 224, "batch": 1}),
        ("convit-224-b8", {"px": 224, "batch": 8}),
        ("convit-train-b8", {"px": 224, "batch": 8, "train": True}),
    )
    with_memory = ("convit-512-b1", "convit-train-b8")
    return _whole("convit", cases, with_memory, "timm", settings)


def measure_conv_attention(settings: Settings) -> Result:
    """Convolutional attention itself against the unfold form."""
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("core-k3", {"kernel": 3, "batch": 1}),
        ("core-k7", {"kernel": 7, "batch": 1}),
        ("core-k7-train", {"kernel": 7, "batch": 8, "train": True}),
    )
    return _whole("conv_attention", cases, ("core-k7-train",), "unfold", settings)


def _whole(
    subject: str,
    cases: tuple[tuple[str, dict[str, Any]], ...],
    with_memory: tuple[str, ...],
    peer: str,
    settings: Settings,
) -> Result:
    rows = []
    for name, case in cases:
        steps = {f"{side}, {name}": build(subject, side=side, **case) for side in ("ours", peer)}
        rows.append(faster(target(name), *settings.compare(steps).values()))
        if name in with_memory:
            settings.say(f"memory of {name}")
            mib = [memory_mib(subject, settings.threads, side=s, **case) for s in ("ours", peer)]
            rows.append(memory_row(target(f"{name}-memory"), *mib))
    return {"rows": rows, "curves": {}}


def measure_graphs(settings: Settings) -> Result:
    """Exported graphs in ONNX Runtime, their sizes, the share of peak, the predicted placement."""
    with tempfile.TemporaryDirectory() as folder:
        graphs = Graphs(Path(folder), settings.threads, settings.say)
        rows, curve = _convit_graphs(graphs, settings)
        for k in (3, 7):
            steps = {
                name: graphs.run(f"{name}:kernel_size={k}", 224)
                for name in ("conv_attention_vit_tiny", "unfold")
            }
            goal = target(f"ort-conv-attention-k{k}")
            rows.append(faster(goal, *settings.compare(steps).values()))
        steps = {name: graphs.run(name, 224) for name in ("fcvit_b12", "plain-fcvit")}
        rows.append(faster(target("ort-fcvit"), *settings.compare(steps).values()))
        rows.append(_share_of_peak(graphs, settings))
        rows += [_placement(graphs, t) for t in ("convit_tiny:img_size=224", *_PLACED)]
    return {"rows": rows, "curves": {"onnx-convit_tiny": curve}}


_PLACED = ("conv_attention_vit_tiny:kernel_size=3", "alternet_18", "fcvit_b12")


def _convit_graphs(graphs: Graphs, settings: Settings) -> tuple[list[Result], list[Result]]:
    rows: list[Result] = []
    curve: list[Result] = []
    for px in (224, 384, 512):
        sides = ("convit_tiny", "timm", "vit")
        names = {side: f"{side}:img_size={px}" for side in sides}
        runs = {name: graphs.run(name, px) for name in names.values()}
        times = settings.compare(runs)
        ours, timm, vit = times.values()
        rows.append(faster(target(f"ort-convit-{px}"), ours, timm))
        rows.append(slower(target(f"ort-convit-{px}-vit"), ours, vit))
        path = graphs.path(names["convit_tiny"])
        size, weights = path.stat().st_size, weights_size(px)
        rows.append(
            target(f"onnx-size-{px}").row(
                size / weights, size_bytes=size, weights_bytes=weights, nodes=count_nodes(path)
            )
        )
        curve += [{"side": side, "px": px, **times[name].to_dict()} for side, name in names.items()]
    return rows, curve


def weights_size(px: int) -> int:
    """Bytes of convit_tiny's float32 weights at an image size."""
    model = zoo.create_model("convit_tiny", img_size=px)
    return sum(p.numel() * p.element_size() for p in model.parameters())


def _share_of_peak(graphs: Graphs, settings: Settings, size: int = 2048) -> Result:
    """Arithmetic rate of convit_tiny in ONNX Runtime over that of the faster large sgemm."""
    gemms = matmul_runs(size, settings.threads)
    model = "convit_tiny:img_size=224"
    times = settings.compare({model: graphs.run(model, 224), **gemms})
    ours = times.pop(model)
    peak = min(times, key=lambda name: times[name].median_ms)
    flops, gemm_flops = 2 * read_costs()["convit_tiny"]["macs"], 2 * size**3
    share = ratio_of(times[peak], ours).scaled(flops / gemm_flops)
    return target("sgemm-share").row(
        share.value,
        (share.low, share.high),
        ours=ours.to_dict(),
        against=times[peak].to_dict(),
        gflops=flops / ours.median_ms / 1e6,
        peak_gflops=gemm_flops / times[peak].median_ms / 1e6,
        peak_by=peak,
    )


def _placement(graphs: Graphs, name: str) -> Result:
    from export.runtime.placement import predict_placement

    goal = target(f"placement-{name.partition(':')[0]}")
    found = predict_placement(graphs.path(name))
    return goal.row(
        len(found.off_cuda), nodes=found.nodes, off_cuda=[list(n) for n in found.off_cuda]
    )


GROUPS: dict[str, Callable[[Settings], Result]] = {
    "gpsa": measure_gpsa,
    "convit": measure_convit,
    "conv-attention": measure_conv_attention,
    "graphs": measure_graphs,
}


def measure_group(name: str, settings: Settings) -> Result:
    """Rows and curves of one group."""
    with limited_threads(settings.threads):
        return GROUPS[name](settings)


@click.command()
@click.option(
    "--group", "groups", multiple=True, type=click.Choice(list(GROUPS)), help="Only these."
)
@threads_option
@rounds_option(100)
@click.option(
    "--seconds", default=8.0, show_default=True, type=click.FloatRange(0.1), help="Per comparison."
)
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw time and memory here.")
@out_option
@json_option
def main(
    groups: tuple[str, ...], plot: Path | None, out: Path | None, as_json: bool, **options: Any
) -> None:
    """Our attention against timm's, unfold and plain attention: every goal, met or missed.
    With --out each group is written into the file there when it is done.
    """
    settings = Settings(**options, say=say)
    found: dict[str, Any] = {}
    for name in groups or tuple(GROUPS):
        say(f"{name}:")
        found[name] = measured(measure_group(name, settings))
        write_result(out, "attention", {"groups": {**kept_groups(out), name: found[name]}})
    if plot is not None:
        from .plots import plot_curves

        plot_curves({**kept_groups(out), **found}, plot)
    if as_json:
        click.echo(to_json({"groups": found}, indent=2))
    else:
        show_rows([row for group in found.values() for row in group["rows"]])


if __name__ == "__main__":
    main()
