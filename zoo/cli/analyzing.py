"""analyze: the analyses of the papers, a module per group of them."""

from __future__ import annotations

import click

from ._lazy import LazyGroup

# verb -> (module, help line)
_VERBS = {
    "fourier": ("analyzing_features", "Frequencies of feature maps over depth."),
    "variance": ("analyzing_features", "Variance of feature maps over depth."),
    "lesion": ("analyzing_features", "Accuracy without each block."),
    "specificity": ("analyzing_features", "What depends on the image, what on the place."),
    "filters": ("analyzing_features", "Which layers are low-pass, which high-pass."),
    "nonlocality": ("analyzing_attention", "How far every head looks."),
    "gates": ("analyzing_attention", "ConViT's gates and positional attention."),
    "attention": ("analyzing_attention", "Where heads look from one patch."),
    "similarity": ("analyzing_attention", "Whether all queries look at the same."),
    "landscape": ("analyzing_losses", "The loss on a plane through weight space."),
    "hessian": ("analyzing_losses", "Largest eigenvalues of the Hessian, batch by batch."),
    "robustness": ("analyzing_robustness", "Accuracy over 15 corruptions x 5 severities."),
    "noise": ("analyzing_robustness", "Accuracy under noise of one frequency, and filtered."),
    "buildup": ("analyzing_training", "From a CNN to AlterNet, one block at a time."),
    "sweep": ("analyzing_training", "Curves and tables from `convattn train --sweep` runs."),
}


@click.group("analyze", cls=LazyGroup, verbs=_VERBS)
def analyze_command() -> None:
    """Measure what models do inside, and draw it: several models in one figure.

    Every analysis writes a figure (PNG, SVG) and its numbers (JSON, CSV) into --out. docs/analyses
    says what each one means.
    """
