"""analyze nonlocality, gates, attention, similarity: what heads do."""

from __future__ import annotations

from pathlib import Path

import click

from ._analysis import Request, analysis_options, finish, steps


@click.command("nonlocality")
@analysis_options()
@click.option(
    "--feed",
    metavar="MODULE",
    help="Give the output of this module to all layers: patch_embed is the original's definition.",
)
def nonlocality_command(request: Request, feed: str | None) -> None:
    """Mean distance that every head attends over, in patches (ConViT, section 4)."""
    from ..analysis.attention_distance import nonlocality_study
    from ..analysis.plots.heads import plot_nonlocality

    images = request.dataset(64, 512)
    results = []
    for name, model in request.load():
        with steps(request, len(images), f"nonlocality: {name}") as on_step:
            batches = request.batches(images, model)
            results.append(nonlocality_study(model, batches, feed, name, on_step))
    finish(request, "nonlocality", results, plot_nonlocality, images)


@click.command("gates")
@analysis_options()
@click.option("--grid", default=0, help="Patches per side to draw on; default: the model's.")
def gates_command(request: Request, grid: int) -> None:
    """ConViT's gates and the positional attention of every head (ConViT, figs. 5 and 6); over
    epochs too, for a run of `convattn train --diagnostics`, beside other such runs.
    """
    from ..analysis.gate_study import gate_study, read_diagnostics
    from ..analysis.plots.heads import plot_gates

    results = []
    for reference, (name, model) in zip(request.models, request.load(), strict=True):
        logged = read_diagnostics(reference) if Path(reference).is_dir() else ()
        side = grid or max(getattr(getattr(model, "patch_embed", None), "grid", (14, 14)))
        results.append(gate_study(model, (side, side), name, logged))
    finish(request, "gates", results, plot_gates)


@click.command("attention")
@analysis_options()
@click.option("--image", default=0, show_default=True, help="Which image of the part.")
@click.option(
    "--query",
    nargs=2,
    default=(0.5, 0.5),
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="Where the query stands, as shares of height and width.",
)
def attention_command(request: Request, image: int, query: tuple[float, float]) -> None:
    """Attention of one patch, layer by layer and head by head (ConViT, fig. 7)."""
    from ..analysis.plots.heads import plot_attention
    from ..analysis.query_attention import query_attention
    from ..datasets import open_dataset
    from ..errors import ConfigError

    images = open_dataset(request.data, request.part)
    if not 0 <= image < len(images):
        raise ConfigError(f"--image must be between 0 and {len(images) - 1}; got {image}")
    one = images.subset([image])
    pixels, _ = one[0]
    results = []
    for name, model in request.load():
        [(x, _)] = request.batches(one, model)
        results.append(query_attention(model, x, pixels.tolist(), query, name))
    finish(request, "attention", results, plot_attention, one)


@click.command("similarity")
@analysis_options()
def similarity_command(request: Request) -> None:
    """Do all queries look at the same (A Close Look at Spatial Modeling, figs. 1 and 3)? Attention
    rows compared; similarity maps of global contexts.
    """
    from ..analysis.plots.similarity import plot_similarity
    from ..analysis.similarity import similarity_study

    images = request.dataset(64, 256)
    results = []
    for name, model in request.load():
        with steps(request, len(images), f"similarity: {name}") as on_step:
            batches = request.batches(images, model)
            results.append(similarity_study(model, batches, name, on_step))
    finish(request, "similarity", results, plot_similarity, images)
