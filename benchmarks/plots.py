"""Time and memory against image size, ours and the peers', both axes logarithmic.

Lines differ by colour, dash and marker, with colours of Okabe and Ito, so that they can be told
apart in grey print and by colour-blind readers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError, MissingDependencyError
from zoo.files.local import atomic_path

_STYLES = {
    "ours": ("#0072B2", "-", "o"),
    "timm": ("#D55E00", "--", "s"),
    "sdpa": ("#222222", ":", "^"),
}
_PANELS = (
    ("gpsa-192", "median_ms", "time, ms", "one GPSA layer, width 192, batch 1"),
    ("gpsa-192", "mib", "memory above inputs and weights, MiB", "its memory"),
    ("onnx-convit_tiny", "median_ms", "time, ms", "convit_tiny in ONNX Runtime, batch 1"),
)
_NAMES = {
    ("gpsa-192", "ours"): "GPSA, this package",
    ("gpsa-192", "timm"): "GPSA, timm",
    ("gpsa-192", "sdpa"): "plain attention (SDPA)",
    ("onnx-convit_tiny", "ours"): "convit_tiny, this package",
    ("onnx-convit_tiny", "timm"): "convit_tiny, timm's export",
    ("onnx-convit_tiny", "sdpa"): "plain ViT of the same width",
}


def plot_curves(groups: dict[str, Any], path: str | Path) -> None:
    """Draw the curves of measured groups into a .png or .svg file.

    Args:
        groups: of bench-attention.json.
    Raises: ConfigError if no group has curves, or for another suffix; MissingDependencyError
        without matplotlib; ResourceError.
    """
    if Path(path).suffix not in (".png", ".svg"):
        raise ConfigError(f"a plot is a .png or .svg file; got {str(path)!r}")
    curves = {k: v for group in groups.values() for k, v in group.get("curves", {}).items()}
    panels = [panel for panel in _PANELS if panel[0] in curves]
    if not panels:
        raise ConfigError("no curves to draw; measure the groups 'gpsa' and 'graphs' first")
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError(
            "pictures need matplotlib: pip install 'convattn-zoo[analysis]'"
        ) from None
    figure = Figure(figsize=(3.6 * len(panels), 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (curve, quantity, label, title) in zip(axes, panels, strict=True):
        _draw(axis, curve, curves[curve], quantity)
        axis.set_title(title, fontsize=9)
        axis.set_ylabel(label, fontsize=8)
    with atomic_path(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "convattn"}):
        metadata = {"Date": None} if temporary.suffix == ".svg" else {"Software": None}
        figure.savefig(temporary, dpi=150, metadata=metadata)


def _draw(axis: Any, curve: str, points: list[dict[str, Any]], quantity: str) -> None:
    sides = {"convit_tiny": "ours", "vit": "sdpa"}
    for side, (colour, dash, marker) in _STYLES.items():
        mine = [p for p in points if sides.get(p["side"], p["side"]) == side]
        drawn = [(p["px"], p[quantity]) for p in mine if p.get(quantity)]
        if not drawn:
            continue
        axis.loglog(
            *zip(*drawn, strict=True), color=colour, ls=dash, marker=marker, ms=5, lw=1.6,
            label=_NAMES[curve, side],
        )  # fmt: skip
    sizes = sorted({p["px"] for p in points})
    axis.set_xticks(sizes, [str(px) for px in sizes])
    axis.minorticks_off()
    axis.set_xlabel("image side, px", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(which="major", lw=0.4, color="#cccccc")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7, frameon=False, loc="upper left")


def main() -> None:
    """Draw model_cards/measured/bench-attention.json into the file that is named."""
    measured = Path(__file__).resolve().parents[1] / "model_cards" / "measured"
    content = json.loads((measured / "bench-attention.json").read_text(encoding="utf-8"))
    plot_curves(content["groups"], sys.argv[1])


if __name__ == "__main__":
    main()
